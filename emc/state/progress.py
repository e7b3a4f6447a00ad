"""How far did a data migration get?

The cursor is saved in the transaction of the batch that it stands for, so that the two are never apart. It
only says where to go on: whether a migration is complete is asked of the data.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from emc.state.encoding import decode, encode
from emc.state.tables import PROGRESS, RANGES, ensure, exists


@dataclass(frozen=True)
class Progress:
    """Where a walk over a table stands."""

    name: str
    """The data migration, or the proof of a gate."""
    cursor: tuple[Any, ...] | None
    """Key of the last row that was seen in this pass; ``None`` before the first."""
    rows_done: int
    """Rows written, all passes together."""
    pass_number: int
    """1 while the table is walked for the first time."""
    started_at: dt.datetime
    updated_at: dt.datetime
    finished: bool


def load(connection: Connection, name: str) -> Progress | None:
    """The progress of *name*; ``None`` if it has not begun. Does not write."""
    if not exists(connection, PROGRESS):
        return None
    row = connection.execute(select(PROGRESS).where(PROGRESS.c.name == name)).one_or_none()
    if row is None:
        return None
    return Progress(
        name=row.name,
        cursor=tuple(decode(row.cursor)) if row.cursor is not None else None,
        rows_done=row.rows_done,
        pass_number=row.pass_number,
        started_at=row.started_at,
        updated_at=row.updated_at,
        finished=bool(row.finished),
    )


def save(connection: Connection, progress: Progress) -> None:
    """Write *progress* in the transaction of *connection*, in place of what was there.

    :raises TypeError: the cursor holds a value of a type that cannot be stored.
    """
    ensure(connection, PROGRESS)
    keep(connection, progress)


def keep(connection: Connection, progress: Progress) -> None:
    """The same where the table is known to be there, as it is to whoever holds the lease: one question less.

    :raises TypeError: the cursor holds a value of a type that cannot be stored.
    """
    values = {
        "cursor": encode(progress.cursor) if progress.cursor is not None else None,
        "rows_done": progress.rows_done,
        "pass_number": progress.pass_number,
        "started_at": progress.started_at,
        "updated_at": progress.updated_at,
        "finished": int(progress.finished),
    }
    # No dialect's upsert is needed: a name has one writer, who holds the lease.
    changed = connection.execute(update(PROGRESS).where(PROGRESS.c.name == progress.name).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(PROGRESS).values(name=progress.name, **values))


def forget(connection: Connection, name: str) -> None:
    """Let *name* begin anew."""
    if exists(connection, PROGRESS):
        connection.execute(delete(PROGRESS).where(PROGRESS.c.name == name))
    if exists(connection, RANGES):
        connection.execute(delete(RANGES).where(RANGES.c.name == name))
