"""What goes into a run of data work, and what comes out?"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from emc.state.failures import FailedRow
from emc.waiting import Waiting


class Outcome(enum.StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    """No row is left."""
    MORE = "more"
    """Rows are left: a limit was reached, or somebody asked to stop. Run it again to continue."""
    OUTRUN = "outrun"
    """Rows are left, and others come as fast as they are migrated. Run it again when nobody writes such rows."""
    STUCK = "stuck"
    """A whole pass took no row out of the condition, and rows are left."""
    FAILED = "failed"
    """Some rows cannot be migrated; all others are done, unless most rows fail."""
    BLOCKED = "blocked"
    """Not begun: the schema is not there, or what it has to wait for is not complete."""


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it did."""

    name: str
    """Of the work."""
    outcome: Outcome
    rows_done: int = 0
    """Rows that this run wrote or deleted."""
    rows_left: int | None = None
    """Rows that are pending now, failed ones among them; ``None`` where that was not counted."""
    failed: tuple[FailedRow, ...] = ()
    """The rows that cannot be migrated, with their keys and errors."""
    stopped: bool = False
    """Whether it ended because somebody asked to stop."""
    reason: str | None = None
    """Why it did not complete, as a clause."""
    remedy: str | None = None
    """What to do next."""


@dataclass(frozen=True)
class ProgressEvent:
    """Reported after each batch."""

    work: str
    rows_done: int
    """By this run, so far."""
    rows_total: int
    """Rows that were pending when the run began; more may have come since."""
    batch_rows: int
    batch_size: int
    """How many rows the batch was allowed to have."""
    batch_seconds: float
    pass_number: int
    failed: int
    """Rows that could not be migrated, so far."""


@dataclass(frozen=True)
class BatchPolicy(Waiting):
    """How large batches are, and how long to wait between them and for locks."""

    start: int = 1_000
    """Rows of the first batch."""
    smallest: int = 10
    largest: int = 50_000
    target: float = 0.5
    """Seconds that a batch should take, so that nobody waits long for a row that it holds."""
    growth: float = 1.5
    """The most by which one batch may be larger than the one before."""
    history: int = 10
    """How many of the last batches are looked at; the slowest tenth of them is left out."""
    whole_table: int = 10_000
    """Rows of a batch where each batch has to look at the whole table: its time does not depend on its size."""
    window: int = 20
    """How many rows may be read in search of each row that is pending, in one batch."""
    shortest_pause: float = 0.05
    """Seconds between batches, if half the time of the batch is less."""
    fast: bool = False
    """No pause at all."""
    lock_timeout: float = 1.0
    """Seconds to wait for a lock."""
    lock_attempts: int = 3
    """How often a batch is tried again because of a lock before it is made smaller."""
    reconnects: int = 10
    """How often in a row a lost connection is replaced."""
