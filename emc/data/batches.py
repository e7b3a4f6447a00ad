"""How does one batch get committed, or its poison row found, in spite of locks, lost connections and bad rows?"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select
from sqlalchemy.exc import DBAPIError, NotSupportedError, ProgrammingError

from emc.data.apply import Applied, RowError, apply
from emc.data.breaker import Breaker
from emc.data.losers import Losers, settle, way
from emc.data.pace import Pace
from emc.data.patience import Patience, said
from emc.data.reading import UnreadableError
from emc.data.stride import Stride
from emc.data.values import BatchPolicy
from emc.data.walk import Key, has_keyless_rows
from emc.dialects.answers import Failure, Pressure
from emc.dialects.base import Dialect
from emc.dialects.rowwrites import RowWrites
from emc.errors import PrivilegeError, StatementFailedError
from emc.state.failures import FailedRow, clear_failures, failures, note_failure
from emc.state.lease import Fence, Lease
from emc.state.progress import Progress, keep, load
from emc.state.ranges import lay_down, ranges
from emc.work import CallFunction, DeleteRow, Work, rows_left
from emc.work.tables import reads

_LOCKED_OUT = 3
"""Rows in a row that may be passed over because others hold them, before it is the table and not the rows."""
_ASK_WAITERS = 1.0
"""Seconds between two looks at who waits for a batch."""


@dataclass(frozen=True)
class Done:
    """A batch that was committed."""

    rows: int
    size: int
    seconds: float
    working: float
    """Those of them that went to the rows. What a batch takes besides, such as the way to a server that is far off,
    does not become less with its size."""
    waiting: Pressure | None = None
    """Who waited for it at its end, where that was looked at."""


class Batches(Patience):
    """The batches of one run, and what they have come to so far."""

    def __init__(
        self, engine: Engine, dialect: Dialect, work: Work, lease: Lease | Fence, policy: BatchPolicy
    ) -> None:
        super().__init__(engine, dialect, work, lease, policy)
        self.pace = Pace(policy)
        self.breaker = Breaker()
        self.row_writes: RowWrites | None = None
        self.began = _now()
        self.progress = Progress(work.name, None, 0, 1, self.began, self.began, finished=False)
        self.failed: dict[Key, FailedRow] = {}
        """The rows that failed in this run."""
        self.settled = 0
        """What this pass took out of the condition; in the first pass, what it wrote."""
        self.deleted = 0
        """Rows of this pass that are gone."""
        self.lost = 0
        """Rows of this pass that somebody else wrote to at the same time."""
        self.locked_out = 0
        """Rows of this pass that were passed over because somebody else held them."""
        self.watches_waiters = False
        """Whether batches find out who waits for them."""
        self._waiters_asked = -math.inf
        self._rows_before = 0
        self._left_before: int | None = None
        self._fewest_there: int | None = None
        self._cap: int | None = None
        self._locked_in_a_row = 0

    @property
    def size(self) -> int:
        """How many rows the next batch may have."""
        return self._size(None)

    @property
    def rows_done(self) -> int:
        """Rows that this run has written."""
        return self.progress.rows_done - self._rows_before

    # -- passes ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on where the last run ended, if it did not end at the end."""
        is_keyless = self.read(lambda connection: has_keyless_rows(connection, self.work))
        self.walk = way(self.dialect, self.work, by_address=is_keyless)
        self.stride = Stride(self.walk, self.policy.window)
        if isinstance(self.work.action, CallFunction):
            table, columns = self.work.table, self.walk.columns
            self.row_writes = self.read(lambda one: self.dialect.row_writes(one, table, columns))
        found = self.read(self.load)
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
        self.settled = self.deleted = self.lost = self.locked_out = 0
        self._left_before = left
        if isinstance(self.walk, Losers):
            self.walk.forget()
        self.progress = dataclasses.replace(
            self.progress, cursor=None, pass_number=self.progress.pass_number + 1
        )

    def close(self) -> None:
        """Record that nothing is left, where something else is on record; otherwise write nothing."""

        def stale(connection: Connection) -> bool:
            progress = self.load(connection)
            unfinished = progress is not None and not progress.finished
            return unfinished or any(one(connection, self.work.name) for one in (failures, ranges))

        def finish(connection: Connection) -> None:
            clear_failures(connection, self.work.name)
            progress, cuts = self.load(connection), ranges(connection, self.work.name)
            lay_down(connection, self.work.name, ())
            if progress is not None or cuts:
                over = dataclasses.replace(
                    progress or self.progress, cursor=None, updated_at=_now(), finished=True
                )
                done = over.rows_done + sum(one.rows_done for one in cuts)
                self.save(connection, dataclasses.replace(over, rows_done=done))

        if self.read(stale):
            self.write(finish)
        self.failed.clear()

    def ceiling(self) -> Key | None:
        """The last key there is now, so that a pass ends although rows are added behind it."""
        return self.read(self.walk.last)

    def is_at(self, ceiling: Key) -> bool:
        """Whether the pass has come to its end."""
        return self.progress.cursor == ceiling

    def left(self) -> int:
        """How many rows are pending."""
        return self.read(lambda connection: rows_left(connection, self.work))

    def has_settled(self, left: int) -> bool:
        """Whether this pass took rows out of the condition.

        :param left: how many rows are pending at its end.
        """
        if self.walk.is_physical and self._left_before is not None:
            # A row that is written moves out of the batch, pending or not, so only all rows together can tell.
            return left < self._left_before or self.deleted > 0
        return self.settled > 0

    def has_shrunk(self) -> bool:
        """Whether deleting has left the table smaller than after any earlier pass.

        Where a row is pending because of others of its table, as in a tree whose root is gone, each one that goes may
        make the next one pending: there are as many left as before, and it comes to an end all the same.
        """
        if not self.deleted or not reads(self.work.pending, self.work.key):
            return False
        query = select(func.count()).select_from(self.work.table)
        there = self.read(lambda connection: connection.execute(query).scalar_one())
        fewest, self._fewest_there = self._fewest_there, there
        if fewest is None or there < fewest:
            return True
        self._fewest_there = fewest
        return False

    def failed_left(self) -> int:
        """How many of the rows that failed are still pending; forgets the others."""
        keys = list(self.failed)
        pending = self.read(lambda connection: self.walk.still_pending(connection, keys))
        self.failed = {key: row for key, row in self.failed.items() if key in pending}
        return len(pending)

    def forget_others(self) -> None:
        """Forget the failures on record of rows that have been dealt with."""
        recorded = self.read(lambda connection: failures(connection, self.work.name))
        others = [tuple(row.key) for row in recorded if tuple(row.key) not in self.failed]
        pending = self.read(lambda connection: self.walk.still_pending(connection, others))
        gone = [key for key in others if key not in pending]

        def forget(connection: Connection) -> None:
            for key in gone:
                clear_failures(connection, self.work.name, key)

        if gone:
            self.write(forget)

    def take_over(self, progress: Progress, before: int) -> None:
        """Go on from *progress*, which workers have come to; *before* of its rows were done by earlier runs."""
        self.progress = progress
        self._rows_before += before

    def load(self, connection: Connection) -> Progress | None:
        """How far earlier runs got."""
        return load(connection, self.work.name)

    def save(self, connection: Connection, progress: Progress) -> None:
        """Keep how far this one is."""
        keep(connection, progress)

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
                    if self.work.on_error == "stop" and error.position == 0:
                        return None
                    size = self._cap = max(1, error.position)
                    continue
                # Only these are classified above.
                driver_error: DBAPIError = cause  # type: ignore[assignment]
            except UnreadableError as error:
                if size == 1:
                    self._poisoned(ceiling, error)
                    return None
                size = self._cap = size // 2
                continue
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
                        f"The role that emc connects as may not do {self.work.name}: {said(driver_error)}"
                    ) from driver_error
                case Failure.LOCKED if attempts < self.policy.lock_attempts:
                    attempts += 1
                    self.wait(attempts)
                case Failure.LOCKED if size == 1 or not self.dialect.concurrent_sessions:
                    self._pass_over(ceiling, driver_error)
                    return None
                case Failure.LOCKED:
                    size = self._cap = size // 2
                case _ if not isinstance(self.work.action, CallFunction) and isinstance(
                    driver_error, ProgrammingError | NotSupportedError
                ):
                    raise StatementFailedError(
                        f"The database refused a statement of {self.work.name}: {said(driver_error)}",
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
        return min(one for one in (self.pace.size, self._cap, room) if one is not None)

    def _commit(self, ceiling: Key, size: int) -> Done:
        began = self.policy.clock()
        progress, walk = self.progress, self.walk
        noted: list[FailedRow] = []
        if isinstance(walk, Losers) and not walk.knows(progress.cursor):
            self.read(lambda connection: walk.look(connection, progress.cursor, ceiling))
        with self.open() as connection:
            self.lease.confirm(connection)
            upper: Key | None = self._upper(connection, ceiling, size)
            assert upper is not None
            rows = and_(walk.after(progress.cursor), walk.up_to(upper))
            # The first pass is taken at its word. A later one has to show that it gets rows out of the
            # condition: writing the same values again and again is no progress. What is gone is gone, whatever it has
            # made pending.
            again = progress.pass_number > 1 and not walk.is_physical and not self.work.deletes
            before = walk.pending(connection, rows) if again else 0
            working = self.policy.clock()
            applied = self._apply(connection, rows)
            working = self.policy.clock() - working
            if applied.is_cut:
                upper = applied.last or progress.cursor
            settled = applied.written
            if again:
                settled = max(applied.deleted, before - walk.pending(connection, rows))
            for key, error in applied.failed:
                noted.append(note_failure(connection, self.work.name, key, said(error)))
            after = dataclasses.replace(
                progress, cursor=upper, rows_done=progress.rows_done + settled, updated_at=_now()
            )
            self.save(connection, after)
            waiting = self._waiting(connection)
        self.progress = after
        self.settled += settled
        self.deleted += applied.deleted
        self.lost += applied.lost
        self.failed.update({tuple(row.key): row for row in noted})
        self.stride.record(size, applied.found)
        self.breaker.record(done=applied.written, failed=len(noted))
        return Done(settled, size, self.policy.clock() - began, working, waiting)

    def _waiting(self, connection: Connection) -> Pressure | None:
        """Who waits for this batch, which holds all it will hold by now."""
        now = self.policy.clock()
        if not self.watches_waiters or now - self._waiters_asked < _ASK_WAITERS:
            return None
        self._waiters_asked = now
        return self.dialect.waiters(connection)

    def _apply(self, connection: Connection, rows: ColumnElement[bool]) -> Applied:
        if isinstance(self.walk, Losers):
            merge = self.work.action.merge if isinstance(self.work.action, DeleteRow) else None
            return settle(connection, self.walk, self.failed, self.dialect, merge)
        return apply(connection, self.walk, rows, self.failed, self.dialect, self.row_writes)

    def _upper(self, connection: Connection, ceiling: Key, size: int) -> Key:
        """Where a batch ends that may have *size* pending rows."""
        return self.stride.bound(connection, self.progress.cursor, ceiling, size)

    def _succeeded(self, done: Done) -> None:
        self.connections_lost = self._locked_in_a_row = 0
        self.pace.record(done.size, done.working)
        if self._cap is not None:
            # What failed lies behind; by and by batches may be as large as they were.
            self._cap = self._cap * 2 if self._cap * 2 < self.policy.largest else None

    # -- what can happen to a batch ----------------------------------------------------------------------

    def _poisoned(self, ceiling: Key, error: Exception) -> None:
        """Note the one row that cannot be read or written, and go past it."""
        key, upper = self.read(lambda connection: self._next_row(connection, ceiling))
        if key is not None:
            if isinstance(error, UnreadableError):
                unreadable, keys = error, [key]
                error = self.read(lambda connection: unreadable.located(connection, self.walk, keys))
            self._note(key, error, cursor=None if self.work.on_error == "stop" else key)
        else:  # Somebody else has dealt with it meanwhile.
            self._go_to(upper)

    def _pass_over(self, ceiling: Key, error: DBAPIError) -> None:
        """Leave a row that somebody else holds to the next pass."""
        self._locked_in_a_row += 1
        if not self.dialect.concurrent_sessions or self._locked_in_a_row > _LOCKED_OUT:
            raise self.out_of_patience(error) from error
        key, upper = self.read(lambda connection: self._next_row(connection, ceiling))
        self.locked_out += 1
        self._go_to(key or upper)

    def _next_row(self, connection: Connection, ceiling: Key) -> tuple[Key | None, Key]:
        """The next pending row, and where a batch of one row would end."""
        lower = self.progress.cursor
        upper = self._upper(connection, ceiling, 1)
        rows = and_(self.walk.after(lower), self.walk.up_to(upper))
        return self.walk.first_pending(connection, rows), upper

    def _note(self, key: Key, error: BaseException, cursor: Key | None) -> None:
        progress = self.progress
        if cursor is not None:
            progress = dataclasses.replace(progress, cursor=cursor, updated_at=_now())

        def note(connection: Connection) -> FailedRow:
            if cursor is not None:
                self.save(connection, progress)
            return note_failure(connection, self.work.name, key, said(error))

        self.failed[key] = self.write(note)
        self.breaker.record(done=0, failed=1)
        self.progress = progress

    def _go_to(self, cursor: Key) -> None:
        progress = dataclasses.replace(self.progress, cursor=cursor, updated_at=_now())
        self.write(lambda connection: self.save(connection, progress))
        self.progress = progress

    def _look_again(self, error: DBAPIError) -> None:
        """Whether the batch was committed is unknown: its cursor tells, since both are one transaction."""
        self.bear_with(error)
        found = self.read(self.load)
        if found is not None and not found.finished and found.pass_number == self.progress.pass_number:
            self.settled += found.rows_done - self.progress.rows_done
            self.progress = found
        for row in self.read(lambda connection: failures(connection, self.work.name)):
            if row.at >= self.began:
                self.failed[tuple(row.key)] = row


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
