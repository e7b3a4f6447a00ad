"""Run the migrate phase: data moves in small batches, while everybody else goes on working."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from emc.commands.results import MigrateReport
from emc.commands.session import check_names, nobody, planned, reach
from emc.data import BatchPolicy, Outcome, ProgressEvent, Result, run
from emc.errors import ExitCode
from emc.plan import Plan
from emc.state.lease import acquire
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, in_order


def migrate(
    upgrade: Upgrade,
    engine: Engine,
    *,
    only: Sequence[str] = (),
    max_count: int | None = None,
    max_time: float | None = None,
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[ProgressEvent], None] = nobody,
    batch: BatchPolicy | None = None,
) -> MigrateReport:
    """Run the migrate phase. Running it again goes on where it ended, and writes nothing when nothing is left.

    :param only: names of the data migrations to run; empty: all.
    :param max_count: stop after so many rows altogether.
    :param max_time: stop after so many seconds.
    :param dry_run: answer what would be run, and run nothing.
    :param stop: asked between batches; when it answers true, the run ends with its batch committed.
    :param report: hears of every batch.
    :param batch: sizes and pauses of batches.
    :raises UnknownOperationError: *only* names something that is not declared.
    :raises LeaseHeldError: another emc is at work on this database.
    :raises EmcError: whatever :func:`emc.plan` raises.
    """
    dialect = reach(engine)
    with planned(upgrade, engine, dialect) as (_, derived):
        check_names(only, derived.all_work)
        todo = _todo(derived, only)
    if dry_run:
        return MigrateReport(tuple(_untouched(one) for one in todo), ExitCode.DONE, dry_run=True)
    if not todo:
        return MigrateReport((), ExitCode.DONE)
    results: list[Result] = []
    with acquire(engine, dialect, command="emc migrate") as lease:
        deadline = None if max_time is None else time.monotonic() + max_time
        for work in todo:
            if isinstance(work, NotReady):
                results.append(_untouched(work))
                continue
            left = None if max_count is None else max_count - sum(result.rows_done for result in results)
            results.append(
                run(
                    engine,
                    dialect,
                    work,
                    upgrade_work=tuple(derived.all_work.values()),
                    lease=lease,
                    max_count=left,
                    max_time=None if deadline is None else max(0.0, deadline - time.monotonic()),
                    stop=stop,
                    report=report,
                    batch=batch or BatchPolicy(),
                )
            )
    return MigrateReport(tuple(results), _exit_code(results))


def _todo(derived: Plan, only: Sequence[str]) -> list[Work | NotReady]:
    pending = {work.name: work for work in derived.work}
    return [work for work in in_order(tuple(pending.values())) if not only or work.name in only]


def _untouched(work: Work | NotReady) -> Result:
    outcome = Outcome.BLOCKED if isinstance(work, NotReady) else Outcome.MORE
    return Result(name=work.name, outcome=outcome, rows_done=0, rows_left=None, failed=(), stopped=False)


def _exit_code(results: Sequence[Result]) -> ExitCode:
    """The worst answer: what needs a person first, then what needs another run."""
    outcomes = {result.outcome for result in results}
    if outcomes & {Outcome.FAILED, Outcome.STUCK}:
        return ExitCode.ERROR
    if any(result.stopped for result in results):
        return ExitCode.PAUSED
    if Outcome.MORE in outcomes:
        return ExitCode.WORK_REMAINS
    return ExitCode.GATE_SHUT if Outcome.BLOCKED in outcomes else ExitCode.DONE
