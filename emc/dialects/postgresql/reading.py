"""What does a PostgreSQL database hold, in the dictionaries that SQLAlchemy's inspector answers?

The dictionaries equal those of :class:`sqlalchemy.engine.Inspector`, which asks several times per schema and leaves out
what emc has to know. Types alone come from the inspector itself, asked once for one column of each kind of type.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope
from sqlalchemy.types import Integer, NullType, TypeEngine

from emc.dialects.postgresql import catalog, hanging, partitions
from emc.dialects.postgresql.naming import balanced, identifier, without_schema
from emc.names import GUARD_PREFIX, ElementKind, TableKey
from emc.schema import LiveSchema, LiveTable, Partition

_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "c": "type", "S": "sequence"}
_CONSTRAINT_KINDS = {
    "p": ElementKind.PRIMARY_KEY,
    "u": ElementKind.UNIQUE,
    "c": ElementKind.CHECK,
    "f": ElementKind.FOREIGN_KEY,
    "x": ElementKind.EXCLUSION,
}
_ACTIONS = {"r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_MATCHES = {"f": "FULL", "p": "PARTIAL"}
_CHECK = re.compile(r"CHECK *\((.+)\)( NO INHERIT)?", re.DOTALL)
_SEQUENCE_DEFAULT = re.compile(r"(nextval\(')([^']+)('.*$)")
_SET_COLUMNS = re.compile(r"ON DELETE (SET (?:NULL|DEFAULT) \([^)]*\))")


@dataclass
class _Draft:
    """A table while its rows come in."""

    key: TableKey
    schema: str
    """The real schema, which the key may leave unsaid."""
    columns: dict[str, ReflectedColumn] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """Column names by number."""
    primary_key: Any = None
    foreign_keys: list[Any] = field(default_factory=list)
    indexes: list[Any] = field(default_factory=list)
    uniques: list[Any] = field(default_factory=list)
    checks: list[Any] = field(default_factory=list)
    comment: str | None = None
    definitions: dict[tuple[ElementKind, str], str] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    enforcing: set[str] = field(default_factory=set)
    guards: dict[str, str] = field(default_factory=dict)
    syncs: dict[str, str] = field(default_factory=dict)
    rewriters: frozenset[str] = frozenset()
    rows: int | None = None
    bytes: int | None = None
    partitions: Sequence[Partition] = ()

    def define(self, kind: ElementKind, name: str, definition: str) -> None:
        """Keep the server's text of an element, without the table's own schema."""
        self.definitions[kind, name] = without_schema(definition, self.schema)

    def table(self) -> LiveTable:
        return LiveTable(
            key=self.key,
            columns=self.columns,
            primary_key=self.primary_key,
            foreign_keys=tuple(self.foreign_keys),
            indexes=tuple(self.indexes),
            uniques=tuple(self.uniques),
            checks=tuple(self.checks),
            comment=self.comment,
            definitions=self.definitions,
            unfinished=frozenset(self.unfinished),
            enforcing=frozenset(self.enforcing),
            guards=self.guards,
            syncs=self.syncs,
            rewriters=self.rewriters,
            row_estimate=self.rows,
            size_bytes=self.bytes,
            partitions=self.partitions,
        )


def read(connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
    """Everything that can be known about the tables of *schemas*.

    A table of a schema that is named belongs to that name, even where the search path would find it; ``None`` stands
    for what else the search path finds.
    """
    named = [schema for schema in schemas if schema is not None]
    visible = None in schemas
    drafts: dict[int, _Draft] = {}
    taken: dict[TableKey, str] = {}
    for row in catalog.tables(connection, catalog.IN_SCHEMAS, named=named, visible=visible):
        key = TableKey(row.nspname if row.nspname in named else None, row.relname)
        if row.index_of is not None:
            taken[key] = f"index of table {row.index_of}"
        elif row.partition_of is not None:
            taken[key] = f"partition of {row.partition_of}"
        elif row.extension is not None:
            taken[key] = f"{_KINDS.get(row.kind, 'table')} of extension {row.extension}"
        elif row.kind in _KINDS:
            taken[key] = _KINDS[row.kind]
        else:
            drafts[row.oid] = _draft(row, key)
    _fill(connection, drafts)
    found = catalog.enums(connection, named, visible=visible)
    types = {(schema, name): TableKey(schema if schema in named else None, name) for schema, name, _ in found}
    return LiveSchema(
        tables={draft.key: draft.table() for draft in sorted(drafts.values(), key=lambda d: d.key.sort_key)},
        enums={types[schema, name]: tuple(labels) for schema, name, labels in found},
        names_taken=taken,
        hanging=hanging.find(connection, drafts, types),
    )


def read_scratch(connection: Connection, schemas: Mapping[str, str | None]) -> Mapping[TableKey, LiveTable]:
    """Those tables of this session's scratch schema that *schemas* names, each as if it were in the schema given."""
    drafts: dict[int, _Draft] = {}
    for row in catalog.tables(connection, catalog.IN_SCRATCH):
        if row.kind in ("r", "p") and row.relname in schemas:
            schema = schemas[row.relname]
            drafts[row.oid] = draft = _draft(row, TableKey(schema, row.relname))
            # Definitions leave the table's own schema out, here and in a live table alike.
            draft.schema = schema or connection.dialect.default_schema_name or row.nspname
    _fill(connection, drafts, scratch=True)
    return {draft.key: draft.table() for draft in drafts.values()}


def _draft(row: Any, key: TableKey) -> _Draft:
    draft = _Draft(key=key, schema=row.nspname, comment=row.comment, bytes=row.bytes)
    draft.syncs = json.loads(row.syncs) if row.syncs else {}
    draft.rewriters = frozenset(row.rewriters or ())
    draft.rows = row.rows if row.rows is not None or row.bytes != 0 else 0
    if row.partition_key is not None:
        draft.define(ElementKind.TABLE, key.name, f"PARTITION BY {row.partition_key}")
    return draft


def _fill(connection: Connection, drafts: Mapping[int, _Draft], *, scratch: bool = False) -> None:
    if not drafts:
        return
    oids = list(drafts)
    columns = catalog.columns(connection, oids)
    types = _types(connection, drafts, columns, scratch=scratch)
    for oid, attnum, name, *facts in columns:
        drafts[oid].names[attnum] = name
        _add_column(drafts[oid], name, types, facts)
    keys: dict[int, Any] = {}
    for row in catalog.indexes(connection, oids):
        keys[row.oid] = row
        _add_index(drafts[row.relid], row)
    for row in catalog.constraints(connection, oids):
        _add_constraint(drafts[row.relid], row, keys)
    roots = {
        oid: (d.key, d.schema)
        for oid, d in drafts.items()
        if (ElementKind.TABLE, d.key.name) in d.definitions
    }
    for oid, its in partitions.read(connection, {} if scratch else roots).items():
        drafts[oid].partitions = its


_TypeKey = tuple[str, str | None, str | None]


def _types(
    connection: Connection, drafts: Mapping[int, _Draft], columns: Sequence[Any], *, scratch: bool
) -> Mapping[_TypeKey, TypeEngine[Any]]:
    """The type objects by the server's text of the type and its collation.

    The inspector makes them, from one table that has such a column: three queries, and one more per further schema.
    """
    wanted: dict[_TypeKey, tuple[int, str]] = {}
    for row in columns:
        wanted.setdefault((row[3], row[8], row[9]), (row[0], row[2]))
    samples: defaultdict[str | None, set[int]] = defaultdict(set)
    for oid, _ in wanted.values():
        samples[None if scratch else drafts[oid].key.schema].add(oid)
    inspector = inspect(connection)
    reflected: dict[tuple[int, str], TypeEngine[Any]] = {}
    with warnings.catch_warnings():
        # "Did not recognize type": the text of such a type goes into the column's definition.
        warnings.filterwarnings("ignore", "Did not recognize type")
        for schema, oids in samples.items():
            by_name = {drafts[oid].key.name: oid for oid in oids}
            answer = inspector.get_multi_columns(
                schema=schema,
                filter_names=sorted(by_name),
                kind=ObjectKind.TABLE,
                scope=ObjectScope.TEMPORARY if scratch else ObjectScope.DEFAULT,
            )
            for (_, table_name), its_columns in answer.items():
                for column in its_columns:
                    reflected[by_name[table_name], column["name"]] = column["type"]
    return {key: reflected[place] for key, place in wanted.items()}


def _add_column(
    draft: _Draft, name: str, types: Mapping[_TypeKey, TypeEngine[Any]], facts: Sequence[Any]
) -> None:
    type_text, not_null, default, generated, identity, collation, collation_schema, comment = facts
    type_ = types[type_text, collation, collation_schema]
    texts: list[str] = []
    if isinstance(type_, NullType):
        texts.append(f"TYPE {type_text}")
    if collation is not None:
        qualified = ".".join(identifier(part) for part in (collation_schema, collation) if part is not None)
        texts.append(f"COLLATE {qualified}")
    nullable = not not_null
    if isinstance(type_, DOMAIN):
        default = default or type_.default
        nullable = nullable and not type_.not_null
    computed = None
    if generated:
        computed = {"sqltext": default, "persisted": generated == "s"}
        texts.append(f"GENERATED ALWAYS AS ({default}) {'STORED' if generated == 's' else 'VIRTUAL'}")
        default = None
    options = json.loads(identity) if identity else None
    if options is not None:
        texts.append(
            f"GENERATED {'ALWAYS' if options['always'] else 'BY DEFAULT'} AS IDENTITY ("
            f"START WITH {options['start']} INCREMENT BY {options['increment']} "
            f"MINVALUE {options['minvalue']} MAXVALUE {options['maxvalue']} CACHE {options['cache']}"
            f"{' CYCLE' if options['cycle'] else ''})"
        )
    autoincrement = options is not None
    match = _SEQUENCE_DEFAULT.search(default) if default is not None else None
    if match is not None:
        autoincrement = autoincrement or issubclass(type_._type_affinity or NullType, Integer)  # noqa: SLF001
        if "." not in match[2] and draft.key.schema is not None:
            # As the inspector does it, whose answer this has to equal.
            default = f'{match[1]}"{draft.key.schema}".{match[2]}{match[3]}'
    column: dict[str, Any] = {
        "name": name,
        "type": type_,
        "nullable": nullable,
        "default": default,
        "autoincrement": autoincrement,
        "comment": comment,
    }
    if computed is not None:
        column["computed"] = computed
    if options is not None:
        column["identity"] = options
    draft.columns[name] = column  # type: ignore[assignment]
    if texts:
        draft.define(ElementKind.COLUMN, name, " ".join(texts))


def _add_index(draft: _Draft, row: Any) -> None:
    if row.is_primary or row.owned:
        return
    # Behind the name of the table, since the scratch schema before it has a number in some versions.
    _, _, definition = row.definition.partition(f".{row.table_name} USING ")
    unique = "UNIQUE " if row.is_unique else ""
    draft.define(ElementKind.INDEX, row.name, f"{unique}USING {definition}")
    if not row.valid:
        draft.unfinished.add(row.name)
        if row.enforcing:
            draft.enforcing.add(row.name)
        return
    numbers = row.numbers[: row.key_count]
    elements = [
        draft.names[number] if number else row.texts[position] for position, number in enumerate(numbers)
    ]
    index: dict[str, Any] = {"name": row.name, "unique": row.is_unique}
    if 0 in numbers:
        pairs = zip(elements, numbers, strict=True)
        index["column_names"] = [element if number else None for element, number in pairs]
        index["expressions"] = elements
    else:
        index["column_names"] = elements
    options: dict[str, Any] = {}
    if row.classes:
        ops = {element: one for element, one in zip(elements, row.classes, strict=True) if one is not None}
        options["postgresql_ops"] = ops
    sorting: dict[str, tuple[str, ...]] = {}
    for element, flag in zip(elements, row.flags, strict=True):
        # Bit 0: DESC; bit 1: NULLS FIRST, which is the default of DESC.
        words = {1: ("desc", "nulls_last"), 2: ("nulls_first",), 3: ("desc",)}.get(flag & 3)
        if words is not None:
            sorting[element] = words
    if sorting:
        index["column_sorting"] = sorting
    if row.options:
        options["postgresql_with"] = dict(option.split("=", 1) for option in row.options)
    if row.method != "btree":
        options["postgresql_using"] = row.method
    if row.predicate:
        options["postgresql_where"] = row.predicate
    options["postgresql_include"] = [draft.names[number] for number in row.numbers[row.key_count :]]
    if row.nulls_not_distinct:
        options["postgresql_nulls_not_distinct"] = True
    index["dialect_options"] = options
    draft.indexes.append(index)


def _add_constraint(draft: _Draft, row: Any, keys: Mapping[int, Any]) -> None:
    if row.name.startswith(GUARD_PREFIX):
        draft.guards[row.name] = row.comment or ""
        return
    # A unique one of a partitioned table is complete once every partition has its own: only its index tells.
    valid = row.valid and (row.kind != "u" or keys[row.index_oid].valid)
    if not valid:
        draft.unfinished.add(row.name)
    if row.kind == "n":
        if not row.valid:
            # PostgreSQL 18: new rows are checked, old ones may be NULL yet.
            draft.columns[draft.names[row.numbers[0]]]["nullable"] = True
        return
    draft.define(_CONSTRAINT_KINDS[row.kind], row.name, row.definition.removesuffix(" NOT VALID"))
    if not valid:
        return
    columns = [draft.names[number] for number in row.numbers or () if number]
    if row.kind in ("p", "u"):
        index = keys[row.index_oid]
        options: dict[str, Any] = {
            "postgresql_include": [draft.names[number] for number in index.numbers[index.key_count :]]
        }
        if row.kind == "u":
            options["postgresql_nulls_not_distinct"] = index.nulls_not_distinct
            facts = {"column_names": columns, "name": row.name, "comment": row.comment}
            draft.uniques.append({**facts, "dialect_options": options})
        else:
            facts = {"constrained_columns": columns, "name": row.name, "comment": row.comment}
            draft.primary_key = {**facts, "dialect_options": options}
    elif row.kind == "c":
        draft.checks.append(_check(row))
    elif row.kind == "f":
        draft.foreign_keys.append(_foreign_key(draft, row, columns))


def _check(row: Any) -> dict[str, Any]:
    match = _CHECK.fullmatch(row.definition)
    sqltext = balanced(match[1]) if match else row.definition
    check: dict[str, Any] = {"name": row.name, "sqltext": sqltext, "comment": row.comment}
    if match and match[2]:
        check["dialect_options"] = {"no_inherit": True}
    return check


def _foreign_key(draft: _Draft, row: Any, columns: Sequence[str]) -> dict[str, Any]:
    schema = draft.key.schema
    options: dict[str, Any] = {}
    if row.on_update in _ACTIONS:
        options["onupdate"] = _ACTIONS[row.on_update]
    if row.on_delete in _ACTIONS:
        some = _SET_COLUMNS.search(row.definition)
        options["ondelete"] = some[1] if some else _ACTIONS[row.on_delete]
    if row.is_deferred:
        options["initially"] = "DEFERRED"
    if row.is_deferrable:
        options["deferrable"] = True
    if row.match in _MATCHES:
        options["match"] = _MATCHES[row.match]
    # As the inspector has it: unqualified where the search path finds it, but as the table's own schema is called.
    named = not row.parent_visible or row.parent_schema == schema
    return {
        "name": row.name,
        "constrained_columns": list(columns),
        "referred_schema": row.parent_schema if named else None,
        "referred_table": row.parent,
        "referred_columns": list(row.parent_columns),
        "options": options,
        "comment": row.comment,
    }
