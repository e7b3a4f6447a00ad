"""What becomes of the statements that a revision asks for?

Each is a request. What the plan holds, emc carries out as it would by itself: with gates, timeouts, retries, names of
blockers, and the ledger. What is done already is answered as done. What no plan holds is sent by hand, if it is
additive; everything else is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from emc.alembic.quiet import quiet
from emc.alembic.running import by_hand, matching
from emc.alembic.running.asking import Carrier
from emc.alembic.running.errors import RefusedStatementError
from emc.alembic.running.reasons import ALLOW, REASONS
from emc.alembic.running.requests import Request, Statement, parted, read
from emc.alembic.running.telling import LOGGER
from emc.commands.plainly import as_error
from emc.errors import ConfigurationError, EmcError
from emc.execute import SubtractiveStatementError, refuse_subtractive
from emc.execute.plain import UnreadableError
from emc.execute.words import statements_of
from emc.names import is_own
from emc.operations import SUBTRACTIVE
from emc.phases import Phase
from emc.planning import Plan
from emc.steps import Step

_T = TypeVar("_T")
_log = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Under:
    """What runs."""

    revision: str
    phase: Phase


class Session:
    """The run of the revisions of one Alembic command, on one database."""

    def __init__(self, context: MigrationContext, carrier: Carrier) -> None:
        self.context = context
        self.carrier = carrier
        self.under: Under | None = None
        """The revision that runs; ``None`` between revisions, and in those of a linear history."""
        self.passed: str | None = None
        """What SQLAlchemy is about to send, since it was heard and changes nothing."""
        self._swallows: frozenset[str] | None = None
        """In the block of a step: those of its ids that nothing is known of."""
        self._asked: Counter[str] = Counter()
        """How often the revision has asked for each statement about rows."""

    @contextlib.contextmanager
    def running(self, revision: str, phase: Phase, *, expands_later: bool = False) -> Iterator[None]:
        """Hear what is sent within the block as what *revision* asks for.

        :param expands_later: whether whatever is left of expand belongs to revisions that can only come after it.
        """
        before, self.under = self.under, Under(revision, phase)
        self._asked.clear()
        with self._at_work():
            self.carrier.begin(revision, phase, expands_later=expands_later)
        try:
            yield
            self._demand_heard()
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end()
        finally:
            self.under = before

    def _demand_heard(self) -> None:
        """Look for what has gone unheard before it is committed, where that keeps it."""
        transaction = self.context._transaction  # noqa: SLF001
        if not self.carrier.dialect.transactional_ddl or transaction is None or not transaction.is_active:
            with self._at_work():
                self.carrier.demand_heard(None)
            return
        before, self.under = self.under, None  # Now it is emc that asks.
        try:
            self.carrier.demand_heard(self._ours)
        finally:
            self.under = before

    def _end(self, error: BaseException | None = None) -> None:
        if error is None:
            with self._at_work():
                self.carrier.end()
            return
        transaction = self.context._transaction  # noqa: SLF001
        if transaction is not None and transaction.is_active:
            # It may keep emc from giving its lease back. A connection that is gone holds nothing.
            with contextlib.suppress(DBAPIError):
                transaction.rollback()
        with quiet():
            self.carrier.end(error)

    # -- what is sent -------------------------------------------------------------------------------------------

    def hear(self, connection: Connection | None, sql: str, parameters: Any) -> bool:
        """Take a statement that is about to be sent.

        :param connection: by which; ``None``: by a cursor of the driver.
        :returns: whether it is taken care of; if not, it is to be sent as it is.
        :raises EmcError: it may not run, or has failed.
        """
        if self.under is None:
            return False
        if self._swallows is not None:
            self._demand_named(sql, self._swallows)
            return True
        try:
            statements = parted(sql, self.carrier.lexis)
        except UnreadableError as error:
            if not REASONS:
                raise self._refused(sql, f"emc cannot read it: {error}", _ONE_BY_ONE) from None
            statements = [read(sql)]
        else:
            if all(one.reads for one in statements):
                return False
        for one in statements:
            if one.reads:  # It may call a function, so it is not left out; it is heard once more, by itself.
                (connection or self._ours).exec_driver_sql(one.sql, parameters or None)
                continue
            with self._at_work(connection):
                self._carry_out(self.under, one, parameters)
        return True

    def _demand_named(self, sql: str, strange: frozenset[str]) -> None:
        """Make sure that what is left out since it is done, as far as *strange* ids tell, is what they say."""
        if not strange:
            return
        try:
            statements = parted(sql, self.carrier.lexis)
        except UnreadableError:
            return  # Such are emc's own recipes.
        for request in (one for statement in statements for one in statement.requests):
            if not matching.is_named(request, strange):
                raise self._refused(
                    sql,
                    f"it is about {request.target}, but the line above it, op.emc_step({', '.join(sorted(strange))}), "
                    "is not, and no plan or ledger knows of that",
                    "Correct the line, or leave it out.",
                )

    def hear_raw(self, sql: str, parameters: Any) -> bool:
        """As :meth:`hear`, of what is sent by a cursor of the driver: SQLAlchemy's own come this way too."""
        if sql == self.passed:
            self.passed = None
            return False
        return self.hear(None, sql, parameters)

    @property
    def _ours(self) -> Connection:
        connection = self.context.connection
        assert connection is not None
        return connection

    @contextlib.contextmanager
    def _at_work(self, connection: Connection | None = None) -> Iterator[None]:
        """Let go of Alembic's own transaction, which may hold locks that emc has to wait for, while emc works."""
        ours = self._ours
        if any(one is not None and one.in_nested_transaction() for one in (ours, connection)):
            raise ConfigurationError(
                "A revision asks for a change of the schema within a savepoint, which emc cannot see to.",
                remedy="Leave begin_nested() out: emc carries each statement out by itself, and takes back what fails.",
            )
        if connection is not None and connection is not ours and connection.in_transaction():
            raise ConfigurationError(
                "A revision asks for a change of the schema on a connection of its own, in a transaction.",
                remedy="Use op.get_bind(), or op.execute().",
            )
        transaction = self.context._transaction  # noqa: SLF001  # As autocommit_block() does.
        if transaction is not None and transaction.is_active:
            transaction.commit()
            self.context._transaction = None  # noqa: SLF001
        try:
            with quiet():
                yield
        except DBAPIError as error:
            raise as_error(error, self.carrier.engine) from error
        finally:
            if transaction is not None:
                self.context._transaction = ours.begin()  # noqa: SLF001

    # -- what becomes of it -------------------------------------------------------------------------------------

    def _carry_out(self, under: Under, statement: Statement, parameters: Any) -> None:
        if statement.hidden:
            raise self._refused(
                statement.sql,
                f"it takes {statement.hidden[0].target} away in a way that emc has no gate for, and no reason opens a "
                "gate",
                "Say in the upgrade what becomes of it (upgrade.rename, upgrade.retire), and take it away by a "
                "statement of its own, on the branch contract.",
            )
        plan = self.carrier.plan(under.phase)
        # Guards of emc's own recipes it sees to itself; but an index that is built beside another one is a step.
        rest = [one for one in statement.requests if not is_own(one.name) or self._in_plan(under, one, plan)]
        if statement.requests and not rest:
            return
        if not all(self._in_plan(under, one, plan) for one in rest) or not rest:
            plan = self.carrier.plan_now(under.phase)
        wanted: list[Step] = []
        unknown: list[Request] = []
        handwritten = self._handwritten(under, statement, parameters)
        for request in rest:
            step = self._step_of(under, request, plan, statement.sql)
            if step is not None:
                wanted.append(step)
            elif not matching.is_so(request, plan.situation, self.carrier.default_schema):
                unknown.append(request)
            else:
                _log.info("as the models have it already: %s", request.target)
        if not statement.is_whole and len(unknown) < len(rest):
            if self.carrier.was_sent(handwritten):
                return
            raise self._refused(
                statement.sql,
                f"emc carries {rest[0].target} out by itself, or finds it done, and cannot tell what the rest of the "
                "statement is to do",
                _ONE_BY_ONE,
            )
        if wanted and unknown:
            names = ", ".join(one.target for one in unknown)
            raise self._refused(
                statement.sql,
                f"one part of it is {wanted[0].id} of emc's plan, which holds nothing about {names}",
                _ONE_BY_ONE,
            )
        for step in wanted:
            self.carrier.carry_out(step.operation)
        if unknown or not statement.requests:
            self._by_hand(under, statement, unknown, plan, handwritten)

    def _step_of(self, under: Under, request: Request, plan: Plan, sql: str) -> Step | None:
        """The step of the plan that *request* is; ``None`` where it holds none and may hold none.

        :raises RefusedStatementError: what is asked for has no place in this revision.
        """
        if step := self._in_plan(under, request, plan):
            return step
        if request.table and request.table[-1].startswith(ALEMBIC_TMP):
            what = f"batch mode would make {request.table[-1].removeprefix(ALEMBIC_TMP)} anew, and drop the old one"
            raise self._refused(sql, what, 'Leave recreate="always" out: how, online, is emc\'s business.')
        if other := matching.elsewhere(request, plan.situation.live, self.carrier.default_schema):
            why = f"{request.target} is not in the schema that goes without saying, but {other} has one of that name"
            raise self._refused(sql, why, f"Say the schema: {other.schema}.{request.name}")
        is_so = matching.is_so(request, plan.situation, self.carrier.default_schema)
        if under.phase is Phase.EXPAND:
            later = matching.asked_for(request, plan.contract, self.carrier.default_schema)
            if later is not None:
                why = f": {later.operation.because}" if later.operation.because else ""
                raise self._refused(sql, f"it is {later.id}, which belongs into contract{why}", _TO_CONTRACT)
            if request.takes and not (is_so and request.kinds - SUBTRACTIVE):
                raise self._refused(
                    sql, f"it takes {request.target} away while the old release runs", _TO_CONTRACT
                )
        elif request.takes and not is_so and not self._may_go(under, request):
            raise self._undeclared(under, request, plan, sql)
        seen = matching.is_seen(request, plan.situation.live, self.carrier.default_schema)
        if request.takes and not seen and self.carrier.has(request):
            where = request.target if request.table is None else ".".join(request.table)
            raise self._refused(
                sql,
                f"emc does not look at {where}, so it cannot tell what would be lost",
                "Let the upgrade look there: Upgrade(..., schemas=[...]), and its include_name and include_object.",
            )
        return None

    def _in_plan(self, under: Under, request: Request, plan: Plan) -> Step | None:
        """The step that *request* is, of a phase that this revision is open to."""
        if self.carrier.is_new and matching.is_of_another_time(
            request, plan.situation, self.carrier.default_schema
        ):
            return None  # Later revisions make of it what the models have.
        steps = (step for phase in _OPEN_TO[under.phase] for step in plan.steps(phase))
        return matching.asked_for(request, steps, self.carrier.default_schema)

    def _may_go(self, under: Under, request: Request) -> bool:
        """Whether what no plan holds may be changed, or go, all the same.

        On the way down what the revision itself has added; else where the database was empty when the command began,
        and the table still is.
        """
        if under.phase is Phase.UNDO:
            return request.takes and self.carrier.demand_taken_back(under.revision, request)
        return self.carrier.is_new and self.carrier.is_empty(request.table)

    def _handwritten(self, under: Under, statement: Statement, parameters: Any) -> by_hand.Handwritten:
        return by_hand.Handwritten(
            under.revision,
            statement.sql,
            statement.text,
            parameters,
            next((one.table for one in statement.requests if one.table), ()),
            under.phase,
            reason=REASONS[-1] if REASONS else None,
            apart=self._is_apart(),
        )

    def _by_hand(
        self,
        under: Under,
        statement: Statement,
        unknown: list[Request],
        plan: Plan,
        handwritten: by_hand.Handwritten,
    ) -> None:
        live = plan.situation.live
        self._demand_foreign(statement)
        if not REASONS and not (unknown and all(self._may_go(under, one) for one in unknown)):
            self._demand_harmless(handwritten)
            for request in unknown:
                if matching.tightens(request, live, self.carrier.default_schema):
                    raise self._refused(
                        statement.sql,
                        f"it puts a constraint on {'.'.join(request.table or ())} that the models do not have, and "
                        "that rows may break",
                        "Add it to the models, so that emc plans it with its gate.",
                    )
        if not statement.requests and handwritten.writes:
            self._asked[handwritten.step.id] += 1
            if self.carrier.times_sent(handwritten) >= self._asked[handwritten.step.id]:
                _log.info("sent already by an earlier run: %s", statement.text.strip())
                return
        there = [one for one in unknown if matching.is_there(one, live, self.carrier.default_schema)]
        if unknown and len(there) == len(unknown) and self.carrier.was_sent(handwritten):
            return
        self.carrier.send(handwritten)

    def _demand_foreign(self, statement: Statement) -> None:
        """Make sure that *statement* is not about what belongs to emc: its ledger, its lease, its guards."""
        words = {
            word.lower() for one in statements_of(statement.text) for word in re.split(r"[\s.]+", str(one))
        }
        if own := sorted(word for word in words if is_own(word)):
            raise self._refused(statement.sql, f"{own[0]} is emc's own", "Leave it to emc.")

    def _demand_harmless(self, handwritten: by_hand.Handwritten) -> None:
        verb = handwritten.text.split(None, 1)[0].upper()
        if verb in {"SET", "RESET", "USE", "LOCK", "UNLOCK"}:
            raise self._refused(
                handwritten.sql,
                f"{verb} is for a session, and emc carries statements out in sessions of its own",
                "Say it where the engine is made (connect_args, or an event), so that every session has it.",
            )
        # The rule of expand holds for all that no plan knows: contract takes away only what has gates.
        step = handwritten.step
        expanding = dataclasses.replace(
            step, operation=step.operation.moved(Phase.EXPAND, ""), statements=(handwritten.text,)
        )
        try:
            refuse_subtractive([expanding], Phase.EXPAND)
        except SubtractiveStatementError as error:
            why = error.message.partition(": ")[2].partition(", which statements of the old")[0]
            raise self._refused(
                handwritten.sql, f"emc cannot tell that it is harmless: {why}", ALLOW
            ) from None

    def _is_apart(self) -> bool:
        """Whether the revision is within an ``autocommit_block()``, or DDL commits by itself anyway."""
        level = self._ours.get_execution_options().get("isolation_level")
        return level == "AUTOCOMMIT" or not self.carrier.dialect.transactional_ddl

    # -- refusals -----------------------------------------------------------------------------------------------

    def _refused(self, sql: str, why: str, remedy: str) -> EmcError:
        assert self.under is not None
        return RefusedStatementError(
            f"Revision {self.under.revision} on branch {_BRANCH[self.under.phase]} asks for what it may not: {why}. "
            f"Nothing of this statement was sent.\n  {sql.strip()}",
            statement=sql,
            revision=self.under.revision,
            remedy=remedy,
        )

    def _undeclared(self, under: Under, request: Request, plan: Plan, sql: str) -> EmcError:
        if under.phase is Phase.UNDO:
            return self._refused(
                sql,
                f"{request.target} is nothing that expand has added for this release, as far as the ledger knows",
                "Take away by hand what was added by hand, or go forward.",
            )
        lines = [one.declare for one in plan.unmanaged if str(one.element) == request.target] or [
            one.declare for one in plan.unmanaged if request.name and one.element.name == request.name
        ]
        return self._refused(
            sql,
            f"nobody has said that {request.target} may go; a name in a declaration is what its gates go by",
            lines[0] if lines else f'upgrade.retire("{request.target}")',
        )

    # -- what generated revisions say in lines of their own -----------------------------------------------------

    @contextlib.contextmanager
    def step(self, *operations: str) -> Iterator[None]:
        """Carry out *operations* of the plan, or find them done; the statements within the block say how."""
        contract = self._directly(lambda: self.carrier.plan(Phase.CONTRACT).contract)
        later = sorted({step.id for step in contract}.intersection(operations))
        if later and self._phase is Phase.EXPAND and not self.carrier.is_new:
            raise self._refused(
                f"op.emc_step({later[0]!r})", f"{later[0]} belongs into contract", _TO_CONTRACT
            )
        self._swallows = self._directly(lambda: self.carrier.carry_out_ids(self._phase, operations))
        try:
            yield
        finally:
            self._swallows = None

    def gate(self, operation: str, gate: str) -> None:
        """The line is for people and for scripts: every gate of *operation* is asked when that comes."""

    def migrated(self, work: str) -> None:
        """Refuse to go on while data migration *work* has rows left."""
        self._directly(lambda: self.carrier.demand_migrated(work))

    def undo(self, operation: str) -> None:
        """Take *operation* of expand back."""
        self._directly(lambda: self.carrier.undo(operation))

    def contracted(self) -> None:
        """Refuse to take contract back."""
        self.carrier.refuse_to_uncontract()

    @property
    def _phase(self) -> Phase:
        assert self.under is not None
        return self.under.phase

    def _directly(self, do: Callable[[], _T]) -> _T:
        if self.under is None:
            raise ConfigurationError(
                "A line op.emc_… stands in a revision that is neither on the branch expand nor on contract.",
                remedy="Give the first revision of the branch its label: branch_labels = ('expand',)",
            )
        with self._at_work():
            return do()


ALEMBIC_TMP = "_alembic_tmp_"
"""What Alembic's batch mode calls the copy of a table begins so."""
_OPEN_TO: Mapping[Phase, tuple[Phase, ...]] = {
    Phase.EXPAND: (Phase.EXPAND,),
    Phase.CONTRACT: (Phase.CONTRACT, Phase.EXPAND),
    Phase.UNDO: (Phase.UNDO,),
}
_BRANCH = {Phase.EXPAND: "expand", Phase.CONTRACT: "contract", Phase.UNDO: "expand, going down,"}
_TO_CONTRACT = "Move it to a revision on the branch contract: alembic revision --head contract@head -m '…'"
_ONE_BY_ONE = "Write its parts as statements of their own."
