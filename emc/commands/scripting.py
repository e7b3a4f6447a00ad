"""How is a plan carried out without emc, by a script that a DBA runs, and that is stopped by the same gates?

What rows prove, the script looks at itself, behind the same guards and under the same locks. What only emc can tell
(when an index was used last, how long a gate has been open) is taken from the moment at which the script was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Select, literal, select
from sqlalchemy.exc import CompileError

from emc.changes.syncs import install_sync
from emc.claims import CannotGuardError, Claim
from emc.commands.guarding import guarded
from emc.commands.plainly import plainly
from emc.commands.results import PlanReport
from emc.commands.session import planned, reach, units
from emc.commands.sql import comment, heading, in_python, plan_sql, unmanaged_sql, work_sql
from emc.dialects.scripting import OLD_CODE_GONE, Scripting
from emc.execute import RetryPolicy
from emc.gates import Scope, gates_of, judge
from emc.gates.duplicates import NoConflicts, NoDuplicates
from emc.gates.people import ExpandDone, MigrateDone, OldCodeGone
from emc.gates.rows import CannotProveError, RowsGate
from emc.operations import Kind
from emc.phases import FORWARD, Phase
from emc.planning import Plan
from emc.steps import LockPolicy, Step, Transaction, shared_policy
from emc.sync import SyncOp
from emc.upgrade import Upgrade
from emc.work import NotReady, Work

_AGAIN = "Bring the database to where the script can go on, and make it anew: emc plan --sql"
_PROVE_THEMSELVES = frozenset(
    {
        Kind.SET_NOT_NULL,
        Kind.ADD_CHECK,
        Kind.ADD_FOREIGN_KEY,
        Kind.ADD_UNIQUE,
        Kind.ADD_EXCLUSION,
        Kind.CREATE_INDEX,
        Kind.REPLACE_INDEX,
        Kind.REPLACE_CONSTRAINT,
    }
)
"""Kinds of operations whose statements fail where a row is in the way."""


@plainly
def script(upgrade: Upgrade, engine: Engine, phases: Sequence[Phase] = FORWARD) -> str:
    """The plan as a SQL script; where the database's dialect knows how, one that proves what its gates ask for.

    Reads only.

    :param phases: those that it holds.
    :raises EmcError: as :func:`emc.plan`.
    """
    dialect = reach(engine)

    def write(connection: Connection, derived: Plan) -> str:
        scope = Scope(derived, dialect)
        verdicts = {step.id: judge(step.operation, connection, scope) for step in derived.contract}
        report = PlanReport(derived, verdicts)
        if dialect.scripting is None:
            return plan_sql(report, engine.dialect, phases)
        return "\n".join(_Script(report, scope, connection, dialect.scripting).lines(phases)) + "\n"

    return planned(upgrade, engine, dialect, write)


@dataclass
class _Script:
    """A script while it is written."""

    report: PlanReport
    scope: Scope
    connection: Connection
    words: Scripting
    settings: dict[str, None] = field(default_factory=dict)
    """The settings in force."""

    def lines(self, phases: Sequence[Phase]) -> Iterator[str]:
        """All of it."""
        plan = self.report.plan
        yield from heading(self.report)
        yield f"-- Run it with: {self.words.runs_with} FILE"
        yield "-- It stops at the first thing that is not as it was when it was made; then make it anew. Nothing is"
        yield "-- tried twice: where a lock is not to be had within a second, it stops too."
        yield from self.words.opening(self.connection.dialect.default_schema_name)
        if Phase.EXPAND in phases:
            yield from ["", "-- EXPAND: before the new code is deployed"]
            for unit in units(plan.expand):
                yield from self._unit(unit)
        if Phase.MIGRATE in phases:
            yield from [
                "",
                "-- MIGRATE: while old and new code run side by side; emc migrate does it in small batches",
            ]
            for work in plan.work:
                yield from self._work(work)
        if Phase.CONTRACT in phases:
            yield from ["", "-- CONTRACT: once the old release is gone, and the gates are open"]
            if plan.contract:
                yield from self._before_contract()
            for unit in units(plan.contract):
                yield from self._guarded_unit(unit)
        yield from unmanaged_sql(self.report)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _wait(self, transaction: Transaction, policy: LockPolicy) -> Iterator[str]:
        """The timeouts, where they change."""
        wanted = self.words.waiting(transaction, policy, RetryPolicy().lock_timeout_cap)
        for setting in wanted:
            if setting not in self.settings:
                name = setting.partition(" = ")[0]
                self.settings = {one: None for one in self.settings if one.partition(" = ")[0] != name}
                self.settings[setting] = None
                yield f"{setting};"

    def _work(self, work: Work | NotReady) -> Iterator[str]:
        yield ""
        yield from comment(f"{work.name}: {work.reason if isinstance(work, NotReady) else work.description}")
        statements = work_sql(work, self.words.render)
        if not statements:
            yield from in_python(work)
            return
        yield from self._wait(Transaction.TOGETHER, LockPolicy.WEAK)
        yield from (f"{one};" for one in statements)

    def _described(self, step: Step) -> Iterator[str]:
        yield ""
        yield from comment(f"{step.id}: {step.operation.description}")
        if step.operation.because:
            yield from comment(f"because {step.operation.because}")
        if step.hazards:
            yield from comment(f"hazards: {', '.join(step.hazards)}")
        for verdict in self.report.verdicts.get(step.id, ()):
            state = "open" if verdict.open else "SHUT"
            yield from comment(f"gate {verdict.gate} is {state}: {verdict.reason}")

    def _unit(self, unit: Sequence[Step], first: Sequence[str] = ()) -> Iterator[str]:
        """Steps that run together; within their transaction *first* goes first."""
        for step in unit:
            yield from self._described(step)
        yield from self._statements(unit, first)

    def _statements(self, unit: Sequence[Step], first: Sequence[str] = ()) -> Iterator[str]:
        sent = [
            (sql, policy) for step in unit for sql, policy in zip(step.statements, step.policies, strict=True)
        ]
        if not sent:
            return
        if unit[0].transaction is Transaction.TOGETHER:
            yield from self._wait(Transaction.TOGETHER, shared_policy({policy for _, policy in sent}))
            yield "BEGIN;"
            yield from (f"{one};" for one in first)
            yield from (f"{sql.rstrip().rstrip(';')};" for sql, _ in sent)
            yield "COMMIT;"
            return
        for sql, policy in sent:
            yield from self._wait(unit[0].transaction, policy)
            yield f"{sql.rstrip().rstrip(';')};"

    # -- contract -------------------------------------------------------------------------------------------------

    def _before_contract(self) -> Iterator[str]:
        """What every operation of contract asks for."""
        plan = self.report.plan
        yield from comment(
            "A person's word: take the two dashes away once no process of the old release is left."
        )
        yield f"-- SET {OLD_CODE_GONE} = 'who says so';"
        yield from self._wait(Transaction.AUTOCOMMIT, LockPolicy.WEAK)
        yield self._demand(
            self.words.said(OLD_CODE_GONE),
            "nobody has said that the old release is gone",
            f"SET {OLD_CODE_GONE} = 'who says so'; where the script says it",
        )
        for step in plan.expand:
            probe = step.postcondition
            yield self._demand(
                f"({probe.sql})", f"expand is not done: it is not so that {probe.expects}", _AGAIN
            )
        for work in plan.work:
            remedy = f"emc migrate --only {work.name}"
            if isinstance(work, NotReady):
                yield self._demand(
                    "false", f"the script cannot tell whether {work.name} is done: {work.reason}", _AGAIN
                )
            else:
                left = select(literal(1)).select_from(work.table).where(work.pending)
                yield self._demand(self._none(left), f"data migration {work.name} has rows left", remedy)

    def _guarded_unit(self, unit: Sequence[Step]) -> Iterator[str]:
        """Guard, prove, drop; or, where the drop may look at the rows itself, all in one transaction."""
        for step in unit:
            yield from self._described(step)
        claims: list[Claim] = []
        for step in unit:
            found, shut = self._asked(step)
            claims += found
            for one in shut:
                yield self._demand("false", f"gate {one} when this script was made", _AGAIN)
        try:
            now = guarded(unit, self.connection, self.scope, {})
        except CannotGuardError as error:
            # Often of a data migration that has nothing left once an operation above has run.
            reason = f"as things are, no guard could keep what the drop rests on: {error}"
            yield self._demand("false", f"{', '.join(step.id for step in unit)}: {reason}", _AGAIN)
            return
        kept = {_same(claim) for claim in now.claims} if now is not None else set()
        proofs = [self._proof(claim) for claim in claims if _same(claim) not in kept]
        if now is not None:
            if now.guarding.put.statements:
                yield from comment(f"guard: {now.guarding.put.operation.description}")
                yield from self._statements([now.guarding.put])
            what = "takes the guard away again, and ends" if now.guarding.lifting else "ends"
            yield from comment(f"proof: what is in the way {what} the script")
            yield from self._wait(Transaction.AUTOCOMMIT, LockPolicy.WEAK)
            lifting = now.guarding.lifting
            yield from (f"{self._proof(claim, lifting)};" for claim in now.claims)
        pieces = [piece for step in unit for piece in step.beforehand]
        if pieces and proofs:
            yield from self._wait(Transaction.AUTOCOMMIT, LockPolicy.WEAK)
            yield from (f"{proof};" for proof in proofs)
        for piece in pieces:
            yield from self._unit([piece])
        if now is None:
            proofs += self._kept(unit)
        tables = {step.operation.element.table for step in unit} | {claim.key for claim in claims}
        there = sorted(tables & self.scope.plan.situation.live.tables.keys(), key=lambda key: key.sort_key)
        steps = now.guarding.drop if now is not None else unit
        yield from self._statements(steps, [*([self.words.lock(there)] if there else []), *proofs])

    def _asked(self, step: Step) -> tuple[list[Claim], list[str]]:
        """What the script has to prove for *step*, and which gates keep it shut whatever the script finds."""
        claims: list[Claim] = []
        shut: list[str] = []
        verdicts = {verdict.gate: verdict for verdict in self.report.verdicts[step.id]}
        for gate in gates_of(step.operation):
            about_rows = isinstance(gate, RowsGate | NoDuplicates | NoConflicts)
            if about_rows and step.operation.kind in _PROVE_THEMSELVES:
                continue
            try:
                found = gate.claims(self.connection, self.scope)
            except CannotProveError:
                found = ()  # It is shut, and its verdict says why.
            claims += found
            verdict = verdicts.get(gate.name)
            asked_before = isinstance(gate, ExpandDone | MigrateDone | OldCodeGone)
            if not found and not asked_before and verdict is not None and not verdict.open:
                shut.append(f"{gate.name} was shut ({verdict.reason})")
        return claims, shut

    def _kept(self, unit: Sequence[Step]) -> Iterator[str]:
        """That what keeps columns in step stands as it should, right before it goes."""
        for step in unit:
            if isinstance(step.operation.directive, SyncOp) and step.operation.kind == Kind.DROP_SYNC:
                installed = install_sync(step.operation.directive.sync)
                (made,) = self.scope.dialect.steps([installed], self.scope.plan.situation.live)
                probe = made.postcondition
                message = (
                    f"gate sync-live:{step.operation.element} is shut: it is not so that {probe.expects}"
                )
                yield self.words.demand(f"({probe.sql})", message, "emc expand")

    # -- proofs ---------------------------------------------------------------------------------------------------

    def _demand(self, condition: str, message: str, remedy: str) -> str:
        return f"{self.words.demand(condition, message, remedy)};"

    def _proof(self, claim: Claim, otherwise: Sequence[str] = ()) -> str:
        message = f"gate {claim.gate} is shut: there are {claim.rows}"
        condition = self._none(select(literal(1)).select_from(claim.table).where(claim.in_the_way))
        return self.words.demand(
            condition, message, "emc plan   # says which, and what opens the gate", otherwise
        )

    def _none(self, rows: Select[Any]) -> str:
        """The condition that *rows* finds none; one that never holds where it cannot be written down."""
        try:
            return f"NOT EXISTS ({self.words.render(rows)})"
        except (CompileError, NotImplementedError):
            return "false /* the condition holds a value that cannot be written as a literal */"


def _same(claim: Claim) -> tuple[str, str, str]:
    return claim.gate, str(claim.key), str(claim.in_the_way)
