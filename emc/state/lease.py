"""Who may work on this database, and are we still the one?

A row that one runner holds at a time, renewed while it works. It has a token that grows with every change
of hands; whoever writes asks for the token in the transaction of what is written. Session advisory locks
would be simpler, and break behind poolers: online_migrations took them out one release after it had put
them in.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.errors import EmcError, LeaseHeldError, LeaseLostError
from emc.state.beside import beside
from emc.state.runner import Runner
from emc.state.tables import LEASE, ensure, exists
from emc.steps import LockPolicy, Transaction

LIFETIME: Final = dt.timedelta(seconds=60)
"""A lease that is not renewed for so long may be taken over."""
RENEW_EVERY: Final = 10.0
"""Seconds between renewals."""
LOCK_TIMEOUT: Final = 1.0
"""Seconds to wait for the row of the lease."""

_ROW: Final = "runner"
"""The row of the holder: one runner at a time in a database."""
_WORKER: Final = "worker"
"""The rows of its workers begin like this; see :class:`Fence`."""

_UNRETURNED: Final[set[tuple[str, Runner, int, dt.datetime]]] = set()
"""What could not be given back because the server was away: database and holder. The process lives on, and yet nobody
works under such a lease: whoever tries again in this process need not wait until it has run out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds the lease."""

    runner: Runner
    command: str
    """The command that it runs."""
    token: int
    acquired_at: dt.datetime
    renewed_at: dt.datetime
    expires_at: dt.datetime
    """When anybody may take it over, unless it is renewed; by the server's clock."""


def holder(connection: Connection) -> Holder | None:
    """Who holds the lease, if anybody; an expired one counts until somebody takes it over. Does not write."""
    if not exists(connection, LEASE):
        return None
    row = connection.execute(select(LEASE).where(LEASE.c.name == _ROW)).one_or_none()
    return None if row is None else _holder(row)


class Lease:
    """The right to work on a database, while the block runs. Made by :func:`acquire`."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        holder: Holder,
        now: Callable[[Connection], dt.datetime],
        monotonic: Callable[[], float],
        renew_every: float,
    ) -> None:
        self._holder = holder
        self.runner: Runner = holder.runner
        self.token: int = holder.token
        self.command: str = holder.command
        self._engine = engine
        self._dialect = dialect
        self._now = now
        self._monotonic = monotonic
        self._renew_every = renew_every
        self._renews_beside = dialect.shares_rows
        self._renewed = monotonic()
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._dialect.concurrent_sessions:
            self._thread = threading.Thread(
                target=beside, args=(self._engine, self._keep), name="emc lease", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10 * LOCK_TIMEOUT)
        try:
            self._release()
        except (SQLAlchemyError, EmcError) as problem:
            _UNRETURNED.add(_identity(self._engine, self._holder))
            # The work is over, and what became of it matters more than a row that runs out by itself.
            message = f"the lease could not be given back and runs out by itself: {problem}"
            if error is not None:
                error.add_note(message)
            _log.warning(message)

    def confirm(self, connection: Connection) -> None:
        """Make sure, in the transaction of *connection*, that the lease is still ours.

        Until that transaction ends nobody can take it over. Call it first in every transaction that writes.

        On a connection that commits by itself it only says how things stand at that moment.

        :raises LeaseLostError: somebody else has taken over.
        """
        # KEY SHARE makes a taker wait, who asks for UPDATE, and not the renewal from the other session. Where a row has
        # no such lock it has to be the strong one: after a weak one, this session could not renew while the other
        # one waits for the same.
        weak = self._renews_beside
        row = connection.execute(
            select(LEASE).where(LEASE.c.name == _ROW).with_for_update(read=weak, key_share=weak)
        ).one_or_none()
        if row is None or row.token != self.token or row.host is None:
            raise self.lost(connection)
        if self._lost:
            raise _lost_error(_holder(row))
        self.renew_if_due(connection)

    def lost(self, connection: Connection) -> LeaseLostError:
        """Note that somebody else has taken over, and say who."""
        self._lost = True
        return _lost_error(holder(connection))

    def renew_if_due(self, connection: Connection) -> None:
        """Renew the lease in the transaction of *connection* if it is time.

        Where a second session can renew it, this is only for when that did not come off.

        :raises LeaseLostError: somebody else has taken over.
        """
        patience = self._renew_every * (2 if self._thread is not None and self._renews_beside else 1)
        if self._monotonic() - self._renewed >= patience:
            self._renew(connection)

    def fence(self, connection: Connection, number: int) -> Fence:
        """What worker *number* of this run confirms in its transactions.

        :param connection: in a transaction that has confirmed the lease.
        """
        ours = LEASE.c.name == f"{_WORKER} {number}"
        if connection.execute(update(LEASE).where(ours).values(token=self.token)).rowcount == 0:
            connection.execute(insert(LEASE).values(name=f"{_WORKER} {number}", token=self.token))
        return Fence(self, number)

    def _renew(self, connection: Connection) -> None:
        begun = self._monotonic()
        now = self._now(connection)
        renewed = connection.execute(
            update(LEASE)
            .where(LEASE.c.name == _ROW, LEASE.c.token == self.token, LEASE.c.host.is_not(None))
            .values(renewed_at=now, expires_at=now + LIFETIME)
        )
        if renewed.rowcount == 0:
            raise self.lost(connection)
        self._renewed = begun

    def _keep(self) -> None:
        pause = self._renew_every
        while not self._stop.wait(pause):
            pause = self._renew_every
            try:
                with self._open() as connection:
                    self._renew(connection)
            except LeaseLostError:
                return  # confirm() tells the one who works.
            except (SQLAlchemyError, EmcError) as problem:
                # The lease lasts for several renewals. If none comes off, confirm() renews it or finds it
                # taken.
                _log.info("the lease could not be renewed, trying again: %s", problem)
                pause = self._renew_every / 10

    def _release(self) -> None:
        with self._open() as connection:
            connection.execute(
                update(LEASE)
                .where(LEASE.c.name == _ROW, LEASE.c.token == self.token)
                .values(dict.fromkeys(_HOLDER_COLUMNS))
            )

    def _open(self) -> AbstractContextManager[Connection]:
        return self._dialect.open(self._engine, Transaction.TOGETHER, LockPolicy.SHORT, LOCK_TIMEOUT)


class Fence:
    """The lease as one of several workers of its holder confirms it: by a row of its own.

    Workers that confirmed it by the one row of the holder would wait for each other, where a lock of a row cannot be
    shared while that row is renewed (:attr:`Dialect.shares_rows`). Whoever takes the lease takes these rows away, and
    so waits for the transaction of each worker.
    """

    def __init__(self, lease: Lease, number: int) -> None:
        self._lease = lease
        self._name = f"{_WORKER} {number}"

    def confirm(self, connection: Connection) -> None:
        """As :meth:`Lease.confirm`.

        :raises LeaseLostError: somebody else has taken over.
        """
        row = connection.execute(
            select(LEASE.c.token).where(LEASE.c.name == self._name).with_for_update()
        ).one_or_none()
        if row is None or row.token != self._lease.token:
            raise self._lease.lost(connection)
        self._lease.renew_if_due(connection)


def acquire(
    engine: Engine,
    dialect: Dialect,
    *,
    command: str,
    runner: Runner | None = None,
    now: Callable[[Connection], dt.datetime] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    renew_every: float = RENEW_EVERY,
) -> Lease:
    """Become the one runner on this database; use the result as a context manager.

    A lease is taken over when its holder has certainly ended (so that after a ``kill -9`` the command can
    be run again at once), or when it was not renewed for :data:`LIFETIME`.

    :param command: what is going to be run, for whoever is kept waiting.
    :param runner: who asks; by default this process.
    :param now: tells the time; by default the server's clock, on which hosts agree.
    :param monotonic: tells seconds passed, on this host.
    :param renew_every: seconds.
    :raises LeaseHeldError: another runner is at work.
    """
    runner = runner or Runner.current()
    now = now or dialect.now
    for attempt in (1, 2):
        held: Holder | None = None
        try:
            with dialect.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, LOCK_TIMEOUT) as connection:
                ensure(connection)
                taken, held = _take(connection, runner, command, now)
            if taken is not None:
                return Lease(engine, dialect, taken, now, monotonic, renew_every)
        except IntegrityError:
            # Two runners made the row at once, and the other one was first: look again.
            if attempt == 2:
                raise
            continue
        except DBAPIError as error:
            # Somebody has the row: a holder in the middle of a transaction, or whoever takes over before us.
            if dialect.failure(error) is not Failure.LOCKED:
                raise
            with dialect.reading(engine) as connection:
                held = holder(connection)
        if held is not None or attempt == 2:
            raise _held_error(held)
    raise AssertionError("the loop returns or raises")


def _take(
    connection: Connection, runner: Runner, command: str, now: Callable[[Connection], dt.datetime]
) -> tuple[Holder | None, Holder | None]:
    """The lease as ours, or else whoever keeps us from it."""
    mine = select(LEASE).where(LEASE.c.name == _ROW)
    row = connection.execute(mine).one_or_none()
    here = now(connection)
    if row is None:
        token = 1
    else:
        present = _holder(row)
        if present is not None and present.expires_at > here:
            unreturned = present.runner == runner and _identity(connection.engine, present) in _UNRETURNED
            if not (unreturned or present.runner.is_gone()):
                return None, present
        # Wait for a transaction in which the holder has confirmed that it is one. Meanwhile it may have
        # renewed the lease, or another may have taken it: the token and the time of renewal tell.
        row = connection.execute(mine.with_for_update()).one()
        again = _holder(row)
        if again != present:
            return None, again
        token = row.token + 1
    taken = Holder(runner, command[:512], token, here, here, here + LIFETIME)
    values = {
        "token": taken.token,
        "host": runner.host,
        "pid": runner.pid,
        "process": runner.process,
        "os_user": runner.user,
        "command": taken.command,
        "acquired_at": taken.acquired_at,
        "renewed_at": taken.renewed_at,
        "expires_at": taken.expires_at,
    }
    # Those of the last holder's workers: none of them writes from here on.
    connection.execute(delete(LEASE).where(LEASE.c.name != _ROW))
    if row is None:
        connection.execute(insert(LEASE).values(name=_ROW, **values))
        return taken, None
    # The condition decides where the database has no FOR UPDATE.
    changed = connection.execute(
        update(LEASE).where(LEASE.c.name == _ROW, LEASE.c.token == row.token).values(values)
    )
    if changed.rowcount == 1:
        return taken, None
    return None, holder(connection)


def _identity(engine: Engine, held: Holder) -> tuple[str, Runner, int, dt.datetime]:
    return engine.url.render_as_string(hide_password=True), held.runner, held.token, held.acquired_at


_HOLDER_COLUMNS = ("host", "pid", "process", "os_user", "command", "acquired_at", "renewed_at", "expires_at")


def _holder(row: Row[Any]) -> Holder | None:
    if row.host is None:
        return None
    return Holder(
        runner=Runner(row.host, row.pid, row.os_user, row.process),
        command=row.command,
        token=row.token,
        acquired_at=row.acquired_at,
        renewed_at=row.renewed_at,
        expires_at=row.expires_at,
    )


def _held_error(held: Holder | None) -> LeaseHeldError:
    if held is None:
        return LeaseHeldError(
            "Another emc is just beginning to work on this database.", remedy="Run the command again."
        )
    who = held.runner
    return LeaseHeldError(
        f"Process {who.pid} of user {who.user} on host {who.host} has been running {held.command!r}"
        f" on this database since {held.acquired_at:%Y-%m-%d %H:%M:%S} UTC.",
        holder=held,
        remedy=f"Wait for it to end. If that process is dead, its lease runs out at"
        f" {held.expires_at:%Y-%m-%d %H:%M:%S} UTC; run the command again after that.",
    )


def _lost_error(taker: Holder | None) -> LeaseLostError:
    by = "Another emc"
    if taker is not None:
        who = taker.runner
        by = f"Process {who.pid} of user {who.user} on host {who.host}, running {taker.command!r},"
    return LeaseLostError(
        f"{by} has taken over, since this run did not renew its lease for {LIFETIME.seconds} seconds;"
        " nothing was committed after that.",
        holder=taker,
        remedy="See that the other run ends, then run the command again; it goes on where the work stopped.",
    )
