"""Who is in the way of a statement that needs a table for itself?

Everybody may see which process holds which lock; what a process does is shown to its own role, and to members of
``pg_read_all_stats`` (manual, "Statistics Views").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from emc.dialects.answers import Blocker
from emc.dialects.postgresql.naming import literal, table_name
from emc.names import TableKey

# A lock of a partition is in the way of what is done to its parent. Who waits for a strong lock is in the way of
# whoever comes later, so of the next attempt. A prepared transaction has no process, but a lock of its
# own id; an autovacuum worker has no user.
_BLOCKERS = text("""
WITH RECURSIVE tree (oid) AS (
  SELECT CAST(to_regclass(name) AS oid) FROM unnest(CAST(:names AS text[])) AS asked (name)
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
), held AS (
  SELECT l.pid, l.virtualtransaction, bool_or(l.granted) AS granted,
         bool_or(l.mode NOT IN ('AccessShareLock', 'RowShareLock')) AS strong
    FROM pg_locks l
   WHERE l.locktype = 'relation' AND l.relation IN (SELECT oid FROM tree)
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND (l.granted OR l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
   GROUP BY l.pid, l.virtualtransaction
)
SELECT CAST(a.pid AS text) AS session, a.usename AS owner, a.usesysid IS NULL AS is_worker,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start, a.backend_start)) AS seconds,
       left(coalesce(a.query, ''), 100) AS query, CAST(NULL AS text) AS gid, h.strong, h.granted,
       coalesce(a.state LIKE 'idle in transaction%', false) AS idle, a.query = '<insufficient privilege>' AS hidden
  FROM held h JOIN pg_stat_activity a ON a.pid = h.pid
 WHERE a.pid <> pg_backend_pid() AND a.leader_pid IS NULL AND a.application_name IS DISTINCT FROM :application
UNION ALL
SELECT x.gid, x.owner, false, extract(epoch FROM clock_timestamp() - x.prepared), '', x.gid, h.strong, true, true, false
  FROM held h
  JOIN pg_locks t ON h.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid'
                 AND t.virtualtransaction = h.virtualtransaction
  JOIN pg_prepared_xacts x ON x.transaction = t.transactionid
 ORDER BY 4 DESC NULLS LAST, 1
""")

_WRAPAROUND = "(to prevent wraparound)"


def blockers(connection: Connection, keys: Sequence[TableKey], application: str) -> Sequence[Blocker]:
    """The sessions, but for those of *application*, that hold locks of tables *keys* or are before us, longest first.

    Readers are not in the way of everything. Where others hold more than they do, they are not sure to be blockers.
    """
    # Within a transaction the server goes on showing the activity of the first look.
    connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    names = [table_name(key) for key in keys]
    rows = connection.execute(_BLOCKERS, {"names": names, "application": application}).all()
    if not rows:
        return []
    role, deadlock_timeout = connection.exec_driver_sql(
        "SELECT quote_ident(current_user), extract(epoch FROM CAST(current_setting('deadlock_timeout') AS interval))"
    ).one()
    strong = any(row.strong for row in rows)
    return [_blocker(row, str(role), float(deadlock_timeout), sure=row.strong or not strong) for row in rows]


def _blocker(row: Row[Any], role: str, deadlock_timeout: float, *, sure: bool) -> Blocker:
    seconds = None if row.seconds is None else float(row.seconds)
    if row.gid is not None:
        gid = literal(row.gid)
        return Blocker(
            gid,
            row.owner or "",
            seconds,
            "it waits for a second phase that nobody may be about to begin",
            sure,
            kind="prepared transaction",
            ends=f"ROLLBACK PREPARED {gid};  -- or COMMIT PREPARED, as whoever prepared it says",
        )
    if row.is_worker:
        yields = _WRAPAROUND not in row.query
        return Blocker(
            row.session,
            "the server",
            seconds,
            row.query,
            sure,
            kind="autovacuum worker",
            # It is asked to by whoever waits for it that long (manual, "deadlock_timeout"; ProcSleep in proc.c).
            gives_way=deadlock_timeout if yields else None,
            ends=""
            if yields
            else "-- it does not give way, and begins again when it is ended: let it finish",
        )
    return Blocker(
        row.session,
        row.owner or "",
        seconds,
        row.query,
        sure,
        kind="session" if row.granted else "session, itself waiting,",
        idle=row.idle,
        ends=f"SELECT pg_terminate_backend({row.session});",
        reveal=f"GRANT pg_read_all_stats TO {role};" if row.hidden else "",
    )
