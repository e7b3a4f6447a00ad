"""Run the migrate phase: data moves in small batches, while everybody else goes on working."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from emc.commands.plainly import plainly
from emc.commands.results import MigrateReport
from emc.commands.session import check_names, nobody, planned, reach
from emc.data import BatchPolicy, Outcome, ProgressEvent, Result, run_all
from emc.errors import ExitCode
from emc.phases import Phase
from emc.planning import Plan
from emc.state.lease import LOCK_TIMEOUT, Lease, acquire
from emc.state.ledger import Entry, Event, record
from emc.steps import LockPolicy, Transaction
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, in_order


@plainly
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
    :raises EmcError: whatever :func:`emc.plan` and :func:`emc.data.run` raise.
    """
    dialect = reach(engine)
    derived = planned(upgrade, engine, dialect, lambda _, derived: derived)
    check_names(only, derived.all_work)
    todo = _todo(derived, only)
    if dry_run:
        return MigrateReport(tuple(_untouched(one) for one in todo), ExitCode.DONE, dry_run=True)
    if not todo:
        return MigrateReport((), ExitCode.DONE)
    with acquire(engine, dialect, command="emc migrate") as lease:
        results = run_all(
            engine,
            dialect,
            todo,
            lease=lease,
            max_count=max_count,
            max_time=max_time,
            stop=stop,
            report=report,
            batch=batch,
            upgrade_work=tuple(derived.all_work.values()),
        )
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            for result in results:
                if result.outcome is not Outcome.BLOCKED:
                    record(connection, _entry(result, upgrade, dialect.server_version(connection), lease))
    return MigrateReport(results, _exit_code(results))


def _todo(derived: Plan, only: Sequence[str]) -> list[Work | NotReady]:
    pending = {work.name: work for work in derived.work}
    return [work for work in in_order(tuple(pending.values())) if not only or work.name in only]


def _entry(result: Result, upgrade: Upgrade, server: str, lease: Lease) -> Entry:
    return Entry(
        event=Event.FINISHED,
        release=upgrade.release,
        phase=Phase.MIGRATE,
        operation=result.name,
        details={
            "outcome": str(result.outcome),
            "rows_done": result.rows_done,
            "rows_left": result.rows_left,
            "failed": len(result.failed),
        },
        server=server,
        runner=str(lease.runner),
    )


def _untouched(work: Work | NotReady) -> Result:
    if isinstance(work, NotReady):
        return Result(work.name, Outcome.BLOCKED, reason=work.reason, remedy=work.remedy)
    return Result(work.name, Outcome.MORE)


def _exit_code(results: Sequence[Result]) -> ExitCode:
    """The worst answer: what needs a person first, then what needs another run."""
    outcomes = {result.outcome for result in results}
    if outcomes & {Outcome.FAILED, Outcome.STUCK}:
        return ExitCode.ERROR
    if any(result.stopped for result in results):
        return ExitCode.PAUSED
    if outcomes & {Outcome.MORE, Outcome.OUTRUN}:
        return ExitCode.WORK_REMAINS
    return ExitCode.GATE_SHUT if Outcome.BLOCKED in outcomes else ExitCode.DONE
