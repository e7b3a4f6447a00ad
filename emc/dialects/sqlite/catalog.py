"""What is in a SQLite database, in the dictionaries of SQLAlchemy's inspector and in the words of its catalog?"""

from __future__ import annotations

import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, create_engine, inspect
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.exc import SAWarning
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from emc.dialects.sqlite.edits import own_constraints, quoted
from emc.dialects.sqlite.text import Clause, TableText, parse
from emc.dialects.sqlite.tokens import UnreadableTextError, mentions, names, normal, tokens
from emc.names import ElementKind, TableKey, is_own
from emc.schema import LiveSchema, LiveTable
from emc.sync import SYNC_PREFIX

LEFTOVER = "leftover of an interrupted rebuild"
"""What :attr:`LiveSchema.names_taken` says of a half-made copy of a table that is still there."""
ONLY_COPY = "the only copy of a table, left by an interrupted rebuild"
"""The same when the table itself is gone: Alembic's batch mode died between DROP TABLE and RENAME."""
_TEMPORARY = ("_alembic_tmp_", "emc_rebuild_")


@dataclass(frozen=True)
class Attached:
    """An index or trigger of a table, or a view: something with a text of its own."""

    kind: str
    """``index``, ``trigger`` or ``view``."""
    name: str
    table: str
    sql: str


@dataclass(frozen=True)
class SQLiteTable(LiveTable):
    """A table with the texts that a rebuild has to keep."""

    sql: str = ""
    attached: tuple[Attached, ...] = ()
    """Its indexes and triggers, in the order in which they were made."""


@dataclass(frozen=True)
class SQLiteSchema(LiveSchema):
    """A snapshot with the texts of what is no table of ours."""

    views: Mapping[str | None, Sequence[Attached]] = ()  # type: ignore[assignment]  # always given
    """Views and their triggers, by schema, in the order in which they were made."""


def temporary_name(table: str) -> str:
    """Under which name the old rows of *table* stand while it is rebuilt."""
    return f"emc_rebuild_{table}"


def leftovers_of(live: LiveSchema, key: TableKey) -> list[TableKey]:
    """Half-made copies of table *key* that an interrupted rebuild left."""
    names = (TableKey(key.schema, prefix + key.name) for prefix in _TEMPORARY)
    return [name for name in names if live.names_taken.get(name) == LEFTOVER]


def read(connection: Connection, schemas: Sequence[str | None]) -> SQLiteSchema:
    """A snapshot of the ordinary tables of *schemas*; ``None`` is the main database."""
    tables: dict[TableKey, LiveTable] = {}
    taken: dict[TableKey, str] = {}
    views: dict[str | None, list[Attached]] = {}
    dependents: dict[tuple[TableKey, str | None], list[str]] = defaultdict(list)
    for schema in schemas:
        master = f"{quoted(schema or 'main')}.sqlite_master"
        rows = [
            tuple(row)
            for row in connection.exec_driver_sql(
                f"SELECT type, name, tbl_name, sql FROM {master} WHERE sql IS NOT NULL ORDER BY rowid"
            )
        ]
        texts, others = _sort_tables(connection, schema, rows)
        taken |= {TableKey(schema, name): what for name, what in others.items()}
        attached: dict[str, list[Attached]] = defaultdict(list)
        known = {name.lower(): name for name in texts}
        views[schema] = []
        for kind, name, table, sql in rows:
            if kind == "view":
                views[schema].append(Attached(kind, name, table, sql))
            elif kind in ("index", "trigger"):
                owner = known.get(table.lower())
                place = attached[owner] if owner is not None else views[schema]
                if owner is not None or others.get(table) == "view":
                    place.append(Attached(kind, name, table, sql))
        found = _reflect(connection, schema, texts, attached)
        tables |= found
        _find_dependents(found, views[schema], dependents)
    return SQLiteSchema(
        tables=dict(sorted(tables.items(), key=lambda item: item[0].sort_key)),
        names_taken=dict(sorted(taken.items(), key=lambda item: item[0].sort_key)),
        dependents={key: tuple(dict.fromkeys(names)) for key, names in dependents.items()},
        views={schema: tuple(found_views) for schema, found_views in views.items()},
    )


def _sort_tables(
    connection: Connection, schema: str | None, rows: Sequence[tuple[str, str, str, str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Ordinary tables with their texts, and what other names stand for."""
    ordinary: dict[str, str] = {}
    others: dict[str, str] = {}
    virtual: list[str] = []
    for kind, name, _, sql in rows:
        if kind == "view":
            others[name] = "view"
        elif kind == "table" and [token.keyword for token in tokens(sql)[:2]] == ["CREATE", "VIRTUAL"]:
            others[name] = "virtual table"
            virtual.append(name)
        elif kind == "table" and not name.lower().startswith("sqlite_"):
            ordinary[name] = sql
    shadows: set[str] = set()
    if virtual and sqlite3.sqlite_version_info >= (3, 37):
        # PRAGMA table_list came with 3.37; before it, the documented naming of shadow tables has to do.
        listed = connection.exec_driver_sql(f"PRAGMA {quoted(schema or 'main')}.table_list")
        shadows = {row[1] for row in listed if row[2] == "shadow"}
    elif virtual:
        shadows = {name for name in ordinary for owner in virtual if name.startswith(f"{owner}_")}
    for name in shadows & ordinary.keys():
        del ordinary[name]
        others[name] = "shadow table of a virtual table"
    present = {name.lower() for name in ordinary}
    for name in list(ordinary):
        for prefix in _TEMPORARY:
            if name.startswith(prefix):
                del ordinary[name]
                others[name] = LEFTOVER if name[len(prefix) :].lower() in present else ONLY_COPY
    return ordinary, others


def _reflect(
    connection: Connection,
    schema: str | None,
    texts: Mapping[str, str],
    attached: Mapping[str, Sequence[Attached]],
) -> dict[TableKey, LiveTable]:
    if not texts:
        return {}
    inspector = inspect(connection)
    names = list(texts)
    given: dict[str, Any] = {"schema": schema, "filter_names": names, "kind": ObjectKind.TABLE}
    with warnings.catch_warnings():
        # Their text is in `definitions`.
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based", SAWarning)
        columns = inspector.get_multi_columns(**given)
        keys = inspector.get_multi_pk_constraint(**given)
        foreign_keys = inspector.get_multi_foreign_keys(**given)
        indexes = inspector.get_multi_indexes(**given)
        uniques = inspector.get_multi_unique_constraints(**given)
        checks = inspector.get_multi_check_constraints(**given)
    pages = f"PRAGMA {quoted(schema or 'main')}."
    size = 1
    for pragma in ("page_count", "page_size"):
        size *= connection.exec_driver_sql(pages + pragma).scalar_one()
    return {
        TableKey(schema, name): SQLiteTable(
            key=TableKey(schema, name),
            columns={column["name"]: column for column in columns[schema, name]},
            primary_key=keys[schema, name],
            foreign_keys=tuple(foreign_keys[schema, name]),
            indexes=tuple(indexes[schema, name]),
            uniques=tuple(uniques[schema, name]),
            checks=tuple(checks[schema, name]),
            definitions=definitions(sql, attached.get(name, ())),
            # Of the whole file: SQLite tells the size of a table only where it was built with dbstat.
            size_bytes=size,
            syncs={one.name: one.sql for one in attached.get(name, ()) if one.name.startswith(SYNC_PREFIX)},
            sql=sql,
            attached=tuple(attached.get(name, ())),
        )
        for name, sql in texts.items()
    }


# -- definitions -----------------------------------------------------------------------------------------------


def definitions(sql: str, attached: Sequence[Attached]) -> dict[tuple[ElementKind, str], str]:
    """What the inspector leaves out. Constraints without a name are called by what they say."""
    found: dict[tuple[ElementKind, str], str] = {}
    try:
        text = parse(sql)
    except UnreadableTextError:
        # Such a table can be read, but not rebuilt: `refuse` says so.
        return found
    for column in text.columns:
        said = [
            _generated(clause) if clause.kind == "generated" else normal(clause.text)
            for clause in column.clauses
            if clause.kind in ("collate", "generated")
            or clause.argument == "AUTOINCREMENT"
            or (clause.kind == "not-null" and "conflict" in normal(clause.text))
        ]
        if said:
            found[ElementKind.COLUMN, column.name] = "; ".join(sorted(said))
    for clause in text.clauses:
        kind = clause.element_kind
        if kind in (ElementKind.CHECK, ElementKind.UNIQUE, ElementKind.FOREIGN_KEY):
            definition = _definition(clause)
            found[kind, clause.name or definition] = definition
    if text.options:
        found[ElementKind.TABLE, ""] = text.options.lower()
    for one in attached:
        if one.kind == "index":
            found[ElementKind.INDEX, one.name] = index_definition(one.sql)
    return found


def _generated(clause: Clause) -> str:
    stored = clause.text.upper().endswith("STORED")
    return f"generated ({normal(clause.argument)}) {'stored' if stored else 'virtual'}"


def _definition(clause: Clause) -> str:
    rest = normal(clause.text)
    if clause.kind == ElementKind.CHECK.value:
        tail = rest.rpartition(" on conflict ")
        return f"check ({normal(clause.argument)})" + ("".join(tail[1:]) if rest[-1] != ")" else "")
    columns = ", ".join(column.lower() for column in clause.columns)
    if clause.kind == ElementKind.FOREIGN_KEY.value:
        return f"foreign key ({columns}) {rest[rest.index('references ') :]}"
    # What stands after the list of columns; their collations and orders change nothing but the look of the index.
    tail = rest.partition(" on conflict ")
    return f"unique ({columns})" + "".join(tail[1:])


def index_definition(sql: str) -> str:
    """The text of an index without its name and table."""
    parts = tokens(sql)
    on = next(i for i, token in enumerate(parts) if token.keyword == "ON")
    unique = "unique " if any(token.keyword == "UNIQUE" for token in parts[:on]) else ""
    start = parts[on + 2].start
    where = next((token for token in parts[on + 2 :] if token.keyword == "WHERE"), None)
    if where is None:
        return f"{unique}({normal(sql[start:])})"
    return f"{unique}({normal(sql[start : where.start])}) where {normal(sql[where.end :])}"


# -- dependents ------------------------------------------------------------------------------------------------


def entangled_columns(table: SQLiteTable, column: str) -> list[str]:
    """What within *table* names *column* together with others, and so cannot go or stay when the column goes."""
    text = parse(table.sql)
    own = own_constraints(text, column)
    found = [
        f"generated column {other.name}"
        for other in text.columns
        if other.name.lower() != column.lower()
        for clause in other.clauses
        if clause.kind == "generated" and mentions(clause.argument, column)
    ]
    found += [
        f"check {clause.name or '(' + clause.argument + ')'}"
        for clause in text.clauses
        if clause.kind == ElementKind.CHECK.value and clause not in own and mentions(clause.argument, column)
    ]
    found += [
        f"index {one.name}"
        for one in table.attached
        if one.kind == "index" and mentions(index_body(one.sql), column) and not index_goes(text, one, column)
    ]
    return found


def index_goes(text: TableText, index: Attached, column: str) -> bool:
    """Whether an index that names *column* goes with it: a plain one, or one that is about nothing else."""
    body = index_body(index.sql)
    others = [one.name for one in text.columns if one.name.lower() != column.lower()]
    plain = not any(token.kind == "string" or token.keyword == "WHERE" for token in tokens(body)) and (
        body.count("(") == 1
    )
    return mentions(body, column) and (plain or not any(mentions(body, other) for other in others))


def index_body(sql: str) -> str:
    """The text of an index from its list of columns on."""
    parts = tokens(sql)
    on = next(i for i, token in enumerate(parts) if token.keyword == "ON")
    return sql[parts[on + 2].start :]


def _find_dependents(
    tables: Mapping[TableKey, LiveTable],
    views: Sequence[Attached],
    dependents: dict[tuple[TableKey, str | None], list[str]],
) -> None:
    triggers = [
        one
        for table in tables.values()
        for one in table.attached  # type: ignore[attr-defined]  # made by _reflect
        if one.kind == "trigger"
    ]
    speaking = [one for one in (*views, *triggers) if not is_own(one.name)]
    words = {one: names(one.sql) for one in speaking}
    for key, table in tables.items():
        assert isinstance(table, SQLiteTable)
        for one in speaking:
            if key.name.lower() not in words[one]:
                continue
            if one.table.lower() != key.name.lower():
                dependents[key, None].append(f"{one.kind} {one.name}")
            for column in table.columns:
                if column.lower() in words[one]:
                    dependents[key, column].append(f"{one.kind} {one.name}")
        try:
            said = [clause.argument for clause in parse(table.sql).clauses]
            said += [index_body(one.sql) for one in table.attached if one.kind == "index"]
            spoken_of = frozenset[str]().union(*(names(sql) for sql in said))
            for column in table.columns:
                if column.lower() not in spoken_of:
                    continue
                if found := entangled_columns(table, column):
                    dependents[key, column].extend(found)
        except UnreadableTextError:
            continue


# -- spelling --------------------------------------------------------------------------------------------------


def spell(tables: Sequence[Table]) -> Mapping[TableKey, LiveTable]:
    """*tables* as SQLite shows them when it has just created them, in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            raw: sqlite3.Connection = driver
            schemas = sorted({table.schema for table in tables if table.schema is not None})
            for schema in schemas:
                raw.execute(f"ATTACH ':memory:' AS {quoted(schema)}")
            for table in tables:
                run_tolerantly(raw, str(CreateTable(table).compile(dialect=engine.dialect)))
                for index in sorted(table.indexes, key=lambda index: str(index.name)):
                    run_tolerantly(raw, str(CreateIndex(index).compile(dialect=engine.dialect)))
            return read(connection, [None, *schemas]).tables
    finally:
        engine.dispose()


def run_tolerantly(raw: sqlite3.Connection, sql: str) -> None:
    """Run DDL in a scratch database, which lacks the functions and collations that an application registers."""
    for _ in range(100):
        try:
            raw.execute(sql)
        except sqlite3.OperationalError as error:
            what, _, name = str(error).partition(": ")
            define = _STAND_INS.get(what)
            if define is None:
                raise
            define(raw, name)
        else:
            return
    raise UnreadableTextError(f"a scratch database does not take: {sql}")


_STAND_INS: Mapping[str, Callable[[sqlite3.Connection, str], None]] = {
    "no such function": lambda raw, name: raw.create_function(name, -1, lambda *_: None, deterministic=True),
    "no such collation sequence": lambda raw, name: raw.create_collation(
        name, lambda a, b: (a > b) - (a < b)
    ),
}
