"""Take an upgrade back, as long as nothing was contracted.

What the new release has written flows back first, by the ways back of the data migrations; then each operation of
expand is taken back behind its own gates. The release before lives with whatever of it stays, so a part of it may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Engine

from emc.commands.confirming import with_gone
from emc.commands.controlling import UNDO as HEEDING
from emc.commands.gated import carry_out, check_overrides, clear, leftovers, note_words, open_again, sort
from emc.commands.guarding import Course, standing
from emc.commands.plainly import plainly
from emc.commands.results import Blocked, UndoReport
from emc.commands.session import Report, demand_privileges, demand_sessions, nobody, planned, reach
from emc.data import BatchPolicy, Notice, Outcome, ProgressEvent, Result, run_all
from emc.data.traffic import Traffic
from emc.dialects import Dialect
from emc.execute import RetryPolicy
from emc.gates import Scope, Verdict
from emc.gates.people import FIRST_OPEN
from emc.phases import Phase
from emc.planning import Plan
from emc.planning.back import derive_back
from emc.state.failures import clear_failures
from emc.state.lease import LOCK_TIMEOUT, acquire
from emc.state.ledger import Entry, Event, expanded, record
from emc.state.observations import forget_those
from emc.state.progress import forget
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade
from emc.work.values import UNDO


@plainly
def undo(
    upgrade: Upgrade,
    engine: Engine,
    *,
    new_code_gone: bool = False,
    overrides: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    report: Report = nobody,
    progress: Callable[[ProgressEvent], None] = nobody,
    notice: Callable[[Notice], None] = nobody,
    batch: BatchPolicy | None = None,
    retry: RetryPolicy | None = None,
) -> UndoReport:
    """Take back what expand did for the release of *upgrade*. Running it again goes on where it ended.

    :param new_code_gone: the operator's word that no process of the new release runs any more; kept in the ledger.
    :param overrides: reasons by the full name of a gate; a shut gate with a reason lets pass, and the ledger keeps it.
    :param keep: ids of operations of expand that stay as they are, e.g. ``"alter-type:users.name"``.
    :param dry_run: judge the gates, and run nothing.
    :param stop: asked between batches of data, and between steps; when it answers true, the run ends with what is under
        way done.
    :param report: hears what happens to each step.
    :param progress: hears of every batch of data.
    :param notice: hears when the run is paused, by whom, and when it goes on.
    :param batch: sizes and pauses of batches.
    :param retry: how patiently to ask for locks.
    :returns: what was done, which steps are blocked by which gates, and what stays.
    :raises CannotUndoError: contract has begun, or there is no way back for some of it; nothing was changed.
    :raises UnknownOperationError: *keep* or *overrides* names something that is not there.
    :raises EmcError: as :func:`emc.expand`.
    """
    overrides = dict(overrides or {})
    dialect = reach(engine)

    def derive(connection: Connection, upgrade: Upgrade, dialect: Dialect) -> Plan:
        return derive_back(connection, upgrade, dialect, keep)

    def scope_of(plan: Plan) -> Scope:
        return Scope(plan, dialect, new_code_gone=new_code_gone, command=UNDO)

    def look(connection: Connection, derived: Plan) -> tuple[UndoReport, bool]:
        check_overrides(overrides, derived.undo)
        _, blocked = sort(derived.undo, connection, scope_of(derived), overrides)
        left = standing(derived.situation.live) or leftovers(derived, dialect)
        unmarked = bool(expanded(connection, upgrade.release).keys() - set(keep))
        may_write = new_code_gone and bool(derived.undo or left or unmarked)
        if may_write and not dry_run:
            demand_privileges(dialect, connection, derived.undo)
        back = tuple(work.name for work in derived.work_back)
        found = UndoReport(
            Phase.UNDO, derived.undo, blocked=blocked, dry_run=dry_run, back=back, stays=derived.notes
        )
        return found, may_write

    foreseen, may_write = planned(upgrade, engine, dialect, look, derive)
    if dry_run or not may_write:
        return foreseen
    demand_sessions(engine, dialect)
    with acquire(engine, dialect, command=HEEDING) as lease:
        note_words(engine, dialect, lease, upgrade, Phase.UNDO, Event.NEW_CODE_GONE, overrides)
        course = Course(
            engine,
            dialect,
            upgrade,
            lease,
            overrides,
            scope_of,
            retry or RetryPolicy(),
            report,
            phase=Phase.UNDO,
            derive=derive,
        )
        results = _bring_back(course, stop, progress, notice, batch)
        if any(result.outcome is Outcome.PAUSED for result in results):
            return replace(foreseen, results=results)
        clear(course, _every)
        traffic = Traffic(engine, dialect, lease, course.retry, stop=stop, tell=notice)
        done, shut = carry_out(course, _every, traffic.admits)
        pieces = [one for ids in course.gone.values() for one in ids]
        if traffic.ended is not None:
            return replace(
                foreseen, done=(*pieces, *done), blocked=(), results=results, stopped=traffic.reason
            )
        blocked = course.planned(partial(_look_back, course, shut))
        if not blocked:
            _conclude(course, keep)
        return replace(foreseen, done=(*pieces, *done), blocked=blocked, results=results)


def _every(step: Step) -> bool:
    return True


def _bring_back(
    course: Course,
    stop: Callable[[], bool],
    progress: Callable[[ProgressEvent], None],
    notice: Callable[[Notice], None],
    batch: BatchPolicy | None,
) -> tuple[Result, ...]:
    """Let the data flow back that has a way back."""
    derived = course.planned(lambda _, derived: derived)
    if not derived.work_back:
        return ()
    results: tuple[Result, ...] = run_all(
        course.engine,
        course.dialect,
        list(derived.work_back),
        lease=course.lease,
        stop=stop,
        report=progress,
        notice=notice,
        batch=batch,
        upgrade_work=tuple(derived.work_back),
    )
    with _writing(course) as connection:
        for result in results:
            details = {
                "outcome": str(result.outcome),
                "rows_done": result.rows_done,
                "rows_left": result.rows_left,
            }
            _record(course, connection, Event.FINISHED, result.name, details)
    return results


def _look_back(
    course: Course, shut: Mapping[str, tuple[Verdict, ...]], connection: Connection, derived: Plan
) -> tuple[Blocked, ...]:
    scope = course.scope(derived)
    _, blocked = sort(derived.undo, connection, scope, course.overrides)
    still = (*blocked, *open_again(derived.undo, blocked, shut))
    return tuple(replace(one, verdicts=with_gone(one.verdicts, course.gone[one.step.id])) for one in still)


def _conclude(course: Course, keep: Sequence[str]) -> None:
    """Forget how far the upgrade was: should it come again, it begins anew."""
    derived = course.planned(lambda _, derived: derived)
    with _writing(course) as connection:
        for name in derived.all_work:
            forget(connection, name)
            clear_failures(connection, name)
        forget_those(connection, FIRST_OPEN)
        _record(course, connection, Event.UNDONE, None, {"kept": list(keep)} if keep else {})


def _writing(course: Course) -> AbstractContextManager[Connection]:
    """A transaction of its own, as long as the lease is ours."""
    return course.dialect.open(course.engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT)


def _record(
    course: Course, connection: Connection, event: Event, operation: str | None, details: Mapping[str, object]
) -> None:
    course.lease.confirm(connection)
    entry = Entry(
        event=event,
        release=course.upgrade.release,
        phase=Phase.UNDO,
        operation=operation,
        details=details,
        server=course.dialect.server_version(connection),
        runner=str(course.lease.runner),
    )
    record(connection, entry)
