"""Run the migrate phase: data moves in small batches, while everybody else goes on working."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Engine

from emc.commands.controlling import MIGRATE
from emc.commands.plainly import plainly
from emc.commands.results import MigrateReport
from emc.commands.session import check_names, nobody, planned, reach
from emc.data import (
    BatchPolicy,
    Notice,
    Outcome,
    ProgressEvent,
    Result,
    ThrottlePolicy,
    Throttles,
    run_all,
)
from emc.errors import ExitCode
from emc.phases import Phase
from emc.planning import Plan
from emc.state.lease import LOCK_TIMEOUT, Lease, acquire
from emc.state.ledger import Entry, Event, record
from emc.steps import LockPolicy, Transaction
from emc.upgrade import Upgrade
from emc.work import NotReady, Preview, Report, Work, anything_left, in_order, may_reopen, preview

_USUAL = ThrottlePolicy()
"""The limits that dialects know."""


_ROUNDS = 5
"""How often work is done again that deletes have reopened: tables that refer to each other in a circle may need it."""


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
    notice: Callable[[Notice], None] = nobody,
    batch: BatchPolicy | None = None,
    workers: int = 1,
    throttle: ThrottlePolicy | None = _USUAL,
) -> MigrateReport:
    """Run the migrate phase. Running it again goes on where it ended, and writes nothing when nothing is left.

    :param only: names of the data migrations to run; empty: all.
    :param max_count: stop after so many rows altogether.
    :param max_time: stop after so many seconds.
    :param dry_run: answer what would be run, with counts and samples of rows, and run nothing. Reads only: a role
        without any other privilege is enough.
    :param stop: asked between batches; when it answers true, the run ends with its batch committed.
    :param report: hears of every batch.
    :param notice: hears when the run is paused or throttled, why, and when it goes on.
    :param batch: sizes and pauses of batches.
    :param workers: how many batches may be under way at once; the engine's pool needs two connections more.
    :param throttle: what is too much for the database; ``None``: nothing is, whatever the upgrade declares.
    :raises UnknownOperationError: *only* names something that is not declared.
    :raises LeaseHeldError: another emc is at work on this database.
    :raises EmcError: whatever :func:`emc.plan` and :func:`emc.data.run` raise.
    """
    dialect = reach(engine)

    def look(connection: Connection, derived: Plan) -> tuple[Plan, dict[str, Preview]]:
        check_names(only, derived.all_work)
        found = _todo(derived, only) if dry_run else ()
        enforced = dialect.enforces_foreign_keys(connection)
        seen = (preview(connection, one, enforced=enforced) for one in found if isinstance(one, Work))
        return derived, {one.work: one for one in seen}

    derived, previews = planned(upgrade, engine, dialect, look)
    todo = _todo(derived, only)
    if dry_run:
        results = tuple(_untouched(one, previews.get(one.name)) for one in todo)
        return MigrateReport(results, ExitCode.DONE, dry_run=True, previews=previews)
    if not todo:
        return MigrateReport((), ExitCode.DONE)
    every = tuple(derived.all_work.values())
    began = time.monotonic()
    with acquire(engine, dialect, command=MIGRATE) as lease:

        def carry_out(todo: Sequence[Work | NotReady], done: int) -> tuple[Result, ...]:
            return run_all(
                engine,
                dialect,
                todo,
                lease=lease,
                max_count=None if max_count is None else max(0, max_count - done),
                max_time=None if max_time is None else max(0.0, max_time - (time.monotonic() - began)),
                stop=stop,
                report=report,
                notice=notice,
                batch=batch,
                workers=workers,
                throttles=None
                if throttle is None
                else Throttles(engine, dialect, throttle, upgrade.throttles),
                upgrade_work=every,
            )

        results = carry_out(todo, 0)
        for _ in range(_ROUNDS):
            candidates = reopened(results, () if only else every)
            left = [one for one in candidates if dialect.ask(engine, partial(anything_left, work=one))]
            if not left:
                break
            results = added(results, carry_out(left, sum(result.rows_done for result in results)))
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            for result in results:
                if result.outcome is not Outcome.BLOCKED:
                    record(connection, _entry(result, upgrade, dialect.server_version(connection), lease))
    return MigrateReport(results, _exit_code(results))


def reopened(results: Sequence[Result], every: Sequence[Work | NotReady]) -> list[Work]:
    """Which of *every* piece of work the deletes of a run may have given rows to clean up, though it was complete."""
    by_name = {work.name: work for work in every}
    done = {result.name: result for result in results}
    deleting = [by_name[name] for name, result in done.items() if result.rows_done and name in by_name]
    return [
        work
        for work in every
        if isinstance(work, Work)
        and (work.name not in done or done[work.name].outcome is Outcome.COMPLETE)
        and any(may_reopen(one, work) for one in deleting)
    ]


def added(results: Sequence[Result], later: Sequence[Result]) -> tuple[Result, ...]:
    """*results*, with those of *later* runs of the same work, or of other work behind them."""
    by_name = {result.name: result for result in results}
    for one in later:
        before = by_name.get(one.name)
        done = one.rows_done + (before.rows_done if before is not None else 0)
        by_name[one.name] = replace(one, rows_done=done)
    return tuple(by_name.values())


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


def _untouched(work: Work | NotReady, foreseen: Preview | None) -> Result:
    if isinstance(work, NotReady):
        return Result(work.name, Outcome.BLOCKED, reason=work.reason, remedy=work.remedy)
    outcome = Outcome.REPORTED if isinstance(work.action, Report) else Outcome.MORE
    return Result(work.name, outcome, rows_left=foreseen.rows if foreseen is not None else None)


def _exit_code(results: Sequence[Result]) -> ExitCode:
    """The worst answer: what needs a person first, then what needs another run."""
    outcomes = {result.outcome for result in results}
    if outcomes & {Outcome.FAILED, Outcome.STUCK}:
        return ExitCode.ERROR
    if Outcome.PAUSED in outcomes:
        return ExitCode.PAUSED
    if outcomes & {Outcome.MORE, Outcome.OUTRUN}:
        return ExitCode.WORK_REMAINS
    is_shut = outcomes & {Outcome.BLOCKED, Outcome.REPORTED}
    return ExitCode.GATE_SHUT if is_shut else ExitCode.DONE
