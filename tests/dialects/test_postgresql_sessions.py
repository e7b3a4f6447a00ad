"""Timeouts, failures and blockers on PostgreSQL."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure
from emc.dialects.postgresql import PostgreSQL, sessions
from emc.errors import ConfigurationError
from emc.names import Element, ElementKind, TableKey
from emc.steps import LockPolicy, Transaction
from tests.servers import PostgresServer, make_role

POSTGRESQL = PostgreSQL()
TABLE = TableKey(None, "Waiting Room")
SETTINGS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "application_name")


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """A database with one table."""
    engine = sa.create_engine(postgresql_url, pool_size=1, max_overflow=2)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "Waiting Room" (id int PRIMARY KEY)')
    yield engine
    engine.dispose()


def shown(connection: sa.Connection) -> tuple[str, ...]:
    """The settings of the session."""
    return tuple(str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in SETTINGS)


def failure_of(engine: sa.Engine, *statements: str) -> Failure:
    """What the last of *statements* fails with."""
    *before, last = statements
    with engine.connect() as connection:
        for statement in before:
            connection.exec_driver_sql(statement)
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql(last)
    return POSTGRESQL.failure(caught.value)


@pytest.mark.parametrize(
    ("transaction", "locks", "expected"),
    [
        (Transaction.TOGETHER, LockPolicy.SHORT, ("100ms", "5s", "10s")),
        (Transaction.TOGETHER, LockPolicy.WEAK, ("100ms", "0", "10min")),
        (Transaction.AUTOCOMMIT, LockPolicy.SHORT, ("100ms", "5s", "10s")),
        (Transaction.AUTOCOMMIT, LockPolicy.WEAK, ("0", "0", "10min")),
    ],
)
def test_timeouts_are_set_and_taken_back(
    database: sa.Engine, transaction: Transaction, locks: LockPolicy, expected: tuple[str, ...]
) -> None:
    """strong_migrations #95: each attempt has its timeouts, and the pool gets its session back without them."""
    with database.connect() as connection:
        before = shown(connection)
    with POSTGRESQL.open(database, transaction, locks, 0.1) as connection:
        assert shown(connection) == (*expected, "emc")
    with database.connect() as connection:
        assert shown(connection) == before


def test_statement_timeout_outlasts_the_lock_timeout() -> None:
    """A wait for a lock never looks like a slow statement."""
    for seconds in (0.1, 1.0, 5.0, 30.0):
        timeouts = sessions.timeouts(Transaction.TOGETHER, LockPolicy.SHORT, seconds)
        assert timeouts["statement_timeout"] > timeouts["lock_timeout"] == seconds


def test_together_is_one_transaction_whatever_the_engine_says(postgresql_url: str) -> None:
    """On an engine that autocommits, a unit of work is rolled back all the same when it raises."""
    engine = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")

    def create_and_fail() -> None:
        with POSTGRESQL.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, 1) as connection:
            connection.exec_driver_sql("CREATE TABLE t (id int)")
            connection.exec_driver_sql("SELECT 1 / 0")

    with pytest.raises(DBAPIError):
        create_and_fail()
    with POSTGRESQL.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, 1) as connection:
        connection.exec_driver_sql("CREATE TABLE u (id int)")
    assert sa.inspect(engine).get_table_names() == ["u"]
    engine.dispose()


def test_the_application_gets_its_own_settings_back(database: sa.Engine) -> None:
    """What the application has set on a connection of its pool is there again after a statement of emc's."""

    def set_up(driver: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = driver.cursor()
        cursor.execute("SET lock_timeout = '3s'; SET application_name = 'shop''s'; SET row_security = on")
        driver.commit()

    sa.event.listen(database, "connect", set_up)
    database.dispose()
    with database.connect() as connection:
        before = shown(connection)
        assert before[0] == "3s"
    for transaction in (Transaction.AUTOCOMMIT, Transaction.TOGETHER):
        with POSTGRESQL.open(database, transaction, LockPolicy.SHORT, 0.1) as connection:
            assert shown(connection)[0] == "100ms"
        with database.connect() as connection:
            assert shown(connection) == before


def test_questions_wait_but_not_for_ever(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that meets an exclusive lock ends as a lock that was not to be had, and a count may take its time."""
    monkeypatch.setattr(sessions, "_READING_WAIT", 0.05)
    impatient = sa.create_engine(
        database.url, connect_args={"options": "-c statement_timeout=20 -c lock_timeout=0"}
    )
    with database.begin() as holder:
        holder.exec_driver_sql('LOCK TABLE "Waiting Room"')
        with pytest.raises(DBAPIError) as caught, POSTGRESQL.reading(impatient) as connection:
            connection.exec_driver_sql('SELECT count(*) FROM "Waiting Room"')
    assert POSTGRESQL.failure(caught.value) is Failure.LOCKED
    assert "lock timeout" in str(caught.value)
    with POSTGRESQL.reading(impatient) as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM pg_sleep(0.1)").scalar() == 1
    impatient.dispose()


@pytest.mark.pg_version(18)
def test_a_transaction_timeout_of_the_role_is_not_ours(postgresql_url: str) -> None:
    """PostgreSQL 17 and later can end every long transaction; emc's have timeouts for what matters."""
    engine = sa.create_engine(postgresql_url, connect_args={"options": "-c transaction_timeout=50"})
    with POSTGRESQL.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, 0.1) as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM pg_sleep(0.2)").scalar() == 1
    engine.dispose()


def test_a_pooler_that_loses_settings_is_refused(database: sa.Engine) -> None:
    """Behind a pooler that gives each statement another session, nothing is sent without a timeout."""

    def lose(connection: sa.Connection, *_: object) -> None:
        # Stands for the next client of the pooled session.
        connection.connection.cursor().execute("RESET ALL")

    sa.event.listen(database, "after_cursor_execute", lose)
    with (
        pytest.raises(ConfigurationError) as caught,
        POSTGRESQL.open(database, Transaction.AUTOCOMMIT, LockPolicy.SHORT, 0.1),
    ):
        pass
    assert caught.value.remedy is not None


def test_locks_that_are_not_to_be_had(database: sa.Engine) -> None:
    """A lock timeout, a statement timeout and a deadlock mean: later; a cancelled query does not."""
    with database.begin() as holder:
        holder.exec_driver_sql('LOCK TABLE "Waiting Room"')
        with (
            pytest.raises(DBAPIError) as caught,
            POSTGRESQL.open(database, Transaction.TOGETHER, LockPolicy.SHORT, 0.01) as connection,
        ):
            connection.exec_driver_sql('ALTER TABLE "Waiting Room" ADD a int')
        assert POSTGRESQL.failure(caught.value) is Failure.LOCKED
        stuck = ("SET LOCAL statement_timeout = '10ms'", 'SELECT * FROM "Waiting Room"')
        assert failure_of(database, *stuck) is Failure.LOCKED
    cancelled = failure_of(database, "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
    assert cancelled is Failure.OTHER


def test_connections_that_are_gone(database: sa.Engine) -> None:
    """A terminated backend, and a connection that the driver finds closed, mean: look, then decide."""
    ended = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"
    assert failure_of(database, ended) is Failure.DISCONNECTED
    with database.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.close()
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql("SELECT 1")
        assert POSTGRESQL.failure(caught.value) is Failure.DISCONNECTED


def test_a_session_that_dies_is_not_given_back(database: sa.Engine) -> None:
    """When the server ends emc's session, the error is the server's, and the pool goes on with another one."""
    with (
        pytest.raises(DBAPIError) as caught,
        POSTGRESQL.open(database, Transaction.AUTOCOMMIT, LockPolicy.SHORT, 1) as connection,
    ):
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
    assert POSTGRESQL.failure(caught.value) is Failure.DISCONNECTED
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_other_failures(database: sa.Engine, postgresql_url: str) -> None:
    """Missing privileges, data that does not fit and plain mistakes are told apart."""
    reader = sa.create_engine(make_role(postgresql_url, "emc_test_reader", "reader"))
    assert failure_of(reader, 'ALTER TABLE "Waiting Room" ADD a int') is Failure.FORBIDDEN
    reader.dispose()
    assert failure_of(database, 'INSERT INTO "Waiting Room" VALUES (1), (1)') is Failure.INTEGRITY
    check = 'ALTER TABLE "Waiting Room" ADD CHECK (id > 5)'
    assert failure_of(database, 'INSERT INTO "Waiting Room" VALUES (1)', check) is Failure.INTEGRITY
    assert failure_of(database, "SELECT * FROM nowhere") is Failure.OTHER


def test_blockers_are_named(database: sa.Engine) -> None:
    """Who holds a lock on the table is told with pid, user, age and query; emc's own sessions are not."""
    with database.begin() as holder, database.connect() as other:
        pid = holder.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        assert POSTGRESQL.blockers(other, [TABLE]) == []
        holder.exec_driver_sql('SELECT * FROM "Waiting Room" /* ' + "x" * 200 + " */")
        (blocker,) = POSTGRESQL.blockers(other, [TABLE, TableKey(None, "nowhere")])
        assert (blocker.session, blocker.user) == (str(pid), "postgres")
        assert blocker.seconds is not None
        assert blocker.seconds > 0
        assert blocker.query.startswith("SELECT * FROM")
        assert len(blocker.query) == 100
        holder.exec_driver_sql("SET LOCAL application_name = 'emc'")
        assert POSTGRESQL.blockers(other, [TABLE]) == []


def test_version_is_the_servers(database: sa.Engine, pg_server: PostgresServer) -> None:
    """The ledger keeps the version that the server tells."""
    with database.connect() as connection:
        assert POSTGRESQL.server_version(connection).startswith(f"PostgreSQL {pg_server.version}.")


def test_scans_of_an_index_are_counted(database: sa.Engine) -> None:
    """Whether anybody used an index is known; of an index that is not there, nothing is."""
    index = Element(ElementKind.INDEX, TABLE, "Waiting Room_pkey")
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert POSTGRESQL.index_scans(connection, index) == 0
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql('SELECT * FROM "Waiting Room" WHERE id = 1')
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        assert POSTGRESQL.index_scans(connection, index) == 1
        nowhere = Element(ElementKind.INDEX, TABLE, "nowhere")
        assert POSTGRESQL.index_scans(connection, nowhere) is None


def test_rows_without_a_key_can_be_walked(database: sa.Engine) -> None:
    """The physical address orders, compares and comes back as a value that can be given again."""
    table = sa.Table("Waiting Room", sa.MetaData(), sa.Column("id", sa.Integer))
    address = POSTGRESQL.row_id(table)
    assert address is not None
    with database.begin() as connection:
        connection.exec_driver_sql('INSERT INTO "Waiting Room" SELECT generate_series(1, 10)')
        rows = connection.execute(sa.select(address, table.c.id).order_by(address)).all()
        assert [row.id for row in rows] == list(range(1, 11))
        later = sa.select(table.c.id).where(address > rows[6][0]).order_by(address)
        assert connection.execute(later).scalars().all() == [8, 9, 10]
    split = sa.Table("split", sa.MetaData(), sa.Column("id"), postgresql_partition_by="RANGE (id)")
    assert POSTGRESQL.row_id(split) is None


def test_a_snapshot_is_of_one_moment(database: sa.Engine) -> None:
    """What another session commits meanwhile is not seen by half of a reading."""
    with POSTGRESQL.reading(database) as connection:
        count = sa.text("SELECT count(*) FROM pg_class WHERE relname = 'late'")
        assert connection.scalar(count) == 0
        with database.begin() as other:
            other.exec_driver_sql("CREATE TABLE late (id int)")
        assert connection.scalar(count) == 0
