"""What is a run asked for from elsewhere, and how does it stand?

Two rows of one table, since they have different writers: the request, and the standing of the run. Each bears the token
of the lease that the run holds, so nothing that was meant for one run reaches the next.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from emc.state.encoding import decode, encode
from emc.state.tables import CONTROL, ensure, exists

_REQUEST = "request"
_STANDING = "run"


class Wish(enum.StrEnum):
    """What can be asked of a run."""

    PAUSE = "pause"
    """Begin no batch until told to resume; the lease is kept."""
    RESUME = "resume"
    """Go on."""
    STOP = "stop"
    """End after the batches that are under way."""


class State(enum.StrEnum):
    """How a run stands."""

    RUNNING = "running"
    """Batch follows batch."""
    THROTTLED = "throttled"
    """No batch begins, because the database has too much to bear."""
    PAUSED = "paused"
    """No batch begins, because somebody asked for that."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of the run that holds a lease."""

    wish: Wish
    token: int
    """Of the lease."""
    who: str
    at: dt.datetime


@dataclass(frozen=True)
class Standing:
    """How a run stands, as it said last."""

    state: State
    token: int
    """Of the lease that it holds."""
    since: dt.datetime
    reason: str | None = None
    """Why it is held up, as a clause."""
    work: str | None = None
    """The data migration that it is at."""
    rows_done: int = 0
    """Rows of that, by this run."""
    rows_total: int = 0
    """Rows of that which were pending when the run came to it."""
    eta_seconds: float | None = None
    """Seconds until that is complete, at the pace of late; ``None`` where there is none yet."""
    workers: int = 1
    unread: tuple[str, ...] = ()
    """Signals that cannot be read, with what would make them readable."""


def ask(connection: Connection, request: Request) -> None:
    """Put *request* in place of what was asked before."""
    _put(connection, _REQUEST, request.token, request.wish, {}, request.who, request.at)


def asked(connection: Connection, token: int) -> Request | None:
    """What is asked of the run that holds the lease with *token*. Does not write."""
    row = _get(connection, _REQUEST, token)
    return None if row is None else Request(Wish(row.word), row.token, row.who, row.at)


def publish(connection: Connection, standing: Standing, who: str) -> None:
    """Let others see how the run of *who* stands."""
    details = {
        "reason": standing.reason,
        "work": standing.work,
        "rows_done": standing.rows_done,
        "rows_total": standing.rows_total,
        "eta_seconds": standing.eta_seconds,
        "workers": standing.workers,
        "unread": standing.unread,
    }
    _put(connection, _STANDING, standing.token, standing.state, details, who, standing.since)


def published(connection: Connection, token: int) -> Standing | None:
    """How the run that holds the lease with *token* stands; ``None`` if it has not said. Does not write."""
    row = _get(connection, _STANDING, token)
    if row is None:
        return None
    details = decode(row.details)
    return Standing(
        state=State(row.word),
        token=row.token,
        since=row.at,
        **{**details, "unread": tuple(details["unread"])},
    )


def _put(
    connection: Connection,
    name: str,
    token: int,
    word: str,
    details: Mapping[str, Any],
    who: str,
    at: dt.datetime,
) -> None:
    ensure(connection, CONTROL)
    values = {"token": token, "word": str(word), "details": encode(details), "who": who[:512], "at": at}
    if connection.execute(update(CONTROL).where(CONTROL.c.name == name).values(values)).rowcount == 0:
        connection.execute(insert(CONTROL).values(name=name, **values))


def _get(connection: Connection, name: str, token: int) -> Any:
    if not exists(connection, CONTROL):
        return None
    return connection.execute(
        select(CONTROL).where(CONTROL.c.name == name, CONTROL.c.token == token)
    ).one_or_none()
