"""What row could a release write into a table?

Values are made by type; those of a foreign key are taken from a row that is there. What a CHECK, a trigger or a type of
the project asks besides, nobody can guess: the database says so, and the project brings the rows of that table along.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Connection,
    Enum,
    Numeric,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    select,
)
from sqlalchemy.types import TypeEngine

_DAY = dt.date(2024, 1, 1)


class NoValueError(Exception):
    """Nobody can tell what a value of this type looks like, or there is no row to refer to."""


def value_of(type_: TypeEngine[Any], number: int) -> Any:
    """A value of *type_* that differs from those for other numbers, as far as the type has as many.

    :raises NoValueError: the type is none that SQLAlchemy knows a Python type of.
    """
    if isinstance(type_, Enum):
        labels = list(type_.enum_class) if type_.enum_class else list(type_.enums)
        return labels[number % len(labels)]
    if isinstance(type_, JSON):
        return {"n": number}
    if isinstance(type_, ARRAY):
        return [value_of(type_.item_type, number)]
    if isinstance(type_, Numeric) and type_.asdecimal:
        return _number(type_, number)
    try:
        wanted = type_.python_type
    except NotImplementedError:
        if isinstance(type_, TypeDecorator):
            return value_of(type_.impl_instance, number)
        raise NoValueError(f"a value of {type_!r}") from None
    if issubclass(wanted, enum.Enum):
        return list(wanted)[number % len(wanted)]
    if isinstance(type_, Uuid) and not type_.as_uuid:
        return str(_MAKE[uuid.UUID](number))
    if wanted is str:
        return _text(type_, number)
    if wanted is dt.datetime and getattr(type_, "timezone", False):
        return _MAKE[wanted](number).replace(tzinfo=dt.UTC)
    if wanted in _MAKE:
        return _MAKE[wanted](number)
    raise NoValueError(f"a value of {type_!r}")


def _number(type_: Numeric[Any], number: int) -> decimal.Decimal:
    scale = type_.scale or 0
    whole = max((type_.precision or 10) - scale, 1)
    return decimal.Decimal(number % 10**whole)


def _text(type_: TypeEngine[Any], number: int) -> str:
    length = type_.length if isinstance(type_, String) else None
    text = f"emc {number}"
    # The end is what differs.
    return text if length is None else text[-length:]


_MAKE: Mapping[Any, Any] = {
    bool: lambda number: number % 2 == 0,
    int: lambda number: number % 32_000,
    float: float,
    decimal.Decimal: decimal.Decimal,
    bytes: lambda number: number.to_bytes(8, "big").lstrip(b"\0") or b"\0",
    dt.date: lambda number: _DAY + dt.timedelta(days=number % 20_000),
    dt.datetime: lambda number: dt.datetime.combine(_DAY, dt.time()) + dt.timedelta(minutes=number),
    dt.time: lambda number: dt.time(number // 60 % 24, number % 60),
    dt.timedelta: lambda number: dt.timedelta(minutes=number),
    uuid.UUID: lambda number: uuid.UUID(int=(0xE3C << 100) + number),
    dict: lambda number: {"n": number},
    list: lambda number: [number],
}


def row_for(
    connection: Connection,
    table: Table,
    number: int,
    *,
    whole: bool = True,
    keys: bool = False,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Values for an INSERT into *table*, by column.

    :param number: tells the row from others.
    :param whole: whether every column gets a value; else those that an INSERT cannot do without.
    :param keys: whether a key that the database counts up gets a value too: what it counts to differs from run to run;
        and whether a row to refer to is made where there is none to be had.
    :param given: values that are settled.
    :raises NoValueError: a column that cannot do without has no value.
    """
    values = dict(given or {})
    for column in table.columns:
        if column.name in values or column.computed is not None or column.identity is not None:
            continue
        if column is table.autoincrement_column and not column.foreign_keys and not keys:
            continue
        has_default = column.server_default is not None or column.default is not None
        if not whole and (column.nullable or has_default):
            if not has_default:
                values[column.name] = None  # As the ORM does: it names every column.
            continue
        try:
            values[column.name] = (
                referred(connection, column, number if keys else None)
                if column.foreign_keys
                else value_of(column.type, number)
            )
        except NoValueError as reason:
            if column.nullable or has_default:
                continue
            raise NoValueError(f"{table.fullname}.{column.name} is NOT NULL and needs {reason}") from None
    return values


def referred(connection: Connection, column: Column[Any], number: int | None = None) -> Any:
    """A value that the foreign key of *column* finds: the lowest, or the lowest that is not taken yet if it has to be.

    :param number: tells the row that is made to refer to where there is none; ``None``: none is made.
    :raises NoValueError: there is no such value.
    """
    target = min(column.foreign_keys, key=lambda one: str(one.target_fullname)).column
    wanted = select(target).where(target.is_not(None)).order_by(target).limit(1)
    if _only_once(column):
        taken = column.table.alias().c[column.key]
        wanted = wanted.where(target.not_in(select(taken).where(taken.is_not(None))))
    value = connection.execute(wanted).scalar_one_or_none()
    if value is None and number is not None and target.table is not column.table:
        row = row_for(connection, target.table, number, whole=False, keys=True)
        connection.execute(target.table.insert().values(row))
        value = connection.execute(wanted).scalar_one_or_none()
    if value is None:
        raise NoValueError(f"a row of {target.table.name} to refer to")
    return value


def _only_once(column: Column[Any]) -> bool:
    """Whether a key of the table is *column*, alone or with other references: nothing else tells rows apart."""
    table = column.table
    keys = [
        table.primary_key.columns,
        *(one.columns for one in table.constraints if isinstance(one, UniqueConstraint)),
        *(one.columns for one in table.indexes if one.unique),
    ]
    return any(column.key in key and all(one.foreign_keys for one in key) for key in keys)
