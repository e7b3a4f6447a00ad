"""May the next batch begin?

Asked before each batch, by every worker. The answer is no when somebody has asked to stop or the time is up; while a
run is paused or throttled the answer takes as long as that lasts, or as its patience does.
"""

from __future__ import annotations

import datetime as dt
import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.data.throttle import Held, Throttles
from emc.data.values import ProgressEvent
from emc.dialects.answers import Failure, Pressure, Signal
from emc.dialects.base import Dialect
from emc.errors import DatabaseUnavailableError
from emc.state.control import Request, Standing, State, Wish, asked, publish
from emc.state.lease import LOCK_TIMEOUT, Lease
from emc.steps import LockPolicy, Transaction
from emc.waiting import Waiting

_HEED = 0.25
"""Seconds for which it is known what others ask for: less than a batch takes, and more than asking takes."""
_TICK = 1.0
"""Seconds between two looks at what others ask for, while no batch begins."""
_PUBLISH = 5.0
"""Seconds between two reports to whoever asks from elsewhere; each confirms the lease."""
_SILENCES = 30
"""Looks in a row at what others ask for that may fail while no batch begins, before the database counts as away."""


class End(enum.Enum):
    """Why a run begins no batch any more."""

    TIME = "time"
    """``--max-time`` is over."""
    STOPPED = "stopped"
    """Somebody asked for it."""
    THROTTLED = "throttled"
    """It has been held up for longer than its patience."""
    FAILED = "failed"
    """Another worker has failed."""


@dataclass(frozen=True)
class Notice:
    """Something that a person should hear of, besides progress."""

    state: State
    text: str
    """One line."""


class Traffic:
    """What holds up a run, and what ends it.

    :param waiting: how to wait and tell the time.
    :param stop: asked before each batch.
    :param max_time: seconds after which no batch begins.
    :param tell: hears when the run is held up, why, and when it goes on.
    :param reconnects: how often a lost connection is put up with.
    """

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        lease: Lease,
        waiting: Waiting,
        *,
        stop: Callable[[], bool] = lambda: False,
        max_time: float | None = None,
        throttles: Throttles | None = None,
        tell: Callable[[Notice], None] = lambda _: None,
        workers: int = 1,
    ) -> None:
        self.ended: End | None = None
        self.reason: str | None = None
        """Why it ended, as a clause."""
        self._engine = engine
        self._dialect = dialect
        self._lease = lease
        self._waiting = waiting
        self._stop = stop
        self._deadline = None if max_time is None else waiting.clock() + max_time
        self._throttles = throttles
        self._tell = tell
        self._lock = threading.Lock()
        self._saying = threading.RLock()
        """Held while it is said how things stand; not while the run is held up, or workers could not say that they
        have finished."""
        self._told: frozenset[str] = frozenset()
        self._standing = Standing(State.RUNNING, lease.token, _now(), workers=workers)
        self._published_at: float | None = None
        self._heeded_at: float | None = None
        self._request: Request | None = None
        self._looked_at: float | None = None
        self._silences = 0

    @property
    def watches_waiters(self) -> bool:
        """Whether batches should find out who waits for them."""
        return self._throttles is not None

    def admits(self) -> bool:
        """Whether the next batch may begin; waits while it may not, and there is hope.

        :raises LeaseLostError: somebody else has taken over meanwhile.
        :raises DatabaseUnavailableError: the database stayed away meanwhile.
        """
        # One asks, the others wait for the answer.
        with self._lock:
            return self._may_go_on() and self._unpaused() and self._unthrottled() and self.ended is None

    def end(self, why: End, reason: str | None = None) -> None:
        """Let no batch begin any more."""
        if self.ended is None:
            self.ended, self.reason = why, reason

    def noticed(self, pressure: Pressure) -> None:
        """A batch found out that others waited for it."""
        if self._throttles is not None:
            self._throttles.noticed(pressure)

    def progressed(self, event: ProgressEvent) -> None:
        """A batch is done: let others know, now and then."""
        with self._saying:
            self._standing = replace(
                self._standing,
                work=event.work,
                rows_done=event.rows_done,
                rows_total=event.rows_total,
                eta_seconds=event.eta_seconds if self._standing.state is State.RUNNING else None,
            )
            self._publish_if_due()

    # -- what ends it ----------------------------------------------------------------------------------------

    def _may_go_on(self) -> bool:
        """Whether nothing has ended the run; looks at everything that costs next to nothing."""
        if self.ended is not None:
            return False
        if self._stop():
            self.end(End.STOPPED, "it was asked to stop")
        elif self._deadline is not None and self._waiting.clock() >= self._deadline:
            self.end(End.TIME, "its time is up")
        else:
            request = self._heed()
            if request is not None and request.wish is Wish.STOP:
                self.end(End.STOPPED, f"{request.who} asked it to stop")
        return self.ended is None

    def _heed(self) -> Request | None:
        """What somebody asks of this run."""
        now = self._waiting.clock()
        if self._heeded_at is None or now - self._heeded_at >= _HEED:
            try:
                with self._dialect.reading(self._engine) as connection:
                    self._request = asked(connection, self._lease.token)
            except DBAPIError as error:
                self._put_up_with(error)
            else:
                self._silences = 0
            self._heeded_at = self._waiting.clock()
        return self._request

    def _put_up_with(self, error: DBAPIError) -> None:
        """The batches find out for themselves that a connection is lost; while there are none, this does."""
        if self._dialect.failure(error) not in (Failure.DISCONNECTED, Failure.LOCKED):
            raise error
        self._silences += 1
        if self._silences > _SILENCES:
            raise DatabaseUnavailableError(
                f"The database has not answered {self._silences} times in a row: {error.orig}",
                remedy=f"Run {self._lease.command} again when it is back; everything committed is kept.",
            ) from error

    # -- what holds it up ------------------------------------------------------------------------------------

    def _unpaused(self) -> bool:
        """Whether nobody has paused the run, or somebody has let it go on."""
        request = self._heed()
        if request is None or request.wish is not Wish.PAUSE:
            return True
        self._hold(State.PAUSED, f"{request.who} asked it to pause", "paused")
        while self._may_go_on():
            request = self._heed()
            if request is None or request.wish is not Wish.PAUSE:
                self._let_go()
                return True
            self._wait(_TICK)
        return False

    def _unthrottled(self) -> bool:
        """Whether nothing is too much for the database, or no longer."""
        throttles = self._throttles
        if throttles is None or not self._is_due(throttles):
            return True
        held = self._look(throttles)
        if held is None:
            return True
        policy, since = throttles.policy, self._waiting.clock()
        back_off = policy.back_off
        while held is not None:
            self._hold(State.THROTTLED, held.reason, *sorted(held.sources))
            # Rows are free again once the batch is over: there is nothing to wait out.
            brief = held.sources == {str(Signal.LOCK_WAIT)}
            pause = policy.poll if brief else back_off
            if not self._wait_out(pause, since + policy.patience):
                return False
            if self._waiting.clock() - since >= policy.patience:
                self.end(End.THROTTLED, f"it was held up for longer than its patience: {held.reason}")
                return False
            back_off = min(policy.longest_back_off, back_off * 2)
            held = self._look(throttles)
        self._let_go()
        return True

    def _is_due(self, throttles: Throttles) -> bool:
        return (
            self._looked_at is None
            or throttles.has_news
            or self._waiting.clock() - self._looked_at >= throttles.policy.poll
        )

    def _look(self, throttles: Throttles) -> Held | None:
        held = throttles.look()
        self._looked_at = self._waiting.clock()
        unread = tuple(throttles.unread.values())
        if unread != self._standing.unread:
            for said in unread:
                if said not in self._standing.unread:
                    self._tell(Notice(State.RUNNING, f"not looked at: {said}"))
            with self._saying:
                self._standing = replace(self._standing, unread=unread)
                self._publish()
        return held

    def _wait_out(self, seconds: float, at_most_until: float) -> bool:
        """Wait so long, and look whether the run is to end meanwhile; answers whether it is not.

        Somebody may pause it meanwhile as well; the batch that comes next asks for that.
        """
        until = min(self._waiting.clock() + seconds, at_most_until)
        while self._may_go_on():
            rest = until - self._waiting.clock()
            if rest <= 0:
                return True
            self._wait(min(_TICK, rest))
        return False

    def _wait(self, seconds: float) -> None:
        # Where nothing else renews the lease, this does.
        self._publish_if_due()
        self._waiting.sleep(seconds)

    # -- saying so -------------------------------------------------------------------------------------------

    def _hold(self, state: State, reason: str, *sources: str) -> None:
        with self._saying:
            since = self._standing.since if self._standing.state is state else _now()
            self._standing = replace(
                self._standing, state=state, reason=reason, since=since, eta_seconds=None
            )
            self._publish()
        if frozenset(sources) != self._told:
            self._told = frozenset(sources)
            self._tell(Notice(state, reason))

    def _let_go(self) -> None:
        self._told = frozenset()
        with self._saying:
            self._standing = replace(self._standing, state=State.RUNNING, reason=None, since=_now())
            self._publish()
        self._tell(Notice(State.RUNNING, "goes on"))

    def _publish_if_due(self) -> None:
        with self._saying:
            if self._published_at is None or self._waiting.clock() - self._published_at >= _PUBLISH:
                self._publish()

    def _publish(self) -> None:
        standing = self._standing

        def write(connection: Connection) -> None:
            self._lease.confirm(connection)
            publish(connection, standing, str(self._lease.runner))

        self._write(write)
        self._published_at = self._waiting.clock()

    def _write(self, change: Callable[[Connection], None]) -> None:
        try:
            with self._dialect.open(
                self._engine, Transaction.TOGETHER, LockPolicy.SHORT, LOCK_TIMEOUT
            ) as connection:
                change(connection)
        except DBAPIError as error:
            # What others are told is not worth a failure of the run.
            self._put_up_with(error)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
