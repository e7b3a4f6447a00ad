"""How far did each of several workers get, which share the rows of one data migration?

The keys of the table are cut into ranges, one behind the other, which are laid down before the first batch. Each has a
cursor that is saved in the transaction of its batch. So whoever comes after a crash, with however many workers, goes on
with the same ranges.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from emc.state.encoding import decode, encode
from emc.state.tables import RANGES, ensure, exists, utc_now

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """The rows of a data migration behind one key, up to another."""

    name: str
    """Of the data migration."""
    number: int
    """Counted from 1, in the order of the keys."""
    cursor: Key | None
    """Key of the last row that was seen; before the first, that of the last row before the range, if there is one."""
    upper: Key
    """Where it ends."""
    rows_done: int = 0
    finished: bool = False


def ranges(connection: Connection, name: str) -> tuple[Range, ...]:
    """The ranges of *name*, in order; empty where it is not cut into any. Does not write."""
    if not exists(connection, RANGES):
        return ()
    return tuple(
        Range(
            name=row.name,
            number=row.number,
            cursor=tuple(decode(row.cursor)) if row.cursor is not None else None,
            upper=tuple(decode(row.upper)),
            rows_done=row.rows_done,
            finished=bool(row.finished),
        )
        for row in connection.execute(select(RANGES).where(RANGES.c.name == name).order_by(RANGES.c.number))
    )


def lay_down(
    connection: Connection,
    name: str,
    cuts: Sequence[Range],
    *,
    clock: Callable[[], dt.datetime] = utc_now,
) -> None:
    """Keep *cuts*, in place of whatever ranges *name* had.

    :raises TypeError: a key holds a value of a type that cannot be stored.
    """
    ensure(connection, RANGES)
    connection.execute(delete(RANGES).where(RANGES.c.name == name))
    if cuts:
        connection.execute(
            insert(RANGES),
            [{"name": name, "number": one.number, "updated_at": clock(), **_values(one)} for one in cuts],
        )


def save(connection: Connection, one: Range, *, clock: Callable[[], dt.datetime] = utc_now) -> None:
    """Write how far *one* is, in the transaction of *connection*."""
    connection.execute(
        update(RANGES)
        .where(RANGES.c.name == one.name, RANGES.c.number == one.number)
        .values(updated_at=clock(), **_values(one))
    )


def _values(one: Range) -> dict[str, Any]:
    return {
        "cursor": encode(one.cursor) if one.cursor is not None else None,
        "upper": encode(one.upper),
        "rows_done": one.rows_done,
        "finished": int(one.finished),
    }
