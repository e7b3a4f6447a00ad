"""Which rows could not be migrated, and why?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from emc.state.encoding import decode, encode
from emc.state.tables import FAILURES, ensure, exists, utc_now


@dataclass(frozen=True)
class FailedRow:
    """One row that a data migration could not migrate."""

    migration: str
    key: tuple[Any, ...]
    error: str
    """What the database or the function of the declaration said."""
    at: dt.datetime


def note_failure(
    connection: Connection,
    migration: str,
    key: Sequence[Any],
    error: str,
    *,
    clock: Callable[[], dt.datetime] = utc_now,
) -> FailedRow:
    """Note that the row with *key* failed, in place of what was noted of it before."""
    ensure(connection, FAILURES)
    clear_failures(connection, migration, key)
    failed = FailedRow(migration, tuple(key), error, clock())
    connection.execute(
        insert(FAILURES).values(migration=migration, row_key=encode(failed.key), error=error, at=failed.at)
    )
    return failed


def clear_failures(connection: Connection, migration: str, key: Sequence[Any] | None = None) -> None:
    """Forget the failed row with *key*, or all those of *migration*."""
    if not exists(connection, FAILURES):
        return
    statement = delete(FAILURES).where(FAILURES.c.migration == migration)
    if key is not None:
        statement = statement.where(FAILURES.c.row_key == encode(tuple(key)))
    connection.execute(statement)


def failures(connection: Connection, migration: str | None = None) -> tuple[FailedRow, ...]:
    """The failed rows of *migration*, or of all, in the order in which they failed. Does not write."""
    if not exists(connection, FAILURES):
        return ()
    query = select(FAILURES).order_by(FAILURES.c.id)
    if migration is not None:
        query = query.where(FAILURES.c.migration == migration)
    return tuple(
        FailedRow(row.migration, tuple(decode(row.row_key)), row.error, row.at)
        for row in connection.execute(query)
    )
