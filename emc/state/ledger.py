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

from sqlalchemy import Connection, Row, func, insert, select

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
    NEW_CODE_GONE = "new-code-gone"
    """A person said that the release that undo takes back no longer runs."""
    UNDONE = "undone"
    """Nothing is left of what expand did for a release: whatever is written of it above no longer counts. With an
    operation: a revision of Alembic went down, and what it has sent by hand no longer counts."""


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
    newest_first = [_entry(row) for row in connection.execute(query)]
    return tuple(reversed(newest_first))


def _entry(row: Row[Any]) -> Entry:
    return Entry(
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


def carried_out(connection: Connection, phase: Phase | None = None) -> frozenset[str]:
    """The ids of all operations that were ever carried out, or at least begun.

    :param phase: those of this phase alone.
    """
    if not exists(connection, LEDGER):
        return frozenset()
    begun = _BEGUN if phase is None else _BEGUN.where(LEDGER.c.phase == phase.value)
    return frozenset(connection.execute(begun).scalars())


def carried_out_beside_old_code(connection: Connection, release: str) -> frozenset[str]:
    """The ids of operations of expand begun for *release* since it was last said that the release before it is gone.

    What undo has taken back is left out.
    """
    if not exists(connection, LEDGER):
        return frozenset()
    gone = select(func.max(LEDGER.c.id)).where(LEDGER.c.event == Event.OLD_CODE_GONE.value)
    since = connection.execute(gone).scalar_one() or 0
    return frozenset(expanded(connection, release, since=since))


def expanded(connection: Connection, release: str | None, *, since: int = 0) -> Mapping[str, Entry]:
    """What expand has begun for *release* and undo has not taken back, by id: the first entry of each, oldest first.

    The first, since a second attempt finds what an interrupted one has left.

    :param since: the place in the ledger behind which to look.
    """
    begun: dict[str, Entry] = {}
    for entry in _of(connection, release, Phase.EXPAND, Phase.UNDO):
        if entry.id is None or entry.id <= since:
            continue
        if entry.event is Event.UNDONE:
            kept = entry.details.get("kept", ())
            begun = {id_: one for id_, one in begun.items() if id_ in kept}
        elif entry.phase is Phase.UNDO and entry.event is Event.DONE:
            begun.pop(str(entry.details.get("undoes")), None)
        elif entry.phase is Phase.EXPAND and entry.event in (Event.SENT, Event.DONE):
            begun.setdefault(str(entry.operation), entry)
    return begun


def expanded_by_others(connection: Connection, release: str | None, *, since: int) -> tuple[Entry, ...]:
    """What expand has begun for other releases than *release* and undo has not taken back.

    :param since: the place in the ledger behind which to look.
    """
    if not exists(connection, LEDGER):
        return ()
    query = select(LEDGER.c.release).distinct()
    query = query.where(LEDGER.c.phase == Phase.EXPAND.value, LEDGER.c.id > since)
    others = [other for other in connection.execute(query).scalars() if other != release]
    return tuple(
        entry
        for other in sorted(others, key=lambda one: one or "")
        for entry in expanded(connection, other, since=since).values()
    )


def last_undone(connection: Connection, release: str | None) -> Entry | None:
    """When all that expand had done for *release* was last taken back; ``None``: never."""
    undone = [entry for entry in _of(connection, release, Phase.UNDO) if entry.event is Event.UNDONE]
    return undone[-1] if undone else None


def contracted(connection: Connection, release: str | None) -> tuple[Entry, ...]:
    """What contract has begun for *release*, newest entry last; be it that it only was about to."""
    return tuple(
        entry
        for entry in _of(connection, release, Phase.CONTRACT)
        if entry.event in (Event.SENT, Event.DONE) and entry.operation is not None
    )


def is_kept(value: Any) -> bool:
    """Whether the ledger would keep *value* as it is, and blot out nothing that looks like a password."""
    return bool(_blotted(value) == value)


def _of(connection: Connection, release: str | None, *phases: Phase) -> tuple[Entry, ...]:
    """The entries for *release* about *phases*, newest last."""
    if not exists(connection, LEDGER):
        return ()
    named = LEDGER.c.release.is_(None) if release is None else LEDGER.c.release == release
    query = (
        select(LEDGER).where(named, LEDGER.c.phase.in_([one.value for one in phases])).order_by(LEDGER.c.id)
    )
    return tuple(map(_entry, connection.execute(query)))


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
