"""How is a statement sent that no plan of emc holds?

Under the same lock policy, with the same retries, and noted in the same ledger as everything that emc sends. What is
missing is the look into the catalog: only its author knows what a statement is to come to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.alembic.running.requests import Request, parted
from emc.dialects import Dialect
from emc.dialects.answers import Failure
from emc.dialects.lexis import Lexis
from emc.errors import EmcError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.execute.messages import refused, too_long
from emc.execute.patience import Patience
from emc.execute.plain import UnreadableError
from emc.execute.words import statements_of
from emc.names import Element, ElementKind, TableKey
from emc.operations import Operation
from emc.phases import Phase
from emc.state.lease import LOCK_TIMEOUT, Lease
from emc.state.ledger import Entry, Event, entries, record
from emc.steps import LockPolicy, Probe, Step, Transaction

_LONGER = (
    "Run the command again when the server has less to do. Or let everybody wait for as long as it takes:\n"
    '  with emc.alembic.allow("who agreed, and when it runs"):'
)
KIND = "statement"
"""Of operations that are statements of a revision; no plan has such."""


@dataclass(frozen=True)
class Handwritten:
    """A statement of a revision."""

    revision: str
    sql: str
    text: str
    """What is left of it without comments and literals."""
    parameters: Any
    table: tuple[str, ...]
    """What it is about, as far as that can be read; for those whose locks are in the way."""
    phase: Phase
    reason: str | None = None
    """Why it may be sent although emc cannot tell what it does."""
    apart: bool = False
    """Whether it has to be sent outside any transaction."""

    @property
    def step(self) -> Step:
        """As what it is carried out."""
        said = self.sql if self.parameters is None else f"{self.sql} {self.parameters!r}"
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        name = self.table[-1] if self.table else "no-table"
        schema = self.table[-2] if len(self.table) > 1 else None
        brief = " ".join(self.sql.split())
        shown = brief if len(brief) <= 100 else f"{brief[:99]}…"
        return Step(
            Operation(
                ops.ExecuteSQLOp(self.sql),
                f"{KIND}:{self.revision}:{digest}",
                Element(ElementKind.TABLE, TableKey(schema, name)),
                self.phase,
                f"A statement of revision {self.revision}, {shown},",
                allowed=self.reason,
            ),
            (self.sql,),
            Probe("SELECT 1", "it was sent"),
            Transaction.AUTOCOMMIT if self.apart and not self.writes else Transaction.TOGETHER,
            # Whoever gives a reason for a statement has agreed to how long it takes.
            LockPolicy.WEAK if self.builds else LockPolicy.LONG if self.reason else LockPolicy.SHORT,
            unit=self.revision,
        )

    @property
    def writes(self) -> bool:
        """Whether it is about rows alone, so that a transaction holds it and its line in the ledger together."""
        words = [one.fresh().next() for one in statements_of(self.text)]
        return all(word in {"INSERT", "UPDATE", "DELETE", "REPLACE"} for word in words)

    @property
    def builds(self) -> bool:
        """Whether it says that it stalls nobody while it works."""
        return any(
            words.holds({"CONCURRENTLY"}) or words.holds_in_a_row("VALIDATE", "CONSTRAINT")
            for words in statements_of(self.text)
        )


def was_sent(connection: Connection, statement: Handwritten) -> bool:
    """Whether the ledger says that an earlier run of the revision has sent *statement*."""
    found = entries(connection, operation=statement.step.id)
    return any(entry.event is Event.DONE for entry in found)


def times_sent(connection: Connection, statement: Handwritten) -> int:
    """How often the ledger says that *statement* was sent since its revision last went down."""
    down = entries(connection, operation=f"{KIND}:{statement.revision}")
    since = max((entry.id or 0 for entry in down), default=0)
    found = entries(connection, operation=statement.step.id)
    return sum(entry.event is Event.DONE and (entry.id or 0) > since for entry in found)


def went_down(connection: Connection, revision: str, release: str | None) -> None:
    """Note that what *revision* has sent by hand is to be sent again when it goes up again."""
    mine = f"{KIND}:{revision}:"
    if any(str(entry.operation).startswith(mine) for entry in entries(connection)):
        record(connection, Entry(event=Event.UNDONE, release=release, operation=f"{KIND}:{revision}"))


def added(connection: Connection, revision: str, request: Request, lexis: Lexis) -> bool:
    """Whether the ledger says that *revision* has sent a statement that adds what *request* takes."""
    for entry in entries(connection):
        if entry.event is not Event.DONE or not str(entry.operation).startswith(f"{KIND}:{revision}:"):
            continue
        for sql in entry.details["statements"]:
            try:
                statements = parted(sql, lexis)
            except UnreadableError:
                continue
            given = (one for statement in statements for one in statement.requests if not one.takes)
            if any(one.is_about(request) for one in given):
                return True
    return False


def send(
    engine: Engine,
    dialect: Dialect,
    statement: Handwritten,
    lease: Lease,
    release: str | None,
    retry: RetryPolicy,
    report: Callable[[StepEvent], None],
) -> None:
    """Send *statement*.

    :raises LockBudgetError: a lock was not to be had within the budget.
    :raises EmcError: the database refused it, or was lost while it ran.
    """
    step = statement.step
    patience = Patience(engine, dialect, retry, report)

    def note(connection: Connection, event: Event, **more: Any) -> None:
        reason = {} if statement.reason is None else {"allowed": statement.reason}
        details = {
            "statements": [statement.sql],
            "revision": statement.revision,
            "branch": str(statement.phase),
            "attempts": patience.attempt,
        }
        # Without a phase: undo takes back what it knows the way back of, and asks what a phase has done. But what
        # contract has done with somebody's word for it keeps undo from believing that nothing was taken.
        phase = Phase.CONTRACT if statement.phase is Phase.CONTRACT and statement.reason else None
        entry = Entry(
            event=event,
            release=release,
            phase=phase,
            operation=step.id,
            details={**details, **reason, **more},
            server=dialect.server_version(connection),
            runner=str(lease.runner),
        )
        record(connection, entry)

    while True:
        patience.begin()
        try:
            with dialect.open(engine, step.transaction, step.locks, patience.lock_timeout) as connection:
                lease.confirm(connection)
                if patience.attempt == 1:
                    report(StepEvent(StepState.STARTED, step, 1))
                _execute(connection, statement)
                note(connection, Event.DONE, seconds=round(patience.seconds, 3))
        except DBAPIError as error:
            failure = dialect.failure(error)
            too_slow = dialect.cut_off(error) and not patience.bears_cut_off()
            if failure is Failure.LOCKED and not too_slow:
                patience.wait(step, [step], error, failure, None)
                continue
            told: EmcError = refused(failure, step, statement.sql, error)
            if too_slow:
                told = too_long(step, statement.sql, error)
                told.remedy = _LONGER
            report(StepEvent(StepState.FAILED, step, patience.attempt, reason=told.message))
            if failure is not Failure.DISCONNECTED:
                with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT) as connection:
                    note(connection, Event.FAILED, error=told.message)
            raise told from error
        report(StepEvent(StepState.DONE, step, patience.attempt, seconds=patience.seconds))
        return


def _execute(connection: Connection, statement: Handwritten) -> None:
    if statement.parameters is None:
        connection.exec_driver_sql(statement.sql, execution_options={"no_parameters": True})
    else:
        connection.exec_driver_sql(statement.sql, statement.parameters or None)
