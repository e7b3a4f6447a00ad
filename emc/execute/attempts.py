"""How does a unit get through its attempts: what is sent, what is looked up, what is noted, and when is it given up?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.errors import EmcError, LeaseLostError
from emc.execute.events import StepEvent, StepState
from emc.execute.guard import refuse_subtractive
from emc.execute.messages import refused, too_long, without_result
from emc.execute.notes import Notes
from emc.execute.outcomes import FOUND_DONE, FOUND_DONE_WHEN_REFUSED, PutOffError, StartOverError, holds
from emc.execute.patience import Patience
from emc.execute.retry import RetryPolicy
from emc.execute.watching import watched
from emc.execute.ways import Statement, statements_of
from emc.phases import Phase
from emc.state.lease import Lease
from emc.steps import LockPolicy, Step, Transaction, shared_policy


class Attempts:
    """The course of one unit, from its first attempt to its last."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        steps: Sequence[Step],
        lease: Lease,
        release: str | None,
        phase: Phase,
        confirm: Callable[[Connection], Mapping[str, Any]] | None,
        rerender: Callable[[Connection], Sequence[Step]] | None,
        retry: RetryPolicy,
        report: Callable[[StepEvent], None],
        spares: Callable[[EmcError], bool],
    ) -> None:
        self.engine = engine
        self.dialect = dialect
        self.lease = lease
        self.phase = phase
        self.confirm = confirm
        self.rerender = rerender
        self.retry = retry
        self.report = report
        self.spares = spares

        self.notes = Notes(dialect, lease, release, phase)
        self.steps: dict[str, Step] = {}
        """Every step of the unit, in its newest form: all their postconditions have to hold in the end."""
        self.queue: list[Statement] = []
        """What is left to send, in order."""
        self.transaction = steps[0].transaction
        self.adopt(steps)
        self.sent: dict[str, list[str]] = {step.id: [] for step in steps}
        """By step, the statements that took effect, or may have."""
        self.evidence: Mapping[str, Any] = {}

        self.patience = Patience(engine, dialect, retry, report)
        self.announced = False
        self.asking = False
        """The gates are being asked."""
        self.before: frozenset[str] = frozenset()
        """Steps whose results were there before anything was sent."""
        self.stale = False
        """What is left to send may no longer fit what is there."""
        self.ours = False
        """Statements of ours may have taken effect."""
        self.lost = False
        """A connection was lost while statements of ours were under way."""
        self.outcome: str | None = None
        """How it is known that the statements had run, where the server did not say so when they were sent."""
        self.sending: Statement | None = None
        self.building_since: float | None = None
        """When a build was sent that has not come back."""

    def adopt(self, steps: Sequence[Step]) -> None:
        """Send the statements of *steps* from now on."""
        refuse_subtractive(steps, self.phase)
        kinds = {step.transaction for step in steps}
        if len(kinds) > 1:
            raise ValueError(f"the steps of one unit meet transactions in several ways: {sorted(kinds)}")
        self.transaction = kinds.pop() if kinds else self.transaction
        if self.transaction is Transaction.TOGETHER and not self.dialect.transactional_ddl:
            raise ValueError(
                f"DDL of {self.dialect.name} commits by itself, so no transaction spans these steps"
            )
        self.steps.update({step.id: step for step in steps})
        self.queue = statements_of(steps)

    # -- the course ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry the unit out, and tell whoever listens what became of its steps."""
        try:
            state = self.carry_out()
        except (LeaseLostError, StartOverError):
            raise  # The ledger is the successor's now; or nothing is given up.
        except EmcError as error:
            if not self.spares(error):
                self.report_failure(error)
            raise
        attempt, seconds = self.patience.attempt, self.patience.seconds
        for step in self.steps.values():
            if state is StepState.SKIPPED or self.found(step):
                self.report(StepEvent(StepState.SKIPPED, step, attempt))
            else:
                self.report(StepEvent(StepState.DONE, step, attempt, seconds=seconds))

    def carry_out(self) -> StepState:
        """Try until it is done, or given up."""
        while True:
            self.patience.begin()
            self.sending, self.building_since, self.asking = None, None, False
            try:
                fresh = self.derive_if_stale()
                if self.transaction is Transaction.AUTOCOMMIT:
                    state = self.apart(fresh=fresh)
                elif self.transaction is Transaction.LOCKED:
                    state = self.locked(fresh=fresh)
                else:
                    state = self.together(fresh=fresh)
            except DBAPIError as error:
                self.recover(error)
            except PutOffError as held:
                self.stale = self.by_itself and (self.ours or held.building) and self.rerender is not None
                self.patience.put_off(self.at, held.blockers, building=held.building)
                self.patience.take_back()
            else:
                if state is not None:
                    return state
                self.patience.take_back()

    def derive_if_stale(self) -> bool:
        """Have what is left to send derived afresh where it may no longer fit; answers whether it was."""
        if not self.stale or self.rerender is None:
            return False
        with self.dialect.reading(self.engine) as connection:
            if not all(self.held(connection)):
                self.adopt(self.rerender(connection))
        self.stale = False
        return True

    # -- one attempt --------------------------------------------------------------------------------------------

    def together(self, *, fresh: bool) -> StepState | None:
        """All in one transaction: the gates' last look, the statements, their result, and the ledger's entry."""
        with self.open(self.transaction, shared_policy({one.policy for one in self.queue})) as connection:
            if self.look(connection, fresh=fresh):
                if self.ours:
                    self.record(connection)
                return StepState.DONE if self.ours else StepState.SKIPPED
            if self.stale:
                return None
            self.ask_gates(connection)
            for one in self.queue:
                self.send(connection, one)
            self.sending = None
            self.demand(connection)
            self.sent = {step_id: [] for step_id in self.steps}
            for one in self.queue:
                self.sent[one.step.id].append(one.sql)
            self.lost = self.ours = False
            self.record(connection)
            # From here on only the commit can fail, and then nobody knows whether it took place.
            self.ours = True
        return StepState.DONE

    def apart(self, *, fresh: bool) -> StepState | None:
        """Each statement in a transaction of its own: the gates before the first, the ledger after the last."""
        asked = False
        while self.queue or not asked:
            policy = self.queue[0].policy if self.queue else LockPolicy.SHORT
            with self.open(Transaction.AUTOCOMMIT, policy) as connection:
                if asked:
                    self.lease.confirm(connection)
                elif self.look(connection, fresh=fresh):
                    break
                elif self.stale:
                    return None
                else:
                    self.ask_gates(connection)
                    self.note_intent(connection)
                    asked = True
                if self.queue and policy is LockPolicy.WEAK:
                    self.approach(connection)
                while self.queue and self.queue[0].policy is policy:
                    one = self.queue[0]
                    self.ours, self.lost = True, False
                    if (lower := self.other_way(connection, one)) is not None:
                        self.queue[0] = lower
                        continue
                    self.sent.setdefault(one.step.id, []).append(one.sql)
                    self.queue.pop(0)
                    self.patience.progressed()
        self.sending = None
        if not asked and not self.ours:
            return StepState.SKIPPED
        return self.conclude()

    def locked(self, *, fresh: bool) -> StepState | None:
        """All in one session, which holds the locks it takes: whatever fails ends them, so all of it is sent again."""
        with self.open(Transaction.LOCKED, LockPolicy.SHORT) as connection:
            if self.look(connection, fresh=fresh):
                if not self.ours:
                    return StepState.SKIPPED
            elif self.stale:
                return None
            else:
                self.ask_gates(connection)
                self.note_intent(connection)
                self.sent = {step_id: [] for step_id in self.steps}
                for one in self.queue:
                    self.ours, self.lost = True, False
                    while (lower := self.other_way(connection, one)) is not None:
                        one = lower  # noqa: PLW2901  # the same statement, in another way
                    self.sent[one.step.id].append(one.sql)
        self.sending = None
        return self.conclude()

    def conclude(self) -> StepState:
        """What has committed by itself is looked for in the catalog, and written down."""
        with self.open(Transaction.TOGETHER, LockPolicy.SHORT) as connection:
            self.demand(connection)
            self.record(connection)
        return StepState.DONE

    def open(self, transaction: Transaction, locks: LockPolicy) -> AbstractContextManager[Connection]:
        """A session for this attempt."""
        return self.dialect.open(self.engine, transaction, locks, self.patience.lock_timeout)

    def look(self, connection: Connection, *, fresh: bool) -> bool:
        """Whether the catalog shows every result already; sets ``stale`` where it shows some and not others."""
        self.lease.confirm(connection)
        held = self.held(connection)
        if not self.ours:
            self.before = frozenset(one for one, holds in zip(self.steps, held, strict=True) if holds)
        if any(held) and not all(held) and not fresh and not self.announced and self.rerender is not None:
            self.stale = True
        return all(held)

    def held(self, connection: Connection) -> list[bool]:
        """Which of the steps the catalog shows to be done."""
        return [holds(connection, step) for step in self.steps.values()]

    def ask_gates(self, connection: Connection) -> None:
        """Announce the steps, and ask their gates once more."""
        if not self.announced:
            for step in self.steps.values():
                self.report(StepEvent(StepState.STARTED, step, self.patience.attempt))
            self.announced = True
        if self.confirm is not None:
            self.asking = True
            self.evidence = self.confirm(connection)
            self.asking = False

    def note_intent(self, connection: Connection) -> None:
        """Where no transaction binds a statement and its entry, the ledger hears of it beforehand, once."""
        if self.queue and not self.dialect.transactional_ddl:
            # Those without a statement of their own too: one of another step may do their work.
            steps = [step for step_id, step in self.steps.items() if step_id not in self.before]
            self.notes.intend(connection, steps, self.queue)

    def approach(self, connection: Connection) -> None:
        """Before a build: those whom it would meet at its end go first, and nobody has to wait for its start."""
        self.sending = self.queue[0]
        if builders := self.dialect.builders(connection, self.at.operation.element.table):
            raise PutOffError(builders, building=True)
        blockers = self.dialect.long_transactions(connection) if self.patience.puts_off() else ()
        if blockers:
            raise PutOffError(blockers)
        self.dialect.knock(connection, self.at.operation.element.table)

    def send(self, connection: Connection, one: Statement) -> None:
        """Send one statement."""
        self.sending = one
        builds = one.policy is LockPolicy.WEAK and self.dialect.builds_end_locked
        self.building_since = self.retry.clock() if builds else None
        # As it is: neither % nor : in a literal or an operator may be taken for a parameter.
        with self.watched(connection, one):
            connection.exec_driver_sql(one.sql, execution_options={"no_parameters": True})
        self.building_since = None

    def watched(self, connection: Connection, one: Statement) -> AbstractContextManager[None]:
        """Tell how far *one* is, if it may take long."""
        if one.policy is not LockPolicy.WEAK:
            return nullcontext()
        attempt = self.patience.attempt
        return watched(self.engine, self.dialect, connection, one.step, attempt, self.retry, self.report)

    def other_way(self, connection: Connection, one: Statement) -> Statement | None:
        """Send *one*, and answer what to send in its place where the server cannot do it that way."""
        try:
            self.send(connection, one)
        except DBAPIError as error:
            if one.lower is None or self.dialect.failure(error) is not Failure.UNSUPPORTED:
                raise
            return one.lower
        return None

    def demand(self, connection: Connection) -> None:
        """Make sure that the catalog shows every result."""
        for step in self.steps.values():
            if not holds(connection, step):
                raise without_result(step)

    # -- what went wrong ----------------------------------------------------------------------------------------

    @property
    def by_itself(self) -> bool:
        """Whether each statement commits by itself."""
        return self.transaction in (Transaction.AUTOCOMMIT, Transaction.LOCKED)

    def recover(self, error: DBAPIError) -> None:
        """Wait for the next attempt, or raise."""
        failure = self.dialect.failure(error)
        if failure is Failure.DISCONNECTED:
            self.lost = self.lost or self.ours
            self.patience.reconnect(self.at, error)
        elif failure is Failure.INTEGRITY and self.at.doubts_duplicates and self.patience.doubts():
            pass
        elif self.dialect.cut_off(error) and not self.patience.bears_cut_off():
            raise too_long(self.at, self.statement(error), error) from error
        elif failure is not Failure.LOCKED:
            if self.ours and self.was_done():
                return
            raise refused(failure, self.at, self.statement(error), error) from error
        # What commits by itself may be half done. A transaction is done or not, which the next look tells.
        self.stale = self.by_itself and self.ours and self.rerender is not None
        if not self.by_itself and failure is Failure.LOCKED:
            self.ours = False
        built = None if self.building_since is None else self.retry.clock() - self.building_since
        self.patience.wait(self.at, list(self.steps.values()), error, failure, built)

    def was_done(self) -> bool:
        """Whether the catalog shows, now, some of what was refused: then there is less to send.

        A statement goes on running on the server when the connection is lost, or the emc that sent it was killed; it
        may come to its end between our look and our own statement, which is refused then (MySQL: duplicate column).
        """
        if not self.by_itself or not self.patience.looks_again():
            return False
        before = [one.step.id for one in self.queue]
        try:
            with self.dialect.reading(self.engine) as connection:
                if all(self.held(connection)):
                    self.queue = []
                elif self.rerender is not None:
                    self.adopt(self.rerender(connection))
        except (DBAPIError, StartOverError):
            return False  # What the server said first is what a person has to know.
        if [one.step.id for one in self.queue] == before:
            return False
        self.outcome = FOUND_DONE_WHEN_REFUSED
        return True

    @property
    def at(self) -> Step:
        """The step that is under way."""
        return self.sending.step if self.sending is not None else next(iter(self.steps.values()))

    def statement(self, error: DBAPIError) -> str:
        """What was refused."""
        return self.sending.sql if self.sending is not None else error.statement or ""

    # -- the ledger ---------------------------------------------------------------------------------------------

    def record(self, connection: Connection) -> None:
        """Write down what was done, and how."""
        for step in self.steps.values():
            # After a lost connection the entry may be there, if the transaction was committed.
            if self.found(step) or (self.lost and self.notes.has(connection, step)):
                continue
            sent, evidence = self.sent.get(step.id, []), self.evidence.get(step.id, {})
            outcome = FOUND_DONE if self.lost else self.outcome
            self.notes.done(connection, step, sent, evidence, self.patience, outcome)

    def found(self, step: Step) -> bool:
        """Whether the result of *step* was there before, and nothing of ours was sent for it."""
        return step.id in self.before and not self.sent.get(step.id)

    def report_failure(self, error: EmcError) -> None:
        """Tell whoever watches, and note in the ledger what was tried and why it was given up."""
        self.report(StepEvent(StepState.FAILED, self.at, self.patience.attempt, reason=error.message))
        if not self.announced or (self.asking and not self.ours):
            return  # Nothing was tried: a gate's no is an answer, and the next one may differ.
        try:
            with self.open(Transaction.TOGETHER, LockPolicy.SHORT) as connection:
                self.notes.failed(connection, self.at, error, self.sending, self.patience)
        except (SQLAlchemyError, EmcError) as problem:
            error.add_note(f"The ledger could not be told: {problem}")
