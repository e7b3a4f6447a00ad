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
    position = _position(ground)
    gone_before = {one.element for one in ground.operations[:position]}
    going = ground.operations[position + 1 :]
    for key, table in ground.live.tables.items():
        if key == ground.key:
            continue
        for one in table.foreign_keys:
            if TableKey(one["referred_schema"], one["referred_table"]) != ground.key:
                continue
            if any(_takes_along(later, key, one["constrained_columns"]) for later in going) and not any(
                element.table == key and element.name is None for element in gone_before
            ):
                yield key, str(one["name"])


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
