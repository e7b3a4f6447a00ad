"""What hangs on the tables of a PostgreSQL database, on their columns and indexes, and on its enumerated types?

``pg_depend`` says what makes a DROP without CASCADE fail. What it does not say: that the texts of functions speak of a
table (only a body of standard SQL is tracked), and that an index is a table's replica identity.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, text

from emc.names import EMC_PREFIX, Element, ElementKind, TableKey
from emc.schema import Dependent


class Draft(Protocol):
    """A table that was read."""

    key: TableKey
    names: dict[int, str]
    """Column names by number."""


# Whatever may be referred to: the tables with their columns, their row types, the sequences that their columns own,
# and their indexes (under ``via``). Column 0 stands for the whole table.
_DEPENDS = """
WITH RECURSIVE depends AS (
    SELECT d.classid, d.objid, d.objsubid, d.refobjid AS relid, d.refobjsubid AS attnum, NULL AS via, d.deptype
      FROM pg_depend d
     WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = ANY (CAST(:oids AS oid[]))
       AND (d.deptype = 'n' OR (d.deptype = 'a' AND d.classid = CAST('pg_class' AS regclass) AND d.objsubid > 0))
    UNION ALL
    SELECT d.classid, d.objid, d.objsubid, c.oid, 0, NULL, d.deptype
      FROM pg_class c
      JOIN pg_type t ON t.typrelid = c.oid
      JOIN pg_depend d ON d.refclassid = CAST('pg_type' AS regclass) AND d.refobjid IN (t.oid, t.typarray)
     WHERE c.oid = ANY (CAST(:oids AS oid[])) AND d.deptype = 'n'
    UNION ALL
    SELECT d.classid, d.objid, d.objsubid, owned.refobjid, owned.refobjsubid, NULL, d.deptype
      FROM pg_depend owned
      JOIN pg_class s ON s.oid = owned.objid AND s.relkind = 'S'
      JOIN pg_depend d ON d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = s.oid AND d.deptype = 'n'
     WHERE owned.classid = CAST('pg_class' AS regclass) AND owned.refclassid = CAST('pg_class' AS regclass)
       AND owned.refobjid = ANY (CAST(:oids AS oid[])) AND owned.refobjsubid > 0 AND owned.deptype IN ('a', 'i')
    UNION ALL
    SELECT d.classid, d.objid, d.objsubid, i.indrelid, NULL, c.relname, d.deptype
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_depend d ON d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = i.indexrelid AND d.deptype = 'n'
     WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
), tables AS (
    SELECT c.oid, c.relkind, c.relname, format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
), views (relid, attnum, via, view, depth) AS (
    SELECT d.relid, d.attnum, d.via, r.ev_class, 1
      FROM depends d
      JOIN pg_rewrite r ON d.classid = CAST('pg_rewrite' AS regclass) AND r.oid = d.objid
    UNION
    SELECT below.relid, below.attnum, below.via, r.ev_class, below.depth + 1
      FROM views below
      JOIN tables v ON v.oid = below.view AND v.relkind IN ('v', 'm') AND below.depth < 40
      JOIN pg_depend d ON d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = v.oid AND d.deptype = 'n'
       AND d.classid = CAST('pg_rewrite' AS regclass)
      JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> v.oid
), described (relid, attnum, via, home, place_kind, place, stops, description, remedy, depth) AS (
    -- A rule can make views speak of each other in a circle.
    -- home: the table that it belongs to; place: its name there, where a plan could drop it; stops: what.
    SELECT d.relid, d.attnum, d.via, NULL::oid, NULL, NULL, 'all',
           format('%s %s', kind.word, v.name), format('DROP %s %s;', upper(kind.word), v.name), max(d.depth)
      FROM views d
      JOIN tables v ON v.oid = d.view AND v.relkind IN ('v', 'm')
      CROSS JOIN LATERAL (SELECT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END AS word) kind
     GROUP BY d.relid, d.attnum, d.via, kind.word, v.name
    UNION
    SELECT d.relid, d.attnum, d.via, v.oid, NULL, NULL, 'all',
           format('rule %I ON %s', r.rulename, v.name), format('DROP RULE %I ON %s;', r.rulename, v.name), 0
      FROM depends d
      JOIN pg_rewrite r ON d.classid = CAST('pg_rewrite' AS regclass) AND r.oid = d.objid
      JOIN tables v ON v.oid = r.ev_class AND v.relkind NOT IN ('v', 'm')
    UNION
    SELECT d.relid, d.attnum, d.via, p.polrelid, NULL, NULL, 'all',
           format('policy %I ON %s', p.polname, c.name), format('DROP POLICY %I ON %s;', p.polname, c.name), 0
      FROM depends d
      JOIN pg_policy p ON d.classid = CAST('pg_policy' AS regclass) AND p.oid = d.objid
      JOIN tables c ON c.oid = p.polrelid
    UNION
    SELECT d.relid, d.attnum, d.via, g.tgrelid, NULL, NULL, 'all',
           format('trigger %I ON %s', g.tgname, c.name), format('DROP TRIGGER %I ON %s;', g.tgname, c.name), 0
      FROM depends d
      JOIN pg_trigger g ON d.classid = CAST('pg_trigger' AS regclass) AND g.oid = d.objid AND NOT g.tgisinternal
      JOIN tables c ON c.oid = g.tgrelid
     WHERE NOT starts_with(ltrim(g.tgname, '~'), :own)
    UNION
    SELECT d.relid, d.attnum, d.via, NULL, NULL, NULL, 'all',
           format('%s %I.%I(%s)', kind.word, n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)),
           format('DROP %s %I.%I(%s);', upper(kind.word), n.nspname, f.proname,
                  pg_get_function_identity_arguments(f.oid)), 0
      FROM depends d
      JOIN pg_proc f ON d.classid = CAST('pg_proc' AS regclass) AND f.oid = d.objid
      JOIN pg_namespace n ON n.oid = f.pronamespace
      CROSS JOIN LATERAL (SELECT CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS word) kind
    UNION
    SELECT d.relid, d.attnum, d.via, pr.prrelid, NULL, NULL, 'all',
           format('publication %I of %s', p.pubname, c.name),
           format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, c.name), 0
      FROM depends d
      JOIN pg_publication_rel pr ON d.classid = CAST('pg_publication_rel' AS regclass) AND pr.oid = d.objid
      JOIN pg_publication p ON p.oid = pr.prpubid
      JOIN tables c ON c.oid = pr.prrelid
    UNION
    -- A default is one thing, and goes with its column or alone; what is computed goes with the column alone.
    SELECT d.relid, d.attnum, d.via, c.oid, 'column', a.attname, 'all',
           CASE WHEN x.oid IS NULL OR a.attgenerated <> '' THEN format('column %I of table %s', a.attname, c.name)
                ELSE format('the default of column %I of table %s', a.attname, c.name) END,
           CASE WHEN c.relkind = 'c' THEN format('ALTER TYPE %s DROP ATTRIBUTE %I;', c.name, a.attname)
                WHEN x.oid IS NULL OR a.attgenerated <> '' THEN
                    format('ALTER TABLE %s DROP COLUMN %I;', c.name, a.attname)
                ELSE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;', c.name, a.attname) END, 0
      FROM depends d
      LEFT JOIN pg_attrdef x ON d.classid = CAST('pg_attrdef' AS regclass) AND x.oid = d.objid
      JOIN pg_attribute a
        ON a.attrelid = coalesce(x.adrelid, CASE WHEN d.classid = CAST('pg_class' AS regclass) THEN d.objid END)
       AND a.attnum = coalesce(x.adnum, d.objsubid)
      JOIN tables c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'c', 'f')
     WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT (a.attrelid = d.relid AND a.attnum = d.attnum)
    UNION
    SELECT d.relid, 0, NULL, c.oid, 'table', c.relname, 'drop', format('table %s, which inherits from it', c.name),
           format('ALTER TABLE %s NO INHERIT %s;', c.name, parent.name), 0
      FROM depends d
      JOIN tables c ON d.classid = CAST('pg_class' AS regclass) AND c.oid = d.objid AND d.objsubid = 0
      JOIN tables parent ON parent.oid = d.relid
     WHERE c.relkind IN ('r', 'p', 'f') AND c.oid <> d.relid
    UNION
    SELECT d.relid, d.attnum, d.via, k.conrelid, 'foreign-key', k.conname, 'drop',
           format('foreign key %I of table %s', k.conname, c.name),
           format('ALTER TABLE %s DROP CONSTRAINT %I;', c.name, k.conname), 0
      FROM depends d
      JOIN pg_constraint k ON d.classid = CAST('pg_constraint' AS regclass) AND k.oid = d.objid
       AND k.contype = 'f' AND k.conparentid = 0
      JOIN tables c ON c.oid = k.conrelid
    UNION
    -- An index that rows are told by goes without a word, and then updates and deletes of a published table fail.
    SELECT i.indrelid, key.attnum, CASE WHEN key.attnum IS NULL THEN x.relname END, i.indrelid, NULL, NULL, 'drop',
           format('the replica identity of table %s, which is index %I', c.name, x.relname),
           format('ALTER TABLE %s REPLICA IDENTITY DEFAULT;', c.name), 0
      FROM pg_index i
      JOIN pg_class x ON x.oid = i.indexrelid
      JOIN tables c ON c.oid = i.indrelid
      CROSS JOIN LATERAL (SELECT NULL AS attnum UNION ALL SELECT unnest(CAST(i.indkey AS int2[]))) key
     WHERE i.indrelid = ANY (CAST(:oids AS oid[])) AND i.indisreplident AND key.attnum IS DISTINCT FROM 0
    UNION
    -- Whatever else the server may know of: said in its words.
    SELECT d.relid, d.attnum, d.via, NULL, NULL, NULL, 'drop', pg_describe_object(d.classid, d.objid, d.objsubid), NULL,
           0
      FROM depends d
      LEFT JOIN pg_constraint k ON d.classid = CAST('pg_constraint' AS regclass) AND k.oid = d.objid
     WHERE d.classid NOT IN (CAST('pg_rewrite' AS regclass), CAST('pg_policy' AS regclass),
                             CAST('pg_trigger' AS regclass), CAST('pg_proc' AS regclass),
                             CAST('pg_publication_rel' AS regclass), CAST('pg_attrdef' AS regclass),
                             CAST('pg_class' AS regclass))
       AND k.contype IS DISTINCT FROM 'f' AND k.conrelid IS DISTINCT FROM d.relid
)
SELECT relid, attnum, via, home, place_kind, place, stops, description, remedy FROM described
 ORDER BY relid, attnum, via, depth DESC, description
"""

# Columns of the tables that were read are part of the snapshot: whoever changes the type knows them.
_ON_ENUMS = """
SELECT n.nspname, t.typname, a.attrelid AS home, CAST(a.attname AS text) AS place,
       CASE WHEN a.attname IS NOT NULL THEN format('column %I of table %I.%I', a.attname, cn.nspname, c.relname)
            ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS description
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_depend d ON d.refclassid = CAST('pg_type' AS regclass) AND d.refobjid IN (t.oid, t.typarray)
  LEFT JOIN pg_attrdef x ON d.classid = CAST('pg_attrdef' AS regclass) AND x.oid = d.objid
  LEFT JOIN pg_attribute a
    ON a.attrelid = coalesce(x.adrelid, CASE WHEN d.classid = CAST('pg_class' AS regclass) THEN d.objid END)
   AND a.attnum = coalesce(x.adnum, d.objsubid) AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_namespace cn ON cn.oid = c.relnamespace
 WHERE t.typtype = 'e' AND d.deptype = 'n' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
   AND (c.relkind IS NULL OR c.relkind IN ('r', 'p', 'c', 'f'))
   -- Views, indexes and CHECKs are about columns of the type, and are found with these.
   AND d.classid IN (CAST('pg_class' AS regclass), CAST('pg_proc' AS regclass), CAST('pg_type' AS regclass),
                     CAST('pg_attrdef' AS regclass), CAST('pg_cast' AS regclass))
 ORDER BY 1, 2, 5
"""

_FUNCTIONS = """
SELECT format('%s %I.%I(%s)', CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, n.nspname, f.proname,
              pg_get_function_identity_arguments(f.oid)) AS description,
       f.prosrc AS body,
       coalesce(g.tables, CAST('{{}}' AS oid[])) AS tables
  FROM pg_proc f
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_language l ON l.oid = f.prolang
  LEFT JOIN (SELECT tgfoid, array_agg(tgrelid) AS tables FROM pg_trigger WHERE NOT tgisinternal GROUP BY tgfoid) g
    ON g.tgfoid = f.oid
 WHERE l.lanname NOT IN ('internal', 'c') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT starts_with(f.proname, :own) {without_body}
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = CAST('pg_proc' AS regclass) AND d.objid = f.oid
                                             AND d.deptype = 'e')
 ORDER BY 1
"""

Hanging = Mapping[Element, Sequence[Dependent]]

_INDEX_KINDS = (ElementKind.INDEX, ElementKind.UNIQUE, ElementKind.PRIMARY_KEY, ElementKind.EXCLUSION)


def find(
    connection: Connection, drafts: Mapping[int, Draft], enums: Mapping[tuple[str, str], TableKey]
) -> Hanging:
    """What hangs on each table, column and index of *drafts*, and on the types *enums*, by schema and name.

    Takes three queries, whatever there is.
    """
    found: defaultdict[Element, dict[Dependent, None]] = defaultdict(dict)
    own = {"own": EMC_PREFIX}
    if drafts:
        oids = list(drafts)
        for row in connection.execute(text(_DEPENDS), {"oids": oids, **own}):
            dependent = _dependent(row, drafts)
            for element in _elements(row, drafts[row.relid]):
                found[element][dependent] = None
        # PostgreSQL 14 tracks what bodies of standard SQL speak of; they have no text.
        version = connection.dialect.server_version_info or ()
        sql = _FUNCTIONS.format(without_body="AND f.prosqlbody IS NULL" if version >= (14,) else "")
        by_name: defaultdict[str, list[Draft]] = defaultdict(list)
        for draft in drafts.values():
            by_name[draft.key.name].append(draft)
        for row in connection.execute(text(sql), own):
            for element in _spoken_of(row, drafts, by_name):
                mention = Dependent(
                    f"{row.description}, whose text speaks of it", "", mentions=True, only_drops=True
                )
                found[element][mention] = None
    if enums:
        for row in connection.execute(text(_ON_ENUMS)):
            key = enums.get((row.nspname, row.typname))
            if key is not None:
                home = drafts.get(row.home)
                place = Element(ElementKind.COLUMN, home.key, row.place) if home is not None else None
                found[Element(ElementKind.ENUM, key)][Dependent(row.description, "", place)] = None
    return {element: tuple(found[element]) for element in sorted(found, key=lambda one: one.sort_key)}


def _dependent(row: Any, drafts: Mapping[int, Draft]) -> Dependent:
    home, place = drafts.get(row.home), None
    if home is not None and row.place_kind is not None:
        kind = ElementKind(row.place_kind)
        place = Element(kind, home.key, None if kind is ElementKind.TABLE else row.place)
    elif home is not None:
        place = Element(ElementKind.TABLE, home.key)
    return Dependent(row.description, row.remedy or "", place, only_drops=row.stops == "drop")


def _elements(row: Any, draft: Draft) -> Iterator[Element]:
    """What *row* says that something hangs on. What belongs to a table is in the way of its columns, not of itself."""
    if row.via is not None:
        yield from (Element(kind, draft.key, row.via) for kind in _INDEX_KINDS)
        return
    if row.attnum in draft.names:
        yield Element(ElementKind.COLUMN, draft.key, draft.names[row.attnum])
    if row.home != row.relid:
        yield Element(ElementKind.TABLE, draft.key)


def _spoken_of(
    row: Any, drafts: Mapping[int, Draft], by_name: Mapping[str, Sequence[Draft]]
) -> Iterator[Element]:
    """The tables and columns that a function may speak of; that of a trigger does not say its own table's name."""
    words = words_of(row.body)
    named = [draft for word in sorted(words & by_name.keys()) for draft in by_name[word]]
    for draft in named:
        yield Element(ElementKind.TABLE, draft.key)
    for draft in [*named, *(drafts[oid] for oid in row.tables if oid in drafts)]:
        for column in draft.names.values():
            if column in words:
                yield Element(ElementKind.COLUMN, draft.key, column)


_PIECE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'((?:[^']|'')*)'|\"((?:[^\"]|\"\")+)\"|([A-Za-z_\u0080-\uffff][\w$]*)", re.DOTALL
)


def words_of(body: str) -> frozenset[str]:
    """Everything in the text of a function that may be a name: in string literals too, which may be EXECUTEd.

    Words without quotes are folded as the server folds them; comments are left out.
    """
    found: set[str] = set()
    for literal, quoted, word in _PIECE.findall(body):
        if literal:
            found |= words_of(literal.replace("''", "'"))
        elif quoted:
            found.add(quoted.replace('""', '"'))
        elif word:
            found.add(word.lower())
    return frozenset(found)
