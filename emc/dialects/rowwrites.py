"""How is what a function answered written to many rows, and only to those that still are as they were read?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, update

RowChange = tuple[Any, ...]
"""What is to become of one row: its key, what :attr:`RowWrites.seen` answered when it was read, and the new values, in
the order of the columns that are written.

There are as many as rows in a batch. A plain tuple of plain values costs least, and Python's garbage collector does not
look at it a second time: keeping it busy took a quarter of the time of a batch.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """The rows of one batch."""

    rows: ColumnElement[bool]
    """Where they are, by their key."""
    condition: ColumnElement[bool]
    """What has to hold for each of them still."""
    kept: Mapping[Any, Any]
    """Columns that an UPDATE sets to themselves lest the server sets them."""


class RowWrites:
    """One UPDATE for each row. Databases have quicker ways.

    :param table: what is written to.
    :param key: its key, in the form in which rows are walked by it.
    :param seen: what tells whether a row still is as it was read: the same as long as nobody has written to it.
    """

    def __init__(
        self, table: Table, key: Sequence[ColumnElement[Any]], seen: Sequence[ColumnElement[Any]]
    ) -> None:
        self.table = table
        self.key = tuple(key)
        self.seen = tuple(seen)

    def unchanged(self) -> list[ColumnElement[bool]]:
        """What has to hold for one row that is to be written to; for :meth:`parameters`."""
        keys = [column == bindparam(f"emc_key_{at}", type_=column.type) for at, column in enumerate(self.key)]
        return keys + [
            seen.is_not_distinct_from(bindparam(f"emc_was_{at}", type_=seen.type))
            for at, seen in enumerate(self.seen)
        ]

    def parameters(self, changes: Sequence[RowChange]) -> list[dict[str, Any]]:
        """What :meth:`unchanged` and an UPDATE of these rows ask for."""
        told = len(self.key) + len(self.seen)
        names = [f"emc_key_{at}" for at in range(len(self.key))]
        names += [f"emc_was_{at}" for at in range(len(self.seen))]
        names += [f"emc_new_{at}" for at in range(len(changes[0]) - told)]
        return [dict(zip(names, change, strict=True)) for change in changes]

    def key_of(self, change: RowChange) -> tuple[Any, ...]:
        """The key of the row that is to be changed."""
        return change[: len(self.key)]

    def update(
        self, connection: Connection, target: Target, columns: Sequence[str], changes: Sequence[RowChange]
    ) -> int:
        """Write *changes* to those rows that still are as they were read; answers to how many.

        :param columns: names of those that are written; the values may be anything but SQL expressions.
        """
        new = {
            self.table.c[name]: bindparam(f"emc_new_{at}", type_=self.table.c[name].type)
            for at, name in enumerate(columns)
        }
        statement = update(self.table).where(*self.unchanged(), target.condition)
        return send(connection, statement.values({**target.kept, **new}), self.parameters(changes))


def send(connection: Connection, statement: Any, parameters: Sequence[Mapping[str, Any]]) -> int:
    """Execute *statement* with each of *parameters*; answers how many rows it came to in all."""
    if connection.dialect.supports_sane_multi_rowcount:
        return connection.execute(statement, parameters).rowcount
    return sum(connection.execute(statement, one).rowcount for one in parameters)


def alike(values: Sequence[Any]) -> bool:
    """Whether *values* are all of one type, NULLs aside: what becomes of a mixture, each server decides for itself."""
    return len({*map(type, values)} - {type(None)}) <= 1
