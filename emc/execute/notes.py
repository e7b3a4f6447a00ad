"""What does the ledger hear of a unit?"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from emc.dialects.base import Dialect
from emc.errors import EmcError
from emc.execute.patience import Patience
from emc.execute.ways import Statement
from emc.phases import Phase
from emc.state.lease import Lease
from emc.state.ledger import Entry, Event, entries, record
from emc.steps import Step


class Notes:
    """The entries of one run of one unit."""

    def __init__(self, dialect: Dialect, lease: Lease, release: str | None, phase: Phase) -> None:
        self._dialect = dialect
        self._lease = lease
        self._release = release
        self._phase = phase
        self._run = uuid.uuid4().hex
        """Tells the entries of this run from those of others."""
        self._intended: set[str] = set()
        """Steps of which it is written that they are about to be sent."""

    def add(self, connection: Connection, event: Event, step: Step, details: Mapping[str, Any]) -> None:
        """Write down what became of *step*, in the transaction of *connection*."""
        operation = step.operation
        more: dict[str, Any] = {}
        if operation.allowed is not None:
            more["allowed"] = operation.allowed
        if operation.undoes is not None:
            more["undoes"] = operation.undoes
        if operation.remembers and event in (Event.SENT, Event.DONE):
            more["before"] = operation.remembers
        entry = Entry(
            event=event,
            release=self._release,
            phase=self._phase,
            operation=step.id,
            details={**details, **more, "run": self._run},
            server=self._dialect.server_version(connection),
            runner=str(self._lease.runner),
        )
        record(connection, entry)

    def intend(self, connection: Connection, steps: Sequence[Step], queue: Sequence[Statement]) -> None:
        """Write down, once, that *steps* are about to be carried out by what is in *queue*."""
        for step in steps:
            if step.id not in self._intended:
                sql = [one.sql for one in queue if one.step.id == step.id]
                self.add(connection, Event.SENT, step, {"statements": sql})
                self._intended.add(step.id)

    def done(
        self,
        connection: Connection,
        step: Step,
        statements: Sequence[str],
        evidence: Mapping[str, Any],
        patience: Patience,
        outcome: str | None,
    ) -> None:
        """Write down that *step* is done, and by what.

        :param outcome: how that is known, where the server did not say so when *statements* were sent.
        """
        details = {
            "expects": step.postcondition.expects,
            "statements": statements,
            "evidence": evidence,
            "seconds": round(patience.seconds, 3),
            "attempts": patience.attempt,
        }
        self.add(
            connection, Event.DONE, step, details if outcome is None else {**details, "outcome": outcome}
        )

    def failed(
        self,
        connection: Connection,
        step: Step,
        error: EmcError,
        sending: Statement | None,
        patience: Patience,
    ) -> None:
        """Write down that *step* is given up, and why.

        :param sending: the statement that was under way.
        """
        statement = sending.sql if sending is not None else None
        details = {"error": error.message, "statement": statement, "attempts": patience.attempt}
        self.add(connection, Event.FAILED, step, details)

    def has(self, connection: Connection, step: Step) -> bool:
        """Whether this run has written down that *step* is done."""
        return any(
            entry.details.get("run") == self._run
            for entry in entries(connection, operation=step.id, limit=1)
            if entry.event is Event.DONE
        )
