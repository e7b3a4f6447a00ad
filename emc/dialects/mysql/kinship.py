"""Which keys and checks reach a column or a table, and which of them are gone when an operation's turn comes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from emc.dialects.mysql.dependents import names
from emc.dialects.mysql.ground import Ground
from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveTable

_INDEX_KINDS = (Kind.DROP_INDEX, Kind.DROP_UNIQUE, Kind.REPLACE_INDEX, Kind.REPLACE_CONSTRAINT)


def incoming_keys(ground: Ground, column: str | None = None) -> Iterator[tuple[TableKey, Any]]:
    """The foreign keys of other tables, or of this one, to the table of *ground* or to its *column*."""
    for key, table in ground.live.tables.items():
        for one in table.foreign_keys:
            if referred(key, one) != ground.key:
                continue
            if column is None or _has(one["referred_columns"], column):
                yield key, one


def outgoing_keys(ground: Ground, column: str) -> Iterator[Any]:
    """The foreign keys of *column* of the table of *ground*."""
    table = ground.table
    for one in table.foreign_keys if table is not None else ():
        if _has(one["constrained_columns"], column):
            yield one


def referred(key: TableKey, foreign_key: Any) -> TableKey:
    """The table that a foreign key of table *key* refers to."""
    return TableKey(foreign_key["referred_schema"], str(foreign_key["referred_table"]))


def is_dropped(operations: Sequence[Operation], key: TableKey, foreign_key: Any) -> bool:
    """Whether one of *operations* takes a foreign key of table *key* away, by itself or with what it stands on."""
    for one in operations:
        if one.element.table != key:
            continue
        if one.kind == Kind.DROP_TABLE:
            return True
        if one.kind == Kind.DROP_FOREIGN_KEY and one.element.name == foreign_key["name"]:
            return True
        if one.kind == Kind.DROP_COLUMN and _has(foreign_key["constrained_columns"], str(one.element.name)):
            return True
    return False


def indexes_of(table: LiveTable) -> Iterator[tuple[str, list[str | None], bool]]:
    """Every index of *table* but the primary key, under whichever head it is told: name, columns, whether unique."""
    for unique in table.uniques:
        yield str(unique["name"]), [*unique["column_names"]], True
    for index in table.indexes:
        yield str(index["name"]), [*index["column_names"]], bool(index["unique"])
    for index in table.implied.values():
        yield str(index["name"]), [*index["column_names"]], False


def indexes_on(ground: Ground, column: str) -> list[str]:
    """The indexes that speak of *column*, and that no operation before takes away or defines anew."""
    table = ground.table
    if table is None:
        return []
    gone = {
        str(one.element.name).lower()
        for one in ground.before
        if one.kind in _INDEX_KINDS and one.element.table == ground.key
    }
    found = []
    for name, columns, _ in indexes_of(table):
        spoken_of = [one for one in columns if one is not None]
        if (_has(spoken_of, column) or _in_expression(table, name, column)) and name.lower() not in gone:
            found.append(name)
    return found


def _in_expression(table: LiveTable, name: str, column: str) -> bool:
    for index in table.indexes:
        if index["name"] == name:
            return any(column.lower() in names(str(one)) for one in index.get("expressions", ()) if one)
    return False


def checks_on(ground: Ground, column: str) -> list[Any]:
    """The CHECKs that speak of *column*, and that no operation before takes away."""
    table = ground.table
    gone = {
        str(one.element.name).lower()
        for one in ground.before
        if one.kind == Kind.DROP_CHECK and one.element.table == ground.key
    }
    return [
        check
        for check in (table.checks if table is not None else ())
        if column.lower() in names(check["sqltext"]) and str(check["name"]).lower() not in gone
    ]


def serves(columns: Sequence[str | None], wanted: Sequence[str]) -> bool:
    """Whether an index over *columns* can serve a foreign key over *wanted*: they come first, in their order."""
    return [str(one).lower() for one in columns[: len(wanted)]] == [one.lower() for one in wanted]


def needing(
    ground: Ground, index: str, *, without: frozenset[str] = frozenset()
) -> list[tuple[TableKey, Any]]:
    """The foreign keys that would have no index any more without *index* (error 1553), own and incoming ones.

    :param without: other indexes that go along, in lower case.
    """
    table = ground.table
    if table is None:
        return []
    going = {index.lower(), *without}
    left = [columns for name, columns, _ in indexes_of(table) if name.lower() not in going]
    if table.primary_key:
        left.append([*table.primary_key["constrained_columns"]])
    mine = next((columns for name, columns, _ in indexes_of(table) if name.lower() == index.lower()), None)
    if mine is None:
        return []
    candidates = [(ground.key, one, one["constrained_columns"]) for one in table.foreign_keys]
    candidates += [(key, one, one["referred_columns"]) for key, one in incoming_keys(ground)]
    return [
        (key, one)
        for key, one, wanted in candidates
        if serves(mine, wanted) and not any(serves(columns, wanted) for columns in left)
    ]


def _has(columns: Sequence[str], column: str) -> bool:
    return column.lower() in (one.lower() for one in columns)
