"""How does data work get from its first batch to its end, whatever happens on the way?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Engine

from emc.data.batches import Batches
from emc.data.values import BatchPolicy, Outcome, ProgressEvent, Result
from emc.dialects.base import Dialect
from emc.errors import LockBudgetError
from emc.state.lease import Lease
from emc.work import DeleteRow, NotReady, Work, anything_left

_RACES = 5
"""Passes in a row that may do nothing but lose races against other writers before rows count as stuck."""
_CHASES = 5
"""Passes in a row that may end with as many rows left as an earlier one: rows come as fast as they are taken away, and
to look for them once more is to read the whole table."""
_FAILURES = 50
"""Failed rows from which on a run ends early if most rows fail: the function is wrong, not the rows."""


def _tell_nobody(event: ProgressEvent) -> None:
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
    batch: BatchPolicy | None = None,
    upgrade_work: Sequence[Work | NotReady] = (),
) -> Result:
    """Do *work* until no row is left, or a limit is reached.

    A run that ended in any way, by a kill as well, goes on where its last committed batch ended when it
    is called again. Where nothing is left, nothing is written.

    :param lease: confirmed in each batch's transaction.
    :param max_count: rows to write at most.
    :param max_time: seconds after which no further batch begins.
    :param stop: asked before each batch; the batch at work is finished and committed.
    :param report: called after each batch.
    :param upgrade_work: all work of the upgrade; what *work* waits for is looked up there.
    :raises LeaseLostError: another emc has taken over.
    :raises LockBudgetError: rows stayed locked by others.
    :raises DatabaseUnavailableError: the database stayed away.
    :raises DeclarationError: a function answers what cannot be written.
    :raises StatementFailedError: the database does not understand a statement of the declaration.
    :raises EmcError: the table has no key to walk by.
    """
    blocked = _blocked(engine, dialect, work, upgrade_work)
    if isinstance(work, NotReady) or blocked is not None:
        assert blocked is not None
        return blocked
    is_done = not dialect.ask(engine, lambda connection: anything_left(connection, work))
    batches = Batches(engine, dialect, work, lease, batch or BatchPolicy())
    if is_done:
        batches.close()
        return Result(work.name, Outcome.COMPLETE, rows_left=0)
    return _Run(batches, max_count, max_time, stop, report).to_its_end()


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
    batch: BatchPolicy | None = None,
    upgrade_work: Sequence[Work | NotReady] = (),
) -> tuple[Result, ...]:
    """Do *every* work in the order given, with one limit for all together; see :func:`run`.

    Work that cannot be completed does not keep the others from being done, unless they wait for it.

    :param upgrade_work: as for :func:`run`; *every* is looked at in any case.
    """
    policy = batch or BatchPolicy()
    results: list[Result] = []
    began = policy.clock()
    for work in every:
        done = sum(result.rows_done for result in results)
        results.append(
            run(
                engine,
                dialect,
                work,
                lease=lease,
                max_count=None if max_count is None else max(0, max_count - done),
                max_time=None if max_time is None else max(0.0, max_time - (policy.clock() - began)),
                stop=stop,
                report=report,
                batch=policy,
                upgrade_work=[*every, *upgrade_work],
            )
        )
    return tuple(results)


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
            return because(f"it waits for {name}, which has rows left", f"run emc migrate --only {name}")
    return None


class _Run:
    """One run: passes over the table until nothing is left."""

    def __init__(
        self,
        batches: Batches,
        max_count: int | None,
        max_time: float | None,
        stop: Callable[[], bool],
        report: Callable[[ProgressEvent], None],
    ) -> None:
        self.batches = batches
        self.policy = batches.policy
        self.max_count = max_count
        self.deadline = None if max_time is None else self.policy.clock() + max_time
        self.stop = stop
        self.report = report
        self.stopped = False

    def to_its_end(self) -> Result:
        """Walk until the outcome is known."""
        batches = self.batches
        batches.begin()
        total = fewest = batches.left()
        races = chases = 0
        while True:
            # Of a pass that an earlier run began it is not known what that run did.
            is_resumed = batches.progress.cursor is not None
            ended_early = self._pass(total)
            left = batches.left()
            if left == 0:
                batches.close()
                return self._result(Outcome.COMPLETE, 0)
            failed_left = batches.failed_left()
            # A row that could not be deleted because another one refers to it may be once that has gone.
            in_turn = isinstance(batches.work.action, DeleteRow) and batches.has_settled(left)
            if left <= failed_left and not in_turn:
                batches.forget_others()
                return self._result(Outcome.FAILED, left)
            if ended_early is not None:
                return self._result(ended_early, left)
            if not is_resumed and not batches.has_settled(left):
                if batches.locked_out:
                    raise LockBudgetError(
                        f"{left} rows of {batches.work.key} stayed locked by other sessions, so {batches.work.name} "
                        "could not write to them; all others are done.",
                        remedy="Run emc migrate again when the transactions that hold them are over.",
                    )
                races = races + 1 if batches.lost else _RACES + 1
                if races > _RACES:
                    return self._result(Outcome.FAILED if failed_left else Outcome.STUCK, left)
            else:
                races = 0
                chases = 0 if left < fewest else chases + 1
                fewest = min(fewest, left)
                if chases >= _CHASES:
                    return self._result(Outcome.OUTRUN, left)
            batches.next_pass(left)

    def _pass(self, total: int) -> Outcome | None:
        batches = self.batches
        ceiling = batches.ceiling()
        while ceiling is not None and not batches.is_at(ceiling):
            room = None if self.max_count is None else self.max_count - batches.rows_done
            if self.stop():
                self.stopped = True
                return Outcome.MORE
            if room is not None and room <= 0:
                return Outcome.MORE
            if self.deadline is not None and self.policy.clock() >= self.deadline:
                return Outcome.MORE
            done = batches.one(ceiling, room)
            if len(batches.failed) >= _FAILURES and len(batches.failed) > batches.rows_done:
                return Outcome.FAILED
            if done is None:
                continue
            self.report(
                ProgressEvent(
                    work=batches.work.name,
                    rows_done=batches.rows_done,
                    rows_total=total,
                    batch_rows=done.rows,
                    batch_size=done.size,
                    batch_seconds=done.seconds,
                    pass_number=batches.progress.pass_number,
                    failed=len(batches.failed),
                )
            )
            pause = batches.pace.pause(done.seconds)
            if pause > 0 and done.rows and not batches.is_at(ceiling):
                self.policy.sleep(pause)
        return None

    def _result(self, outcome: Outcome, left: int) -> Result:
        batches = self.batches
        name = batches.work.name
        reason, remedy = {
            Outcome.COMPLETE: (None, None),
            Outcome.MORE: (f"{left} rows are left", "run emc migrate again"),
            Outcome.OUTRUN: (
                f"{left} rows are left, and new ones come as fast as they are migrated",
                "run emc migrate again once no process of the old release is left",
            ),
            Outcome.STUCK: (
                f"{left} rows are left, and a pass over all of them took none out of the condition",
                f"correct the condition or what is written, at {batches.work.place}",
            ),
            Outcome.FAILED: (
                f"{len(batches.failed)} rows cannot be migrated",
                f"correct the rows or the declaration at {batches.work.place}, and run emc migrate --only {name}",
            ),
            Outcome.BLOCKED: (None, None),
        }[outcome]
        return Result(
            name=name,
            outcome=outcome,
            rows_done=batches.rows_done,
            rows_left=left,
            failed=tuple(batches.failed.values()),
            stopped=self.stopped and outcome is Outcome.MORE,
            reason=reason,
            remedy=remedy,
        )
