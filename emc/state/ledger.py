"""What did emc do, and what had it proved when it did it?

The ledger is evidence for people and for later gates' *reports*; no gate opens because of what it says.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select

from emc.phases import Phase
from emc.state.encoding import decode, encode
from emc.state.tables import LEDGER, ensure, exists, utc_now


class Event(enum.StrEnum):
    """What an entry of the ledger says."""

    FINISHED = "finished"
    """A run of a data migration ended; the details say how, and how many rows it wrote."""
    SENT = "sent"
    """Statements that commit by themselves are about to be sent: an emc that is killed before it can write down what
    came of them has said at least what it was about. Whether they took effect is for the catalog to tell."""
    DONE = "done"
    """An operation was carried out, and the catalog showed it."""
    FAILED = "failed"
    """An operation was tried and given up."""
    OVERRIDDEN = "overridden"
    """A person let an operation past a shut gate; the details hold the reason."""
    OLD_CODE_GONE = "old-code-gone"
    """A person said that the previous release no longer runs."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    event: Event
    release: str | None = None
    phase: Phase | None = None
    operation: str | None = None
    """The id of the operation; ``None`` where the entry is about a command."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Predicate, rows seen, seconds, statements, …: whatever :func:`emc.state.encoding.encode` takes. Never
    credentials; what looks like a password in a URL or a connection string is blotted out."""
    server: str | None = None
    """The server's version."""
    runner: str | None = None
    """Who, as ``user@host:pid``."""
    at: dt.datetime = field(default_factory=utc_now)
    """When it was recorded, by this host's clock."""
    id: int | None = None
    """Its place in the ledger; :func:`record` fills it in."""


def record(connection: Connection, entry: Entry) -> Entry:
    """Write *entry* in the transaction of *connection*, and return it with its place."""
    ensure(connection, LEDGER)
    entry = dataclasses.replace(entry, details=_blotted(entry.details))
    result = connection.execute(
        insert(LEDGER).values(
            at=entry.at,
            release=entry.release,
            phase=entry.phase.value if entry.phase is not None else None,
            operation=entry.operation,
            event=entry.event.value,
            details=encode(entry.details),
            server=entry.server,
            runner=entry.runner,
        )
    )
    [identity] = result.inserted_primary_key or [None]
    return dataclasses.replace(entry, id=identity)


def entries(
    connection: Connection, *, limit: int | None = None, operation: str | None = None
) -> tuple[Entry, ...]:
    """The ledger, newest entry last; empty where there is none.

    :param limit: only the newest so many.
    :param operation: only those about the operation with this id.
    """
    if not exists(connection, LEDGER):
        return ()
    query = select(LEDGER).order_by(LEDGER.c.id.desc()).limit(limit)
    if operation is not None:
        query = query.where(LEDGER.c.operation == operation)
    newest_first = [
        Entry(
            event=Event(row.event),
            release=row.release,
            phase=Phase(row.phase) if row.phase is not None else None,
            operation=row.operation,
            details=decode(row.details),
            server=row.server,
            runner=row.runner,
            at=row.at,
            id=row.id,
        )
        for row in connection.execute(query)
    ]
    return tuple(reversed(newest_first))


def carried_out(connection: Connection) -> frozenset[str]:
    """The ids of all operations that were ever carried out, or at least begun."""
    if not exists(connection, LEDGER):
        return frozenset()
    return frozenset(connection.execute(_BEGUN).scalars())


def carried_out_beside_old_code(connection: Connection, release: str) -> frozenset[str]:
    """The ids of operations begun for *release* since it was last said that the release before it is gone."""
    if not exists(connection, LEDGER):
        return frozenset()
    gone = select(func.max(LEDGER.c.id)).where(LEDGER.c.event == Event.OLD_CODE_GONE.value)
    since = connection.execute(gone).scalar_one() or 0
    return frozenset(
        connection.execute(_BEGUN.where(LEDGER.c.release == release, LEDGER.c.id > since)).scalars()
    )


_BEGUN = (
    select(LEDGER.c.operation)
    .distinct()
    .where(LEDGER.c.event.in_([Event.SENT.value, Event.DONE.value]), LEDGER.c.operation.is_not(None))
)

_WORD = r"(?i)\b((?:password|passwd|identified\s+by)"
_SECRETS = (
    (re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@"), r"\1:***@"),
    (re.compile(_WORD + r"\s*=?\s*)'+[^']*'+"), r"\1'***'"),
    (re.compile(_WORD + r"\s*=\s*)[^\s'\";,)]+"), r"\1***"),
)


def _blotted(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, replacement in _SECRETS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {key: _blotted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_blotted(item) for item in value]
    return value
