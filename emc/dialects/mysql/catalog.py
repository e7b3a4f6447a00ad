"""What does a MariaDB or MySQL database hold?

Everything is asked of ``information_schema``, in a fixed number of queries; what its rows become is said in
:mod:`emc.dialects.mysql.drafts`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from emc.dialects.mysql import information, syncs
from emc.dialects.mysql.columns import Types
from emc.dialects.mysql.conditions import trigger_text
from emc.dialects.mysql.dependents import find_dependents
from emc.dialects.mysql.drafts import (
    Draft,
    add_check,
    add_column,
    add_foreign_key,
    add_keys,
    add_partitioning,
    draft_of,
)
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import MySQLSchema, MySQLTable
from emc.names import GUARD_PREFIX, TableKey, is_own
from emc.schema import LiveTable
from emc.sync import SYNC_PREFIX

_TABLE_KINDS = ("BASE TABLE", "SYSTEM VERSIONED")
_OTHER_KINDS = {"VIEW": "view", "SYSTEM VIEW": "view", "SEQUENCE": "sequence"}
_ATTEMPTS = 3
"""How often a schema is read that others are changing."""

_Place = tuple[str, str]
"""The real schema and name of a table."""


def read(connection: Connection, schemas: Sequence[str | None], flavour: Flavour) -> MySQLSchema:
    """Everything that can be known about the tables of *schemas*; ``None`` is the database of the connection.

    A table of a schema that is named belongs to that name, even where that is the connection's own. What was changed
    between two of the queries is asked again.
    """
    for _ in range(_ATTEMPTS - 1):
        live = _read(connection, schemas, flavour)
        if not any(map(_is_torn, live.tables.values())):
            return live
    return _read(connection, schemas, flavour)


def _is_torn(table: LiveTable) -> bool:
    """Whether a key of *table* has columns that were not there yet, or not any more, when they were asked for."""
    key = table.primary_key
    named = [
        *(key["constrained_columns"] if key else ()),
        *(name for one in table.foreign_keys for name in one["constrained_columns"]),
        *(name for one in (*table.indexes, *table.implied.values()) for name in one["column_names"]),
        *(name for one in table.uniques for name in one["column_names"]),
    ]
    return not table.columns or any(name is not None and name not in table.columns for name in named)


def _read(connection: Connection, schemas: Sequence[str | None], flavour: Flavour) -> MySQLSchema:
    own, sql_mode, folds = connection.exec_driver_sql(
        "SELECT DATABASE(), @@SESSION.sql_mode, @@lower_case_table_names"
    ).one()
    named = [schema for schema in schemas if schema is not None]
    real = list(dict.fromkeys([own, *named] if own is not None and None in schemas else named))
    if not real:
        return MySQLSchema({})
    homes = {schema: schema if schema in named else None for schema in real}
    rows = information.tables(connection, real, flavour)
    # Where case does not count, the answer may have another one than the question.
    asked = {schema.lower(): schema for schema in real} if folds else {}
    homes |= {row["of_schema"]: homes[asked.get(row["of_schema"].lower(), row["of_schema"])] for row in rows}
    drafts, taken = _sorted_out(rows, homes)
    _fill(connection, drafts, real, homes, flavour)
    triggers = information.triggers(connection, real)
    definers = {row["definer"] for row in triggers if row["name"].startswith(SYNC_PREFIX)}
    gone = information.gone_accounts(connection, definers)
    for row in triggers:
        draft = drafts.get((row["of_schema"], row["of_table"]))
        if draft is not None and row["name"].startswith(GUARD_PREFIX):
            draft.guards[row["name"]] = trigger_text(row["timing"], row["event"], row["body"])
        elif draft is not None and row["name"].startswith(SYNC_PREFIX):
            draft.syncs[row["name"]] = syncs.shown(row, triggers, definer_is_gone=row["definer"] in gone)
    tables = {draft.key: draft.table() for draft in sorted(drafts.values(), key=lambda d: d.key.sort_key)}
    return MySQLSchema(
        tables=tables,
        names_taken=dict(sorted(taken.items(), key=lambda item: item[0].sort_key)),
        dependents=find_dependents(
            {place: draft.table() for place, draft in drafts.items()},
            views=information.views(connection),
            triggers=[row for row in triggers if not is_own(row["name"])],
            own=own,
        ),
        folds_tables=bool(folds),
        folds_names=True,
        dialect_name=connection.dialect.name,
        database=own,
        version=tuple(part for part in connection.dialect.server_version_info or () if isinstance(part, int)),
        backslash_escapes="NO_BACKSLASH_ESCAPES" not in sql_mode,
    )


def read_scratch(
    connection: Connection, scratch: str, homes: Mapping[str, TableKey], flavour: Flavour
) -> Mapping[TableKey, MySQLTable]:
    """Those tables of the database *scratch* that *homes* names, each as if it were where *homes* says."""
    # What differs in case alone is one table here or there, but never both: a schema of the models is read at a time.
    keys = {**{name.lower(): key for name, key in homes.items()}, **homes}
    rows = [row for row in information.tables(connection, [scratch], flavour) if row["of_table"] in keys]
    drafts = {(row["of_schema"], row["of_table"]): draft_of(row, keys[row["of_table"]]) for row in rows}
    _fill(connection, drafts, [scratch], {scratch: None}, flavour)
    return {draft.key: draft.table() for draft in drafts.values()}


def _sorted_out(
    rows: Sequence[Mapping[str, Any]], homes: Mapping[str, str | None]
) -> tuple[dict[_Place, Draft], dict[TableKey, str]]:
    """The tables, and what the names stand for that are not tables."""
    drafts: dict[_Place, Draft] = {}
    taken: dict[TableKey, str] = {}
    for row in rows:
        place = row["of_schema"], row["of_table"]
        key = TableKey(homes[place[0]], place[1])
        if row["kind"] in _TABLE_KINDS:
            drafts[place] = draft_of(row, key)
        else:
            taken[key] = _OTHER_KINDS.get(row["kind"], str(row["kind"]).lower())
    return drafts, taken


def _fill(
    connection: Connection,
    drafts: Mapping[_Place, Draft],
    schemas: Sequence[str],
    homes: Mapping[str, str | None],
    flavour: Flavour,
) -> None:
    if not drafts:
        return

    def placed(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[Draft, dict[str, Any]]]:
        for row in rows:
            draft = drafts.get((row["of_schema"], row["of_table"]))
            if draft is not None:
                yield draft, row

    dialect = connection.dialect
    checks = information.checks(connection, schemas, flavour)
    at_columns = {
        (row["of_schema"], row["of_table"], row["name"]): row["clause"]
        for row in checks
        if row["level"] == "Column"
    }
    types = Types(dialect)
    for draft, row in placed(information.columns(connection, schemas, flavour)):
        check = at_columns.get((row["of_schema"], row["of_table"], row["name"]))
        add_column(draft, row, types, flavour, check)
    for draft, row in placed(checks):
        add_check(draft, row)
    for draft, row in placed(information.indexes(connection, schemas, flavour)):
        draft.keys.setdefault(row["name"], []).append(row)
    references: defaultdict[tuple[_Place, str], list[dict[str, Any]]] = defaultdict(list)
    for row in information.foreign_keys(connection, schemas):
        references[(row["of_schema"], row["of_table"]), row["name"]].append(row)
    for (place, _), its_rows in references.items():
        if place in drafts:
            add_foreign_key(drafts[place], its_rows, homes)
    for draft, row in placed(information.partitions(connection, schemas)):
        add_partitioning(draft, row)
    for draft in drafts.values():
        add_keys(draft, dialect)
