"""What does the ledger hear of a unit?"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from emc.dialects.base import Dialect
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

    def add(self, connection: Connection, event: Event, step: Step, details: Mapping[str, Any]) -> None:
        """Write down what became of *step*, in the transaction of *connection*."""
        allowed = {} if step.operation.allowed is None else {"allowed": step.operation.allowed}
        entry = Entry(
            event=event,
            release=self._release,
            phase=self._phase,
            operation=step.id,
            details={**details, **allowed, "run": self._run},
            server=self._dialect.server_version(connection),
            runner=str(self._lease.runner),
        )
        record(connection, entry)

    def has(self, connection: Connection, step: Step) -> bool:
        """Whether this run has written down that *step* is done."""
        return any(
            entry.details.get("run") == self._run
            for entry in entries(connection, operation=step.id, limit=1)
            if entry.event is Event.DONE
        )
