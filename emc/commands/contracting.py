"""Run the contract phase: each operation behind its own gates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from emc.commands.expanding import again
from emc.commands.plainly import plainly
from emc.commands.results import Blocked, PhaseReport
from emc.commands.session import Report, check_names, demand_privileges, nobody, planned, reach, units
from emc.dialects import Dialect
from emc.errors import EmcError, ExitCode, UnknownOperationError
from emc.execute import RetryPolicy, run_unit
from emc.gates import Scope, Verdict, gates_of, judge, watch
from emc.operations import Operation
from emc.phases import Phase
from emc.planning import Plan, render
from emc.state.lease import LOCK_TIMEOUT, Lease, acquire
from emc.state.ledger import Entry, Event, record
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade


class GateShutError(EmcError):
    """A gate that was open when the run began is shut at the moment of the operation, which was not run."""

    exit_code = ExitCode.GATE_SHUT

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        super().__init__("; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in verdicts))


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
    with planned(upgrade, engine, dialect) as (connection, derived):
        check_names(only, derived.names)
        _check_overrides(overrides, derived)
        scope = Scope(derived, dialect, old_code_gone, soak)
        passed, blocked = _sort(derived, connection, scope, overrides, only)
        steps = tuple(step for step in derived.contract if not only or step.id in only)
        if dry_run or not steps:
            return PhaseReport(Phase.CONTRACT, steps, blocked=blocked, dry_run=dry_run)
        demand_privileges(dialect, connection, render(dialect, passed, derived.situation))
    if not passed and not old_code_gone:
        # Nothing would be written but the lease; explain without leaving a trace.
        return PhaseReport(Phase.CONTRACT, steps, blocked=blocked)
    with acquire(engine, dialect, command="emc contract") as lease:
        _note_words(engine, dialect, lease, upgrade, old_code_gone, overrides)
        done: list[str] = []
        tried: set[str] = set()
        while True:
            # Each unit is planned and judged afresh: what ran before it may have made it possible (a foreign key needs
            # its unique key), or taken away what a data migration, and so a gate, asks about.
            with planned(upgrade, engine, dialect) as (connection, derived):
                scope = Scope(derived, dialect, old_code_gone, soak)
                passed, blocked = _sort(derived, connection, scope, overrides, only)
            ready = [
                unit
                for unit in units(render(dialect, passed, derived.situation))
                if not all(step.id in tried for step in unit)
            ]
            if not ready:
                break
            tried |= {step.id for step in ready[0]}
            if _run(engine, dialect, upgrade, lease, scope, ready[0], overrides, report, retry):
                done += [step.id for step in ready[0] if step.id not in done]
        with planned(upgrade, engine, dialect) as (connection, derived):
            scope = Scope(derived, dialect, old_code_gone, soak)
            _, blocked = _sort(derived, connection, scope, overrides, only)
        # After the last look: what is noted down here opens gates for the next run, not for this one.
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
            lease.confirm(connection)
            watch([step.operation for step in derived.contract], connection, scope)
        return PhaseReport(Phase.CONTRACT, steps, tuple(done), blocked)


def _run(
    engine: Engine,
    dialect: Dialect,
    upgrade: Upgrade,
    lease: Lease,
    scope: Scope,
    unit: tuple[Step, ...],
    overrides: Mapping[str, str],
    report: Report,
    retry: RetryPolicy | None,
) -> bool:
    """Run a unit; answer whether its gates still let it pass."""
    try:
        run_unit(
            engine,
            dialect,
            unit,
            lease=lease,
            release=upgrade.release,
            phase=Phase.CONTRACT,
            confirm=lambda connection: _confirm(connection, scope, unit, overrides),
            rerender=lambda connection: again(upgrade, dialect, connection, unit),
            retry=retry or RetryPolicy(),
            report=report,
        )
    except GateShutError:
        return False  # a straggler wrote between the first look and the lock; the last look says so
    return True


def _sort(
    derived: Plan,
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str],
    only: Sequence[str],
) -> tuple[list[Operation], tuple[Blocked, ...]]:
    """The operations whose gates let pass, and the steps whose gates do not."""
    passed: list[Operation] = []
    blocked: list[Blocked] = []
    for step in derived.contract:
        if only and step.id not in only:
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


def _confirm(
    connection: Connection, scope: Scope, unit: Sequence[Step], overrides: Mapping[str, str]
) -> Mapping[str, Any]:
    """Ask the gates once more, with everybody kept out; what they saw goes into the ledger."""
    if unit[0].transaction is not Transaction.AUTOCOMMIT:
        # A writer between the last look and the drop would lose its row. Statements that commit by themselves prove
        # what they need themselves (VALIDATE, a unique index).
        tables = {step.operation.element.table for step in unit}
        present = sorted(tables & scope.plan.situation.live.tables.keys(), key=lambda key: key.sort_key)
        scope.dialect.lock(connection, present)
    evidence: dict[str, Any] = {}
    for step in unit:
        verdicts = judge(step.operation, connection, scope, overrides)
        shut = [verdict for verdict in verdicts if not verdict.lets_pass]
        if shut:
            raise GateShutError(shut)
        evidence[step.id] = {verdict.gate: _evidence(verdict) for verdict in verdicts}
    return evidence


def _evidence(verdict: Verdict) -> dict[str, Any]:
    overridden = {} if verdict.overridden is None else {"overridden": verdict.overridden}
    return {"reason": verdict.reason, **verdict.evidence, **overridden}


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
