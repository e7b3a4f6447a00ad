"""Which other tables does an operation reach: by foreign keys, or by an enumerated type that they share?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.dialects.postgresql import ARRAY, ENUM
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.ground import Ground
from emc.names import TableKey
from emc.operations import Kind, Operation


def incoming_keys(ground: Ground) -> Iterator[tuple[TableKey, str]]:
    """The foreign keys to the table of *ground* whose own table or column is dropped later in the same phase.

    Other foreign keys to it are not ours to drop: the server refuses, and says which they are.
    """
    gone = _gone_before(ground)
    going = ground.operations[_position(ground) + 1 :]
    for key, table in ground.live.tables.items():
        if key == ground.key or key in gone:
            continue
        for one in table.foreign_keys:
            if TableKey(one["referred_schema"], one["referred_table"]) != ground.key:
                continue
            if any(_takes_along(later, key, one["constrained_columns"]) for later in going):
                yield key, str(one["name"])


def outgoing_keys(ground: Ground, column: str | None = None) -> Iterator[str]:
    """The foreign keys of the table, or of its *column*, that are there yet when its turn comes."""
    gone = _gone_before(ground)
    for one in ground.table.foreign_keys if ground.table is not None else ():
        parent = TableKey(one["referred_schema"], one["referred_table"])
        if parent not in gone and (column is None or column in one["constrained_columns"]):
            yield str(one["name"])


def _gone_before(ground: Ground) -> set[TableKey]:
    """The tables that are dropped earlier in the same phase."""
    before = ground.operations[: max(_position(ground), 0)]
    return {one.element.table for one in before if one.kind == Kind.DROP_TABLE}


def _position(ground: Ground) -> int:
    ids = [one.id for one in ground.operations]
    return ids.index(ground.operation.id) if ground.operation.id in ids else -1


def _takes_along(operation: Operation, key: TableKey, columns: list[str]) -> bool:
    if operation.element.table != key:
        return False
    if operation.kind == Kind.DROP_TABLE:
        return True
    return operation.kind == Kind.DROP_COLUMN and operation.element.name in columns


def columns_of_enum(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    """The live columns, arrays included, of the enumerated type that the operation changes."""
    directive = ground.directive
    for key, table in ground.live.tables.items():
        for column in table.columns.values():
            type_: TypeEngine[Any] = column["type"]
            if isinstance(type_, ARRAY):
                type_ = type_.item_type
            if isinstance(type_, ENUM) and (type_.schema, type_.name) == (
                directive.schema,
                directive.type_name,
            ):
                yield key, column
