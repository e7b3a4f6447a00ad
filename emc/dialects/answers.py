"""What does a server tell: why a statement failed, who is in the way, how far it is?"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Failure(enum.Enum):
    """What a failed statement means for whoever sent it."""

    LOCKED = "locked"
    """A lock was not to be had in time, or a deadlock was resolved at our cost: try again later."""
    DISCONNECTED = "disconnected"
    """The connection is gone and the outcome unknown: look, then decide."""
    FORBIDDEN = "forbidden"
    """A privilege is missing."""
    INTEGRITY = "integrity"
    """The data does not allow it."""
    UNSUPPORTED = "unsupported"
    """The server cannot do it this way, and did nothing: there may be another way."""
    OTHER = "other"
    """Anything else: not worth trying again."""


@dataclass(frozen=True)
class Blocker:
    """A session that holds what we wait for."""

    session: str
    """Process or thread id, as the operator would give it to the server's kill command."""
    user: str
    seconds: float | None
    """Age of its transaction; ``None`` where the server does not tell us."""
    query: str
    """The first 100 characters of its query."""
    sure: bool = True
    """Whether it is known to be in the way; otherwise the database does not tell, and it may be."""
    kind: str = "session"
    """What it is: a session, or something else that holds locks."""
    idle: bool = False
    """Whether nothing has been asked of it since its last query ended, while its transaction stays open."""
    ends: str = ""
    """The statement that ends it; or, behind ``--``, why none should."""
    reveal: str = ""
    """The statement with which the server would tell us more of it."""
    gives_way: float | None = None
    """Seconds for which one has to wait for it until the server makes it give way; ``None``: it does not."""


@dataclass(frozen=True)
class Progress:
    """How far a server is with a statement that takes long."""

    doing: str
    """What it does, in its own words where it has some: ``building index: scanning table``."""
    done: int | None = None
    """How much of it is done; ``None`` where the server does not tell."""
    total: int = 0
    """How much there is to do; 0 where the server does not tell."""
    unit: str = ""
    """What ``done`` and ``total`` count: blocks, rows, transactions."""
    waits_for: tuple[Blocker, ...] = ()
    """The sessions that have to end, or to give up a lock, before it goes on."""


class Signal(enum.StrEnum):
    """What a server tells of how much it has to bear."""

    REPLICA_LAG = "replica-lag"
    """Seconds that a replica is behind."""
    WAL_BACKLOG = "wal-backlog"
    """Segments of the write-ahead log that wait to be archived (PostgreSQL)."""
    LOCK_WAIT = "lock-wait"
    """Seconds for which another session has waited for rows that a batch of emc's holds (PostgreSQL)."""
    THREADS_RUNNING = "threads-running"
    """Sessions that are at work at this moment (MariaDB, MySQL)."""


@dataclass(frozen=True)
class Pressure:
    """How much a server has to bear, by one signal."""

    signal: Signal
    value: float | None
    """``None``: it cannot be read."""
    limit: float
    """More than this is too much, unless somebody says otherwise."""
    said: str
    """What is so, as a clause: ``replica standby1 is 14 s behind``; or why it cannot be read."""
    remedy: str = ""
    """What makes it readable."""
