"""How much does a PostgreSQL server have to bear, as far as it tells this role?

Each signal is read for itself: what a role or a provider does not allow is said, and the others are read all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure, Pressure, Signal
from emc.dialects.postgresql.sessions import failure

REPLICA_LAG = 10.0
"""Seconds that a standby may be behind, unless somebody says otherwise: fresh enough to read from and to fail over to,
and far less than would need its own WAL kept."""
WAL_BACKLOG = 42.0
"""Segments that may wait to be archived (GitLab's batched migrations stop at the same number)."""
LOCK_WAIT = 0.5
"""Seconds that another session may wait for a batch: as long as a batch is meant to take."""

# Consumers of logical slots confirm when it suits them, which says nothing about standbys. The lag is the time that
# passed until the newest confirmed change was replayed; it grows while replay stands still (seen on 15.18 with
# pg_wal_replay_pause()), but not once the standby falls silent, which it never does for longer than
# wal_receiver_status_interval, 10 s, while it lives.
_STANDBYS = """
SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), CAST(r.pid AS text)) AS name, r.state,
       extract(epoch FROM greatest(
         r.replay_lag,
         CASE WHEN clock_timestamp() - r.reply_time > interval '20 s'
               AND pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) > 0 THEN clock_timestamp() - r.reply_time END
       )) AS seconds
  FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
 WHERE s.slot_type IS DISTINCT FROM 'logical' AND r.state IS DISTINCT FROM 'backup'
 ORDER BY 3 DESC NULLS LAST, 1
"""

_ARCHIVES = """
SELECT current_setting('archive_mode') <> 'off', has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE')
"""
_READY = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}\\.ready$'"
# For everybody: how far the last segment that was archived is behind the one that is written to. A segment's name is
# its timeline, and its number in two parts of eight hexadecimal digits (manual, "WAL Internals").
_BEHIND = """
WITH named AS (
  SELECT pg_walfile_name(pg_current_wal_lsn()) AS current, last_archived_wal AS archived,
         4294967296 / pg_size_bytes(current_setting('wal_segment_size')) AS per_file
    FROM pg_stat_archiver
), numbered AS (
  SELECT archived ~ '^[0-9A-F]{24}$' AS told,
         CAST(CAST('x' || substr(current, 9, 8) AS bit(32)) AS bigint) * per_file
           + CAST(CAST('x' || substr(current, 17, 8) AS bit(32)) AS bigint) AS written,
         CAST(CAST('x' || substr(archived, 9, 8) AS bit(32)) AS bigint) * per_file
           + CAST(CAST('x' || substr(archived, 17, 8) AS bit(32)) AS bigint) AS kept
    FROM named
)
SELECT CASE WHEN told THEN greatest(0, written - kept - 1) END FROM numbered
"""

# Materialized: only of those who wait is it asked who is before them, which locks the lock table for a moment.
_WAITERS = """
WITH waiting AS MATERIALIZED (SELECT pid, {since} AS since FROM pg_locks WHERE NOT granted)
SELECT CAST(w.pid AS text) AS session, a.usename AS owner,
       extract(epoch FROM clock_timestamp() - coalesce(w.since, a.query_start)) AS seconds
  FROM waiting w JOIN pg_stat_activity a ON a.pid = w.pid
 WHERE pg_backend_pid() = ANY (pg_blocking_pids(w.pid)) AND a.application_name IS DISTINCT FROM :application
 ORDER BY 3 DESC NULLS FIRST LIMIT 1
"""


def pressures(connection: Connection) -> Sequence[Pressure]:
    """Replicas, and the archive."""
    return [
        *_read(connection, Signal.REPLICA_LAG, REPLICA_LAG, _standbys),
        *_read(connection, Signal.WAL_BACKLOG, WAL_BACKLOG, _backlog),
    ]


def _read(
    connection: Connection,
    signal: Signal,
    limit: float,
    question: Callable[[Connection], Iterator[tuple[float | None, str, str]]],
) -> Iterator[Pressure]:
    """What *question* finds: values, what is so, and what would make them readable."""
    make = partial(Pressure, signal, limit=limit)
    try:
        with connection.begin_nested():
            for value, said, remedy in question(connection):
                yield make(value=value, said=said, remedy=remedy)
    except DBAPIError as error:
        if failure(error) in (Failure.DISCONNECTED, Failure.LOCKED):
            raise
        said = str(error.orig).partition("\n")[0]
        yield make(value=None, said=f"{signal} cannot be read: {said}")


def _standbys(connection: Connection) -> Iterator[tuple[float | None, str, str]]:
    found = connection.execute(text(_STANDBYS)).all()
    if any(row.state is None for row in found):
        # A role sees that there are standbys, and nothing of them (manual, "Statistics Views").
        yield (
            None,
            "how far standbys are behind is not shown to this role",
            _grant(connection, "pg_read_all_stats"),
        )
    for row in found:
        if row.seconds is not None:
            yield float(row.seconds), f"replica {row.name} is {row.seconds:.0f} s behind", ""


def _backlog(connection: Connection) -> Iterator[tuple[float | None, str, str]]:
    archives, may_look = connection.execute(text(_ARCHIVES)).one()
    if not archives:
        return
    waiting = connection.exec_driver_sql(
        _READY if may_look else _BEHIND, execution_options={"no_parameters": True}
    ).scalar()
    if waiting is None:
        yield (
            None,
            "how much WAL waits to be archived is not shown to this role",
            _grant(connection, "pg_monitor"),
        )
    else:
        yield float(waiting), f"{waiting} WAL segments wait to be archived", ""


def _grant(connection: Connection, role: str) -> str:
    return f"GRANT {role} TO {connection.exec_driver_sql('SELECT quote_ident(current_user)').scalar_one()};"


def waiters(connection: Connection, application: str) -> Pressure | None:
    """The session that has waited longest for what the transaction of *connection* holds, *application*'s own aside."""
    # Since when a session waits is known from 14 on; before, its query began no later.
    since = (
        "waitstart"
        if (connection.dialect.server_version_info or ()) >= (14,)
        else "CAST(NULL AS timestamptz)"
    )
    row = connection.execute(text(_WAITERS.format(since=since)), {"application": application}).one_or_none()
    if row is None:
        return None
    # Unknown is too long: somebody does wait.
    seconds = math.inf if row.seconds is None else max(0.0, float(row.seconds))
    length = "" if row.seconds is None else f" for {seconds:.1f} s"
    owner = f" of user {row.owner}" if row.owner else ""
    said = f"session {row.session}{owner} waited{length} for rows that a batch held"
    return Pressure(Signal.LOCK_WAIT, seconds, LOCK_WAIT, said)


# Without a receiver the newest that has arrived says nothing of what has not.
_LAG = """
SELECT CASE WHEN EXISTS (SELECT FROM pg_stat_wal_receiver) AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
            THEN 0 ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END
"""


def replica_lag(connection: Connection) -> Pressure | None:
    """By the age of the newest transaction that the standby has replayed, unless it has replayed all that came."""
    if not connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        return None
    seconds = connection.execute(text(_LAG)).scalar_one()
    if seconds is None:
        return Pressure(Signal.REPLICA_LAG, math.inf, REPLICA_LAG, "it has not replayed anything yet")
    return Pressure(Signal.REPLICA_LAG, float(seconds), REPLICA_LAG, f"it is {seconds:.0f} s behind")
