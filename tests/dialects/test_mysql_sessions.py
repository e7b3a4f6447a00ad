"""Timeouts, snapshots, failures and blockers on MariaDB, with both drivers."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from emc.dialects.answers import Failure
from emc.dialects.mysql import MariaDB, MySQL, sessions
from emc.dialects.mysql.flavour import MARIADB, MYSQL
from emc.errors import ConfigurationError
from emc.names import TableKey
from emc.steps import LockPolicy, Transaction
from emc.testing.failures import missing
from tests.mariadb_server import MariaDBServer, spelled
from tests.waiting import until

DIALECT = MariaDB()
ROOM = TableKey(None, "Waiting Room")
TOGETHER, AUTOCOMMIT, LOCKED = Transaction.TOGETHER, Transaction.AUTOCOMMIT, Transaction.LOCKED
SHORT, WEAK = LockPolicy.SHORT, LockPolicy.WEAK


@pytest.fixture(params=["mariadb+pymysql", "mysql+mysqldb"])
def database(mariadb_url: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A database with one table, by each name of the dialect and with each driver; its pool keeps one session."""
    engine = sa.create_engine(spelled(mariadb_url, request.param), pool_size=1, max_overflow=5)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE `Waiting Room` (id INT PRIMARY KEY, v INT NOT NULL DEFAULT 0)"
        )
    yield engine
    engine.dispose()


def shown(connection: sa.Connection, *names: str) -> tuple[Any, ...]:
    """Variables of the session."""
    return tuple(
        connection.exec_driver_sql("SELECT " + ", ".join(f"@@SESSION.{name}" for name in names)).one()
    )


def caught_by(connection: sa.Connection, statement: str) -> DBAPIError:
    """What *statement* fails with."""
    with pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql(statement)
    return caught.value


def failure_of(engine: sa.Engine, *statements: str) -> Failure:
    """What the last of *statements* fails with."""
    *before, last = statements
    with engine.connect() as connection:
        for statement in before:
            connection.exec_driver_sql(statement)
        return DIALECT.failure(caught_by(connection, last))


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transaction", "locks", "timeout", "expected"),
    [
        # lock_wait_timeout, innodb_lock_wait_timeout, wait_timeout
        (TOGETHER, SHORT, 0.1, (1, 1, 60)),
        (TOGETHER, WEAK, 2.5, (3, 3, 600)),
        (AUTOCOMMIT, SHORT, 0.1, (0, 1, 60)),
        (AUTOCOMMIT, SHORT, 0.8, (0, 1, 60)),
        (AUTOCOMMIT, SHORT, 1.0, (1, 1, 60)),
        (AUTOCOMMIT, WEAK, 0.1, (10, 10, 600)),
        (LOCKED, SHORT, 0.1, (0, 1, 60)),
    ],
)
def test_timeouts_are_set_and_taken_back(
    database: sa.Engine,
    transaction: Transaction,
    locks: LockPolicy,
    timeout: float,
    expected: tuple[int, ...],
) -> None:
    """Each attempt has its timeouts, not the server's day; the pool gets its session back without them."""
    names = (
        "lock_wait_timeout",
        "innodb_lock_wait_timeout",
        "wait_timeout",
        "sql_mode",
        "tx_isolation",
        "autocommit",
    )
    with database.connect() as connection:
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = 77, sql_mode = 'ANSI'")
        before = shown(connection, *names)
    with DIALECT.open(database, transaction, locks, timeout) as connection:
        assert shown(connection, *names)[:3] == expected
        isolation = "READ-COMMITTED" if transaction is TOGETHER else "REPEATABLE-READ"
        assert shown(connection, *names)[4:] == (isolation, transaction is not TOGETHER)
    with database.connect() as connection:
        assert shown(connection, *names) == before


@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.5])
def test_mysql_waits_a_second_at_least(seconds: float) -> None:
    """MySQL knows no lock_wait_timeout below 1 (its manual); MariaDB's 0 is not to wait at all."""
    assert sessions.settings(MYSQL, AUTOCOMMIT, SHORT, seconds)["lock_wait_timeout"] == max(1, int(seconds))
    assert sessions.settings(MARIADB, AUTOCOMMIT, SHORT, seconds)["lock_wait_timeout"] == int(seconds)
    assert "max_statement_time" not in sessions.settings(MYSQL, TOGETHER, WEAK, seconds)


@pytest.mark.parametrize("transaction", [TOGETHER, AUTOCOMMIT])
def test_a_lax_server_is_strict_with_emc(database: sa.Engine, transaction: Transaction) -> None:
    """Where the application's sessions turn NULL into 0, emc's refuse, and leave its other modes alone."""
    with database.connect() as connection:
        connection.exec_driver_sql("SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'")
        connection.exec_driver_sql('INSERT INTO "Waiting Room" SELECT 1, NULL FROM DUAL')
        assert connection.exec_driver_sql('SELECT v FROM "Waiting Room"').scalar() == 0
        connection.rollback()
    with DIALECT.open(database, transaction, SHORT, 1.0) as connection:
        modes = set(shown(connection, "sql_mode")[0].split(","))
        assert modes >= {"ANSI_QUOTES", "PIPES_AS_CONCAT", "STRICT_ALL_TABLES", "STRICT_TRANS_TABLES"}
        refused = caught_by(connection, 'INSERT INTO "Waiting Room" SELECT 1, NULL FROM DUAL')
        assert DIALECT.failure(refused) is Failure.INTEGRITY


def test_checks_that_a_session_switched_off_are_on(database: sa.Engine) -> None:
    """A session of the pool that has read a dump in, without checks, checks again while it is emc's."""
    names = ("foreign_key_checks", "unique_checks", "check_constraint_checks", "max_statement_time")
    with database.connect() as connection:
        connection.exec_driver_sql(
            "SET SESSION foreign_key_checks = 0, unique_checks = 0, check_constraint_checks = 0, max_statement_time = 9"
        )
    with DIALECT.open(database, AUTOCOMMIT, SHORT, 1.0) as connection:
        assert shown(connection, *names) == (1, 1, 1, 0)
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
    with database.connect() as connection:
        assert shown(connection, *names) == (0, 0, 0, 9)


def test_assignments_are_simultaneous(database: sa.Engine) -> None:
    """In one UPDATE every expression sees the old row, as on other databases: a swap swaps."""
    with DIALECT.open(database, TOGETHER, SHORT, 1.0) as connection:
        connection.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (1, 2)")
        connection.exec_driver_sql("UPDATE `Waiting Room` SET id = v, v = id")
        assert connection.exec_driver_sql("SELECT id, v FROM `Waiting Room`").one() == (2, 1)


@pytest.mark.parametrize("transaction", [TOGETHER, AUTOCOMMIT, LOCKED])
def test_a_pooler_that_loses_settings_is_refused(database: sa.Engine, transaction: Transaction) -> None:
    """Behind a proxy that gives each statement another session, nothing is sent without a timeout."""

    def lose(connection: sa.Connection, cursor: Any, statement: str, *_: object) -> None:
        # Stands for the next client of the shared session.
        if statement.startswith("SET"):
            connection.connection.cursor().execute("SET SESSION lock_wait_timeout = 86400")

    sa.event.listen(database, "after_cursor_execute", lose)
    with pytest.raises(ConfigurationError) as caught, DIALECT.open(database, transaction, SHORT, 0.1):
        pytest.fail("nothing may be sent")
    assert caught.value.remedy is not None


@pytest.mark.parametrize("how", ["", "a failure", "a lost connection"])
def test_no_lock_of_a_table_gets_into_the_pool(database: sa.Engine, how: str) -> None:
    """LOCK TABLES outlives a rollback: it is taken back however the block ends."""
    with database.connect() as other:  # Opened first, so that emc gets a session of its own.

        def lock_and_fail() -> None:
            with DIALECT.open(database, LOCKED, SHORT, 0.1) as connection:
                connection.exec_driver_sql("LOCK TABLES `Waiting Room` WRITE")
                if how == "a failure":
                    connection.exec_driver_sql("SELECT * FROM nowhere")
                if how:
                    session = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
                    other.exec_driver_sql(f"KILL {session}")
                    connection.exec_driver_sql("SELECT 1")

        if how:
            with pytest.raises(DBAPIError):
                lock_and_fail()
        else:
            lock_and_fail()
        other.exec_driver_sql("SET SESSION lock_wait_timeout = 5")
        other.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (1, 1)")


def test_together_is_one_transaction_whatever_the_engine_says(mariadb_url: str) -> None:
    """On an engine that autocommits, what was written is rolled back all the same when the block raises."""
    engine = sa.create_engine(mariadb_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT PRIMARY KEY)")

    def write_and_fail() -> None:
        with DIALECT.open(engine, TOGETHER, SHORT, 1) as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(DBAPIError):
        write_and_fail()
    with DIALECT.open(engine, TOGETHER, SHORT, 1) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM t").scalars().all() == [2]
    engine.dispose()


def test_a_session_that_dies_is_not_given_back(database: sa.Engine) -> None:
    """When the server ends emc's session, the error is the server's, and the pool goes on with another one."""
    with database.connect() as other:

        def die() -> None:
            with DIALECT.open(database, AUTOCOMMIT, SHORT, 1) as connection:
                other.exec_driver_sql(f"KILL {connection.exec_driver_sql('SELECT CONNECTION_ID()').scalar()}")
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(DBAPIError) as caught:
            die()
    assert DIALECT.failure(caught.value) is Failure.DISCONNECTED
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


@pytest.mark.parametrize("charset", ["latin1", "utf8mb3"])
def test_no_character_is_lost_on_the_way(database: sa.Engine, charset: str) -> None:
    """A driver that was told to use a smaller character set would turn a name into question marks: refused."""
    engine = sa.create_engine(database.url.update_query_dict({"charset": charset}))
    with pytest.raises(ConfigurationError) as caught, DIALECT.open(engine, TOGETHER, SHORT, 1.0):
        pytest.fail("nothing may be written")
    assert "charset=utf8mb4" in (caught.value.remedy or "")
    engine.dispose()


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_of_one_moment(database: sa.Engine) -> None:
    """What another session commits meanwhile is not seen by half of a reading."""
    count = sa.text("SELECT count(*) FROM `Waiting Room`")
    with DIALECT.reading(database) as connection:
        with database.begin() as other:
            other.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (1, 1)")
        assert connection.scalar(count) == 0
        with database.begin() as other:
            other.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (2, 2)")
        assert connection.scalar(count) == 0
    with DIALECT.reading(database) as connection:
        assert connection.scalar(count) == 2


@pytest.mark.parametrize("spoilt", [1, 4, 5])
def test_a_question_is_asked_again_where_ddl_outdated_its_snapshot(database: sa.Engine, spoilt: int) -> None:
    """What was made or rebuilt after the snapshot is seen by the next one; the fifth in a row is the last."""
    asked: list[int] = []

    def question(connection: sa.Connection) -> int:
        asked.append(len(asked))
        if len(asked) <= spoilt:
            with database.begin() as other:
                other.exec_driver_sql(f"CREATE TABLE made_{len(asked)} (id INT) SELECT {len(asked)} AS id")
        last = min(len(asked), spoilt)
        return int(connection.exec_driver_sql(f"SELECT id FROM made_{last}").scalar_one())

    if spoilt < 5:
        assert DIALECT.ask(database, question) == spoilt
        assert len(asked) == spoilt + 1
    else:
        with pytest.raises(OperationalError) as caught:
            DIALECT.ask(database, question)
        assert DIALECT.failure(caught.value) is Failure.LOCKED
        assert len(asked) == spoilt


def test_a_reading_is_in_nobodys_way(database: sa.Engine) -> None:
    """DDL need not wait for a plan that is being made: what was read is locked no longer than the query took."""
    with DIALECT.reading(database) as connection, DIALECT.open(database, AUTOCOMMIT, SHORT, 0.0) as other:
        rows = connection.exec_driver_sql("SELECT count(*) FROM `Waiting Room`")
        other.exec_driver_sql("ALTER TABLE `Waiting Room` ADD COLUMN w INT, ALGORITHM=INSTANT")
        assert rows.scalar() == 0  # The answer had come before.
        assert sa.inspect(connection).has_table("Waiting Room")
        other.exec_driver_sql("DROP TABLE `Waiting Room`")


def test_a_snapshot_of_a_rebuilt_table_is_had_again_later(database: sa.Engine) -> None:
    """A table that is rebuilt under a snapshot cannot be read by it (error 1412): that means to try again."""
    with DIALECT.reading(database) as connection:
        with DIALECT.open(database, AUTOCOMMIT, SHORT, 0.0) as other:
            other.exec_driver_sql("ALTER TABLE `Waiting Room` FORCE, ALGORITHM=INPLACE")
        error = caught_by(connection, "SELECT count(*) FROM `Waiting Room`")
        assert DIALECT.failure(error) is Failure.LOCKED
    with DIALECT.reading(database) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM `Waiting Room`").scalar() == 0


def test_reading_writes_nothing(database: sa.Engine) -> None:
    """A statement that would write is refused for what it is: the transaction is for reading."""
    with DIALECT.reading(database) as connection:
        error = caught_by(connection, "INSERT INTO `Waiting Room` VALUES (1, 1)")
        assert DIALECT.failure(error) is Failure.FORBIDDEN
        assert connection.exec_driver_sql("SELECT count(*) FROM `Waiting Room`").scalar() == 0


def test_reading_does_not_wait_for_a_day(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question behind somebody's lock is given up in time, and the pool's session gets its own patience back."""
    monkeypatch.setattr(sessions, "_READING_WAIT", 0)
    with database.connect() as connection:
        before = shown(connection, "lock_wait_timeout", "tx_isolation")
        connection.exec_driver_sql("LOCK TABLES `Waiting Room` WRITE")
        with DIALECT.reading(database) as reader:
            error = caught_by(reader, "SELECT * FROM `Waiting Room`")
        assert DIALECT.failure(error) is Failure.LOCKED
        connection.exec_driver_sql("UNLOCK TABLES")
    for _ in range(2):
        with database.connect() as connection:
            assert shown(connection, "lock_wait_timeout", "tx_isolation") == before


def test_a_role_that_may_only_read_can_read(database: sa.Engine) -> None:
    """A snapshot needs no privilege but SELECT."""
    name = database.url.database
    with database.begin() as connection:
        connection.exec_driver_sql(f"GRANT SELECT ON {name}.* TO reader IDENTIFIED BY 'x'")
    engine = sa.create_engine(database.url.set(username="reader", password="x"))
    with DIALECT.reading(engine) as reading:
        assert reading.exec_driver_sql("SELECT count(*) FROM `Waiting Room`").scalar() == 0
        assert DIALECT.blockers(reading, [ROOM]) == []
    assert failure_of(engine, "INSERT INTO `Waiting Room` VALUES (1, 1)") is Failure.FORBIDDEN
    assert failure_of(engine, "CREATE TABLE t (id INT)") is Failure.FORBIDDEN
    assert failure_of(engine, "CREATE DATABASE other") is Failure.FORBIDDEN
    engine.dispose()
    wrong = sa.create_engine(database.url.set(username="reader", password="y"))
    with pytest.raises(DBAPIError) as caught:
        wrong.connect()
    assert DIALECT.failure(caught.value) is Failure.FORBIDDEN
    with database.begin() as connection:
        connection.exec_driver_sql("DROP USER reader")


# -- failures -------------------------------------------------------------------------------------------------------

PARENT = "CREATE TABLE parent (id INT PRIMARY KEY)"
CHILD = "CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES parent (id))"
FOREIGN_KEY = "CONSTRAINT fk FOREIGN KEY (v) REFERENCES parent (id)"
FAILURES: dict[str, tuple[Failure, tuple[str, ...]]] = {
    "duplicate": (Failure.INTEGRITY, ("INSERT INTO `Waiting Room` VALUES (1, 1), (1, 2)",)),
    "duplicate of an index": (
        Failure.INTEGRITY,
        ("INSERT INTO `Waiting Room` VALUES (1, 1), (2, 1)", "CREATE UNIQUE INDEX u ON `Waiting Room` (v)"),
    ),
    "null": (Failure.INTEGRITY, ("INSERT INTO `Waiting Room` VALUES (1, NULL)",)),
    "null in a column that becomes NOT NULL": (
        Failure.INTEGRITY,
        ("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (NULL)", "ALTER TABLE t MODIFY a INT NOT NULL"),
    ),
    "no default": (Failure.INTEGRITY, ("INSERT INTO `Waiting Room` (v) VALUES (1)",)),
    "no parent": (Failure.INTEGRITY, (PARENT, CHILD, "INSERT INTO child VALUES (1, 1)")),
    "has children": (
        Failure.INTEGRITY,
        (
            PARENT,
            CHILD,
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO child VALUES (1, 1)",
            "DELETE FROM parent",
        ),
    ),
    "orphan at the new key": (
        Failure.INTEGRITY,
        (PARENT, "INSERT INTO `Waiting Room` VALUES (1, 1)", f"ALTER TABLE `Waiting Room` ADD {FOREIGN_KEY}"),
    ),
    "check": (Failure.INTEGRITY, ("CREATE TABLE t (a INT CHECK (a > 0))", "INSERT INTO t VALUES (0)")),
    "new check": (
        Failure.INTEGRITY,
        (
            "INSERT INTO `Waiting Room` VALUES (1, 1)",
            "ALTER TABLE `Waiting Room` ADD CONSTRAINT ck CHECK (v > 5)",
        ),
    ),
    "signal": (Failure.INTEGRITY, ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'guarded'",)),
    "too long": (Failure.INTEGRITY, ("CREATE TABLE t (a VARCHAR(2))", "INSERT INTO t VALUES ('abc')")),
    "cut by a new type": (
        Failure.INTEGRITY,
        (
            "CREATE TABLE t (a VARCHAR(9))",
            "INSERT INTO t VALUES ('abc')",
            "ALTER TABLE t MODIFY a VARCHAR(2)",
        ),
    ),
    "out of range": (Failure.INTEGRITY, ("INSERT INTO `Waiting Room` VALUES (1, 99999999999)",)),
    "no number": (Failure.INTEGRITY, ("INSERT INTO `Waiting Room` VALUES (1, 'x')",)),
    "no date": (Failure.INTEGRITY, ("CREATE TABLE t (a DATE)", "INSERT INTO t VALUES ('x')")),
    "no label": (Failure.INTEGRITY, ("CREATE TABLE t (a ENUM('x'))", "INSERT INTO t VALUES ('y')")),
    "nowhere": (Failure.OTHER, ("SELECT * FROM nowhere",)),
    "no SQL": (Failure.OTHER, ("FROBNICATE",)),
    "no column": (Failure.OTHER, ("SELECT nothing FROM `Waiting Room`",)),
    "ended on purpose": (Failure.OTHER, ("KILL QUERY CONNECTION_ID()",)),
    "limited on purpose": (Failure.OTHER, ("SET STATEMENT max_statement_time = 0.01 FOR SELECT SLEEP(60)",)),
    "no such algorithm": (
        Failure.UNSUPPORTED,
        ("ALTER TABLE `Waiting Room` MODIFY v BIGINT NOT NULL, ALGORITHM=INSTANT",),
    ),
    "no such lock": (
        Failure.UNSUPPORTED,
        ("ALTER TABLE `Waiting Room` MODIFY v BIGINT NOT NULL, ALGORITHM=COPY, LOCK=NONE",),
    ),
}


@pytest.mark.parametrize("which", FAILURES)
def test_what_a_failure_means(database: sa.Engine, which: str) -> None:
    """Data that does not fit, what the server cannot do this way, and plain mistakes are told apart."""
    meaning, statements = FAILURES[which]
    assert failure_of(database, "SET sql_mode = 'STRICT_ALL_TABLES'", *statements) is meaning


def test_locks_that_are_not_to_be_had(database: sa.Engine) -> None:
    """A metadata lock and a row that others hold mean: later."""
    with database.begin() as first, database.connect() as second:
        first.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (1, 1), (2, 2)")
        first.exec_driver_sql("COMMIT")
        first.exec_driver_sql("UPDATE `Waiting Room` SET v = 3 WHERE id = 1")
        second.exec_driver_sql("SET lock_wait_timeout = 0, innodb_lock_wait_timeout = 0")
        for statement in (
            "ALTER TABLE `Waiting Room` ADD w INT",
            "UPDATE `Waiting Room` SET v = 3 WHERE id = 1",
        ):
            assert DIALECT.failure(caught_by(second, statement)) is Failure.LOCKED
        second.rollback()


def test_connections_that_are_gone(database: sa.Engine) -> None:
    """A session that was killed, and a connection that the driver finds closed, mean: look, then decide."""
    assert failure_of(database, "KILL CONNECTION_ID()") in (Failure.DISCONNECTED, Failure.OTHER)
    with database.connect() as connection, database.connect() as other:
        other.exec_driver_sql(f"KILL {connection.exec_driver_sql('SELECT CONNECTION_ID()').scalar()}")
        assert DIALECT.failure(caught_by(connection, "SELECT 1")) is Failure.DISCONNECTED
    with database.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.close()
        assert DIALECT.failure(caught_by(connection, "SELECT 1")) is Failure.DISCONNECTED


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (3572, Failure.LOCKED),
        (4031, Failure.DISCONNECTED),
        (3819, Failure.INTEGRITY),
        (3024, Failure.OTHER),
        (1836, Failure.FORBIDDEN),
        (None, Failure.OTHER),
    ],
)
def test_what_mysql_alone_says(code: int | None, meaning: Failure) -> None:
    """Errors of MySQL 8, by its manual: NOWAIT, idle too long, CHECK, a limit, a server that is read only."""
    original = Exception() if code is None else Exception(code, "what MySQL says")
    assert MySQL().failure(OperationalError("SELECT 1", None, original)) is meaning


# -- who is in the way ----------------------------------------------------------------------------------------------


def open_ones(dialect: MariaDB, engine: sa.Engine, *keys: TableKey) -> list[tuple[str, bool]]:
    """The sessions in the way, and whether that is sure."""
    with dialect.reading(engine) as connection:
        return [(one.session, one.sure) for one in dialect.blockers(connection, keys)]


def test_blockers_may_be_named(database: sa.Engine) -> None:
    """Without a plugin open transactions are told, with thread id, user, age and query, and that it is not sure."""
    with database.begin() as holder:
        session = str(holder.exec_driver_sql("SELECT CONNECTION_ID()").scalar())
        holder.exec_driver_sql("SET time_zone = '+05:00'")
        holder.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (1, 1)")
        with DIALECT.reading(database) as connection:
            connection.exec_driver_sql("SET time_zone = '-11:00'")
            # InnoDB repeats what it said of transactions to whoever asks again within a tenth of a second.
            [blocker] = until(lambda: DIALECT.blockers(connection, [ROOM]), every=0.2)
        assert (blocker.session, blocker.user, blocker.sure) == (session, "root", False)
        assert blocker.seconds is not None
        assert 0 <= blocker.seconds < 3600
        assert blocker.query == "(idle in its transaction)"
    with DIALECT.open(database, TOGETHER, SHORT, 1.0) as own:
        own.exec_driver_sql("INSERT INTO `Waiting Room` VALUES (2, 2)")
        assert open_ones(DIALECT, database, ROOM) == []


def test_who_is_at_work_on_the_table_is_in_the_way(database: sa.Engine) -> None:
    """A session that runs a statement on the table is told by its query, though it is in no transaction of InnoDB."""
    with database.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE myisam_room (id INT) ENGINE=MyISAM")
        connection.exec_driver_sql("INSERT INTO myisam_room VALUES (1)")
    busy = "SELECT SLEEP(60), id FROM myisam_room -- " + "x" * 200

    def run() -> None:
        with database.connect() as connection, pytest.raises(DBAPIError):
            connection.exec_driver_sql(busy)

    thread = threading.Thread(target=run)
    thread.start()
    key = TableKey(None, "myisam_room")

    def found() -> Any:
        with DIALECT.reading(database) as connection:
            assert DIALECT.blockers(connection, [ROOM]) == []
            return DIALECT.blockers(connection, [key])

    try:
        [blocker] = until(found, every=0.2)
        assert blocker.query == busy[:100]
    finally:
        with database.connect() as connection:
            asleep = (
                "SELECT id FROM information_schema.processlist WHERE LOCATE('SELECT SLEEP(60)', info) = 1"
            )
            for session in connection.exec_driver_sql(asleep).scalars().all():
                connection.exec_driver_sql(f"KILL {session}")
        thread.join()


def _with_plugin(server: MariaDBServer, engine: sa.Engine) -> None:
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("INSTALL SONAME 'metadata_lock_info'")
    except OperationalError as error:
        if "(1126," not in str(error.orig):  # Cannot open the shared library.
            raise
        missing("MariaDB's plugin metadata_lock_info is not installed: Debian has it in mariadb-server")


def _with_performance_schema(server: MariaDBServer, engine: sa.Engine) -> None:
    [configuration] = server.directory.glob("*/etc/my.cnf")
    with configuration.open("a") as file:
        file.write("performance-schema=ON\nperformance-schema-instrument='wait/lock/metadata/sql/mdl=ON'\n")
    server.restart()


@pytest.mark.parametrize("provide", [_with_plugin, _with_performance_schema])
def test_holders_of_locks_are_known_where_the_server_tells(
    throwaway_mariadb_server: MariaDBServer, provide: Callable[[MariaDBServer, sa.Engine], None]
) -> None:
    """With the plugin or performance_schema only those are named who hold a lock of the table, and that is sure."""
    with throwaway_mariadb_server.database() as url:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE `Waiting Room` (id INT PRIMARY KEY)")
            connection.exec_driver_sql("CREATE TABLE elsewhere (id INT PRIMARY KEY)")
        provide(throwaway_mariadb_server, engine)
        engine.dispose()
        with engine.begin() as holder, engine.begin() as other:
            session = holder.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
            holder.exec_driver_sql("SELECT * FROM `Waiting Room`")
            other.exec_driver_sql("INSERT INTO elsewhere VALUES (1)")
            assert open_ones(DIALECT, engine, ROOM) == [(str(session), True)]
            assert open_ones(DIALECT, engine, TableKey(engine.url.database, "Waiting Room")) == [
                (str(session), True)
            ]
            assert open_ones(DIALECT, engine, TableKey(None, "nowhere")) == []
        engine.dispose()


# -- small facts ----------------------------------------------------------------------------------------------------


def test_version_is_the_servers(database: sa.Engine) -> None:
    """The ledger keeps the version that the server tells, without the distribution's additions."""
    with database.connect() as connection:
        said = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
        version = DIALECT.server_version(connection)
    assert version == f"MariaDB {said.partition('-')[0]}"
    assert version.count(".") == 2


def test_the_clock_is_utc(database: sa.Engine) -> None:
    """The server's clock reads the same whatever the time zone of the session."""
    with database.connect() as connection:
        before = DIALECT.now(connection)
        connection.exec_driver_sql("SET time_zone = '+09:00'")
        after = DIALECT.now(connection)
        unix = connection.exec_driver_sql("SELECT UNIX_TIMESTAMP(NOW(6))").scalar_one()
    assert before <= after
    assert abs(after.timestamp() - float(unix)) < 60
