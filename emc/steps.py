"""What does the database have to run, and how?

Values that dialects make and the executor runs. A step is data: its statements, how they share a transaction, how long
they may wait for a lock, what they do to a running system, and how the catalog tells that they are done.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from emc.errors import Refusal
from emc.operations import Operation


class Transaction(enum.StrEnum):
    """How the statements of a step meet transactions."""

    TOGETHER = "together"
    """All in one transaction, with the gate's proof and the ledger entry."""
    AUTOCOMMIT = "autocommit"
    """Each by itself, outside any transaction (``CREATE INDEX CONCURRENTLY``, DDL that commits implicitly)."""
    LOCKED = "locked"
    """Each commits by itself, and all share a session that holds the locks it takes until the last one; what fails on
    the way begins again with the first (``LOCK TABLES``, where no transaction spans DDL)."""
    REBUILD = "rebuild"
    """All in one transaction, with foreign keys unenforced while it lasts and checked before it commits (SQLite)."""


class LockPolicy(enum.StrEnum):
    """How long a statement may wait for its lock."""

    SHORT = "short"
    """Takes a lock that stalls others while it waits: wait briefly, give up, try again later."""
    LONG = "long"
    """Takes such a lock for as long as its work takes, since somebody has agreed: wait as briefly, and then finish."""
    WEAK = "weak"
    """Takes a lock that stalls nobody (VALIDATE, concurrent builds): wait as long as it takes."""


class Hazard(enum.StrEnum):
    """The effect of a step on a running system."""

    EXCLUSIVE_LOCK = "exclusive-lock"
    """Shuts everybody out of the table, for a moment that does not depend on the number of rows."""
    BLOCKS_WRITES = "blocks-writes"
    """Writers wait as long as the step runs."""
    REWRITES_TABLE = "rewrites-table"
    """Copies every row, and nobody gets at the table meanwhile."""
    SCANS_TABLE = "scans-table"
    """Reads every row; writers go on."""
    LONG_RUNNING = "long-running"
    """Takes time in proportion to the rows, beside the traffic."""
    LOSES_DATA = "loses-data"
    """Data that was there is gone afterwards."""


def shared_policy(policies: Collection[LockPolicy]) -> LockPolicy:
    """The policy of statements with *policies* that share a transaction."""
    for policy in (LockPolicy.LONG, LockPolicy.SHORT, LockPolicy.WEAK):
        if policy in policies:
            return policy
    return LockPolicy.SHORT


@dataclass(frozen=True)
class Probe:
    """A question to the catalog: a SELECT whose first column of its first row is true when the answer is yes."""

    sql: str
    """Plain SQL without parameters, in the dialect of the database."""
    expects: str
    """What is so when the answer is yes, as a clause: ``"column users.tz exists and is nullable"``."""


@dataclass(frozen=True)
class Way:
    """One way to have a statement's effect."""

    sql: str
    locks: LockPolicy


@dataclass(frozen=True)
class Step:
    """One operation as this database will run it."""

    operation: Operation
    statements: tuple[str, ...]
    """What is sent, in order. Empty where another step of the same unit does the work."""
    postcondition: Probe
    transaction: Transaction = Transaction.TOGETHER
    locks: LockPolicy = LockPolicy.SHORT
    hazards: tuple[Hazard, ...] = ()
    unit: str = ""
    """Consecutive steps with the same unit run together, or not at all; never empty in a finished step."""
    statement_locks: tuple[LockPolicy, ...] = ()
    """With ``AUTOCOMMIT``: the policy of each statement where they differ (ADD … NOT VALID, then VALIDATE); empty:
    ``locks`` for all."""
    instead: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)
    """With ``AUTOCOMMIT`` and ``LOCKED``: by statement, what is sent in its place, one after the other, as long as the
    server says that it cannot do it that way (``ALGORITHM=INSTANT``, then ``ALGORITHM=INPLACE``)."""
    beyond: Refusal | None = None
    """What a person is told when no way is left: what the one that nobody may go unasked would cost, and how to allow
    it."""
    beforehand: tuple[Step, ...] = ()
    """What goes with it and is taken away first, each in a unit of its own, once the gates of this step have opened:
    the statements of this step count on it."""
    doubts_duplicates: bool = False
    """Whether the server is known to see duplicates where there are none, so that what it says has to be heard again
    before it counts (an online build of a unique index, beside writers that roll back)."""

    @property
    def id(self) -> str:
        """The stable name of the step, e.g. ``drop-column:users.name``."""
        return self.operation.id

    @property
    def policies(self) -> tuple[LockPolicy, ...]:
        """The lock policy of each statement."""
        return self.statement_locks or (self.locks,) * len(self.statements)
