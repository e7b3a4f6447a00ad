"""How long may a PostgreSQL session wait, and what does its failure mean?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from emc.dialects.answers import Failure
from emc.dialects.postgresql import pooling
from emc.errors import ConfigurationError
from emc.steps import LockPolicy, Transaction

APPLICATION = "emc"
"""What ``pg_stat_activity`` calls emc's own sessions, so that they are no blockers."""

_METADATA_TIMEOUT = 5.0
"""Seconds for a statement that only changes the catalog; more than it ever takes once it has its lock."""
_IDLE_SHORT = 10.0
"""Seconds that a transaction may be idle while it may hold an exclusive lock: a stopped emc must stall nobody."""
_IDLE_WEAK = 600.0
"""Seconds that a transaction may be idle while a user's function thinks about a batch."""
_READING_WAIT = 10.0
"""Seconds that a mere question may wait behind the DDL of others; it keeps nobody waiting."""


def timeouts(transaction: Transaction, locks: LockPolicy, lock_timeout: float) -> dict[str, float]:
    """The timeouts in seconds, by setting; 0 for none.

    ============  ===========================  =========================================
    .             SHORT                        WEAK
    ============  ===========================  =========================================
    together      lock_timeout, and 5 s for    lock_timeout (a batch of a data migration
                  the statement (DDL)          waits for rows), but all the time it needs
    autocommit    as above                     none: a lock timeout in CREATE INDEX
                                               CONCURRENTLY leaves an INVALID index
    ============  ===========================  =========================================

    LONG is SHORT without an end of the statement: somebody has agreed to how long it takes.
    """
    waits = 0.0 if transaction is Transaction.AUTOCOMMIT and locks is LockPolicy.WEAK else lock_timeout
    brief = locks is LockPolicy.SHORT
    return {
        "lock_timeout": waits,
        # Always above lock_timeout: else its failure would look like a slow statement.
        "statement_timeout": max(_METADATA_TIMEOUT, 2 * waits) if brief else 0.0,
        "idle_in_transaction_session_timeout": _IDLE_WEAK if locks is LockPolicy.WEAK else _IDLE_SHORT,
    }


@contextmanager
def opened(
    engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
) -> Iterator[Connection]:
    """A connection for one attempt, with its timeouts set and read back.

    In a transaction the settings are its own (SET LOCAL), so they work behind any pooler; with autocommit they are
    those of the session, which gets back afterwards what it had.

    :raises ConfigurationError: a pooler hands sessions around, so that settings would not stay.
    """
    limits = timeouts(transaction, locks, lock_timeout)
    if transaction is not Transaction.AUTOCOMMIT:
        # Whatever level the engine asks for (AUTOCOMMIT, even): this has to be one transaction, and one that is
        # blocked by a writer must see what it wrote.
        level = {"isolation_level": "READ COMMITTED"}
        with (
            engine.connect().execution_options(**level) as connection,
            pooling.unprepared(connection),
            connection.begin(),
            _in_force(connection, limits),
        ):
            yield connection
        return
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pooling.unprepared(connection),
    ):
        # First: with a session that is somebody else's the moment after, nothing is done.
        pooling.demand_own_session(connection)
        wanted = _settings(connection, limits)
        before = _read(connection, wanted)
        _set(connection, wanted, local=False)
        try:
            yield connection
        finally:
            _give_back(connection, before)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose queries all see the database as of one moment, and wait for locks, but not for ever."""
    limits = {
        "lock_timeout": _READING_WAIT,
        # Whatever the role's own is: a gate counts the rows of big tables.
        "statement_timeout": 0.0,
        "idle_in_transaction_session_timeout": _IDLE_WEAK,
    }
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        pooling.unprepared(connection),
    ):
        try:
            _set(connection, _settings(connection, limits), local=True)
            yield connection
        finally:
            connection.rollback()


def _settings(connection: Connection, limits: Mapping[str, float]) -> dict[str, str]:
    """The settings by name, as the server takes them.

    :param limits: seconds; 0 for none.
    """
    if (connection.dialect.server_version_info or ()) >= (17,):
        limits = {**limits, "transaction_timeout": 0.0}  # Each statement has its own.
    return {
        "application_name": APPLICATION,
        # Makes a query fail that a policy would hide rows from: a proof from the rest of the rows is none.
        "row_security": "off",
        **{
            name: f"{max(1, round(seconds * 1000))}ms" if seconds > 0 else "0"
            for name, seconds in limits.items()
        },
    }


def _read(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """What the session has, by setting."""
    reads = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    return dict(connection.exec_driver_sql(f"SELECT {reads}").one()._mapping)  # noqa: SLF001  # SQLAlchemy's public name.


def _set(connection: Connection, settings: Mapping[str, str], *, local: bool) -> str:
    """Set, and read back; answers what tells this transaction from the next one in its session."""
    calls = ", ".join(f"set_config('{name}', :{name}, {str(local).lower()})" for name in settings)
    asked = connection.execute(text(f"SELECT pg_backend_pid(), {calls}"), settings).one()
    # In a statement of its own: where another session answers, it has other settings.
    reads = ", ".join(f"current_setting('{name}')" for name in settings)
    *found, began = connection.exec_driver_sql(f"SELECT pg_backend_pid(), {reads}, now()").one()
    if list(asked) != found:
        raise pooling.shared_session()
    return str(began)


def _give_back(connection: Connection, before: Mapping[str, str]) -> None:
    """Let the session have what it had: the engine is the application's, and may have set something itself."""
    if connection.closed or connection.invalidated:
        return
    try:
        _set(connection, before, local=False)
    except (DBAPIError, ConfigurationError):
        # Never give a session with our timeouts back to the pool; the caller hears of the failure that broke it.
        connection.invalidate()


# -- what users' functions do ---------------------------------------------------------------------------------------

_IN_FORCE = "emc"
"""Under which name a connection keeps what is in force on it."""


@contextmanager
def _in_force(connection: Connection, limits: Mapping[str, float]) -> Iterator[None]:
    settings = _settings(connection, limits)
    connection.info[_IN_FORCE] = _set(connection, settings, local=True), settings
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.info.pop(_IN_FORCE, None)


def renew(connection: Connection) -> bool:
    """Set the timeouts of :func:`opened` again, whatever a user's function has set in their place.

    :returns: whether it is still the transaction that :func:`opened` began: a function may send COMMIT.
    """
    began: str
    began, settings = connection.info[_IN_FORCE]
    return _set(connection, settings, local=True) == began


# -- what went wrong ------------------------------------------------------------------------------------------------

_CODES = {
    "55P03": Failure.LOCKED,  # lock_not_available
    "40P01": Failure.LOCKED,  # deadlock_detected
    "40001": Failure.LOCKED,  # serialization_failure
    "42501": Failure.FORBIDDEN,  # insufficient_privilege
    "25006": Failure.FORBIDDEN,  # read_only_sql_transaction
    "57P01": Failure.DISCONNECTED,  # admin_shutdown
    "57P02": Failure.DISCONNECTED,  # crash_shutdown
    "57P03": Failure.DISCONNECTED,  # cannot_connect_now
    "57P05": Failure.DISCONNECTED,  # idle_session_timeout
    "25P03": Failure.DISCONNECTED,  # idle_in_transaction_session_timeout
}
_QUERY_CANCELED = "57014"


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters by which the server names an error; ``None`` where the driver raised it itself."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def failure(error: DBAPIError) -> Failure:
    """What *error* means."""
    code = sqlstate(error)
    if error.connection_invalidated or (code is not None and code.startswith("08")):
        return Failure.DISCONNECTED
    if code in _CODES:
        return _CODES[code]
    if code == _QUERY_CANCELED:
        # statement_timeout shares its code with pg_cancel_backend(): somebody who wanted it to end.
        return Failure.OTHER if "user request" in str(error.orig) else Failure.LOCKED
    if isinstance(error, IntegrityError) or (code is not None and code.startswith("23")):
        return Failure.INTEGRITY
    if code is None and isinstance(error, (OperationalError, InterfaceError)):
        return Failure.DISCONNECTED
    return Failure.OTHER


def cut_off(error: DBAPIError) -> bool:
    """Whether it was ``statement_timeout``: longer than ``lock_timeout``, which ends whoever waits for one lock."""
    return sqlstate(error) == _QUERY_CANCELED and "user request" not in str(error.orig)
