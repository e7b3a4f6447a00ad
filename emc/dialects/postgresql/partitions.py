"""Which partitions does a table have, and which indexes and constraints are on them?

An index of a partitioned table is no more than the bracket around those of its partitions. It is INVALID until each of
them has one that is attached to it, and so are the brackets of partitions that are partitioned in their turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from emc.dialects.postgresql.naming import without_schema
from emc.names import ElementKind, TableKey
from emc.schema import Partition

_KINDS = {"u": ElementKind.UNIQUE, "f": ElementKind.FOREIGN_KEY}

# Not pg_partition_tree(), which waits behind whoever has one of them locked.
_PARTITIONS = """
WITH RECURSIVE tree AS (
    SELECT i.inhparent AS root, i.inhparent AS parent, i.inhrelid AS relid, 1 AS depth
      FROM pg_inherits i WHERE i.inhparent = ANY (CAST(:oids AS oid[]))
    UNION ALL
    SELECT tree.root, i.inhparent, i.inhrelid, tree.depth + 1
      FROM pg_inherits i JOIN tree ON i.inhparent = tree.relid)
SELECT tree.root, tree.parent, tree.relid, n.nspname, c.relname, CAST(c.relkind AS text) AS kind,
       pg_table_is_visible(c.oid) AS visible
  FROM tree
  JOIN pg_class c ON c.oid = tree.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 -- Those that are partitioned themselves first: what they refuse is refused before anything long has run.
 ORDER BY tree.depth, c.relkind <> 'p', n.nspname, c.relname
"""

_INDEXES = """
SELECT i.indrelid AS relid, c.relname AS name, i.indisunique AS is_unique,
       i.indisvalid AND i.indisready AND i.indislive AS valid,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                             AND k.contype IN ('p', 'u', 'x')) AS owned,
       (SELECT p.relname FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
         WHERE h.inhrelid = i.indexrelid) AS part_of,
       pg_get_indexdef(i.indexrelid) AS definition, quote_ident(t.relname) AS table_name
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
 WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
 ORDER BY c.relname
"""

_CONSTRAINTS = """
SELECT k.conrelid AS relid, k.conname AS name, CAST(k.contype AS text) AS kind, k.convalidated AS valid,
       pg_get_constraintdef(k.oid, true) AS definition,
       (SELECT p.conname FROM pg_constraint p WHERE p.oid = k.conparentid) AS part_of
  FROM pg_constraint k
 WHERE k.conrelid = ANY (CAST(:oids AS oid[])) AND k.contype IN ('u', 'f')
   -- What a foreign key to a partitioned table repeats for each of that table's partitions is none of this one.
   AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
 ORDER BY k.conname
"""


def read(
    connection: Connection, roots: Mapping[int, tuple[TableKey, str]]
) -> Mapping[int, tuple[Partition, ...]]:
    """The partitions of *roots*, by the oid of the root, each behind what it is a part of.

    Takes three queries, and none where there is no partitioned table.

    :param roots: key and real schema of each partitioned table by its oid.
    """
    if not roots:
        return {}
    rows = connection.execute(text(_PARTITIONS), {"oids": list(roots)}).all()
    if not rows:
        return {}
    schemas = {row.relid: row.nspname for row in rows}
    keys = {oid: key for oid, (key, _) in roots.items()}
    facts: defaultdict[int, _Facts] = defaultdict(_Facts)
    for index in connection.execute(text(_INDEXES), {"oids": list(schemas)}):
        _, _, definition = index.definition.partition(f".{index.table_name} USING ")
        unique = "UNIQUE " if index.is_unique else ""
        shown = without_schema(f"{unique}USING {definition}", schemas[index.relid])
        facts[index.relid].add(ElementKind.INDEX, index, shown, is_free=not index.owned)
    for one in connection.execute(text(_CONSTRAINTS), {"oids": list(schemas)}):
        shown = without_schema(one.definition.removesuffix(" NOT VALID"), schemas[one.relid])
        facts[one.relid].add(_KINDS[one.kind], one, shown, is_free=True)
    found: defaultdict[int, list[Partition]] = defaultdict(list)
    for row in rows:
        root, home = roots[row.root]
        schema = root.schema if row.nspname == home else None if row.visible else row.nspname
        keys[row.relid] = TableKey(schema, row.relname)
        its = facts[row.relid]
        found[row.root].append(
            Partition(
                key=keys[row.relid],
                parent=keys[row.parent],
                is_leaf=row.kind != "p",
                is_foreign=row.kind == "f",
                definitions=its.definitions,
                unfinished=frozenset(its.unfinished),
                part_of=its.part_of,
            )
        )
    return {root: tuple(partitions) for root, partitions in found.items()}


class _Facts:
    """What is on one partition, while its rows come in."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[ElementKind, str], str] = {}
        self.unfinished: set[str] = set()
        self.part_of: dict[tuple[ElementKind, str], str] = {}

    def add(self, kind: ElementKind, row: Any, definition: str, *, is_free: bool) -> None:
        if is_free:
            self.definitions[kind, row.name] = definition
        if not row.valid:
            self.unfinished.add(row.name)
        if row.part_of is not None:
            self.part_of[kind, row.name] = row.part_of
