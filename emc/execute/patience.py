"""How often has a unit been tried, and is it to be tried again?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Blocker, Failure
from emc.dialects.base import Dialect
from emc.execute.blockers import in_the_way
from emc.execute.events import StepEvent, StepState
from emc.execute.messages import budget_spent, first_line, unreachable
from emc.execute.retry import RetryPolicy
from emc.steps import Step

_CUT_OFF = 2
"""How often a statement is tried again that took too long: each time everybody may have been kept out meanwhile."""
_OUTWAIT = 0.2
"""Seconds that a session which gives way to those who wait gets to do so."""


class Patience:
    """The attempts at one unit."""

    def __init__(
        self, engine: Engine, dialect: Dialect, retry: RetryPolicy, report: Callable[[StepEvent], None]
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._retry = retry
        self._report = report
        self.attempt = 0
        """The present one, counted from 1."""
        self._begun = self._attempt_begun = retry.clock()
        self._reconnects = self._doubts = self._looks = self._builds = self._put_off = 0
        self._put_off_for = 0.0
        self._outwaits = 0.0
        self._cut_off = 0

    def begin(self) -> None:
        """Another attempt."""
        self.attempt += 1
        self._attempt_begun = self._retry.clock()

    def take_back(self) -> None:
        """The attempt was none: nothing was asked for that could have been refused."""
        self.attempt -= 1

    def progressed(self) -> None:
        """A statement has taken effect: the budget is for those that do not."""
        self._begun = self._retry.clock()

    @property
    def seconds(self) -> float:
        """How long the attempt has taken so far."""
        return self._retry.clock() - self._attempt_begun

    @property
    def lock_timeout(self) -> float:
        """Seconds for which the attempt may wait for a lock."""
        return max(self._retry.lock_timeout(self.attempt), self._outwaits)

    # -- whether to try again -----------------------------------------------------------------------------------

    def reconnect(self, at: Step, error: DBAPIError) -> None:
        """A connection was lost.

        :raises DatabaseUnavailableError: that was once too often.
        """
        self._reconnects += 1
        if self._reconnects > self._retry.reconnects:
            raise unreachable(at, self._reconnects, error) from error

    def doubts(self) -> bool:
        """Whether duplicates that the server may only believe to see are to be looked for again."""
        self._doubts += 1
        return self._doubts <= self._retry.doubts

    def bears_cut_off(self) -> bool:
        """Whether a statement that took too long is tried again: it may have waited for many locks, one by one."""
        self._cut_off += 1
        return self._cut_off <= _CUT_OFF

    def looks_again(self) -> bool:
        """Whether what was refused may have been done already, and is worth another look."""
        self._looks += 1
        return self._looks <= self._retry.doubts

    def puts_off(self) -> bool:
        """Whether a build may still be put off for the sake of those whom it would meet at its end."""
        return self._put_off_for < self._retry.build_patience

    # -- waiting ------------------------------------------------------------------------------------------------

    def put_off(self, at: Step, blockers: Sequence[Blocker], *, building: bool = False) -> None:
        """Let *blockers* go on for a while before the build begins.

        :param building: they build something on the same table. However long that takes, it is waited for: it stalls
            nobody, and may well be what an emc that was killed has left to do.
        """
        self._put_off += 1
        pause = self._retry.longest_pause(self._put_off)
        longest = max(blocker.seconds or 0 for blocker in blockers)
        if building:
            reason = f"another session has been building on the table for {longest:.0f} s"
        else:
            self._put_off_for += pause
            reason = f"a transaction has been open for {longest:.0f} s, and a build that meets it at its end is lost"
        self._report(
            StepEvent(StepState.WAITING, at, self.attempt, tuple(blockers), pause=pause, reason=reason)
        )
        self._retry.sleep(pause)

    def wait(
        self, at: Step, steps: Sequence[Step], error: DBAPIError, failure: Failure, built: float | None
    ) -> None:
        """Wait for the next attempt.

        :param steps: those of the unit.
        :param built: for how many seconds a build had run that the failure has ended; ``None``: there was none.
        :raises LockBudgetError: there is none.
        """
        spent = self._retry.clock() - self._begun
        if built is not None and failure is Failure.LOCKED:
            pauses = self._retry.build_pauses
            over = self._builds >= len(pauses)
            pause = 0.0 if over else pauses[self._builds]
            self._builds += 1
        else:
            pause = self._retry.pause(self.attempt)
            over = self.attempt >= self._retry.attempts or spent + pause > self._retry.budget
            built = None
        shown = over or built is not None or self.attempt >= self._retry.blockers_after
        blockers: tuple[Blocker, ...] = ()
        if failure is Failure.LOCKED and shown:
            blockers = in_the_way(self._engine, self._dialect, steps)
        # Whom the server ends for those who wait for a second would never be met by one who gives up after a second.
        ends = [blocker.gives_way for blocker in blockers if blocker.gives_way is not None]
        self._outwaits = max(ends) + _OUTWAIT if ends and len(ends) == len(blockers) else 0.0
        if over:
            raise budget_spent(at, self.attempt, spent, blockers, error, built) from error
        self._report(
            StepEvent(
                StepState.WAITING,
                at,
                self.attempt,
                blockers,
                pause=pause,
                seconds=built or 0.0,
                reason=first_line(error),
            )
        )
        self._retry.sleep(pause)
        if built is not None:
            self.progressed()  # The next build has to find the table free again, and may take as long to do so.
