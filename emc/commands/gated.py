"""How does a phase run whose operations stand behind gates?

Each unit is planned and judged afresh, right before it runs: what ran before it may have made it possible, or taken
away what a gate asks about. Contract and undo go this way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Engine

from emc.commands.confirming import GateShutError, confirm
from emc.commands.guarding import Course, guarded, lift_unneeded, run_guarded, standing
from emc.commands.results import Blocked
from emc.commands.session import units
from emc.commands.stragglers import Stragglers, straggling
from emc.dialects import Dialect
from emc.errors import StatementFailedError, UnknownOperationError
from emc.gates import Scope, Verdict, gates_of, judge
from emc.operations import Operation
from emc.phases import Phase
from emc.planning import Plan, render
from emc.state.lease import LOCK_TIMEOUT, Lease
from emc.state.ledger import Entry, Event, record
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade

Chosen = Callable[[Step], bool]


def carry_out(
    course: Course,
    is_chosen: Chosen,
    admits: Callable[[], bool] = lambda: True,
    only: Collection[str] = (),
) -> tuple[list[str], dict[str, tuple[Verdict, ...]]]:
    """Run what is chosen and what the gates let pass.

    :param admits: whether the next unit may begin; asked before each, and waits while that is held up.
    :param only: the ids of all that can be chosen, where they are known: nobody looks for more once they were tried.
    :returns: the ids of what was done, and the gates that were found shut in the last moment, by the id of the step.
    """
    done: list[str] = []
    shut: dict[str, tuple[Verdict, ...]] = {}
    tried: set[str] = set()
    trusted: set[str] = set()

    def untried(step: Step) -> bool:
        return is_chosen(step) and step.id not in tried

    while True:
        ready = course.planned(partial(_next_unit, course, untried, trusted)) if admits() else None
        if ready is None:
            return done, shut
        unit, scope, is_guarded = ready
        tried |= {step.id for step in unit}
        verdicts = run_guarded(course, unit) if is_guarded else _run(course, scope, unit)
        if verdicts:
            shut |= {step.id: verdicts for step in unit}
        else:
            done += [step.id for step in unit if step.id not in done]
        if only and tried.issuperset(only):
            return done, shut


def clear(course: Course, is_chosen: Chosen) -> None:
    """Take away what an interrupted run left and that nothing which is about to run needs."""

    def look(connection: Connection, derived: Plan) -> list[Step]:
        left = leftovers(derived, course.dialect)
        if not (standing(derived.situation.live) or left):
            return []
        wanted = chosen(derived.steps(course.phase), is_chosen)
        passed, _ = sort(wanted, connection, course.scope(derived), course.overrides, tidies=course.tidies)
        steps = lift_unneeded(course, connection, derived, render(course.dialect, passed, derived.situation))
        return [*steps, *left]

    for step in course.planned(look):
        course.run([step])


def leftovers(derived: Plan, dialect: Dialect) -> Sequence[Step]:
    """How to take away what an interrupted run left, besides guards, and that the plan no longer needs."""
    return dialect.leftovers((*derived.expand, *derived.contract, *derived.undo), derived.situation.live)


def _next_unit(
    course: Course, is_chosen: Chosen, trusted: set[str], connection: Connection, derived: Plan
) -> tuple[tuple[Step, ...], Scope, bool] | None:
    """What to run next of what is *chosen*, and whether it needs guards; ``None`` when nothing is left that may run.

    :param trusted: the ids of steps whose gates have let pass. They are asked again when the step runs, and not each
        time that another one has: some look at every row. Those that let pass now are added.
    """
    scope = course.scope(derived)
    steps = chosen(derived.steps(course.phase), is_chosen)
    passed, _ = sort(steps, connection, scope, course.overrides, trusted, tidies=course.tidies)
    trusted |= {operation.id for operation in passed}
    for unit in units(render(course.dialect, passed, derived.situation)):
        return unit, scope, guarded(unit, connection, scope, course.overrides) is not None
    return None


def _run(course: Course, scope: Scope, unit: tuple[Step, ...]) -> tuple[Verdict, ...]:
    """Run a unit that needs no guard; answer which of its gates no longer let it pass."""
    stragglers = Stragglers(course, scope, unit)
    while unit:
        try:
            _attempt(course, scope, unit, stragglers)
        except GateShutError as error:
            stopped: GateShutError | StatementFailedError = error
            verdicts = error.verdicts  # a straggler wrote between the first look and the lock
        except StatementFailedError as error:
            if not stragglers.may_help(error):
                raise
            # One wrote right before the constraint, or the row in the way has gone again.
            stopped = error
            verdicts = course.dialect.ask(course.engine, partial(_shut, course, scope, unit))
            if not verdicts and not stragglers.again():
                stragglers.give_up(error)
                raise
        else:
            stragglers.done()
            return ()
        if verdicts and not stragglers.clean({verdict.gate for verdict in verdicts}):
            stragglers.give_up(stopped)
            _give_up(course, unit)
            return stragglers.told(verdicts)
        # With writers beside it was too slow; see emc.commands.stragglers.
        unit = tuple(
            replace(step, operation=replace(step.operation, at_once=stragglers.can_sweep)) for step in unit
        )
        unit = stragglers.alone(course.dialect.ask(course.engine, partial(course.again, unit=unit)))
    return ()


def _attempt(course: Course, scope: Scope, unit: tuple[Step, ...], stragglers: Stragglers) -> None:
    course.make_way(unit, scope)
    course.run(
        unit,
        confirm=lambda connection: confirm(
            connection,
            scope,
            unit,
            course.overrides,
            left_to_the_database=stragglers.left_to_the_database,
            sweep=stragglers.sweep,
        ),
        rerender=lambda connection: stragglers.alone(course.again(connection, unit)),
        spares=stragglers.may_help,
    )


def _give_up(course: Course, unit: Sequence[Step]) -> None:
    """Take away what *unit*, which its gates have stopped half-way, has left and what hinders writers."""

    def look(_: Connection, derived: Plan) -> Sequence[Step]:
        return course.dialect.given_up(unit, derived.situation.live)

    for step in course.planned(look):
        course.run([step])


def _shut(course: Course, scope: Scope, unit: Sequence[Step], connection: Connection) -> tuple[Verdict, ...]:
    """The gates of *unit* that do not let pass now."""
    every = (one for step in unit for one in judge(step.operation, connection, scope, course.overrides))
    return tuple(verdict for verdict in every if not verdict.lets_pass)


def open_again(
    steps: Iterable[Step], blocked: Sequence[Blocked], shut: Mapping[str, tuple[Verdict, ...]]
) -> Iterable[Blocked]:
    """The steps that were not run because of gates which the last look finds open again."""
    known = {one.step.id for one in blocked}
    return [Blocked(step, shut[step.id]) for step in steps if step.id in shut and step.id not in known]


def chosen(steps: Sequence[Step], is_chosen: Chosen) -> list[Step]:
    """Those of *steps* that are chosen, and what runs together with them or not at all."""
    marks = {step.operation.together for step in steps if is_chosen(step)} - {None}
    return [step for step in steps if is_chosen(step) or step.operation.together in marks]


def sort(
    steps: Iterable[Step],
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str],
    trusted: Collection[str] = (),
    *,
    tidies: bool = False,
) -> tuple[list[Operation], tuple[Blocked, ...]]:
    """The operations whose gates let pass, or are *trusted* to, and the steps whose gates do not.

    What runs together passes together: a step whose own gates are open is blocked by those of the others.

    :param tidies: whether stragglers are cleaned up before the operation runs, so that they need not keep it from it.
    """
    steps = list(steps)
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
        waits = {verdict.gate for verdict in shut}
        if shut and not (tidies and waits <= straggling(step, connection, scope, overrides).keys()):
            blocked.append(Blocked(step, shut))
        else:
            passed.append(step.operation)
    holding = {one.step.operation.together or "": one.verdicts for one in blocked}
    for step in steps:
        mark = step.operation.together
        if mark is not None and mark in holding and step.operation in passed:
            passed.remove(step.operation)
            blocked.append(Blocked(step, holding[mark]))
    return passed, tuple(sorted(blocked, key=lambda one: steps.index(one.step)))


def check_overrides(overrides: Mapping[str, str], steps: Iterable[Step]) -> None:
    """Make sure that every override names a gate and gives a reason.

    :raises UnknownOperationError: one does not.
    """
    known = sorted({gate.name for step in steps for gate in gates_of(step.operation)})
    for name, reason in overrides.items():
        if name not in known:
            raise UnknownOperationError(
                f"The plan holds no gate called {name!r}.",
                known=known,
                remedy="It holds: " + (", ".join(known) or "none, since nothing is left to do") + ".",
            )
        if not reason.strip():
            raise UnknownOperationError(
                f"The override of gate {name} gives no reason.", remedy='--reason "who decided it, and why"'
            )


def note_words(
    engine: Engine,
    dialect: Dialect,
    lease: Lease,
    upgrade: Upgrade,
    phase: Phase,
    gone: Event | None,
    overrides: Mapping[str, str],
) -> None:
    """Keep in the ledger what a person answers for, before anything relies on it.

    :param gone: the word that a release no longer runs, where it was given.
    """
    with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
        lease.confirm(connection)

        def note(event: Event, **details: str) -> None:
            record(
                connection,
                Entry(
                    event=event,
                    release=upgrade.release,
                    phase=phase,
                    details=details,
                    server=dialect.server_version(connection),
                    runner=str(lease.runner),
                ),
            )

        if gone is not None:
            note(gone, word=f"--{gone}")
        for gate, reason in overrides.items():
            note(Event.OVERRIDDEN, gate=gate, reason=reason)
