"""Run the expand phase: additive operations that the old release does not notice."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from emc.commands.plainly import plainly
from emc.commands.results import PhaseReport
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
from emc.execute import RetryPolicy, run_unit
from emc.gates import Scope, is_unwatched, watch
from emc.phases import Phase
from emc.planning import Plan, derive, render
from emc.state.lease import LOCK_TIMEOUT, acquire
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade


@plainly
def expand(
    upgrade: Upgrade,
    engine: Engine,
    *,
    only: Sequence[str] = (),
    dry_run: bool = False,
    report: Report = nobody,
    retry: RetryPolicy | None = None,
) -> PhaseReport:
    """Run the expand phase. Running it again when it is done writes nothing.

    :param only: ids of the steps to run; empty: all.
    :param dry_run: derive and answer the steps, and run none.
    :param report: hears what happens to each step.
    :param retry: how patiently to ask for locks.
    :raises UnknownOperationError: *only* names something that the plan does not hold.
    :raises PrivilegeError: a privilege is missing; nothing was changed.
    :raises LeaseHeldError: another emc is at work on this database.
    :raises LockBudgetError: a lock was not to be had; what was done so far is kept.
    :raises StatementFailedError: the database refused a statement; what was done so far is kept.
    :raises EmcError: whatever :func:`emc.plan` raises.
    """
    dialect = reach(engine, may_create=not dry_run)

    def look(connection: Connection, derived: Plan) -> tuple[tuple[Step, ...], bool]:
        check_names(only, derived.names)
        steps = _chosen(derived, dialect, only)
        retiring = [step.operation for step in derived.contract]
        idle = not steps and not is_unwatched(retiring, connection, Scope(derived, dialect))
        if not (dry_run or idle):
            demand_privileges(dialect, connection, steps)
        return steps, idle

    steps, idle = planned(upgrade, engine, dialect, look)
    if dry_run or idle:
        return PhaseReport(Phase.EXPAND, steps, dry_run=dry_run)
    demand_sessions(engine, dialect)
    with acquire(engine, dialect, command="emc expand") as lease:
        # Another runner may have been at work until a moment ago.
        derived = planned(upgrade, engine, dialect, lambda _, derived: derived)
        steps = _chosen(derived, dialect, only)
        done: list[str] = []
        for unit in units(steps):
            run_unit(
                engine,
                dialect,
                unit,
                lease=lease,
                release=upgrade.release,
                phase=Phase.EXPAND,
                confirm=None,
                rerender=lambda connection, unit=unit: again(upgrade, dialect, connection, unit),  # type: ignore[misc]
                retry=retry or RetryPolicy(),
                report=report,
            )
            done += [step.id for step in unit]
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            watch([step.operation for step in derived.contract], connection, Scope(derived, dialect))
        return PhaseReport(Phase.EXPAND, steps, tuple(done))


def _chosen(derived: Plan, dialect: Dialect, only: Sequence[str]) -> tuple[Step, ...]:
    """The steps that *only* names; all of them when it names none."""
    if not only:
        return derived.expand
    # As if nothing else were to do: a step may share its statement with others.
    operations = [step.operation for step in derived.expand if step.id in only]
    return render(dialect, operations, derived.situation)


def again(
    upgrade: Upgrade, dialect: Dialect, connection: Connection, unit: Sequence[Step]
) -> tuple[Step, ...]:
    """The steps of *unit* as they look now, after some of their statements may have run."""
    derived = derive(connection, upgrade, dialect)
    phase = unit[0].operation.phase
    wanted = {step.id for step in unit}
    operations = [step.operation for step in derived.steps(phase) if step.id in wanted]
    return tuple(dialect.steps(operations, derived.situation.live)) if operations else ()
