"""How do MariaDB and MySQL write to many rows at once, and know that nobody else has?

A driver sends one UPDATE after the other, and waits for each. So the rows are locked and compared first, all of them
with one statement; then many are written with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Enum,
    Integer,
    Interval,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import NullType, TypeEngine

from emc.dialects.mysql.comparing import exact
from emc.dialects.rowwrites import RowChange, RowWrites, Target, alike

_SHORT = (Boolean, Date, DateTime, Enum, Integer, Interval, Numeric, Time, Uuid)
_CHUNK = 128
"""Rows of one statement. It looks its rows up one after the other, so that twice as many take more than twice as long;
their numbers are powers of two, so that there are few statements to be compiled."""


def fingerprint(table: Table) -> ColumnElement[str]:
    """What is the same for two versions of a row if all their values are, to the last byte, and only then."""
    parts = []
    for column in table.c:
        value: ColumnElement[Any] = exact(column)
        if not _is_short(column.type):
            # Together they might be longer than max_allowed_packet, for which CONCAT answers NULL.
            value = func.sha2(value, 256)
        # With its length, so that no value looks like the end of one and the beginning of the next.
        parts.append(func.coalesce(func.concat(func.octet_length(value), ":", value), "-"))
    return func.sha2(func.concat(*parts), 256, type_=String())


def _is_short(kind: TypeEngine[Any]) -> bool:
    """Whether all values of *kind* are; what is not known may be long."""
    affinity = kind._type_affinity or NullType  # noqa: SLF001 - of all dialects
    return issubclass(affinity, _SHORT) or (
        issubclass(affinity, String) and bool(getattr(kind, "length", None))
    )


_DIGITS = 16
"""Of a fingerprint, that fit into a number of 64 bits."""


def _number(told: ColumnElement[str]) -> ColumnElement[int]:
    return cast(func.conv(func.left(told, _DIGITS), 16, 10), mysql.BIGINT(unsigned=True))


class LockingWrites(RowWrites):
    """Locks the rows of a batch, compares them, and writes to many with one UPDATE."""

    def __init__(self, table: Table, key: Sequence[ColumnElement[Any]]) -> None:
        super().__init__(table, key, [fingerprint(table)])
        self._statements: dict[tuple[tuple[str, ...], int], Any] = {}

    def unchanged(self) -> list[ColumnElement[bool]]:
        """See the base class. A fingerprint is never NULL; if it were, it would prove nothing."""
        *keys, _ = super().unchanged()
        return [*keys, self.seen[0] == bindparam("emc_was_0", type_=String())]

    def update(
        self, connection: Connection, target: Target, columns: Sequence[str], changes: Sequence[RowChange]
    ) -> int:
        """See the base class."""
        kinds = [self.table.c[name].type.dialect_impl(connection.dialect) for name in columns]
        new = list(zip(*changes, strict=True))[-len(columns) :]
        if any(kind._has_bind_expression for kind in kinds) or not all(map(alike, new)):  # noqa: SLF001
            return super().update(connection, target, columns, changes)
        same = self._unchanged(connection, target, changes)
        return sum(self._write(connection, target, columns, chunk) for chunk in _chunks(same))

    def _unchanged(
        self, connection: Connection, target: Target, changes: Sequence[RowChange]
    ) -> Sequence[RowChange]:
        """Those of *changes* whose rows still are as they were read; they are locked then."""
        query = select(func.count(), func.coalesce(func.bit_xor(_number(self.seen[0])), 0))
        query = query.select_from(self.table).where(target.rows, target.condition).with_for_update()
        count, mixed = connection.execute(query).one()
        told, wanted = len(self.key), 0
        for change in changes:
            if change[told] is None:
                return []
            wanted ^= int(change[told][:_DIGITS], 16)
        if (int(count), int(mixed)) == (len(changes), wanted):
            return changes
        # Somebody has written to one of them, or there are others besides.
        each = select(*(column.label(f"emc_key_{at}") for at, column in enumerate(self.key)), *self.seen)
        found = connection.execute(each.select_from(self.table).where(target.rows, target.condition))
        now = {tuple(row[:-1]): row[-1] for row in found}
        return [change for change in changes if now.get(self.key_of(change)) == change[told]]

    def _write(
        self, connection: Connection, target: Target, columns: Sequence[str], changes: Sequence[RowChange]
    ) -> int:
        shape = (tuple(columns), len(changes))
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = self._statement(target, *shape)
        names = [f"emc_key_{at}" for at in range(len(self.key))] + ["emc_was_0"]
        names += [f"emc_new_{at}" for at in range(len(columns))]
        parameters = {
            f"{name}_{row}": value
            for row, change in enumerate(changes)
            for name, value in zip(names, change, strict=True)
            if name != "emc_was_0"
        }
        return connection.execute(statement, parameters).rowcount

    def _statement(self, target: Target, columns: Sequence[str], count: int) -> Any:
        keys = [
            [bindparam(f"emc_key_{at}_{row}", type_=column.type) for at, column in enumerate(self.key)]
            for row in range(count)
        ]
        new: dict[Any, Any] = dict(target.kept)
        for at, name in enumerate(columns):
            column = self.table.c[name]
            values = [bindparam(f"emc_new_{at}_{row}", type_=column.type) for row in range(count)]
            if len(self.key) == 1:
                by_key = [(key[0], value) for key, value in zip(keys, values, strict=True)]
                new[column] = case(*by_key, value=self.key[0], else_=column)
            else:
                by_row = [(self._is(key), value) for key, value in zip(keys, values, strict=True)]
                new[column] = case(*by_row, else_=column)
        where = self.key[0].in_([key[0] for key in keys]) if len(self.key) == 1 else or_(*map(self._is, keys))
        return update(self.table).where(where).values(new)

    def _is(self, key: Sequence[Any]) -> ColumnElement[bool]:
        return and_(*(column == value for column, value in zip(self.key, key, strict=True)))


def _chunks(changes: Sequence[RowChange]) -> Iterator[Sequence[RowChange]]:
    at, size = 0, _CHUNK
    while at < len(changes):
        while size > len(changes) - at:
            size //= 2
        yield changes[at : at + size]
        at += size
