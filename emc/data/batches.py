"""How does one batch get committed, or its poison row found, in spite of locks, lost connections and bad rows?"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, Engine, and_
from sqlalchemy.exc import DBAPIError, NotSupportedError, ProgrammingError

from emc.data.apply import Applied, RowError, apply
from emc.data.pace import Pace
from emc.data.values import BatchPolicy
from emc.data.walk import Key, walk_of
from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.errors import DatabaseUnavailableError, LockBudgetError, PrivilegeError, StatementFailedError
from emc.state.failures import FailedRow, clear_failures, failures, note_failure
from emc.state.lease import Lease
from emc.state.progress import Progress, load, save
from emc.steps import LockPolicy, Transaction
from emc.work import CallFunction, Work, rows_left

_T = TypeVar("_T")

_LOCKED_OUT = 3
"""Rows in a row that may be passed over because others hold them, before it is the table and not the rows."""


@dataclass(frozen=True)
class Done:
    """A batch that was committed."""

    rows: int
    size: int
    seconds: float


class Batches:
    """The batches of one run, and what they have come to so far."""

    def __init__(
        self, engine: Engine, dialect: Dialect, work: Work, lease: Lease, policy: BatchPolicy
    ) -> None:
        self.engine = engine
        self.dialect = dialect
        self.work = work
        self.lease = lease
        self.policy = policy
        self.pace = Pace(policy)
        self.began = _now()
        self.progress = Progress(work.name, None, 0, 1, self.began, self.began, finished=False)
        self.failed: dict[Key, FailedRow] = {}
        """The rows that failed in this run."""
        self.settled = 0
        """What this pass took out of the condition; in the first pass, what it wrote."""
        self.lost = 0
        """Rows of this pass that somebody else wrote to at the same time."""
        self.locked_out = 0
        """Rows of this pass that were passed over because somebody else held them."""
        self._rows_before = 0
        self._left_before: int | None = None
        self._cap: int | None = None
        self._locked_in_a_row = 0
        self._connections_lost = 0

    @property
    def rows_done(self) -> int:
        """Rows that this run has written."""
        return self.progress.rows_done - self._rows_before

    # -- passes ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on where the last run ended, if it did not end at the end."""
        self.walk = walk_of(self.dialect, self.work)
        found = self._read(lambda connection: load(connection, self.work.name))
        if found is None:
            return
        self._rows_before = found.rows_done
        fits = found.cursor is None or len(found.cursor) == len(self.walk.columns)
        if fits and not found.finished:
            self.progress = found
        else:
            self.progress = dataclasses.replace(self.progress, rows_done=found.rows_done)

    def next_pass(self, left: int) -> None:
        """Walk from the beginning again.

        :param left: how many rows are pending now.
        """
        self.settled = self.lost = self.locked_out = 0
        self._left_before = left
        self.progress = dataclasses.replace(
            self.progress, cursor=None, pass_number=self.progress.pass_number + 1
        )

    def close(self) -> None:
        """Record that nothing is left, where something else is on record; otherwise write nothing."""

        def stale(connection: Connection) -> bool:
            progress = load(connection, self.work.name)
            unfinished = progress is not None and not progress.finished
            return unfinished or bool(failures(connection, self.work.name))

        def finish(connection: Connection) -> None:
            clear_failures(connection, self.work.name)
            progress = load(connection, self.work.name)
            if progress is not None:
                save(connection, dataclasses.replace(progress, cursor=None, updated_at=_now(), finished=True))

        if self._read(stale):
            self._write(finish)
        self.failed.clear()

    def ceiling(self) -> Key | None:
        """The last key there is now, so that a pass ends although rows are added behind it."""
        return self._read(self.walk.last)

    def is_at(self, ceiling: Key) -> bool:
        """Whether the pass has come to its end."""
        return self.progress.cursor == ceiling

    def left(self) -> int:
        """How many rows are pending."""
        return self._read(lambda connection: rows_left(connection, self.work))

    def has_settled(self, left: int) -> bool:
        """Whether this pass took rows out of the condition.

        :param left: how many rows are pending at its end.
        """
        if self.walk.is_physical and self._left_before is not None:
            # A row that is written moves out of the batch, pending or not, so only all rows together can tell.
            return left < self._left_before
        return self.settled > 0

    def failed_left(self) -> int:
        """How many of the rows that failed are still pending; forgets the others."""
        keys = list(self.failed)
        pending = self._read(lambda connection: self.walk.still_pending(connection, keys))
        self.failed = {key: row for key, row in self.failed.items() if key in pending}
        return len(pending)

    def forget_others(self) -> None:
        """Forget the failures on record that are not of this run: those rows have been dealt with."""
        recorded = self._read(lambda connection: failures(connection, self.work.name))
        gone = [row.key for row in recorded if tuple(row.key) not in self.failed]

        def forget(connection: Connection) -> None:
            for key in gone:
                clear_failures(connection, self.work.name, key)

        if gone:
            self._write(forget)

    # -- one batch ---------------------------------------------------------------------------------------

    def one(self, ceiling: Key, room: int | None) -> Done | None:
        """Commit the next batch; ``None`` if it came to nothing, and there is to be another look.

        :param ceiling: where the pass ends.
        :param room: how many rows it may write; ``None``: any number.
        """
        size = self._size(room)
        attempts = 0
        while True:
            try:
                done = self._commit(ceiling, size)
            except RowError as error:
                cause = error.cause
                failure = self.dialect.failure(cause) if isinstance(cause, DBAPIError) else Failure.OTHER
                if failure not in (Failure.LOCKED, Failure.DISCONNECTED):
                    # The rows before it are done first, so that no function is called again and again.
                    self._note(error.key, cause, cursor=None)
                    size = self._cap = max(1, error.position)
                    continue
                # Only these are classified above.
                driver_error: DBAPIError = cause  # type: ignore[assignment]
            except DBAPIError as error:
                failure, driver_error = self.dialect.failure(error), error
            else:
                self._succeeded(done)
                return done
            match failure:
                case Failure.DISCONNECTED:
                    self._look_again(driver_error)
                    return None
                case Failure.FORBIDDEN:
                    raise PrivilegeError(
                        f"The role that emc connects as may not do {self.work.name}: {_said(driver_error)}"
                    ) from driver_error
                case Failure.LOCKED if attempts < self.policy.lock_attempts:
                    attempts += 1
                    self._wait(attempts)
                case Failure.LOCKED if size == 1 or not self.dialect.concurrent_sessions:
                    self._pass_over(ceiling, driver_error)
                    return None
                case Failure.LOCKED:
                    size = self._cap = size // 2
                case _ if not isinstance(self.work.action, CallFunction) and isinstance(
                    driver_error, ProgrammingError | NotSupportedError
                ):
                    raise StatementFailedError(
                        f"The database refused a statement of {self.work.name}: {_said(driver_error)}",
                        step=self.work.name,
                        statement=driver_error.statement or "",
                        remedy=f"Correct the declaration at {self.work.place}.",
                    ) from driver_error
                case _ if size > 1:
                    size = self._cap = size // 2
                case _:
                    self._poisoned(ceiling, driver_error)
                    return None

    def _size(self, room: int | None) -> int:
        size = self.policy.whole_table if self.work.whole_table else self.pace.size
        return min(one for one in (size, self._cap, room) if one is not None)

    def _commit(self, ceiling: Key, size: int) -> Done:
        began = self.policy.clock()
        progress, walk = self.progress, self.walk
        noted: list[FailedRow] = []
        with self._open() as connection:
            self.lease.confirm(connection)
            upper = walk.bound(connection, progress.cursor, ceiling, size, self._reach(size))
            rows = and_(walk.after(progress.cursor), walk.up_to(upper))
            # The first pass is taken at its word. A later one has to show that it gets rows out of the
            # condition: writing the same values again and again is no progress.
            again = progress.pass_number > 1 and not walk.is_physical
            before = walk.pending(connection, rows) if again else 0
            applied: Applied = apply(connection, walk, rows, self.failed, self.dialect)
            settled = max(0, before - walk.pending(connection, rows)) if again else applied.written
            for key, error in applied.failed:
                noted.append(note_failure(connection, self.work.name, key, _said(error)))
            after = dataclasses.replace(
                progress, cursor=upper, rows_done=progress.rows_done + settled, updated_at=_now()
            )
            save(connection, after)
        self.progress = after
        self.settled += settled
        self.lost += applied.lost
        self.failed.update({tuple(row.key): row for row in noted})
        return Done(settled, size, self.policy.clock() - began)

    def _reach(self, size: int) -> int:
        return 0 if self.work.whole_table else size * self.policy.window

    def _succeeded(self, done: Done) -> None:
        self._connections_lost = self._locked_in_a_row = 0
        if not self.work.whole_table:
            self.pace.record(done.size, done.seconds)
        if self._cap is not None:
            # What failed lies behind; by and by batches may be as large as they were.
            self._cap = self._cap * 2 if self._cap * 2 < self.policy.largest else None

    # -- what can happen to a batch ----------------------------------------------------------------------

    def _poisoned(self, ceiling: Key, error: Exception) -> None:
        """Note the one row that cannot be written, and go past it."""
        key, upper = self._read(lambda connection: self._next_row(connection, ceiling))
        if key is not None:
            self._note(key, error, cursor=key)
        else:  # Somebody else has dealt with it meanwhile.
            self._go_to(upper)

    def _pass_over(self, ceiling: Key, error: DBAPIError) -> None:
        """Leave a row that somebody else holds to the next pass."""
        self._locked_in_a_row += 1
        if not self.dialect.concurrent_sessions or self._locked_in_a_row > _LOCKED_OUT:
            raise self._out_of_patience(error) from error
        key, upper = self._read(lambda connection: self._next_row(connection, ceiling))
        self.locked_out += 1
        self._go_to(key or upper)

    def _next_row(self, connection: Connection, ceiling: Key) -> tuple[Key | None, Key]:
        """The next pending row, and where a batch of one row would end."""
        lower = self.progress.cursor
        upper = self.walk.bound(connection, lower, ceiling, 1, self._reach(1))
        rows = and_(self.walk.after(lower), self.walk.up_to(upper))
        return self.walk.first_pending(connection, rows), upper

    def _note(self, key: Key, error: BaseException, cursor: Key | None) -> None:
        progress = self.progress
        if cursor is not None:
            progress = dataclasses.replace(progress, cursor=cursor, updated_at=_now())

        def note(connection: Connection) -> FailedRow:
            if cursor is not None:
                save(connection, progress)
            return note_failure(connection, self.work.name, key, _said(error))

        self.failed[key] = self._write(note)
        self.progress = progress

    def _go_to(self, cursor: Key) -> None:
        progress = dataclasses.replace(self.progress, cursor=cursor, updated_at=_now())
        self._write(lambda connection: save(connection, progress))
        self.progress = progress

    def _look_again(self, error: DBAPIError) -> None:
        """Whether the batch was committed is unknown: its cursor tells, since both are one transaction."""
        self._bear_with(error)
        found = self._read(lambda connection: load(connection, self.work.name))
        if found is not None and not found.finished and found.pass_number == self.progress.pass_number:
            self.settled += found.rows_done - self.progress.rows_done
            self.progress = found
        for row in self._read(lambda connection: failures(connection, self.work.name)):
            if row.at >= self.began:
                self.failed[tuple(row.key)] = row

    def _bear_with(self, error: DBAPIError) -> None:
        self._connections_lost += 1
        if self._connections_lost > self.policy.reconnects:
            raise DatabaseUnavailableError(
                f"The connection was lost {self._connections_lost} times in a row: {_said(error)}",
                remedy="Run emc migrate again when the database is back; everything committed is kept.",
            ) from error
        # As long as a server takes to come back from a crash: half a minute on average for all ten.
        pause = min(30.0, 0.25 * 1.7 ** min(self._connections_lost, 60))
        self.policy.sleep(self.policy.random() * pause)

    # -- connections -------------------------------------------------------------------------------------

    def _open(self) -> AbstractContextManager[Connection]:
        # WEAK: a batch takes as long as it takes, but waits for the rows of others no longer than the lock timeout.
        return self.dialect.open(self.engine, Transaction.TOGETHER, LockPolicy.WEAK, self.policy.lock_timeout)

    def _read(self, question: Callable[[Connection], _T]) -> _T:
        return self._patiently(lambda: self.dialect.reading(self.engine), question)

    def _write(self, change: Callable[[Connection], _T]) -> _T:
        """Change what emc keeps, by statements that may be repeated."""

        def confirmed(connection: Connection) -> _T:
            self.lease.confirm(connection)
            return change(connection)

        return self._patiently(self._open, confirmed)

    def _patiently(
        self, opened: Callable[[], AbstractContextManager[Connection]], do: Callable[[Connection], _T]
    ) -> _T:
        attempts = 0
        while True:
            try:
                with opened() as connection:
                    return do(connection)
            except DBAPIError as error:
                failure = self.dialect.failure(error)
                if failure is Failure.DISCONNECTED:
                    self._bear_with(error)
                elif failure is Failure.LOCKED and attempts < self.policy.lock_attempts:
                    attempts += 1
                    self._wait(attempts)
                elif failure is Failure.LOCKED:
                    raise self._out_of_patience(error) from error
                else:
                    raise

    def _wait(self, attempts: int) -> None:
        self.policy.sleep(self.policy.random() * min(1.0, 0.1 * 2**attempts))

    def _out_of_patience(self, error: DBAPIError) -> LockBudgetError:
        return LockBudgetError(
            f"Other sessions do not let go of table {self.work.key}, so {self.work.name} cannot go on; "
            f"everything done so far is kept. The database said: {_said(error)}",
            remedy="Run emc migrate again when the transactions that hold it are over.",
        )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _said(error: BaseException) -> str:
    """What went wrong, without the statement and parameters that SQLAlchemy adds."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return f"{type(error).__name__}: {error}".strip()
