"""How many rows are left, and which?"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection, Select, exists, func, literal, select
from sqlalchemy.exc import DataError, InternalError

from emc.work.values import Work


def rows_left(connection: Connection, work: Work) -> int:
    """How many rows of *work* remain; a scan of the table."""
    if work.is_complete:
        return 0
    return int(_answer(connection, work, select(func.count()).select_from(work.table)))


def anything_left(connection: Connection, work: Work) -> bool:
    """Whether a row of *work* remains; asks the database only where the catalog does not say it already."""
    if work.is_complete:
        return False
    return bool(_answer(connection, work, select(literal(1)).select_from(work.table).limit(1)))


def _answer(connection: Connection, work: Work, question: Select[Any]) -> int:
    """The first value that *question* finds of the rows of *work* that are pending, or 0.

    Of those that may be at most, where the condition fails for a row: then there is one that is not done.
    """
    if work.presumed is None:
        return connection.execute(question.where(work.pending)).scalar() or 0
    try:
        with apart(connection) if work.fails_apart else nullcontext():
            return connection.execute(question.where(work.pending)).scalar() or 0
    except (DataError, InternalError):
        return connection.execute(question.where(work.presumed)).scalar() or 0


def apart(connection: Connection) -> AbstractContextManager[object]:
    """Lets a statement fail without harm to the transaction of *connection*, where it has one."""
    if connection._is_autocommit_isolation():  # noqa: SLF001 - the same for every driver; nothing public is
        return nullcontext()
    return connection.begin_nested()


def anything_undecided(connection: Connection, work: Work) -> bool:
    """Whether there are rows for which the condition of *work* is NULL: it does not say if they are done.

    A condition such as ``price_cents != price * 100`` says nothing of rows where either is NULL. No
    proof may rest on it while there are such rows; ``is_distinct_from`` says what was meant.
    """
    if work.is_complete:
        return False
    query = select(exists().select_from(work.table).where(work.pending.is_(None)))
    return bool(connection.execute(query).scalar_one())


def sample_keys(connection: Connection, work: Work, limit: int = 3) -> list[str]:
    """The keys of up to *limit* rows that remain, for a person: ``id=5``. Empty where the table has no key."""
    if work.is_complete or not work.walk:
        return []
    columns = [work.table.c[name] for name in work.walk]
    query = select(*columns).where(work.pending).order_by(*columns).limit(limit)
    return [
        ", ".join(f"{name}={value}" for name, value in zip(work.walk, row, strict=True))
        for row in connection.execute(query)
    ]
