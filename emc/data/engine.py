"""How does data work get from its first batch to its end, whatever happens on the way?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine, NullPool, QueuePool

from emc.data.batches import Batches, Done
from emc.data.crew import Crew
from emc.data.reporting import reported
from emc.data.tally import Quota, Tempo
from emc.data.throttle import Throttles
from emc.data.traffic import End, Notice, Traffic
from emc.data.values import BatchPolicy, Outcome, ProgressEvent, Result
from emc.dialects.base import Dialect
from emc.errors import ConfigurationError, LockBudgetError
from emc.state.control import State
from emc.state.lease import Lease
from emc.work import DeleteRow, NotReady, Report, Work, anything_left
from emc.work.values import BACK

_RACES = 5
"""Passes in a row that may do nothing but lose races against other writers before rows count as stuck."""
_CHASES = 5
"""Passes in a row that may end with as many rows left as an earlier one: rows come as fast as they are taken away, and
to look for them once more is to read the whole table."""


def _tell_nobody(event: object) -> None:
    pass


def run(
    engine: Engine,
    dialect: Dialect,
    work: Work | NotReady,
    *,
    lease: Lease,
    max_count: int | None = None,
    max_time: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[ProgressEvent], None] = _tell_nobody,
    notice: Callable[[Notice], None] = _tell_nobody,
    batch: BatchPolicy | None = None,
    workers: int = 1,
    throttles: Throttles | None = None,
    upgrade_work: Sequence[Work | NotReady] = (),
) -> Result:
    """Do *work* until no row is left, or a limit is reached; see :func:`run_all`."""
    [result] = run_all(
        engine,
        dialect,
        [work],
        lease=lease,
        max_count=max_count,
        max_time=max_time,
        stop=stop,
        report=report,
        notice=notice,
        batch=batch,
        workers=workers,
        throttles=throttles,
        upgrade_work=upgrade_work,
    )
    return result


def run_all(
    engine: Engine,
    dialect: Dialect,
    every: Sequence[Work | NotReady],
    *,
    lease: Lease,
    max_count: int | None = None,
    max_time: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[ProgressEvent], None] = _tell_nobody,
    notice: Callable[[Notice], None] = _tell_nobody,
    batch: BatchPolicy | None = None,
    workers: int = 1,
    throttles: Throttles | None = None,
    upgrade_work: Sequence[Work | NotReady] = (),
) -> tuple[Result, ...]:
    """Do *every* work in the order given, one after the other, until no row is left or a limit is reached.

    A run that ended in any way, by a kill as well, goes on where its last committed batches ended when it is called
    again. Where nothing is left, nothing is written. Work that cannot be completed does not keep the others from being
    done, unless they wait for it.

    :param lease: confirmed in each batch's transaction.
    :param max_count: rows to write at most, all work together.
    :param max_time: seconds after which no further batch begins.
    :param stop: asked before each batch; the batches at work are finished and committed.
    :param report: called after each batch, by one worker at a time.
    :param notice: hears when the run is held up, why, and when it goes on; by one worker at a time.
    :param workers: how many batches may be under way at once.
    :param throttles: what may hold it up; ``None``: nothing does.
    :param upgrade_work: all work of the upgrade, besides *every*; what work waits for is looked up there.
    :raises LeaseLostError: another emc has taken over.
    :raises LockBudgetError: rows stayed locked by others.
    :raises DatabaseUnavailableError: the database stayed away.
    :raises DeclarationError: a function answers what cannot be written.
    :raises StatementFailedError: the database does not understand a statement of the declaration.
    :raises ConfigurationError: the engine's pool has too few connections for *workers*.
    :raises EmcError: a table has no key to walk by.
    """
    policy = batch or BatchPolicy()
    if workers > 1:
        workers = _at_once(engine, dialect, workers, notice)
    traffic = Traffic(
        engine,
        dialect,
        lease,
        policy,
        stop=stop,
        max_time=max_time,
        throttles=throttles,
        tell=notice,
        workers=workers,
    )
    context = _Context(engine, dialect, lease, policy, workers, traffic, report)
    results: list[Result] = []
    for work in every:
        done = sum(result.rows_done for result in results)
        room = None if max_count is None else max(0, max_count - done)
        results.append(_run(context, work, room, [*every, *upgrade_work]))
    return tuple(results)


@dataclass(frozen=True)
class _Context:
    """What all work of a run has in common."""

    engine: Engine
    dialect: Dialect
    lease: Lease
    policy: BatchPolicy
    workers: int
    traffic: Traffic
    report: Callable[[ProgressEvent], None]


def _at_once(engine: Engine, dialect: Dialect, workers: int, notice: Callable[[Notice], None]) -> int:
    """How many of *workers* can work at once.

    :raises ConfigurationError: the pool would keep some of them waiting for a connection.
    """
    if not dialect.concurrent_sessions:
        notice(
            Notice(State.RUNNING, f"one worker instead of {workers}: this database has one writer at a time")
        )
        return 1
    # Each has one; so have the lease and whoever looks at what may hold them up.
    wanted, room = workers + 2, capacity(engine)
    if room is not None and room < wanted:
        raise ConfigurationError(
            f"{workers} workers need {wanted} connections, and the pool of the engine has {room} at most.",
            remedy=f"create_engine(…, pool_size={wanted})",
        )
    return workers


def capacity(engine: Engine) -> int | None:
    """How many connections the pool of *engine* gives out at once; ``None``: as many as are asked for."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        return None if isinstance(pool, NullPool) else 1
    overflow: int = pool._max_overflow  # noqa: SLF001  # No public name tells it (SQLAlchemy 2.0 and 2.1).
    return None if overflow < 0 else pool.size() + overflow


def _run(
    context: _Context, work: Work | NotReady, max_count: int | None, every: Sequence[Work | NotReady]
) -> Result:
    engine, dialect, traffic = context.engine, context.dialect, context.traffic
    blocked = _blocked(engine, dialect, work, every)
    if isinstance(work, NotReady) or blocked is not None:
        assert blocked is not None
        return blocked
    is_done = not dialect.ask(engine, lambda connection: anything_left(connection, work))
    batches = Batches(engine, dialect, work, context.lease, context.policy)
    batches.watches_waiters = traffic.watches_waiters
    if is_done:
        batches.close()
        return Result(work.name, Outcome.COMPLETE, rows_left=0)
    if traffic.ended is not None:
        # Not begun: how many rows are left would take a look at all of them.
        return _Run(context, batches, max_count).result(_after(traffic.ended), None)
    return _Run(context, batches, max_count).to_its_end()


def _after(end: End) -> Outcome:
    return Outcome.MORE if end is End.TIME else Outcome.PAUSED


def _blocked(
    engine: Engine, dialect: Dialect, work: Work | NotReady, after: Sequence[Work | NotReady]
) -> Result | None:
    def because(reason: str, remedy: str) -> Result:
        return Result(work.name, Outcome.BLOCKED, reason=reason, remedy=remedy)

    if isinstance(work, NotReady):
        return because(work.reason, work.remedy)
    by_name = {one.name: one for one in after}
    for name in work.after:
        first = by_name.get(name)
        if first is None:
            return because(
                f"it waits for {name}, of which nothing is known", "declare it above, or correct after="
            )
        if isinstance(first, NotReady):
            return because(f"it waits for {name}: {first.reason}", first.remedy)
        if dialect.ask(engine, partial(anything_left, work=first)):
            return because(f"it waits for {name}, which has rows left", f"run {first.own_command}")
    return reported(engine, dialect, work) if isinstance(work.action, Report) else None


class _Run:
    """One run: passes over the table until nothing is left."""

    def __init__(self, context: _Context, batches: Batches, max_count: int | None) -> None:
        self.context = context
        self.batches = batches
        self.policy = context.policy
        self.traffic = context.traffic
        self.quota = Quota(max_count)
        self.crew = Crew(batches, context.lease, context.workers, context.traffic)
        self.tempo = Tempo(self.policy.clock)
        self.total = 0
        self._early: Outcome | None = None
        """Why the pass ends before its end."""
        self._reporting = threading.Lock()

    @property
    def rows_done(self) -> int:
        """Rows that all workers have written in this run."""
        return self.batches.rows_done + self.crew.rows_done

    def to_its_end(self) -> Result:
        """Walk until the outcome is known."""
        batches = self.batches
        batches.begin()
        self.total = fewest = batches.left()
        shared = self.crew.prepare()
        races = chases = passes = 0
        while True:
            # Of a pass that an earlier run began it is not known what that run did.
            is_resumed = batches.progress.cursor is not None or self.crew.is_resumed
            if shared:
                shared = not self._pass_of_all()
            else:
                self._pass(batches)
            left = batches.left()
            if left == 0:
                batches.close()
                return self.result(Outcome.COMPLETE, 0)
            failed_left = batches.failed_left()
            # A row that could not be deleted because another one refers to it may be once that has gone.
            in_turn = isinstance(batches.work.action, DeleteRow) and batches.has_settled(left)
            if left <= failed_left and not in_turn:
                batches.forget_others()
                return self.result(Outcome.FAILED, left)
            if self._early is not None:
                if self._early is Outcome.FAILED:
                    batches.forget_others()
                return self.result(self._early, left)
            if not is_resumed and not batches.has_settled(left):
                if batches.locked_out:
                    raise LockBudgetError(
                        f"{left} rows of {batches.work.key} stayed locked by other sessions, so {batches.work.name} "
                        "could not write to them; all others are done.",
                        remedy=f"Run {batches.work.command} again when the transactions that hold them are over.",
                    )
                races = races + 1 if batches.lost else _RACES + 1
                if races > _RACES:
                    return self.result(Outcome.FAILED if failed_left else Outcome.STUCK, left)
            else:
                races = 0
                chases = 0 if left < fewest or batches.has_shrunk() else chases + 1
                fewest = min(fewest, left)
                if chases >= _CHASES:
                    return self.result(Outcome.OUTRUN, left)
            passes += 0 if is_resumed else 1
            if self.policy.passes is not None and passes >= self.policy.passes:
                return self.result(Outcome.OUTRUN, left)
            batches.next_pass(left)

    def _pass_of_all(self) -> bool:
        """Let all workers do their ranges; answers whether these are through."""
        if not self.crew.work(self._pass):
            self._early = self._early or _after(self.traffic.ended or End.STOPPED)
            return False
        self.crew.fold()
        return True

    def _pass(self, batches: Batches) -> bool:
        """Do the batches up to the end of the pass, or of a range; answers whether they came there."""
        ceiling = batches.ceiling()
        while ceiling is not None and not batches.is_at(ceiling):
            if self._early is not None:
                return False
            if not self.traffic.admits():
                self._early = _after(self.traffic.ended or End.STOPPED)
                return False
            room = self.quota.take(batches.size)
            if room == 0:
                self._early = Outcome.MORE
                return False
            if self.traffic.ended is not None:
                # It ended while this worker waited for what others would leave of the limit.
                self.quota.settle(room, 0)
                self._early = _after(self.traffic.ended)
                return False
            before = batches.rows_done
            try:
                done = batches.one(ceiling, room)
            finally:
                self.quota.settle(room, batches.rows_done - before)
            if batches.failed and (batches.breaker.has_tripped or batches.work.on_error == "stop"):
                self._early = Outcome.FAILED
                return False
            if done is None:
                continue
            if done.waiting is not None:
                self.traffic.noticed(done.waiting)
            self._report(batches, done)
            pause = batches.pace.pause(done.seconds)
            if pause > 0 and done.rows and not batches.is_at(ceiling):
                self.policy.sleep(pause)
        return True

    def _report(self, batches: Batches, done: Done) -> None:
        with self._reporting:
            rows_done = self.rows_done
            self.tempo.record(rows_done)
            event = ProgressEvent(
                work=batches.work.name,
                rows_done=rows_done,
                rows_total=self.total,
                batch_rows=done.rows,
                batch_size=done.size,
                batch_seconds=done.seconds,
                pass_number=batches.progress.pass_number,
                failed=len(batches.failed),
                eta_seconds=self.tempo.seconds_for(self.total - rows_done),
            )
            self.context.report(event)
            self.traffic.progressed(event)

    def result(self, outcome: Outcome, left: int | None) -> Result:
        """What came of it.

        :param left: how many rows are pending; ``None`` where that is not known.
        """
        batches = self.batches
        work = batches.work
        others = "new" if work.kind == BACK else "old"
        rows = "rows are left" if left is None else f"{left} rows are left"
        why = self.traffic.reason
        reason, remedy = {
            Outcome.COMPLETE: (None, None),
            Outcome.MORE: (rows, f"run {work.command} again"),
            Outcome.PAUSED: (f"{rows}; {why}" if why else rows, f"run {work.command} again to go on"),
            Outcome.OUTRUN: (
                f"{left} rows are left, and new ones come as fast as they are migrated",
                f"run {work.command} again once no process of the {others} release is left",
            ),
            Outcome.STUCK: (
                f"{left} rows are left, and a pass over all of them took none out of the condition",
                f"correct the condition or what is written, at {work.place}",
            ),
            Outcome.FAILED: (
                _failure(batches),
                f"correct the rows or the declaration at {work.place}, and run {work.own_command}",
            ),
            Outcome.BLOCKED: (None, None),
        }[outcome]
        return Result(
            name=work.name,
            outcome=outcome,
            rows_found=self.total,
            rows_done=self.rows_done,
            rows_left=left,
            failed=tuple(batches.failed.values()),
            reason=reason,
            remedy=remedy,
        )


def _failure(batches: Batches) -> str:
    rows = f"{len(batches.failed)} {'row' if len(batches.failed) == 1 else 'rows'} cannot be migrated"
    if batches.work.on_error == "stop":
        return f"{rows}, and the run ends there, as on_error says"
    if batches.breaker.has_tripped:
        return f"{rows}, more than the last batches could write, so the run ended early"
    return rows
