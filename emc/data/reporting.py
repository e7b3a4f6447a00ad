"""What is said of rows that a declaration leaves to a person?"""

from __future__ import annotations

from sqlalchemy import Connection, Engine

from emc.data.values import Outcome, Result
from emc.dialects.base import Dialect
from emc.work import Work, rows_left, samples_of


def reported(engine: Engine, dialect: Dialect, work: Work) -> Result:
    """How many rows *work* leaves to a person, and the first of them. Reads only."""

    def look(connection: Connection) -> tuple[int, list[str]]:
        left = rows_left(connection, work)
        return left, list(samples_of(connection, work)) if left else []

    left, samples = dialect.ask(engine, look)
    if not left:
        return Result(work.name, Outcome.COMPLETE, rows_left=0)
    rows, are = ("1 row of", "is") if left == 1 else (f"{left:,} rows of", "are")
    first = f"; the first: {'; '.join(samples)}" if samples else ""
    return Result(
        work.name,
        Outcome.REPORTED,
        rows_left=left,
        reason=f"{rows} {work.key} without a parent {are} left to you{first}",
        remedy=f'repair the rows, or let emc do it: action="set null" or "delete" at {work.place}',
    )
