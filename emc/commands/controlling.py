"""Pause a run of migrate or undo, let it go on, or end it, from anywhere that reaches its database."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.commands.plainly import plainly
from emc.commands.session import reach
from emc.dialects import Dialect
from emc.dialects.answers import Failure
from emc.errors import NothingRunningError
from emc.state.control import Request, Standing, Wish, ask, asked, published
from emc.state.lease import LOCK_TIMEOUT, Holder, holder
from emc.state.runner import Runner
from emc.state.tables import CONTROL, ensure
from emc.steps import LockPolicy, Transaction

MIGRATE, UNDO = "emc migrate", "emc undo"
"""The commands that heed requests, as their leases call them."""
_ATTEMPTS = 20
"""How often it is tried to write the request down, beside batches that hold the one lock there is (SQLite)."""


@dataclass(frozen=True)
class Asked:
    """What was asked of a run."""

    wish: Wish
    runner: str
    """Who runs it: ``user@host:pid``."""
    command: str
    """What it runs: ``emc migrate`` or ``emc undo``."""
    since: dt.datetime
    """Since when it runs."""
    standing: Standing | None
    """How it stood, as it said last."""
    before: Request | None = None
    """What had been asked of it before."""

    @property
    def is_new(self) -> bool:
        """Whether it changes anything: the same had not been asked before."""
        wished = None if self.before is None else self.before.wish
        return self.wish is not (wished or Wish.RESUME)


@plainly
def pause(engine: Engine) -> Asked:
    """Let the run of ``emc migrate`` on this database begin no batch until :func:`resume`; it keeps its lease.

    So with ``emc undo``, which begins no step either.

    :raises NothingRunningError: none is at work, or it has been asked to stop.
    """
    return _ask(engine, Wish.PAUSE)


@plainly
def resume(engine: Engine) -> Asked:
    """Let the run go on that :func:`pause` holds up.

    :raises NothingRunningError: none is at work, or it has been asked to stop.
    """
    return _ask(engine, Wish.RESUME)


@plainly
def stop(engine: Engine) -> Asked:
    """End the run of ``emc migrate`` on this database after the batches that are under way; paused ones too.

    One of ``emc undo`` ends after the step that is under way.

    :raises NothingRunningError: none is at work.
    """
    return _ask(engine, Wish.STOP)


def _ask(engine: Engine, wish: Wish) -> Asked:
    dialect = reach(engine)
    # A look first: where emc has never written there is nobody to ask, and nothing to write.
    dialect.ask(engine, lambda connection: _at_work(connection, dialect))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with dialect.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, LOCK_TIMEOUT) as connection:
                return _asked(connection, dialect, wish)
        except DBAPIError as error:
            if dialect.failure(error) is not Failure.LOCKED or attempt == _ATTEMPTS:
                raise
            time.sleep(0.1)
    raise AssertionError("the loop returns or raises")


def _asked(connection: Connection, dialect: Dialect, wish: Wish) -> Asked:
    held = _at_work(connection, dialect)
    before = asked(connection, held.token)
    if before is not None and before.wish is Wish.STOP and wish is not Wish.STOP:
        raise NothingRunningError(
            f"{before.who} has asked the run of {held.runner} to stop, at {before.at:%Y-%m-%d %H:%M:%S} UTC.",
            remedy=f"Run {held.command} again once it has ended.",
        )
    answer = Asked(
        wish, str(held.runner), held.command, held.acquired_at, published(connection, held.token), before
    )
    if answer.is_new:
        ensure(connection, CONTROL)
        ask(connection, Request(wish, held.token, str(Runner.current()), dialect.now(connection)))
    return answer


def _at_work(connection: Connection, dialect: Dialect) -> Holder:
    """Who runs a command that can be asked.

    :raises NothingRunningError: nobody does.
    """
    held = holder(connection)
    if held is None or held.expires_at <= dialect.now(connection) or held.runner.is_gone():
        raise NothingRunningError(
            "No emc migrate or emc undo is at work on this database.",
            remedy="emc status   # where the upgrade stands",
        )
    if held.command not in (MIGRATE, UNDO):
        raise NothingRunningError(
            f"{held.runner} runs {held.command!r} on this database, which cannot be paused or stopped from elsewhere.",
            remedy="Wait for it to end, or end it where it runs: SIGTERM, Ctrl-C.",
        )
    return held
