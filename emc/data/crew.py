"""How do several workers share the rows of one data migration?

The keys are cut into more ranges than there are workers, each with as many rows; a worker takes the next range when it
is through with one. Cuts are keys that the database itself finds in its own order, so they divide text and UUIDs as
well as numbers, and numbers with gaps.

An error that would end a run of one worker ends that of several: nobody begins another batch, what is under way is
committed, and the first error is that of the run.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Connection, func, select

from emc.data.batches import Batches
from emc.data.stride import Stride
from emc.data.traffic import End, Traffic
from emc.data.walk import Key
from emc.state.lease import Fence, Lease
from emc.state.progress import Progress
from emc.state.progress import save as save_progress
from emc.state.ranges import Range, lay_down, ranges, save

_RANGES = 4
"""Ranges for each worker, so that one that meets slow rows does not keep the others waiting at the end."""
_PARTING = 3.0
"""Seconds that an interrupted run waits for the batches of its workers."""


class Share(Batches):
    """The batches of one range."""

    def __init__(self, main: Batches, cut: Range, fence: Fence) -> None:
        super().__init__(main.engine, main.dialect, main.work, fence, main.policy)
        self.walk, self.row_writes, self.breaker = main.walk, main.row_writes, main.breaker
        self.stride = Stride(main.walk, main.policy.window)
        self.cut = cut
        self.watches_waiters = main.watches_waiters
        self.failed = main.failed
        self.progress = dataclasses.replace(self.progress, cursor=cut.cursor, rows_done=cut.rows_done)
        self._rows_before = cut.rows_done

    def ceiling(self) -> Key | None:
        """Where the range ends."""
        return self.cut.upper

    def load(self, connection: Connection) -> Progress | None:
        """What is kept of this range."""
        for one in ranges(connection, self.work.name):
            if one.number == self.cut.number:
                return dataclasses.replace(self.progress, cursor=one.cursor, rows_done=one.rows_done)
        return None

    def save(self, connection: Connection, progress: Progress) -> None:
        """Keep it."""
        over = progress.cursor == self.cut.upper
        save(
            connection,
            dataclasses.replace(
                self.cut, cursor=progress.cursor, rows_done=progress.rows_done, finished=over
            ),
        )


class Crew:
    """The workers of one data migration, in its first pass; what is left for later passes is little."""

    def __init__(self, main: Batches, lease: Lease, workers: int, traffic: Traffic) -> None:
        self.main = main
        self.lease = lease
        self.workers = workers
        self.traffic = traffic
        self.shares: list[Share] = []
        self._cuts: Sequence[Range] = ()
        self._open: deque[Range] = deque()
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()

    def prepare(self) -> bool:
        """Whether the rows are shared: cut into ranges, by an earlier run or by this one."""
        main = self.main
        name, columns = main.work.name, len(main.walk.columns)
        found = main.read(lambda connection: ranges(connection, name))
        fits = all(
            len(one.upper) == columns and (one.cursor is None or len(one.cursor) == columns) for one in found
        )
        if found and fits and main.progress.pass_number == 1 and main.walk.divides:
            self._cuts = found
        else:
            self._cuts = self._cut() if self.workers > 1 and main.progress.pass_number == 1 else ()
            if self._cuts or found:
                # Where main was in the middle of this pass the ranges take over from there.
                main.write(lambda connection: lay_down(connection, name, self._cuts))
        self._open = deque(one for one in self._cuts if not one.finished)
        return bool(self._cuts)

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier run has done some of the rows."""
        return any(one.rows_done or one.finished for one in self._cuts)

    @property
    def rows_done(self) -> int:
        """Rows that this run has written in ranges."""
        return sum(share.rows_done for share in tuple(self.shares))

    def _cut(self) -> tuple[Range, ...]:
        """Ranges of as many rows each, of what lies ahead; none where that is not worth it."""
        main, walk = self.main, self.main.walk
        ceiling = main.ceiling()
        if ceiling is None or not walk.divides:
            return ()
        start = main.progress.cursor
        ahead = select(func.count()).select_from(walk.table).where(walk.after(start), walk.up_to(ceiling))
        rows: int = main.read(lambda connection: connection.execute(ahead).scalar_one())
        wanted = min(_RANGES * self.workers, rows // main.policy.start)
        if wanted < 2:
            return ()
        each = -(-rows // wanted)
        cuts: list[Range] = []
        lower = start
        while len(cuts) < wanted - 1:
            # Counted along the index, from cut to cut: all of them together read it once.
            upper = main.read(partial(walk.end, lower=lower, size=each))
            if upper is None or upper == ceiling:
                break
            cuts.append(Range(main.work.name, len(cuts) + 1, lower, upper))
            lower = upper
        cuts.append(Range(main.work.name, len(cuts) + 1, lower, ceiling))
        return tuple(cuts)

    def work(self, walk_along: Callable[[Share], bool]) -> bool:
        """Let all workers do the ranges; answers whether all of them are through.

        :param walk_along: does one range, and answers whether to go on with the next.
        :raises BaseException: the first that a worker raised.
        """
        threads = [
            threading.Thread(
                target=self._one, args=(number, walk_along), name=f"emc worker {number}", daemon=True
            )
            for number in range(1, min(self.workers, len(self._open)) + 1)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                # Ctrl-C comes through between two waits.
                while thread.is_alive():
                    thread.join(0.2)
        except BaseException:
            # A second Ctrl-C. Most batches end by themselves in a moment; the server rolls back those that do not.
            self.traffic.end(End.FAILED)
            for thread in threads:
                if thread.is_alive():
                    thread.join(_PARTING / len(threads))
            raise
        self._gather()
        if self._errors:
            raise self._errors[0]
        return not self._open and all(share.is_at(share.cut.upper) for share in self.shares)

    def _one(self, number: int, walk_along: Callable[[Share], bool]) -> None:
        try:
            fence = self.main.write(partial(self.lease.fence, number=number))
            pace = None
            while True:
                with self._lock:
                    if not self._open:
                        return
                    share = Share(self.main, self._open.popleft(), fence)
                    self.shares.append(share)
                # What a worker has learned in one range serves it in the next.
                pace = share.pace = pace or share.pace
                if not walk_along(share):
                    return
        except BaseException as error:  # noqa: BLE001  # Raised again by whoever waits for the workers.
            with self._lock:
                self._errors.append(error)
            self.traffic.end(End.FAILED)

    def _gather(self) -> None:
        """What happened to the rows of all ranges is what happened in the pass."""
        for share in self.shares:
            self.main.settled += share.settled
            self.main.lost += share.lost
            self.main.locked_out += share.locked_out

    def fold(self) -> None:
        """Put the ranges, which are all through, together: the pass is at its end."""
        main = self.main
        done = sum(one.rows_done for one in self._cuts) + self.rows_done
        progress = dataclasses.replace(
            main.progress,
            cursor=self._cuts[-1].upper,
            rows_done=main.progress.rows_done + done,
            updated_at=dt.datetime.now(dt.UTC),
        )

        def fold(connection: Connection) -> None:
            save_progress(connection, progress)
            lay_down(connection, main.work.name, ())

        main.write(fold)
        main.take_over(progress, done - self.rows_done)
        self.shares, self._cuts = [], ()
