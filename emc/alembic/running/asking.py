"""How does a request of a revision reach emc's own commands, and what did the operator say with ``alembic -x``?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Select, inspect, literal_column, select, table

from emc.alembic.running import by_hand
from emc.alembic.running.errors import GatesShutError, RefusedStatementError
from emc.alembic.running.requests import Request
from emc.alembic.running.telling import tell
from emc.alembic.running.vanishing import vanished
from emc.commands import undo
from emc.commands.gated import check_overrides
from emc.commands.piecewise import Piecewise
from emc.commands.results import Blocked
from emc.commands.session import planned, reach
from emc.commands.telling import gate_lines
from emc.dialects import Dialect
from emc.dialects.lexis import Lexis
from emc.diff import look
from emc.errors import CannotUndoError
from emc.execute import RetryPolicy
from emc.gates import Scope, gates_of
from emc.operations import Operation
from emc.phases import Phase
from emc.planning import Plan, is_open
from emc.planning.back import derive_back
from emc.planning.building import letting_go
from emc.schema import LiveSchema
from emc.state.lease import LOCK_TIMEOUT
from emc.state.ledger import carried_out, expanded
from emc.steps import LockPolicy, Transaction
from emc.upgrade import Upgrade

_YES = frozenset({"true", "yes", "1"})


@dataclass(frozen=True)
class Operator:
    """What a person says with ``alembic -x``."""

    old_code_gone: bool = False
    new_code_gone: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Reasons by the full name of a gate."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Operator:
        """What *arguments*, ``KEY`` or ``KEY=VALUE``, say; those that emc does not know are somebody else's.

        :raises CommandError: an override without its reason, or a yes that is none.
        """
        for key in ("old-code-gone", "new-code-gone"):
            for one in arguments:
                name, says, value = one.partition("=")
                if name == key and says and value.strip().lower() not in _YES:
                    raise CommandError(
                        f"-x {one} is not clear. Say -x {key} once that release is gone, and leave it out until then."
                    )
        pairs = [(key, value) for key, _, value in (one.partition("=") for one in arguments)]
        gates = [value for key, value in pairs if key == "override"]
        reasons = [value for key, value in pairs if key == "reason" and value.strip()]
        if gates and len(reasons) not in (1, len(gates)):
            raise CommandError(
                f"{len(gates)} -x override and {len(reasons)} -x reason: give one reason for each, or one for all."
            )
        if gates and len(reasons) == 1:
            reasons *= len(gates)
        keys = {key for key, _ in pairs}
        told = dict(zip(gates, reasons, strict=True)) if gates else {}
        return cls("old-code-gone" in keys, "new-code-gone" in keys, told)


@dataclass(frozen=True)
class Begun:
    """A revision that runs."""

    revision: str
    phase: Phase
    live: LiveSchema
    """What was there when it began."""


class Carrier:
    """Carries requests out on one database.

    :param engine: for emc's own sessions; that of Alembic's connection.
    :param default_schema: the schema that goes without saying there.
    """

    def __init__(
        self,
        upgrade: Upgrade,
        engine: Engine,
        operator: Operator,
        default_schema: str | None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.upgrade = upgrade
        self.engine = engine
        self.operator = operator
        self.default_schema = default_schema
        self.retry = retry or RetryPolicy()
        self.is_new = False
        """Whether the database was empty when the command began, so that it is this command that builds it."""
        self._pieces: Piecewise | None = None
        self._begun: Begun | None = None
        self._back: Plan | None = None
        """The plan of the way back as of now."""
        self._overrides_checked = False

    @cached_property
    def dialect(self) -> Dialect:
        """The dialect, once the database has answered."""
        return reach(self.engine, may_create=True)

    @cached_property
    def lexis(self) -> Lexis:
        """How the server reads SQL."""
        return self.dialect.ask(self.engine, self.dialect.lexis)

    # -- a revision ---------------------------------------------------------------------------------------------

    def begin(self, revision: str, phase: Phase, *, expands_later: bool = False) -> None:
        """Begin with *revision*: nothing that was known before it counts.

        :param expands_later: whether whatever is left of expand belongs to revisions that can only come after it.
        """

        def scope(plan: Plan) -> Scope:
            return Scope(
                plan,
                self.dialect,
                self.operator.old_code_gone,
                soak=dt.timedelta(0) if self.is_new else None,
                expands_later=expands_later,
                is_new=self.is_new,
            )

        self._pieces = Piecewise(
            self._upgrade_now(),
            self.engine,
            self.dialect,
            command=f"alembic upgrade ({revision})",
            scope=scope,
            overrides=self.operator.overrides,
            retry=self.retry,
            report=tell,
        )
        self._back = None
        self._begun = Begun(revision, phase, self._look())

    def _look(self) -> LiveSchema:
        return self.dialect.ask(self.engine, self._see)

    def _see(self, connection: Connection) -> LiveSchema:
        return look(connection, self.upgrade, self.dialect, self.upgrade.tables)

    def demand_heard(self, connection: Connection | None) -> None:
        """Make sure that what has gone while the revision ran went by emc.

        :param connection: what sees what nobody else does, since it is not committed; ``None``: nothing is like that.
        :raises RefusedStatementError: something else did.
        """
        begun = self._begun
        if begun is None or begun.phase is Phase.UNDO:
            return
        now = self._look() if connection is None else self._see(connection)
        gone = vanished(begun.live, now, self.pieces.taken)
        if gone:
            raise RefusedStatementError(
                f"While revision {begun.revision} on branch {begun.phase} ran, {', '.join(gone)} has gone, and by "
                "nothing that emc has heard of. The revision is not recorded as run.",
                statement="",
                revision=begun.revision,
                remedy="Find out what took it away: an engine of the revision's own, a program in the database, or "
                "somebody else. emc cannot bring it back. A revision asks by op, or op.get_bind().",
            )

    def _upgrade_now(self) -> Upgrade:
        if not self.is_new:
            return self.upgrade
        return self.dialect.ask(
            self.engine, lambda connection: letting_go(connection, self.upgrade, self.dialect)
        )

    def end(self, error: BaseException | None = None) -> None:
        """End the revision.

        :param error: what it has failed with, if it has.
        """
        pieces, self._pieces = self.pieces, None
        try:
            if error is None and self._begun is not None and self._begun.phase is Phase.UNDO:
                revision, release = self._begun.revision, self.upgrade.release
                with self.dialect.open(
                    self.engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT
                ) as connection:
                    by_hand.went_down(connection, revision, release)
            if (error is None or isinstance(error, GatesShutError)) and self._back is None:
                pieces.watch()
        except BaseException as problem:
            pieces.close(problem)
            raise
        pieces.close(error)

    @property
    def pieces(self) -> Piecewise:
        """What carries out the revision that has begun."""
        assert self._pieces is not None
        return self._pieces

    # -- the plan -----------------------------------------------------------------------------------------------

    def plan(self, phase: Phase) -> Plan:
        """The plan, that of the way back for ``UNDO``; what was carried out since it was derived, it holds still.

        :raises EmcError: whatever :func:`emc.plan` raises.
        """
        if phase is not Phase.UNDO:
            return self.pieces.plan
        if self._back is None:
            self._back = planned(self.upgrade, self.engine, self.dialect, lambda _, plan: plan, derive_back)
        return self._back

    def plan_now(self, phase: Phase) -> Plan:
        """The plan as of now."""
        if self._pieces is not None and self._pieces.done:
            self._pieces.forget()
        return self.plan(phase)

    # -- carrying out -------------------------------------------------------------------------------------------

    def carry_out(self, operation: Operation) -> None:
        """Carry out *operation* of the plan.

        :raises GatesShutError: its gates are shut.
        :raises EmcError: as emc's own command.
        """
        if operation.phase is Phase.EXPAND:
            self.pieces.expand([operation.id])
        elif operation.phase is Phase.CONTRACT:
            self._contract(operation)
        else:
            self.undo(str(operation.undoes))

    def carry_out_ids(self, phase: Phase, wanted: Collection[str]) -> frozenset[str]:
        """Carry out what the plan calls by the names *wanted*; what it does not hold is done.

        :returns: what neither the plan nor the ledger knows.
        """
        plan = self.plan(phase)
        planned_ids = {step.id for each in {Phase.EXPAND, phase} for step in plan.steps(each)}
        strange = frozenset(wanted) - planned_ids
        if strange:
            strange -= self.dialect.ask(self.engine, carried_out)
        if phase is not Phase.UNDO and any(step.id in wanted for step in plan.expand):
            self.pieces.expand(wanted)
        for step in plan.steps(phase) if phase is not Phase.EXPAND else ():
            if step.id in wanted:
                self.carry_out(step.operation)
        return strange

    def _contract(self, operation: Operation) -> None:
        if not self._overrides_checked:
            check_overrides(self.operator.overrides, self.plan(Phase.CONTRACT).contract)
            self._overrides_checked = True
        if operation.id in self.pieces.done:
            return
        if blocked := self.pieces.contract(operation.id):
            raise _shut(blocked, "alembic -x old-code-gone upgrade contract@head")

    def undo(self, expansion: str) -> None:
        """Take the operation of expand with the id *expansion* back; nothing where the ledger knows none.

        :raises CannotUndoError: contract has begun, or there is no way back.
        :raises GatesShutError: its gates are shut.
        """
        release = self.upgrade.release
        begun = self.dialect.ask(self.engine, lambda connection: expanded(connection, release))
        if expansion not in begun:
            return
        steps = [step for step in self.plan(Phase.UNDO).undo if step.operation.undoes == expansion]
        overrides = self._overrides(steps[0].operation) if steps else {}
        self.pieces.close()  # It takes a lease of its own, by which others know what may be asked of it.
        try:
            report = undo(
                self.upgrade,
                self.engine,
                new_code_gone=self.operator.new_code_gone,
                overrides=overrides,
                keep=[one for one in begun if one != expansion],
                retry=self.retry,
                report=tell,
            )
        finally:
            self._forget()
        if report.blocked:
            raise _shut(report.blocked, "alembic -x new-code-gone downgrade …")

    def _overrides(self, operation: Operation) -> Mapping[str, str]:
        """Those that are for *operation*: emc refuses reasons for gates that it does not come to."""
        names = {gate.name for gate in gates_of(operation)}
        return {gate: reason for gate, reason in self.operator.overrides.items() if gate in names}

    # -- by hand ------------------------------------------------------------------------------------------------

    def send(self, statement: by_hand.Handwritten) -> None:
        """Send a statement that no plan holds.

        :raises EmcError: as :func:`emc.alembic.running.by_hand.send`.
        """
        lease = self.pieces.lease
        try:
            by_hand.send(self.engine, self.dialect, statement, lease, self.upgrade.release, self.retry, tell)
        finally:
            self._forget()
        self.pieces.upgrade = self._upgrade_now()

    def _forget(self) -> None:
        self.pieces.forget()
        self._back = None

    def was_sent(self, statement: by_hand.Handwritten) -> bool:
        """Whether an earlier run has sent it."""
        return self.dialect.ask(self.engine, lambda connection: by_hand.was_sent(connection, statement))

    def times_sent(self, statement: by_hand.Handwritten) -> int:
        """How often it was sent since its revision last went down."""
        return self.dialect.ask(self.engine, lambda connection: by_hand.times_sent(connection, statement))

    def has(self, request: Request) -> bool:
        """Whether there is a table as *request* names it, be it one that emc does not look at."""
        path = request.table
        if path is None:  # Nobody can tell which table an index is of in a schema that emc does not look at.
            return request.schema_where(self.default_schema) not in self.upgrade.schema_names
        schema = path[-2] if len(path) > 1 else None
        return self.dialect.ask(
            self.engine, lambda connection: inspect(connection).has_table(path[-1], schema)
        )

    def demand_taken_back(self, revision: str, request: Request) -> bool:
        """Whether *request* takes back what *revision* has added by hand, as the ledger says.

        :raises GatesShutError: it does, and nobody has said that the new release is gone.
        """
        found = self.dialect.ask(
            self.engine, lambda connection: by_hand.added(connection, revision, request, self.lexis)
        )
        if found and not self.operator.new_code_gone:
            raise GatesShutError(
                f"Blocked by gates:\n  {request.target}, which revision {revision} has added by hand\n"
                f"    shut new-code-gone:{request.target}: the new release may still use it",
                blocked=(),
                remedy="Once no process of the new release is left: alembic -x new-code-gone downgrade …",
            )
        return found

    def is_empty(self, path: Sequence[str] | None) -> bool:
        """Whether there is a table of that name, and no row in it."""
        if not path:
            return False
        found = table(path[-1], schema=path[-2] if len(path) > 1 else None)
        asked: Select[Any] = select(literal_column("1")).select_from(found).limit(1)
        return self.dialect.ask(
            self.engine,
            lambda connection: (
                inspect(connection).has_table(found.name, found.schema)
                and connection.execute(asked).first() is None
            ),
        )

    # -- checks -------------------------------------------------------------------------------------------------

    def demand_migrated(self, work: str) -> None:
        """Make sure that data migration *work* has nothing left.

        A declaration that is gone has nothing left to say; the gates of what it was for are asked all the same.

        :raises GatesShutError: it has.
        """
        found = self.plan(Phase.CONTRACT).all_work.get(work)
        if found is not None and self.dialect.ask(self.engine, lambda connection: is_open(connection, found)):
            raise GatesShutError(
                f"Data migration {work} has rows left.",
                blocked=(),
                remedy="emc migrate, then run the command again",
            )

    def refuse_to_uncontract(self) -> None:
        """Refuse to take contract back.

        :raises CannotUndoError: always.
        """
        raise CannotUndoError(
            "What contract took away does not come back, so there is no way down from here. Nothing was changed.",
            remedy="Restore a backup, or go on upwards with a new revision.",
        )


def _shut(blocked: Sequence[Blocked], command: str) -> GatesShutError:
    lines = [line for line, _ in gate_lines({one.step.id: one.verdicts for one in blocked})]
    return GatesShutError(
        "\n".join(["Blocked by gates:", *lines]),
        blocked=blocked,
        remedy=f"What ran before is kept. In Alembic, emc's options stand behind -x: {command}",
    )
