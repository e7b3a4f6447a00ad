"""Where does the next batch end?

A walk goes along a unique key in the database's own order. The values of the key are never interpreted:
they go back to the database as the driver gave them, without the conversions of the models, so that
nothing is lost on the way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import NullType

from emc.dialects.base import Dialect
from emc.errors import EmcError
from emc.work import Work

Key = tuple[Any, ...]
_Compare = Callable[[Any, Any], Any]

_CHUNK = 200
"""Keys in one IN list; databases limit the number of parameters."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Way:
    """A way along the rows of a table."""

    table: FromClause
    columns: tuple[ColumnElement[Any], ...]
    by_rows: bool = True
    """Whether an index serves a comparison of row values, ``(a, b) > (1, 2)``. MariaDB 10.11.19 reads the whole index
    for it, from its beginning, and a range of it for the same said with AND and OR."""

    def after(self, key: Key | None) -> ColumnElement[bool]:
        """The rows behind *key*; ``None``: all."""
        if key is None:
            return true()
        return self._beyond(operator.gt, operator.gt, key)

    def up_to(self, key: Key) -> ColumnElement[bool]:
        """The rows up to *key*, itself included."""
        return self._beyond(operator.lt, operator.le, key)

    def _beyond(self, before: _Compare, at_last: _Compare, key: Key) -> ColumnElement[bool]:
        bound = self._bound(key)
        if self.by_rows or len(self.columns) == 1:
            rows: ColumnElement[bool] = at_last(_side(self.columns), _side(bound))
            return rows
        condition: ColumnElement[bool] = at_last(self.columns[-1], bound[-1])
        for column, value in zip(self.columns[-2::-1], bound[-2::-1], strict=True):
            condition = or_(before(column, value), and_(column == value, condition))
        return condition

    def is_at(self, key: Key) -> ColumnElement[bool]:
        """The row with *key*."""
        return and_(*(column == bound for column, bound in zip(self.columns, self._bound(key), strict=True)))

    def among(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """The rows with *keys*."""
        if len(self.columns) > 1:
            return or_(*(self.is_at(key) for key in keys))
        [column] = self.columns
        return column.in_([bound for key in keys for bound in self._bound(key)])

    def last(self, connection: Connection) -> Key | None:
        """The key of the last row; ``None`` if there is none."""
        query = select(*self.labelled()).select_from(self.table)
        return _key(connection.execute(query.order_by(*(c.desc() for c in self.columns)).limit(1)).first())

    def end(self, connection: Connection, lower: Key | None, size: int) -> Key | None:
        """The key of the *size*-th row behind *lower*; ``None`` if there are fewer."""
        query = select(*self.labelled()).select_from(self.table).where(self.after(lower))
        return _key(connection.execute(query.order_by(*self.columns).limit(1).offset(size - 1)).first())

    def _bound(self, key: Key) -> list[Any]:
        return [
            bindparam(None, value, type_=column.type) for value, column in zip(key, self.columns, strict=True)
        ]

    def labelled(self) -> list[ColumnElement[Any]]:
        """The columns of the key, for a SELECT."""
        return [column.label(f"emc_key_{at}") for at, column in enumerate(self.columns)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Walk(Way):
    """A way along the rows of a table, in search of those that are pending."""

    work: Work
    is_physical: bool = False
    """Whether it goes by the address of a row, which may change when the row is written."""
    nearer: Callable[[Any, Any, int], Any] | None = None
    """For addresses: see :meth:`emc.dialects.base.Dialect.nearer_row_id`."""

    @property
    def divides(self) -> bool:
        """Whether the rows can be cut into ranges that are walked side by side."""
        return not self.is_physical

    def bound(self, connection: Connection, lower: Key | None, ceiling: Key, size: int, reach: int) -> Key:
        """The key up to which the next batch goes.

        :param lower: the key of the last row that was done.
        :param ceiling: the key at which the pass ends.
        :param size: how many pending rows the batch may have.
        :param reach: how many rows may be looked at to find them. 0: any number.
        """
        if self.nearer is not None:
            ceiling = (self.nearer(None if lower is None else lower[0], ceiling[0], reach),)
        rows = and_(self.after(lower), self.up_to(ceiling))
        walked = select(*self.labelled()).select_from(self.work.table).where(rows).order_by(*self.columns)
        if not reach:
            found = connection.execute(walked.where(self.work.sought).limit(1).offset(size - 1)).first()
            return _key(found) or ceiling
        window = walked.add_columns(self.work.sought.label("emc_pending")).limit(reach).subquery()
        keys = [window.c[f"emc_key_{at}"] for at in range(len(self.columns))]
        hit = select(*keys).where(window.c.emc_pending).order_by(*keys).limit(1).offset(size - 1)
        found = connection.execute(hit).first()
        if found is None:
            found = connection.execute(walked.limit(1).offset(reach - 1)).first()
        return _key(found) or ceiling

    def next(self, connection: Connection, lower: Key | None, ceiling: Key, size: int) -> Key:
        """The key up to which a batch of the next *size* rows goes, pending or not; parameters as for :meth:`bound`."""
        if lower is not None and len(lower) == 1 and type(lower[0]) is int and type(ceiling[0]) is int:
            # Between so many integers there are no more rows than that, and nobody has to be asked. (A bool is none.)
            return (min(lower[0] + size, ceiling[0]),)
        rows = and_(self.after(lower), self.up_to(ceiling))
        walked = select(*self.labelled()).select_from(self.work.table).where(rows).order_by(*self.columns)
        return _key(connection.execute(walked.limit(1).offset(size - 1)).first()) or ceiling

    def pending(self, connection: Connection, rows: ColumnElement[bool]) -> int:
        """How many of *rows* are pending."""
        query = select(func.count()).select_from(self.work.table).where(rows, self.work.sought)
        return connection.execute(query).scalar_one()

    def first_pending(self, connection: Connection, rows: ColumnElement[bool]) -> Key | None:
        """The key of the first of *rows* that is pending."""
        query = select(*self.labelled()).select_from(self.work.table).where(rows, self.work.sought)
        return _key(connection.execute(query.order_by(*self.columns).limit(1)).first())

    def pending_keys(self, connection: Connection, rows: ColumnElement[bool]) -> list[Key]:
        """The keys of those of *rows* that are pending, in order."""
        query = select(*self.labelled()).select_from(self.table).where(rows, self.work.pending)
        return [tuple(row) for row in connection.execute(query.order_by(*self.columns))]

    def still_pending(self, connection: Connection, keys: Sequence[Key]) -> set[Key]:
        """Which of the rows with *keys* are there, and pending."""
        found: set[Key] = set()
        for at in range(0, len(keys), _CHUNK):
            rows = self.among(keys[at : at + _CHUNK])
            query = select(*self.labelled()).select_from(self.work.table).where(rows, self.work.sought)
            found.update(tuple(row) for row in connection.execute(query))
        return found


def has_keyless_rows(connection: Connection, work: Work) -> bool:
    """Whether rows of the table have NULL in the key that it is walked by, which no comparison finds.

    SQLite allows that in a primary key whose columns are not declared NOT NULL.
    """
    columns = [work.table.c[name] for name in work.walk if work.table.c[name].nullable]
    if not columns:
        return False
    query = select(true()).select_from(work.table).where(or_(*(column.is_(None) for column in columns)))
    return connection.execute(query.limit(1)).first() is not None


def walk_of(dialect: Dialect, work: Work, *, by_address: bool = False) -> Walk:
    """The way along the table of *work*: its key, else the physical address of its rows.

    :param by_address: not to go by the key, which not all rows have.
    :raises EmcError: it has neither.
    """
    if work.walk and not by_address:
        way = way_of(dialect, work.table, work.walk)
        return Walk(table=way.table, columns=way.columns, by_rows=way.by_rows, work=work)
    row_id = dialect.row_id(work.table)
    if by_address and (row_id is None or work.rivalries):
        key = ", ".join(work.walk)
        raise EmcError(
            f"Table {work.key} has rows with NULL in its primary key ({key}), so {work.name} cannot tell them apart.",
            remedy=f"Give each of them a key: UPDATE {work.key} SET … WHERE "
            f"{' OR '.join(f'{name} IS NULL' for name in work.walk)}",
        )
    if row_id is None:
        raise EmcError(
            f"Table {work.key} has no key that tells its rows apart, so {work.name} cannot go through it in batches.",
            remedy="Add a primary key, or a unique constraint on columns that are NOT NULL.",
        )
    return Walk(
        table=work.table, columns=(row_id,), work=work, is_physical=True, nearer=dialect.nearer_row_id
    )


def way_of(dialect: Dialect, table: FromClause, key: Sequence[str]) -> Way:
    """The way along *table* by the columns *key*, which no two rows share."""
    columns = tuple(type_coerce(dialect.ordered(table.c[name]), NullType()) for name in key)
    return Way(table=table, columns=columns, by_rows=dialect.indexes_row_values)


def _side(columns: Sequence[Any]) -> Any:
    return columns[0] if len(columns) == 1 else tuple_(*columns)


def _key(row: Any) -> Key | None:
    return None if row is None else tuple(row)
