"""Run the contract phase: each operation behind its own gates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Engine

from emc.commands.confirming import GateShutError, confirm, with_gone
from emc.commands.expanding import again
from emc.commands.guarding import Course, guarded, lift_unneeded, run_guarded, standing
from emc.commands.plainly import plainly
from emc.commands.results import Blocked, PhaseReport
from emc.commands.session import (
    Report,
    check_names,
    demand_privileges,
    demand_sessions,
    nobody,
    planned,
    reach,
    units,
)
from emc.dialects import Dialect
from emc.errors import UnknownOperationError
from emc.execute import RetryPolicy
from emc.gates import Scope, Verdict, gates_of, judge, watch
from emc.operations import Operation
from emc.phases import Phase
from emc.planning import Plan, render
from emc.state.lease import LOCK_TIMEOUT, Lease, acquire
from emc.state.ledger import Entry, Event, record
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade


@plainly
def contract(
    upgrade: Upgrade,
    engine: Engine,
    *,
    old_code_gone: bool = False,
    overrides: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    soak: dt.timedelta | None = None,
    dry_run: bool = False,
    report: Report = nobody,
    retry: RetryPolicy | None = None,
) -> PhaseReport:
    """Run the contract phase: every operation whose gates are open, and none other.

    :param old_code_gone: the operator's word that no process of the old release runs any more; kept in the ledger.
    :param overrides: reasons by the full name of a gate; a shut gate with a reason lets pass, and the ledger keeps it.
    :param only: ids of the steps to run; empty: all.
    :param soak: replaces the soak that declarations ask for.
    :param dry_run: judge the gates, and run nothing.
    :param report: hears what happens to each step.
    :param retry: how patiently to ask for locks.
    :returns: what was done, and which steps are blocked by which gates.
    :raises UnknownOperationError: *only* or *overrides* names something that the plan does not hold.
    :raises EmcError: as :func:`emc.expand`.
    """
    overrides = dict(overrides or {})
    dialect = reach(engine)

    def scope_of(plan: Plan) -> Scope:
        return Scope(plan, dialect, old_code_gone, soak)

    def is_chosen(step: Step) -> bool:
        return not only or step.id in only

    def look(connection: Connection, derived: Plan) -> tuple[PhaseReport, bool]:
        check_names(only, derived.names)
        _check_overrides(overrides, derived)
        steps = tuple(step for step in derived.contract if is_chosen(step))
        passed, blocked = _sort(steps, connection, scope_of(derived), overrides)
        left = standing(derived.situation.live) or _leftovers(derived, dialect)
        if (passed or left) and not dry_run:
            demand_privileges(dialect, connection, render(dialect, passed, derived.situation))
        may_write = bool(passed or left or (steps and old_code_gone))
        return PhaseReport(Phase.CONTRACT, steps, blocked=blocked, dry_run=dry_run), may_write

    foreseen, may_write = planned(upgrade, engine, dialect, look)
    if dry_run or not may_write:
        # Nothing would be written but the lease; explain without leaving a trace.
        return foreseen
    demand_sessions(engine, dialect)
    with acquire(engine, dialect, command="emc contract") as lease:
        _note_words(engine, dialect, lease, upgrade, old_code_gone, overrides)
        course = Course(
            engine,
            dialect,
            upgrade,
            lease,
            overrides,
            scope_of,
            retry or RetryPolicy(),
            report,
        )
        _clear(course, is_chosen)
        done: list[str] = []
        shut: dict[str, tuple[Verdict, ...]] = {}
        tried: set[str] = set()
        trusted: set[str] = set()

        def untried(step: Step) -> bool:
            return is_chosen(step) and step.id not in tried

        while True:
            # Each unit is planned and judged afresh: what ran before it may have made it possible (a foreign key needs
            # its unique key), or taken away what a data migration, and so a gate, asks about.
            ready = planned(upgrade, engine, dialect, partial(_next_unit, course, untried, trusted))
            if ready is None:
                break
            unit, scope, is_guarded = ready
            tried |= {step.id for step in unit}
            verdicts = run_guarded(course, unit) if is_guarded else _run(course, scope, unit)
            if verdicts:
                shut |= {step.id: verdicts for step in unit}
            else:
                done += [step.id for step in unit if step.id not in done]

        def look_back(connection: Connection, derived: Plan) -> tuple[Plan, tuple[Blocked, ...]]:
            steps = [step for step in derived.contract if is_chosen(step)]
            return derived, _sort(steps, connection, scope_of(derived), overrides)[1]

        derived, blocked = planned(upgrade, engine, dialect, look_back)
        # After the last look: what is noted down here opens gates for the next run, not for this one.
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            watch([step.operation for step in derived.contract], connection, scope_of(derived))
        pieces = [one for ids in course.gone.values() for one in ids]
        still = (*blocked, *_open_again(derived, blocked, shut))
        told = tuple(
            replace(one, verdicts=with_gone(one.verdicts, course.gone[one.step.id])) for one in still
        )
        return PhaseReport(Phase.CONTRACT, foreseen.steps, (*pieces, *done), told)


def _clear(course: Course, is_chosen: Callable[[Step], bool]) -> None:
    """Take away what an interrupted run left and that nothing which is about to run needs."""

    def look(connection: Connection, derived: Plan) -> list[Step]:
        leftovers = _leftovers(derived, course.dialect)
        if not (standing(derived.situation.live) or leftovers):
            return []
        chosen = [step for step in derived.contract if is_chosen(step)]
        passed, _ = _sort(chosen, connection, course.scope(derived), course.overrides)
        steps = lift_unneeded(course, connection, derived, render(course.dialect, passed, derived.situation))
        return [*steps, *leftovers]

    for step in planned(course.upgrade, course.engine, course.dialect, look):
        course.run([step])


def _leftovers(derived: Plan, dialect: Dialect) -> Sequence[Step]:
    """How to take away what an interrupted run left, besides guards, and that the plan no longer needs."""
    return dialect.leftovers((*derived.expand, *derived.contract), derived.situation.live)


def _next_unit(
    course: Course,
    chosen: Callable[[Step], bool],
    trusted: set[str],
    connection: Connection,
    derived: Plan,
) -> tuple[tuple[Step, ...], Scope, bool] | None:
    """What to run next of what is *chosen*, and whether it needs guards; ``None`` when nothing is left that may run.

    :param trusted: the ids of steps whose gates have let pass. They are asked again when the step runs, and not each
        time that another one has: some look at every row. Those that let pass now are added.
    """
    scope = course.scope(derived)
    steps = [step for step in derived.contract if chosen(step)]
    passed, _ = _sort(steps, connection, scope, course.overrides, trusted)
    trusted |= {operation.id for operation in passed}
    for unit in units(render(course.dialect, passed, derived.situation)):
        return unit, scope, guarded(unit, connection, scope, course.overrides) is not None
    return None


def _run(course: Course, scope: Scope, unit: tuple[Step, ...]) -> tuple[Verdict, ...]:
    """Run a unit that needs no guard; answer which of its gates no longer let it pass."""
    try:
        course.make_way(unit, scope)
        course.run(
            unit,
            confirm=lambda connection: confirm(connection, scope, unit, course.overrides),
            rerender=lambda connection: again(course.upgrade, course.dialect, connection, unit),
        )
    except GateShutError as error:
        return error.verdicts  # a straggler wrote between the first look and the lock
    return ()


def _open_again(
    derived: Plan, blocked: Sequence[Blocked], shut: Mapping[str, tuple[Verdict, ...]]
) -> Iterable[Blocked]:
    """The steps that were not run because of gates which the last look finds open again."""
    known = {one.step.id for one in blocked}
    return [
        Blocked(step, shut[step.id]) for step in derived.contract if step.id in shut and step.id not in known
    ]


def _sort(
    steps: Iterable[Step],
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str],
    trusted: Collection[str] = (),
) -> tuple[list[Operation], tuple[Blocked, ...]]:
    """The operations whose gates let pass, or are *trusted* to, and the steps whose gates do not."""
    passed: list[Operation] = []
    blocked: list[Blocked] = []
    for step in steps:
        if step.id in trusted:
            passed.append(step.operation)
            continue
        shut = tuple(
            verdict
            for verdict in judge(step.operation, connection, scope, overrides)
            if not verdict.lets_pass
        )
        if shut:
            blocked.append(Blocked(step, shut))
        else:
            passed.append(step.operation)
    return passed, tuple(blocked)


def _check_overrides(overrides: Mapping[str, str], derived: Plan) -> None:
    known = sorted({gate.name for step in derived.contract for gate in gates_of(step.operation)})
    for name, reason in overrides.items():
        if name not in known:
            raise UnknownOperationError(
                f"The plan holds no gate called {name!r}.",
                known=known,
                remedy="It holds: " + (", ".join(known) or "none, since nothing is to be contracted") + ".",
            )
        if not reason.strip():
            raise UnknownOperationError(
                f"The override of gate {name} gives no reason.", remedy='--reason "who decided it, and why"'
            )


def _note_words(
    engine: Engine,
    dialect: Dialect,
    lease: Lease,
    upgrade: Upgrade,
    old_code_gone: bool,
    overrides: Mapping[str, str],
) -> None:
    """Keep in the ledger what a person answers for, before anything relies on it."""
    with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
        lease.confirm(connection)

        def note(event: Event, **details: str) -> None:
            record(
                connection,
                Entry(
                    event=event,
                    release=upgrade.release,
                    phase=Phase.CONTRACT,
                    details=details,
                    server=dialect.server_version(connection),
                    runner=str(lease.runner),
                ),
            )

        if old_code_gone:
            note(Event.OLD_CODE_GONE, word="--old-code-gone")
        for gate, reason in overrides.items():
            note(Event.OVERRIDDEN, gate=gate, reason=reason)
