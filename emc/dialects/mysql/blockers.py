"""Which sessions are in the way of a change, as far as MariaDB or MySQL tells?

Who holds a metadata lock is told by MariaDB's plugin ``metadata_lock_info`` and by ``performance_schema``, where there
is one and it is switched on (MySQL: by default, its manual, "The metadata_locks Table"; MariaDB: neither). Otherwise
all that can be seen are the transactions that are open, not what they have touched, and that only with the privilege
PROCESS. Whatever may not be looked at is left out: nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Blocker, Failure
from emc.dialects.mysql import sessions
from emc.dialects.mysql.failures import failure
from emc.dialects.mysql.flavour import Flavour
from emc.names import TableKey
from emc.operations import bare_table

_SHOWN = 5
"""How many sessions are worth naming where none is known to be the one."""
_LONG = float(sessions.BUILD_WAIT)
"""Seconds for which a transaction has been open that will not end soon: longer than a build waits for it."""
_IDLE = "(idle in its transaction)"

# trx_started is in the time zone of the system, whatever that of the session is (seen with MariaDB 10.11.19).
_AGE = "TIMESTAMPDIFF(MICROSECOND, t.trx_started, CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', 'SYSTEM')) / 1e6"
_TRANSACTIONS = f"""
SELECT p.id, p.user, {_AGE}, LEFT(COALESCE(t.trx_query, p.info, ''), 100)
  FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
"""
_SESSIONS = """
SELECT p.id, p.user, p.time, LEFT(COALESCE(p.info, ''), 100)
  FROM information_schema.processlist p
 WHERE p.command <> 'Daemon' AND COALESCE(p.state, '') <> 'Waiting for table metadata lock'
"""

_PLUGIN = """
SELECT COUNT(*) FROM information_schema.plugins
 WHERE plugin_name = 'METADATA_LOCK_INFO' AND plugin_status = 'ACTIVE'
"""
_BY_PLUGIN = """
SELECT DISTINCT thread_id FROM information_schema.metadata_lock_info
 WHERE lock_type = 'Table metadata lock' AND table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
"""
_INSTRUMENT = """
SELECT COUNT(*) FROM performance_schema.setup_instruments
 WHERE name = 'wait/lock/metadata/sql/mdl' AND enabled = 'YES' AND @@GLOBAL.performance_schema = 1
"""
_BY_INSTRUMENT = """
SELECT DISTINCT t.processlist_id
  FROM performance_schema.metadata_locks m JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id
 WHERE m.object_type = 'TABLE' AND m.lock_status = 'GRANTED' AND t.processlist_id IS NOT NULL
   AND m.object_schema = COALESCE(:schema, DATABASE()) AND m.object_name = :name
"""


def blockers(connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
    """The sessions that hold locks on tables *keys*, or may do so, longest first."""
    holders = _holders(connection, keys)
    open_ones = list(_blockers(connection, _TRANSACTIONS, sure=holders is not None))
    at_work = list(_blockers(connection, _SESSIONS, sure=holders is not None))
    if holders is None:
        # Who is at work on one of them holds a lock of it.
        at_work = [one for one in at_work if any(key.name in one.query for key in keys)]
    found: dict[str, Blocker] = {}
    for one in [*open_ones, *at_work]:
        if holders is None or int(one.session) in holders:
            found.setdefault(one.session, one)
    return sorted(found.values(), key=lambda one: -(one.seconds or 0))[: _SHOWN if holders is None else None]


def long_transactions(connection: Connection) -> Sequence[Blocker]:
    """The transactions that are older than a build waits at its end, longest first."""
    long = [one for one in _blockers(connection, _TRANSACTIONS, sure=False) if (one.seconds or 0) > _LONG]
    return sorted(long, key=lambda one: -(one.seconds or 0))


def knock(connection: Connection, flavour: Flavour, key: TableKey) -> None:
    """Have table *key* alone for a moment, or fail at once (MySQL: after a second, it knows no less).

    A build takes an exclusive lock before it begins, and waits for that as long as for the one at its end, with
    everybody behind it: an index build that met an open reader stalled all others for 3 of its 3 s (MariaDB 10.11.19).
    Where ``LOCK TABLES`` is not allowed, the build has to find out by itself.
    """
    table = connection.dialect.identifier_preparer.format_table(bare_table(key))
    connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {flavour.shortest_lock_wait}")
    try:
        connection.exec_driver_sql(f"LOCK TABLES {table} WRITE")
    except DBAPIError as error:
        if failure(error) in (Failure.LOCKED, Failure.DISCONNECTED):
            raise
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("UNLOCK TABLES")
            connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {sessions.BUILD_WAIT}")


def _holders(connection: Connection, keys: Sequence[TableKey]) -> frozenset[int] | None:
    """The sessions that hold metadata locks of *keys*; ``None`` where the server does not tell."""
    for available, query in ((_PLUGIN, _BY_PLUGIN), (_INSTRUMENT, _BY_INSTRUMENT)):
        if any(row[0] for row in _rows(connection, available)):
            found = [
                int(row[0])
                for key in keys
                for row in _rows(connection, query, {"schema": key.schema, "name": key.name})
            ]
            return frozenset(found)
    return None


def _blockers(connection: Connection, query: str, *, sure: bool) -> Iterator[Blocker]:
    own = sessions.own_sessions(connection.engine)
    for session, user, seconds, running in _rows(connection, query):
        if session not in own:
            yield Blocker(str(session), user, float(seconds), running or _IDLE, sure=sure)


def _rows(connection: Connection, query: str, values: dict[str, Any] | None = None) -> Sequence[Any]:
    """What *query* answers; nothing where this role may not ask, or the server does not know what it asks for."""
    try:
        return connection.execute(text(query), values or {}).all()
    except DBAPIError as error:
        if failure(error) in (Failure.LOCKED, Failure.DISCONNECTED):
            raise
        return ()
