"""Who is in the way on PostgreSQL, and what ends it: on a real server, with real sessions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from emc.dialects.answers import Blocker
from emc.dialects.postgresql import PostgreSQL
from emc.errors import LockBudgetError
from emc.execute import described
from emc.names import TableKey
from emc.steps import LockPolicy, Transaction
from tests.execute.course import Course
from tests.execute.test_trouble import drop_name, transaction
from tests.servers import make_role

POSTGRESQL = PostgreSQL()
USERS = TableKey(None, "users")


def seen(engine: Engine, *keys: TableKey) -> list[Blocker]:
    """Who holds locks of tables."""
    with POSTGRESQL.reading(engine) as connection:
        return list(POSTGRESQL.blockers(connection, keys or [USERS]))


def session_of(connection: Connection) -> str:
    """The process of a connection, as an operator would name it."""
    return str(connection.execute(text("SELECT pg_backend_pid()")).scalar())


@contextmanager
def waiting(pg: Course, statement: str) -> Iterator[str]:
    """Another session that has sent *statement*, on its own, and waits for a lock; afterwards it is gone."""
    other = create_engine(pg.engine.url, isolation_level="AUTOCOMMIT")
    with other.connect() as connection:
        pid = session_of(connection)
        driver: Any = connection.connection.driver_connection
        driver.pgconn.send_query(statement.encode())
        waits = (
            f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
        )
        for _ in range(3000):
            if pg.sql(waits):
                break
            pg.sql("SELECT pg_sleep(0.01)")
        else:
            pytest.fail(f"{statement} does not wait")
        yield pid
        connection.invalidate()
    other.dispose()


def test_idle_sessions_are_told_from_busy_ones(pg: Course) -> None:
    """A session whose transaction is open while nothing is asked of it is said to be idle, with what ends it."""
    with transaction(pg, "SELECT * FROM users") as other:
        [blocker] = seen(pg.engine)
        assert (blocker.session, blocker.idle, blocker.sure) == (session_of(other), True, True)
        assert "idle in a transaction for" in described(blocker)
        error = pg.fail(LockBudgetError, drop_name())
        assert blocker.ends in error.remedy
        pg.sql(blocker.ends)
        other.invalidate()
    pg.run(drop_name())
    assert pg.columns() == ["id"]


def test_readers_beside_a_writer_are_not_sure_to_be_in_the_way(pg: Course) -> None:
    """A foreign key waits for writers and not for readers: nobody is asked to end a reader where a writer is there."""
    with transaction(pg, "SELECT * FROM users") as reader:
        assert [(one.session, one.sure) for one in seen(pg.engine)] == [(session_of(reader), True)]
        with transaction(pg, "INSERT INTO users VALUES (9, 'x')") as writer:
            found = {one.session: one.sure for one in seen(pg.engine)}
            assert found == {session_of(reader): False, session_of(writer): True}
            error = pg.fail(LockBudgetError, drop_name())
            assert len(error.blockers) == 2
            assert session_of(writer) in error.remedy
            assert session_of(reader) not in error.remedy


def test_whoever_waits_before_us_is_named(pg: Course) -> None:
    """Another tool's ALTER TABLE that waits without a timeout is before emc in the queue, and is told apart."""
    with (
        transaction(pg, "SELECT * FROM users") as reader,
        waiting(pg, "BEGIN; LOCK TABLE users; ROLLBACK") as pid,
    ):
        found = {one.session: one.kind for one in seen(pg.engine)}
        assert found == {session_of(reader): "session", pid: "session, itself waiting,"}
        reader.rollback()


def test_those_who_wait_behind_emc_are_not(pg: Course) -> None:
    """A reader that waits for somebody else's lock keeps nobody out."""
    with transaction(pg, "LOCK TABLE users") as holder, waiting(pg, "SELECT * FROM users"):
        assert [one.session for one in seen(pg.engine)] == [session_of(holder)]
        holder.rollback()


def test_a_lock_of_a_partition_is_in_the_way_of_its_table(pg: Course) -> None:
    """Who reads a partition by its own name is found when the partitioned table is changed."""
    pg.sql("CREATE TABLE parts (id integer) PARTITION BY RANGE (id)")
    pg.sql("CREATE TABLE part PARTITION OF parts DEFAULT")
    with transaction(pg, "SELECT * FROM part") as reader:
        assert [one.session for one in seen(pg.engine, TableKey(None, "parts"))] == [session_of(reader)]


def test_prepared_transactions_are_named(pg: Course) -> None:
    """A prepared transaction has no session to end: its gid is named, and the statement that lets it go is right."""
    with pg.engine.connect() as other:
        other.exec_driver_sql("INSERT INTO users VALUES (9, 'x')")
        other.exec_driver_sql("PREPARE TRANSACTION 'it''s lost'")
        other.commit()
    error = pg.fail(LockBudgetError, drop_name())
    [blocker] = error.blockers
    assert (blocker.kind, blocker.session, blocker.user) == (
        "prepared transaction",
        "'it''s lost'",
        "postgres",
    )
    assert blocker.ends in error.remedy
    with pg.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:
        operator.exec_driver_sql(blocker.ends)
    pg.run(drop_name())
    assert pg.columns() == ["id"]


def test_what_the_role_may_not_see_is_said(pg: Course, postgresql_url: str) -> None:
    """Without pg_read_all_stats the process is named all the same, and the GRANT that shows what it does works."""
    owner = create_engine(make_role(postgresql_url, "emc_test_blind", "owner"))
    with transaction(pg, "SELECT * FROM users") as other:
        [blocker] = seen(owner)
        assert (blocker.session, blocker.seconds) == (session_of(other), None)
        assert blocker.reveal == "GRANT pg_read_all_stats TO emc_test_blind;"
        assert "SELECT" not in blocker.query
        assert "None" not in described(blocker)
        pg.sql(blocker.reveal)
        [blocker] = seen(owner)
        assert blocker.query == "SELECT pg_backend_pid()"
        assert (blocker.seconds is not None, blocker.reveal) == (True, "")
    pg.sql("REVOKE pg_read_all_stats FROM emc_test_blind")
    owner.dispose()


def test_builds_of_others_are_seen_by_any_role(pg: Course, postgresql_url: str) -> None:
    """Another role's index build is waited for although its age and query are not shown."""
    owner = create_engine(make_role(postgresql_url, "emc_test_blind", "owner"))
    with (
        transaction(pg, "INSERT INTO users VALUES (9, 'x')"),
        waiting(pg, "CREATE INDEX CONCURRENTLY ix ON users (name)") as pid,
        POSTGRESQL.open(owner, Transaction.AUTOCOMMIT, LockPolicy.WEAK, 1.0) as connection,
    ):
        [blocker] = POSTGRESQL.builders(connection, USERS)
        assert (blocker.session, blocker.seconds) == (pid, None)
    owner.dispose()


# -- autovacuum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0], [0.01, 0.02, 0.04, 1.2, 1.2, 1.2]),
        ([1.0, None], [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]),
        ([None], [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]),
    ],
)
def test_only_those_who_give_way_are_outwaited(
    pg: Course, found: list[float | None], expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt is longer than usual only where everybody in the way is made to give way by it."""
    those = [Blocker("1", "x", 1.0, "", gives_way=seconds) for seconds in found]
    monkeypatch.setattr(pg.dialect, "blockers", lambda *_: those)
    with transaction(pg, "SELECT * FROM users"):
        pg.fail(LockBudgetError, drop_name())
    asked = [seconds for way, _, seconds in pg.opened if way is Transaction.TOGETHER]
    assert asked[: len(expected)] == expected
