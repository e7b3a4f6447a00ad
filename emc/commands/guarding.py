"""How does an operation get through whose gates rest on rows, where no transaction spans proof and drop?

Guard, prove, drop. Whatever comes of it, the guard is taken away: one that is left behind refuses every write to a row
that is in the way, of unrelated columns too.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.claims import Claim, Guard, Guarding, Proof
from emc.commands.confirming import GateShutError, confirm, fallen, unguarded
from emc.commands.session import Derive, planned, units
from emc.commands.stragglers import Stragglers
from emc.data import Result
from emc.dialects import Dialect
from emc.errors import (
    DatabaseUnavailableError,
    EmcError,
    LeaseLostError,
    LockBudgetError,
    StatementFailedError,
)
from emc.execute import RetryPolicy, StepEvent, run_unit
from emc.execute.proving import prove
from emc.execute.unit import StartOverError
from emc.gates import Scope, Verdict, claims
from emc.names import TableKey
from emc.phases import Phase
from emc.planning import Plan, derive, render
from emc.schema import LiveSchema
from emc.state.lease import Lease
from emc.steps import Step
from emc.upgrade import Upgrade

_T = TypeVar("_T")

_ROUNDS = 5
"""How often the way begins anew after the connection was lost between the end of the guard and that of the drop."""
_HASTE_ATTEMPTS, _HASTE_BUDGET = 8, 20.0
"""How patiently a guard is taken away on the way out of a failure; attempts and seconds."""


@dataclass(frozen=True, eq=False)
class Course:
    """What every unit of one run of contract, or of undo, shares."""

    engine: Engine
    dialect: Dialect
    upgrade: Upgrade
    lease: Lease
    overrides: Mapping[str, str]
    scope: Callable[[Plan], Scope]
    retry: RetryPolicy
    report: Callable[[StepEvent], None]
    gone: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    """The ids of what went before its operation, by that of the operation."""
    cleaned: list[Result] = dataclasses.field(default_factory=list)
    """The clean-ups on the way."""
    phase: Phase = Phase.CONTRACT

    derive: Derive = derive

    @property
    def tidies(self) -> bool:
        """Whether rows that declarations name are cleaned up on the way to a constraint; undo does not go there."""
        return self.phase is Phase.CONTRACT

    def planned(self, look: Callable[[Connection, Plan], _T]) -> _T:
        """What *look* sees in the plan as of now."""
        return planned(self.upgrade, self.engine, self.dialect, look, self.derive)

    def again(self, connection: Connection, unit: Sequence[Step]) -> tuple[Step, ...]:
        """The steps of *unit* as they look now, after some of their statements may have run."""
        derived = self.derive(connection, self.upgrade, self.dialect)
        wanted = {step.id for step in unit}
        operations = [step.operation for step in derived.steps(self.phase) if step.id in wanted]
        if any(step.operation.at_once for step in unit):
            operations = [dataclasses.replace(one, at_once=True) for one in operations]
        return render(self.dialect, operations, derived.situation)

    def run(
        self,
        steps: Sequence[Step],
        *,
        confirm: Callable[[Connection], Mapping[str, Any]] | None = None,
        rerender: Callable[[Connection], Sequence[Step]] | None = None,
        retry: RetryPolicy | None = None,
        spares: Callable[[EmcError], bool] = lambda _: False,
    ) -> None:
        """Carry out *steps*, which share a unit; see :func:`emc.execute.run_unit`."""
        run_unit(
            self.engine,
            self.dialect,
            steps,
            lease=self.lease,
            release=self.upgrade.release,
            phase=self.phase,
            confirm=confirm,
            rerender=rerender,
            retry=retry or self.retry,
            report=self.report,
            spares=spares,
        )

    def make_way(
        self,
        unit: Sequence[Step],
        scope: Scope,
        guards: Sequence[Guard] = (),
        proofs: Sequence[Proof] = (),
    ) -> None:
        """Take away what goes before *unit*, each by itself, while its gates say yes.

        :raises GateShutError: a gate says no.
        """

        def ask(connection: Connection, piece: Step) -> Mapping[str, Any]:
            seen = confirm(connection, scope, unit, self.overrides, guards, proofs, apart=True)
            return {piece.id: {gate: facts for its in seen.values() for gate, facts in its.items()}}

        for step in unit:
            for piece in step.beforehand:
                self.run([piece], confirm=partial(ask, piece=piece))
                self.gone[step.id].append(piece.id)


@dataclass(frozen=True, eq=False)
class Guarded:
    """A unit whose claims need guards, as models and live schema ask for it at some moment."""

    scope: Scope
    claims: tuple[Claim, ...]
    guarding: Guarding


def guarded(
    steps: Sequence[Step], connection: Connection, scope: Scope, overrides: Mapping[str, str]
) -> Guarded | None:
    """How *steps*, which share a unit, are guarded; ``None`` where they can run as they are."""
    every = tuple(claim for step in steps for claim in claims(step.operation, connection, scope, overrides))
    if not every:
        return None
    return Guarded(scope, every, scope.dialect.guarding(steps, every, scope.plan.situation.live))


def run_guarded(course: Course, unit: Sequence[Step]) -> tuple[Verdict, ...]:
    """Guard, prove, drop.

    :returns: the gates that are shut in the end, so that nothing was done; none when *unit* was carried out.
    :raises EmcError: as :func:`emc.execute.run_unit`.
    """
    ids = frozenset(step.id for step in unit)
    for _ in range(_ROUNDS):
        now = course.dialect.ask(course.engine, partial(_now, course, ids))
        if now is None:
            return ()
        try:
            verdicts = _round(course, ids, now)
        except StartOverError:
            continue
        except LeaseLostError:
            raise  # What stands is the successor's, who may rely on it.
        except BaseException as error:
            _lift_in_haste(course, now.guarding.guards, error)
            raise
        if verdicts:
            lift(course, now.guarding.guards)
        return verdicts
    raise DatabaseUnavailableError(
        f"The connection was lost {_ROUNDS} times in the middle of {', '.join(sorted(ids))}, which was not done.",
        remedy="Find out who ends the sessions of emc, then run the command again.",
    )


def _round(course: Course, ids: Collection[str], now: Guarded) -> tuple[Verdict, ...]:
    """Once from guard to drop."""
    guarding = now.guarding
    if guarding.put.statements:
        course.run([guarding.put], rerender=lambda connection: _put_again(course, ids, connection))
    _settle(course, guarding.put, sorted({g.key for g in guarding.guards}, key=lambda key: key.sort_key))
    names = [guard.name for guard in guarding.guards]
    proofs = prove(course.engine, course.dialect, now.claims, names, course.retry)
    stragglers = Stragglers(course, now.scope, guarding.drop)
    # What came before the guard; nothing comes behind it.
    while (found := {proof.claim.gate for proof in proofs if proof.rows}) and stragglers.clean(
        found, "goes on"
    ):
        proofs = prove(course.engine, course.dialect, now.claims, names, course.retry)
    try:
        course.make_way(guarding.drop, now.scope, guarding.guards, proofs)
        course.run(
            guarding.drop,
            confirm=lambda connection: confirm(
                connection, now.scope, guarding.drop, course.overrides, guarding.guards, proofs
            ),
            rerender=lambda connection: _drop_again(course, ids, guarding, connection),
        )
    except GateShutError as error:
        return stragglers.told(error.verdicts)
    except StatementFailedError as error:
        if error.statement not in guarding.confirming:
            raise
        gone = course.dialect.ask(
            course.engine, lambda connection: fallen(connection, now.scope, guarding.guards)
        )
        if not gone:
            raise
        return tuple(unguarded(gone, proofs, now.scope))
    return ()


def _now(course: Course, ids: Collection[str], connection: Connection) -> Guarded | None:
    """The unit of the steps *ids* as it looks now; ``None`` when nothing is left of it."""
    plan = course.derive(connection, course.upgrade, course.dialect)
    operations = [step.operation for step in plan.steps(course.phase) if step.id in ids]
    if not operations:
        return None
    steps = render(course.dialect, operations, plan.situation)
    return guarded(steps, connection, course.scope(plan), course.overrides)


def _put_again(course: Course, ids: Collection[str], connection: Connection) -> Sequence[Step]:
    now = _now(course, ids, connection)
    return [now.guarding.put] if now is not None and now.guarding.put.statements else []


def _drop_again(
    course: Course, ids: Collection[str], before: Guarding, connection: Connection
) -> Sequence[Step]:
    """The same statements, as long as the guard stands that the proof rests on.

    :raises StartOverError: it does not: the connection was lost when it was gone and the operation not done.
    """
    now = _now(course, ids, connection)
    if now is None:
        return []
    if now.guarding.guards != before.guards or fallen(connection, now.scope, before.guards):
        raise StartOverError
    return now.guarding.drop


def _settle(course: Course, step: Step, keys: Sequence[TableKey]) -> None:
    """Wait until no transaction is left for which the guard has not waited.

    :raises LockBudgetError: one is left when the budget is spent.
    """
    retry, began, attempt = course.retry, course.retry.clock(), 0
    while tables := course.dialect.in_doubt(course.engine, keys):
        attempt += 1
        pause = retry.pause(attempt)
        if attempt >= retry.attempts or retry.clock() - began + pause > retry.budget:
            raise LockBudgetError(
                f"{step.operation.description} ({step.id}): a prepared transaction that no session holds any more may "
                f"still write to {', '.join(sorted(tables))}.",
                step=step.id,
                attempts=attempt,
                remedy="XA RECOVER lists such transactions; commit them or roll them back, then run the command again.",
            )
        retry.sleep(pause)


# -- taking guards away -------------------------------------------------------------------------------------------


def standing(live: LiveSchema) -> tuple[tuple[TableKey, str], ...]:
    """The guards in place, by table and name."""
    return tuple(
        (key, name)
        for key, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key)
        for name in sorted(table.guards)
    )


def lift_unneeded(course: Course, connection: Connection, plan: Plan, passed: Iterable[Step]) -> list[Step]:
    """How to take away the guards that an interrupted run left and that none of the steps *passed* needs now."""
    live = plan.situation.live
    scope = course.scope(plan)
    needed: set[tuple[TableKey, str]] = set()
    for unit in units(passed):
        now = guarded(unit, connection, scope, course.overrides)
        if now is not None:
            needed |= {(guard.key, guard.name) for guard in now.guarding.guards}
    return _lifting(course.dialect, live, [one for one in standing(live) if one not in needed])


def lift(course: Course, guards: Sequence[Guard], retry: RetryPolicy | None = None) -> None:
    """Take away those of *guards* that stand."""
    ours = {(guard.key, guard.name) for guard in guards}
    schemas = sorted({guard.key.schema for guard in guards}, key=lambda schema: schema or "")
    live = course.dialect.ask(course.engine, lambda connection: course.dialect.read(connection, schemas))
    for step in _lifting(course.dialect, live, [one for one in standing(live) if one in ours]):
        course.run([step], retry=retry)


def _lifting(dialect: Dialect, live: LiveSchema, guards: Iterable[tuple[TableKey, str]]) -> list[Step]:
    by_table: dict[TableKey, list[str]] = defaultdict(list)
    for key, name in guards:
        by_table[key].append(name)
    return [dialect.lift(key, names, live) for key, names in by_table.items()]


def _lift_in_haste(course: Course, guards: Sequence[Guard], error: BaseException) -> None:
    """As :func:`lift`, on the way out: what stays is said, and the next run of contract takes it away."""
    try:
        haste = dataclasses.replace(course.retry, attempts=_HASTE_ATTEMPTS, budget=_HASTE_BUDGET)
        lift(course, guards, haste)
    except (EmcError, DBAPIError) as problem:
        names = ", ".join(guard.name for guard in guards)
        error.add_note(
            f"Guard {names} may be in place still and refuse writes; the next emc contract takes it away: {problem}"
        )
