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
    """Rows are left: a limit was reached. Run it again to continue."""
    PAUSED = "paused"
    """Rows are left: somebody asked to stop, or the run was held up for longer than its patience. Run it again."""
    OUTRUN = "outrun"
    """Rows are left, and others come as fast as they are migrated. Run it again when nobody writes such rows."""
    STUCK = "stuck"
    """A whole pass took no row out of the condition, and rows are left."""
    FAILED = "failed"
    """Some rows cannot be migrated. All others are done, unless most rows fail or the first one is to end the run."""
    REPORTED = "reported"
    """Rows are left, and the declaration leaves them to a person: nothing was written."""
    BLOCKED = "blocked"
    """Not begun: the schema is not there, or what it has to wait for is not complete."""


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it did."""

    name: str
    """Of the work."""
    outcome: Outcome
    rows_found: int = 0
    """Rows that were pending when this run began."""
    rows_done: int = 0
    """Rows that this run wrote or deleted."""
    rows_left: int | None = None
    """Rows that are pending now, failed ones among them; ``None`` where that was not counted."""
    failed: tuple[FailedRow, ...] = ()
    """The rows that cannot be migrated, with their keys and errors."""
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
    eta_seconds: float | None = None
    """Seconds until all rows are done, at the pace of the last minute, pauses included; ``None`` before that."""


@dataclass(frozen=True)
class BatchPolicy(Waiting):
    """How large batches are, and how long to wait between them and for locks."""

    start: int = 1_000
    """Rows of the first batch."""
    smallest: int = 10
    largest: int = 50_000
    target: float = 0.1
    """Seconds that a batch should take. Who wants a row that it holds waits for as long as that.

    Beside two readers and two writers, batches of 0.1 s with pauses as long moved as many rows as batches of 0.5 s with
    pauses half as long. The 99th percentile of what the application's statements took was at most 1.4 times that
    without emc; with the latter it was eight times for writers (PostgreSQL 15.18).
    """
    fast_target: float = 0.5
    """The same where it has to be :attr:`fast`, and what a batch costs besides its rows is to matter less."""
    growth: float = 1.5
    """The most by which one batch may be larger than the one before."""
    history: int = 10
    """How many of the last batches are looked at; the slowest tenth of them is left out."""
    window: int = 20
    """How many rows may be read in search of each row that is pending, in one batch."""
    passes: int | None = None
    """Walks over the whole table after which a run ends, whatever has come meanwhile; ``None``: as many as it takes."""
    shortest_pause: float = 0.05
    """The least that there are between batches, in seconds."""
    rest: float = 1.0
    """Seconds between batches for each second that a batch took."""
    fast: bool = False
    """No pause at all, and larger batches."""
    lock_timeout: float = 1.0
    """Seconds to wait for a lock."""
    lock_attempts: int = 3
    """How often a batch is tried again because of a lock before it is made smaller."""
    reconnects: int = 10
    """How often in a row a lost connection is replaced."""
