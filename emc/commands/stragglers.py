"""What becomes of rows that get in the way of a constraint between their clean-up and the constraint?

Until the constraint stands everybody may write such rows, the new release too. Where a declaration says how they are
cleaned up, and its data migration has been complete before, contract does so again, and tries again. It never touches
rows that no declaration names, and it opens no gate: the constraint is proved by the database each time.

What keeps the next ones away meanwhile differs. A foreign key of PostgreSQL stands as NOT VALID while the rows behind
it are cleaned up; one of MariaDB stands under the name of a guard. For a unique index nothing does at first, and who
was disturbed goes on where nobody writes, with a table that is built over in a moment or whose writers are allowed to
wait: on PostgreSQL and SQLite the last duplicates go in the transaction of the index itself, on MariaDB under the same
LOCK TABLES. On a big table of PostgreSQL a build that met one in its second look at the table stays behind INVALID, and
refuses duplicates from then on; where it met one in its first look, and on MariaDB, nothing refuses them, and the build
has to be faster than the next duplicate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, update
from sqlalchemy.exc import CompileError, DBAPIError

from emc.commands.confirming import GateShutError
from emc.data import BatchPolicy, Outcome, Result, run_all
from emc.data.apply import RowError, by_column
from emc.data.losers import Losers, settle, way
from emc.dialects.answers import Failure
from emc.errors import EmcError, StatementFailedError
from emc.execute import StepEvent, StepState
from emc.gates import Scope, Verdict, gates_of
from emc.literally import literally
from emc.state.lease import LOCK_TIMEOUT
from emc.state.ledger import Entry, Event, entries, record
from emc.steps import LockPolicy, Step, Transaction
from emc.work import DeleteRow, SetValues, Work, rows_left

if TYPE_CHECKING:
    from emc.commands.guarding import Course

ROUNDS = 5
"""How often rows are cleaned up for one unit: whoever writes faster than that has to pause."""
_BESIDE = 2
"""How often MariaDB is let build beside the writers before they are kept out, which takes a privilege of its own."""
_AT_ONCE = 10_000
"""Rows that are cleaned up, at most, while everybody waits for the transaction of the constraint."""


def straggling(
    step: Step, connection: Connection, scope: Scope, overrides: Mapping[str, str]
) -> Mapping[str, Work]:
    """By gates of *step* that need not be open yet, how the rows in their way are cleaned up.

    That is so where a declaration names them, and where they have come since its data migration was complete: without
    that there may be many, and cleaning them up is the business of migrate.
    """
    found: dict[str, Work] = {}
    for gate in gates_of(step.operation):
        name = gate.cleaned_by(scope)
        work = scope.plan.all_work.get(name) if name is not None else None
        if not isinstance(work, Work) or not isinstance(work.action, (DeleteRow, SetValues)):
            continue
        if gate.name not in overrides and _was_complete(connection, work.name):
            found[gate.name] = work
    return found


def foreseen(
    steps: Sequence[Step], connection: Connection, scope: Scope, overrides: Mapping[str, str]
) -> tuple[Result, ...]:
    """What would be cleaned up for *steps* if they ran now."""
    every = (work for step in steps for work in straggling(step, connection, scope, overrides).values())
    counts = {work.name: rows_left(connection, work) for work in every}
    return tuple(Result(name, Outcome.MORE, rows_left=rows) for name, rows in counts.items() if rows)


def _was_complete(connection: Connection, name: str) -> bool:
    """Whether a run of the data migration *name* has come to its end. It proves nothing, and opens no gate."""
    return any(
        entry.event is Event.FINISHED and entry.details.get("outcome") == Outcome.COMPLETE
        for entry in entries(connection, operation=name)
    )


class Stragglers:
    """The clean-ups of one unit."""

    def __init__(self, course: Course, scope: Scope, unit: Sequence[Step]) -> None:
        self._course = course
        self._scope = scope
        self._unit = unit
        self._by_gate: dict[str, Work] = course.dialect.ask(course.engine, self._look)
        self._rounds = 0
        self._problem: Result | None = None
        self._alone = False
        """Whether the last ones go right before the constraint, in a session that keeps others out."""
        self._is_too_big = self._course.dialect.keeps_writers_out
        """Whether nothing but the size of the table stands against that."""
        self._swept: list[Result] = []
        """What went in the transaction of the last attempt."""

    def _look(self, connection: Connection) -> dict[str, Work]:
        found: dict[str, Work] = {}
        for step in self._unit if self._course.tidies else ():
            found |= straggling(step, connection, self._scope, self._course.overrides)
        return found

    @property
    def left_to_the_database(self) -> frozenset[str]:
        """Gates that are not asked: the statements put the constraint in force for new rows before they prove it."""
        if self._alone:
            return frozenset(self._by_gate)
        by_itself = self._unit[0].transaction is Transaction.AUTOCOMMIT
        if not by_itself or not self._course.dialect.foreign_keys_guard_themselves:
            return frozenset()
        return frozenset(gate for gate, work in self._by_gate.items() if not work.rivalries)

    def clean(self, gates: Collection[str], then: str = "starts over") -> bool:
        """Clean up what keeps *gates* shut; answers whether it is worth to try again.

        :param then: what the unit does then, for whoever watches.
        """
        every = list({work.name: work for gate in gates if (work := self._by_gate.get(gate))}.values())
        if not every or not set(gates) <= self._by_gate.keys() or self._rounds >= ROUNDS:
            return False
        self._rounds += 1
        course = self._course
        retry = course.retry
        results = run_all(
            course.engine,
            course.dialect,
            every,
            lease=course.lease,
            # Whoever comes in meanwhile is cleaned up in the next round: the sooner the constraint is tried, the fewer.
            batch=BatchPolicy(fast=True, passes=1, clock=retry.clock, sleep=retry.sleep, random=retry.random),
            upgrade_work=tuple(self._scope.plan.all_work.values()),
        )
        with course.dialect.open(
            course.engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT
        ) as connection:
            course.lease.confirm(connection)
            for result in results:
                self._note(connection, result.name, str(result.outcome), result.rows_done, result.rows_left)
        course.cleaned.extend(results)
        for one in results:
            gate = next(gate for gate, work in self._by_gate.items() if work.name == one.name)
            self._tell(StepState.CLEANED, f"{one.name} cleaned up {one.rows_done:,}, {then}", gate)
        passable = (Outcome.COMPLETE, Outcome.OUTRUN)
        self._problem = next((one for one in results if one.outcome not in passable), None)
        return self._problem is None

    def may_help(self, error: EmcError) -> bool:
        """Whether *error* may be due to rows that come and go, so that a clean-up, or another try, may help."""
        if isinstance(error, StatementFailedError):
            every = (gate.name for step in self._unit for gate in gates_of(step.operation))
            return error.violated and not any(gate in self._course.overrides for gate in every)
        return isinstance(error, GateShutError)

    def again(self) -> bool:
        """Whether to try again what has failed although nothing is in the way: it has gone by itself."""
        self._rounds += 1
        if self._rounds > ROUNDS:
            return False
        self._tell(StepState.CLEANED, "what was in the way has gone by itself, starts over")
        return True

    def give_up(self, error: EmcError) -> None:
        """Tell whoever watches, and the ledger where something was tried, that the unit has come to nothing."""
        self._tell(StepState.FAILED, error.message, next(iter(self._by_gate), ""))
        if not isinstance(error, StatementFailedError):
            return  # A gate's no is an answer, and the next one may differ.
        course = self._course
        with course.dialect.open(
            course.engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT
        ) as connection:
            course.lease.confirm(connection)
            details = {"error": error.message, "statement": error.statement, "round": self._rounds}
            self._enter(connection, Event.FAILED, error.step, details)

    def done(self) -> None:
        """The unit is done, and with it what went in its transaction."""
        self._course.cleaned.extend(self._swept)

    @property
    def can_sweep(self) -> bool:
        """Whether rows may go in the transaction of the constraint."""
        return bool(self._by_gate)

    def sweep(self, connection: Connection) -> None:
        """Clean up the last few in the transaction of *connection*, which keeps everybody out."""
        self._swept = []
        is_time = self._rounds and self._course.dialect.transactional_ddl
        for work in self._by_gate.values() if is_time else ():
            if not 0 < rows_left(connection, work) <= _AT_ONCE:
                continue
            try:
                done = self._sweep(connection, work)
            except (RowError, DBAPIError) as error:
                cause = error.cause if isinstance(error, RowError) else error
                if (
                    isinstance(cause, DBAPIError)
                    and self._course.dialect.failure(cause) is not Failure.INTEGRITY
                ):
                    raise cause from None
                continue  # It refuses to go: the next clean-up says which, and why.
            if not done:
                continue
            # Until the transaction is committed nothing is done; what is, the ledger says.
            self._note(connection, work.name, str(Outcome.COMPLETE), done, 0)
            self._swept.append(
                Result(work.name, Outcome.COMPLETE, rows_found=done, rows_done=done, rows_left=0)
            )

    def alone(self, unit: Sequence[Step]) -> tuple[Step, ...]:
        """*unit* with its clean-up among its statements, where no transaction spans DDL and one try was outrun."""
        works = list({work.name: work for work in self._by_gate.values()}.values())
        if self._rounds < _BESIDE or len(unit) != 1 or len(works) != 1 or len(works[0].rivalries) != 1:
            return tuple(unit)
        (step,), (work,), course = unit, works, self._course
        if not isinstance(work.action, DeleteRow) or work.action.merge is not None:
            return tuple(unit)
        try:
            cleaning = literally(delete(work.table).where(work.pending), course.engine.dialect)
        except (CompileError, NotImplementedError):
            return tuple(unit)  # A value that cannot be written down.
        found = None
        if not course.dialect.transactional_ddl:
            found = course.dialect.alone(step, cleaning, self._scope.plan.situation.live)
        self._alone, self._is_too_big = found is not None, found is None
        return tuple(unit) if found is None else (found,)

    def _sweep(self, connection: Connection, work: Work) -> int:
        """Clean up by *work*, all at once or nothing at all; answers how many rows."""
        dialect = self._course.dialect
        merges = isinstance(work.action, DeleteRow) and work.action.merge is not None
        if (merges or work.references) and not dialect.concurrent_sessions:
            return 0  # A table is rebuilt while no foreign key acts (SQLite).
        with connection.begin_nested():
            walk = way(dialect, work)
            if isinstance(walk, Losers) and isinstance(work.action, DeleteRow):
                if (ceiling := walk.last(connection)) is None:
                    return 0
                walk.look(connection, None, ceiling)
                walk.bound(connection, None, ceiling, _AT_ONCE, _AT_ONCE)
                return settle(connection, walk, (), dialect, work.action.merge).written
            statement: Any = delete(work.table)
            if isinstance(work.action, SetValues):
                statement = update(work.table).values(by_column(work, work.action.values))
            return connection.execute(statement.where(work.pending)).rowcount

    def _tell(self, state: StepState, reason: str, gate: str = "") -> None:
        its = (step for step in self._unit if gate in {one.name for one in gates_of(step.operation)})
        self._course.report(StepEvent(state, next(its, self._unit[0]), self._rounds, reason=reason))

    def told(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """*verdicts*, which keep the unit from being run, with what has been tried."""
        if not self._rounds:
            return tuple(verdicts)
        return tuple(self._told(one) if one.gate in self._by_gate else one for one in verdicts)

    def _told(self, verdict: Verdict) -> Verdict:
        work = self._by_gate[verdict.gate]
        if self._problem is not None:
            return dataclasses.replace(
                verdict,
                reason=f"{verdict.reason}; {work.name} could not clean them up: {self._problem.reason}",
                remedy=self._problem.remedy or verdict.remedy,
            )
        times = "once" if self._rounds == 1 else f"{self._rounds} times"
        return dataclasses.replace(
            verdict,
            reason=f"{verdict.reason}; {work.name} cleaned up {times}, and others came before the constraint stood",
            remedy="\n".join([*self._unhurried(), "emc contract --old-code-gone"]),
        )

    def _unhurried(self) -> Sequence[str]:
        """What lets the constraint be faster than the next row in its way."""
        yield_to_it = "Let whoever writes such rows pause for as long as that takes"
        (first, *_) = self._unit
        if not self._is_too_big or first.operation.allowed is not None:
            return [f"{yield_to_it}, then:"]
        allow = f'upgrade.allow("{first.id}", reason="who agreed that writers wait, and when")'
        return [
            f"{yield_to_it}. Or let every writer of the table wait, which the table is too big for unasked:",
            allow,
        ]

    def _note(self, connection: Connection, name: str, outcome: str, done: int, left: int | None) -> None:
        details = {
            "outcome": outcome,
            "rows_done": done,
            "rows_left": left,
            "for": [step.id for step in self._unit],
            "round": self._rounds,
        }
        self._enter(connection, Event.FINISHED, name, details)

    def _enter(
        self, connection: Connection, event: Event, operation: str, details: Mapping[str, Any]
    ) -> None:
        course = self._course
        record(
            connection,
            Entry(
                event=event,
                release=course.upgrade.release,
                phase=course.phase,
                operation=operation,
                details=details,
                server=course.dialect.server_version(connection),
                runner=str(course.lease.runner),
            ),
        )
