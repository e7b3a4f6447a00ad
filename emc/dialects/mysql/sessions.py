"""How long may a MariaDB or MySQL session wait, and what must not be left to its settings?

Both servers let a statement wait for a metadata lock for a day or a year unless told otherwise, and everybody who comes
after it waits with it.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Pool, event, text
from sqlalchemy.exc import DBAPIError

from emc.dialects.mysql.flavour import Flavour
from emc.errors import ConfigurationError
from emc.names import TableKey
from emc.steps import LockPolicy, Transaction

BUILD_WAIT = 10
"""Seconds that a build may wait for a lock: it needs one at its end, and without it all its work is lost (error 1205
after 2.7 s of building, seen with MariaDB 10.11.19)."""
_READING_WAIT = 10
"""Seconds that a mere question may wait behind the DDL of others; it keeps nobody waiting."""
_IDLE_SHORT = 60
"""Seconds that a session may be idle while it may hold locks: a stopped emc must stall nobody."""
_IDLE_WEAK = 600
"""Seconds that a session may be idle while a user's function thinks about a batch."""

_SORTED = {"max_sort_length": 16_384}
"""Bytes by which values are sorted. By default it is 1,024, and the server loses track of what differs behind that:
ROW_NUMBER() OVER (PARTITION BY …) saw none of three duplicates (MariaDB 10.11.19). The widest unique key has 3,072
bytes, whose sort key may be some times as long."""

STRICT = frozenset({"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES", "NO_ENGINE_SUBSTITUTION"})
"""Modes without which a NULL becomes 0, a long text is cut, and a table gets another engine, all without an error."""

_SAVEPOINT = "emc_reading"


def settings(
    flavour: Flavour, transaction: Transaction, locks: LockPolicy, lock_timeout: float
) -> dict[str, int]:
    """The variables of a session for one attempt, without ``sql_mode``; times in seconds.

    ``lock_wait_timeout`` is for metadata locks, which stall everybody who comes later when DDL waits for one:

    ============  ==================================  ===========================================
    .             SHORT                               WEAK
    ============  ==================================  ===========================================
    together      lock_timeout, 1 s at least (DML     the same (a batch of a data migration)
                  that waits stalls nobody)
    otherwise     lock_timeout in whole seconds;      :data:`BUILD_WAIT`
                  less is not to wait at all, where
                  the server can do that
    ============  ==================================  ===========================================
    """
    patient = max(1, math.ceil(lock_timeout))
    if transaction is Transaction.TOGETHER:
        waits = patient
    elif locks is LockPolicy.WEAK:
        waits = BUILD_WAIT
    else:
        waits = max(flavour.shortest_lock_wait, math.floor(lock_timeout))
    return {
        "lock_wait_timeout": waits,
        # Rows: of emc's own tables, or of a batch.
        "innodb_lock_wait_timeout": max(patient, waits),
        # A dump that was read in, or a tool, may have switched these off for its session.
        "foreign_key_checks": 1,
        "unique_checks": 1,
        # Refuses an UPDATE that no index bounds, which a small table may need.
        "sql_safe_updates": 0,
        # Both servers end what is idle for so long, a transaction or LOCK TABLES with it.
        "wait_timeout": _IDLE_SHORT if locks is LockPolicy.SHORT else _IDLE_WEAK,
        **_SORTED,
        **flavour.session_settings,
    }


@contextmanager
def opened(
    engine: Engine, flavour: Flavour, transaction: Transaction, locks: LockPolicy, lock_timeout: float
) -> Iterator[Connection]:
    """A connection for one attempt, with its settings made and read back, and undone in the end.

    :raises ConfigurationError: the settings did not stay, as behind a pooler that shares sessions.
    """
    wanted = settings(flavour, transaction, locks, lock_timeout)
    # Not the servers' own REPEATABLE READ: one that waited for a writer must see what it wrote, and the gaps between
    # rows are not for emc to lock.
    level = "READ COMMITTED" if transaction is Transaction.TOGETHER else "AUTOCOMMIT"
    with (
        engine.connect().execution_options(isolation_level=level) as connection,
        _set(connection, wanted, STRICT | flavour.data_modes),
    ):
        if transaction is not Transaction.TOGETHER:
            yield connection
            return
        _demand_utf8mb4(connection)
        connection.commit()  # What SQLAlchemy began for the settings.
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose reads are one snapshot, and which holds no lock longer than a query takes.

    A transaction keeps the metadata lock of every table that it has read, so the DDL of others, emc's own too, would
    wait for it, and everybody else for that. Here each query is taken back to a savepoint once it is answered: the
    snapshot stays and its locks go (seen with MariaDB 10.11.19; ``mysqldump --single-transaction`` of both servers does
    it for this reason). DDL on this connection would commit and end the snapshot; the next query fails with error 1305.
    """
    options = {"isolation_level": "REPEATABLE READ"}
    with (
        engine.connect().execution_options(**options) as connection,
        _set(connection, {"lock_wait_timeout": _READING_WAIT, **_SORTED}, frozenset()),
    ):
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
        event.listen(connection, "after_cursor_execute", _let_go)
        try:
            yield connection
        finally:
            event.remove(connection, "after_cursor_execute", _let_go)
            connection.rollback()


def _let_go(connection: Connection, *_: Any) -> None:
    # Both drivers have the whole answer by now: nothing in emc asks for a result in pieces.
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")


def _demand_utf8mb4(connection: Connection) -> None:
    """Make sure that every character survives the way to Python and back: a key, or what a function answers.

    :raises ConfigurationError: the driver was told to use another character set.
    """
    used = connection.exec_driver_sql(
        "SELECT @@SESSION.character_set_client, @@SESSION.character_set_results"
    ).one()
    if any(name != "utf8mb4" for name in used):
        raise ConfigurationError(
            f"The driver talks {' and '.join(sorted({str(name) for name in used}))} with the server, which has no sign "
            "for some characters; emc would read and write a question mark in their place.",
            remedy="Give emc a URL that ends in ?charset=utf8mb4.",
        )


# -- settings that stay, and are undone ---------------------------------------------------------------------------


@contextmanager
def _set(connection: Connection, wanted: Mapping[str, int], modes: frozenset[str]) -> Iterator[None]:
    names = [*wanted, "sql_mode"]
    reads = "SELECT CONNECTION_ID(), " + ", ".join(f"@@SESSION.{name}" for name in names)
    session, *before = connection.exec_driver_sql(reads).one()
    present = _modes(before[-1])
    # Added to what is there: SQLAlchemy has looked for ANSI_QUOTES and NO_BACKSLASH_ESCAPES when it connected.
    _assign(connection, {**wanted, "sql_mode": ",".join(sorted(present | modes))})
    # In a statement of its own: behind a pooler it may well end up in another session.
    now, *found = connection.exec_driver_sql(reads).one()
    stays = now == session and tuple(found[:-1]) == tuple(wanted.values()) and modes <= _modes(found[-1])
    try:
        _count(connection, session, 1)
        if not stays:
            raise ConfigurationError(
                "The server forgot lock_wait_timeout between two statements, as behind a proxy that shares sessions; "
                "without it a change could stall every other session of the table.",
                remedy="Give emc the address of the server itself, or a rule of the proxy that gives it a session of "
                "its own (ProxySQL: transaction_persistent and no multiplexing).",
            )
        yield
    finally:
        _count(connection, session, -1)
        _restore(connection, dict(zip(names, before, strict=True)))


def _modes(value: str) -> frozenset[str]:
    return frozenset(mode for mode in value.split(",") if mode)


def _assign(connection: Connection, values: Mapping[str, Any]) -> None:
    assigned = ", ".join(f"SESSION {name} = :{name}" for name in values)
    connection.execute(text(f"SET {assigned}"), dict(values))


def _restore(connection: Connection, before: Mapping[str, Any]) -> None:
    if connection.closed or connection.invalidated:
        return
    try:
        connection.exec_driver_sql("UNLOCK TABLES")  # What LOCK TABLES took outlives a ROLLBACK.
        _assign(connection, before)
    except DBAPIError:
        # Never give a session with our settings back to the pool; the caller hears of the failure that broke it.
        connection.invalidate()


# -- which sessions are ours --------------------------------------------------------------------------------------

_OWN: WeakKeyDictionary[Pool, Counter[int]] = WeakKeyDictionary()
_OWN_LOCK = threading.Lock()


def _count(connection: Connection, session: int, change: int) -> None:
    # The server has no name for a session that its holder could choose.
    with _OWN_LOCK:
        own = _OWN.setdefault(connection.engine.pool, Counter())
        own[session] += change
        if not own[session]:
            del own[session]


def own_sessions(engine: Engine) -> frozenset[int]:
    """The sessions that this process holds at the server of *engine* for emc's own work."""
    with _OWN_LOCK:
        return frozenset(_OWN.get(engine.pool, ()))


# -- small facts --------------------------------------------------------------------------------------------------


def server_version(connection: Connection, flavour: Flavour) -> str:
    """The version as the server tells it, without what the distribution added: ``MariaDB 10.11.19``."""
    said = str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
    return f"{flavour.title} {said.split('-', maxsplit=1)[0]}"


def now(connection: Connection) -> dt.datetime:
    """The server's clock, in UTC, whatever the time zone of the session."""
    told: dt.datetime = connection.exec_driver_sql("SELECT UTC_TIMESTAMP(6)").scalar_one()
    return told.replace(tzinfo=dt.UTC)


def lock(connection: Connection, keys: Sequence[TableKey]) -> None:
    """Nothing: no lock of these servers outlives DDL, so no transaction could prove something and then rely on it.

    ``LOCK TABLES`` commits, and forbids every other table. What is proved here stays proved by a guard.
    """
