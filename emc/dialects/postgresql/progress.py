"""How far is PostgreSQL with a statement that another session has sent, and whom does that wait for?"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, text

from emc.dialects.answers import Blocker, Progress
from emc.dialects.postgresql.naming import table_name
from emc.names import TableKey

VALIDATING = "looking at every row"
"""What VALIDATE CONSTRAINT does, as far as anybody can tell."""

# By the column that counts it, in the order of importance: what is counted in the present phase, and what the phase
# says of it. The columns of phases that are over keep their last values in some (manual, 28.4.4, of version 16).
_UNITS = (("lockers", "transactions"), ("tuples", "rows"), ("blocks", "blocks"))

# One statement in autocommit, not a transaction that stays open: a concurrent build waits for every snapshot older than
# its own, this one too. No lock is taken but those of the catalog: sizes are the planner's estimates.
_LOOK = text(
    "SELECT a.query, p.phase, p.lockers_total, p.lockers_done, p.tuples_total, p.tuples_done, p.blocks_total,"
    " p.blocks_done, (SELECT CAST(c.reltuples AS bigint) FROM pg_class c WHERE c.oid = to_regclass(:name)) AS rows,"
    " CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) || p.current_locker_pid END AS blockers"
    " FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index p ON p.pid = a.pid"
    " WHERE a.pid = CAST(:pid AS integer) AND a.state = 'active'"
)
_BLOCKERS = text(
    "SELECT CAST(b.pid AS text), coalesce(b.usename, ''),"
    " extract(epoch FROM clock_timestamp() - coalesce(b.xact_start, b.query_start, b.backend_start)),"
    " left(coalesce(b.query, ''), 100)"
    " FROM pg_stat_activity b WHERE b.pid = ANY (CAST(:pids AS integer[])) ORDER BY 3 DESC"
)

# A build holds its lock from its beginning to its end, over all its transactions; one that waits for it has not begun.
# By pg_locks, whose every row anybody may see: other roles' builds show neither their table nor their query. As above,
# one statement in autocommit: whoever waited for the lock itself would be waited for by the build, for its snapshot.
_BUILDERS = text(
    "WITH RECURSIVE tree AS (SELECT CAST(to_regclass(:name) AS oid) AS oid"
    " UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)"
    " SELECT CAST(b.pid AS text), coalesce(b.usename, ''),"
    " extract(epoch FROM clock_timestamp() - coalesce(b.query_start, b.backend_start)),"
    " left(coalesce(b.query, ''), 100)"
    " FROM pg_stat_progress_create_index p JOIN pg_stat_activity b ON b.pid = p.pid"
    " WHERE p.pid <> pg_backend_pid() AND p.datname = current_database() AND EXISTS (SELECT FROM pg_locks l"
    " WHERE l.pid = p.pid AND l.granted AND l.locktype = 'relation' AND l.relation IN (SELECT oid FROM tree)"
    " AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"
    " AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock'))"
    " ORDER BY 3 DESC"
)


def session(connection: Connection) -> str:
    """The process behind *connection*; asked of the server, since a pooler shows another number to the driver."""
    return str(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def progress(connection: Connection, pid: str, key: TableKey) -> Progress | None:
    """How far process *pid* is with its statement, which concerns table *key*; ``None`` if it has none.

    The server counts what index builds do (``pg_stat_progress_create_index``), and not what ``VALIDATE CONSTRAINT``
    does: there is no such view up to version 18, and the counters of a table (``pg_statio_user_tables``) are told when
    a transaction ends. So all there is to say of it is how many rows there are to look at.
    """
    found = connection.execute(_LOOK, {"pid": pid, "name": table_name(key)}).one_or_none()
    if found is None:
        return None
    blockers: tuple[Blocker, ...] = ()
    if pids := [pid for pid in found.blockers or () if pid]:
        rows = connection.execute(_BLOCKERS, {"pids": pids})
        blockers = tuple(Blocker(pid, user, _seconds(age), query) for pid, user, age, query in rows)
    if found.phase is not None:
        for column, unit in _UNITS:
            total = getattr(found, f"{column}_total")
            if total and _counts(found.phase, column):
                return Progress(found.phase, getattr(found, f"{column}_done"), total, unit, blockers)
        return Progress(found.phase, waits_for=blockers)
    if "VALIDATE CONSTRAINT" in found.query:
        # Less than none: nobody has estimated them yet.
        return Progress(VALIDATING, None, max(0, found.rows or 0), "rows", blockers)
    return Progress("at work", waits_for=blockers)


def _counts(phase: str, column: str) -> bool:
    """Whether *phase* is counted in *column*, by the manual's table of phases."""
    if phase.startswith("waiting for"):
        return column == "lockers"
    return column == ("blocks" if phase.endswith(("scanning table", "scanning index")) else "tuples")


def builders(connection: Connection, key: TableKey) -> Sequence[Blocker]:
    """The sessions that build an index on table *key*, or on a partition of it, longest first."""
    rows = connection.execute(_BUILDERS, {"name": table_name(key)})
    return [Blocker(pid, user, _seconds(age), query) for pid, user, age, query in rows]


def _seconds(age: Decimal | None) -> float | None:
    """An age, which the server tells of one's own sessions, and of others to members of ``pg_read_all_stats``."""
    return None if age is None else float(age)
