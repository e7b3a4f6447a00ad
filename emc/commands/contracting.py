"""Run the contract phase: each operation behind its own gates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine

from emc.commands.confirming import with_gone
from emc.commands.gated import (
    carry_out,
    check_overrides,
    chosen,
    clear,
    leftovers,
    note_words,
    open_again,
    sort,
)
from emc.commands.guarding import Course, standing
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
)
from emc.commands.stragglers import foreseen
from emc.execute import RetryPolicy
from emc.gates import Scope, Verdict, watch
from emc.phases import Phase
from emc.planning import Plan, render
from emc.state.lease import LOCK_TIMEOUT, acquire
from emc.state.ledger import Event
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
        check_overrides(overrides, derived.contract)
        steps = tuple(chosen(derived.contract, is_chosen))
        scope = scope_of(derived)
        passed, blocked = sort(steps, connection, scope, overrides, tidies=True)
        left = standing(derived.situation.live) or leftovers(derived, dialect)
        if (passed or left) and not dry_run:
            demand_privileges(dialect, connection, render(dialect, passed, derived.situation))
        may_write = bool(passed or left or (steps and old_code_gone))
        shut = {one.step.id for one in blocked}
        running = [step for step in steps if step.id not in shut]
        late = foreseen(running, connection, scope, overrides) if dry_run else ()
        return PhaseReport(Phase.CONTRACT, steps, blocked=blocked, dry_run=dry_run, cleaned=late), may_write

    first, may_write = planned(upgrade, engine, dialect, look)
    if dry_run or not may_write:
        # Nothing would be written but the lease; explain without leaving a trace.
        return first
    demand_sessions(engine, dialect)
    with acquire(engine, dialect, command="emc contract") as lease:
        word = Event.OLD_CODE_GONE if old_code_gone else None
        note_words(engine, dialect, lease, upgrade, Phase.CONTRACT, word, overrides)
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
        clear(course, is_chosen)
        # A foreign key needs its unique key, and a gate may ask about what an operation takes away.
        done, shut = carry_out(course, is_chosen)

        def look_back(connection: Connection, derived: Plan) -> tuple[Plan, tuple[Blocked, ...]]:
            steps = chosen(derived.contract, is_chosen)
            return derived, sort(steps, connection, scope_of(derived), overrides)[1]

        derived, blocked = planned(upgrade, engine, dialect, look_back)
        # After the last look: what is noted down here opens gates for the next run, not for this one.
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            watch([step.operation for step in derived.contract], connection, scope_of(derived))
        pieces = [one for ids in course.gone.values() for one in ids]
        still = (*blocked, *open_again(derived.contract, blocked, shut))
        told = tuple(
            replace(one, verdicts=with_gone(_as_seen(one, shut), course.gone[one.step.id])) for one in still
        )
        return PhaseReport(Phase.CONTRACT, first.steps, (*pieces, *done), told, cleaned=tuple(course.cleaned))


def _as_seen(blocked: Blocked, shut: Mapping[str, tuple[Verdict, ...]]) -> tuple[Verdict, ...]:
    """The gates that are shut, in the words of when the step was tried, which know what has been tried."""
    then = {verdict.gate: verdict for verdict in shut.get(blocked.step.id, ())}
    return tuple(then.get(verdict.gate, verdict) for verdict in blocked.verdicts)
