"""How emc holds connections to SQLite, and what their errors mean."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    StaticPool,
    Table,
    create_engine,
    event,
    select,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from emc.dialects.answers import Failure
from emc.errors import EmcError
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.steps import LockPolicy, Transaction
from tests.dialects.sqlite_ritual import SQLITE, alter, live_of, operation, rows, run, run_steps, script

PRAGMAS = ("foreign_keys", "legacy_alter_table", "busy_timeout")


def plain(url: str) -> Engine:
    """An engine as most have it."""
    return create_engine(url)


def enforcing(url: str) -> Engine:
    """SQLAlchemy's recipe for foreign keys."""
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def enforce(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def serializable(url: str) -> Engine:
    """SQLAlchemy's recipe for transactions on pysqlite: no driver control, BEGIN in an event."""
    engine = enforcing(url)

    @event.listens_for(engine, "connect")
    def take_over(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def in_memory(url: str) -> Engine:
    """One connection for all, as tests have it."""
    return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


@pytest.fixture(params=[plain, enforcing, serializable, in_memory])
def engine(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Engine]:
    """Engines as applications make them."""
    make: Callable[[str], Engine] = request.param
    engine = make(sqlite_url)
    script(engine, "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES (1, 1)")
    yield engine
    engine.dispose()


def state(engine: Engine) -> tuple[Any, ...]:
    """What a connection of the pool is set to."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        return (
            raw.isolation_level,
            *(connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS),
        )


def failing(engine: Engine, transaction: Transaction, *statements: str) -> None:
    """Run statements, then meet an error that has nothing to do with the database."""
    with SQLITE.open(engine, transaction, LockPolicy.SHORT, 0.25) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        raise ZeroDivisionError


@pytest.mark.parametrize("transaction", [one for one in Transaction if one is not Transaction.LOCKED])
@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_goes_back_as_it_came(engine: Engine, transaction: Transaction, *, fails: bool) -> None:
    """Isolation level and pragmas are the application's again, whether the work succeeds or not."""
    before = state(engine)
    with SQLITE.open(engine, transaction, LockPolicy.SHORT, 0.25) as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 250
        rebuilding = transaction is Transaction.REBUILD
        assert connection.exec_driver_sql("PRAGMA legacy_alter_table").scalar() == int(rebuilding)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == (0 if rebuilding else before[1])
        connection.exec_driver_sql("INSERT INTO t VALUES (2, 2)")
    assert rows(engine, "SELECT count(*) FROM t") == [(2,)]
    if fails:
        with pytest.raises(ZeroDivisionError):
            failing(engine, transaction, "INSERT INTO t VALUES (3, 3)")
        kept = 3 if transaction is Transaction.AUTOCOMMIT else 2
        assert rows(engine, "SELECT count(*) FROM t") == [(kept,)]
    assert state(engine) == before


def test_no_session_locks_tables(engine: Engine) -> None:
    """What would work under locked tables is refused, rather than run in a session that locks nothing."""
    with (
        pytest.raises(ValueError, match="locked"),
        SQLITE.open(engine, Transaction.LOCKED, LockPolicy.SHORT, 1),
    ):
        pytest.fail("it was opened")


def test_a_rebuild_works_on_every_kind_of_engine(engine: Engine) -> None:
    """Files and memory, with and without the application's own transaction recipe."""
    run(engine, alter(Kind.SET_NOT_NULL, "t", "v", modify_nullable=False))
    assert rows(engine, "SELECT id, v FROM t") == [(1, 1)]


def test_ddl_in_a_transaction_is_rolled_back(engine: Engine) -> None:
    """The driver would have committed before a CREATE TABLE; emc's transaction holds it."""
    with pytest.raises(ZeroDivisionError):
        failing(engine, Transaction.TOGETHER, "CREATE TABLE u (id INTEGER)", "INSERT INTO u VALUES (1)")
    assert rows(engine, "SELECT name FROM sqlite_master") == [("t",)]


def test_reading_is_one_snapshot(sqlite_url: str) -> None:
    """What others commit meanwhile is not seen, and nothing that is written stays."""
    engine = plain(sqlite_url)
    script(engine, "CREATE TABLE t (id INTEGER)")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with SQLITE.reading(engine) as connection:
        script(engine, "INSERT INTO t VALUES (1)")
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    assert rows(engine, "SELECT count(*) FROM t") == [(1,)]
    engine.dispose()


def test_a_read_only_file_can_be_read_and_not_changed(tmp_path: Path) -> None:
    """A plan works with mode=ro, says what is missing, and a write is FORBIDDEN."""
    path = tmp_path / "emc.db"
    script(create_engine(f"sqlite:///{path}"), "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)")
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    live = live_of(engine)
    steps = SQLITE.steps([alter(Kind.SET_NOT_NULL, "t", "v", modify_nullable=False)], live)
    with SQLITE.reading(engine) as connection:
        (missing,) = SQLITE.missing_privileges(connection, steps)
        assert str(path) in missing
        assert SQLITE.missing_privileges(connection, []) == {}
    with (
        pytest.raises(OperationalError) as caught,
        SQLITE.open(engine, Transaction.AUTOCOMMIT, LockPolicy.SHORT, 1) as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE u (id INTEGER)")
    assert SQLITE.failure(caught.value) is Failure.FORBIDDEN
    engine.dispose()


def test_a_file_that_may_be_written_lacks_nothing(engine: Engine) -> None:
    """Nothing is said to be missing where nothing is."""
    steps = SQLITE.steps([alter(Kind.SET_NOT_NULL, "t", "v", modify_nullable=False)], live_of(engine))
    with SQLITE.reading(engine) as connection:
        assert list(SQLITE.missing_privileges(connection, steps)) == []


def test_a_writer_at_work_means_try_again(sqlite_url: str) -> None:
    """SQLITE_BUSY is LOCKED, after no longer than the lock timeout; the connection goes back clean."""
    engine = enforcing(sqlite_url)
    script(engine, "CREATE TABLE t (id INTEGER)")
    before = state(engine)
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        for transaction in (Transaction.TOGETHER, Transaction.REBUILD):
            with (
                pytest.raises(OperationalError) as caught,
                SQLITE.open(engine, transaction, LockPolicy.SHORT, 0.05),
            ):
                pytest.fail("the lock was free")
            assert SQLITE.failure(caught.value) is Failure.LOCKED
    assert state(engine) == before
    engine.dispose()


def test_somebody_elses_transaction_on_the_only_connection_is_left_alone() -> None:
    """In memory there may be one connection for all: emc does not roll back what another part of the process began."""
    engine = in_memory("")
    with engine.connect() as other:
        other.exec_driver_sql("CREATE TABLE t (id INTEGER)")
        other.exec_driver_sql("INSERT INTO t VALUES (1)")
        with pytest.raises(EmcError), SQLITE.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, 1):
            pytest.fail("it was opened")
    engine.dispose()


@pytest.mark.parametrize(
    ("code", "error", "meaning"),
    [
        (sqlite3.SQLITE_BUSY, sqlite3.OperationalError, Failure.LOCKED),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.OperationalError, Failure.LOCKED),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, sqlite3.OperationalError, Failure.LOCKED),
        (sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.OperationalError, Failure.FORBIDDEN),
        (sqlite3.SQLITE_PERM, sqlite3.OperationalError, Failure.FORBIDDEN),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError, Failure.OTHER),
        (None, sqlite3.ProgrammingError, Failure.OTHER),
    ],
)
def test_what_errors_mean(code: int | None, error: type[sqlite3.Error], meaning: Failure) -> None:
    """Extended codes mean what their primary code means; what is unknown is not tried again."""
    original = error("…")
    if code is not None:
        original.sqlite_errorcode = code
    assert SQLITE.failure(DBAPIError("SELECT 1", None, original)) is meaning


def test_a_walk_by_rowid_needs_a_rowid() -> None:
    """The first name of the rowid that no column takes; none for a table WITHOUT ROWID."""
    metadata = MetaData()
    assert str(SQLITE.row_id(Table("a", metadata, Column("id", Integer)))) == "rowid"
    assert str(SQLITE.row_id(Table("b", metadata, Column("RowId", Integer)))) == "_rowid_"
    full = Table("c", metadata, *(Column(name, Integer) for name in ("rowid", "_rowid_", "oid")))
    assert SQLITE.row_id(full) is None
    assert (
        SQLITE.row_id(Table("d", metadata, Column("id", Integer, primary_key=True), sqlite_with_rowid=False))
        is None
    )


def test_a_rowid_can_be_selected(engine: Engine) -> None:
    """The expression works in a query on the table."""
    table = Table("t", MetaData(), Column("id", Integer))
    with engine.connect() as connection:
        row_id = SQLITE.row_id(table)
        assert row_id is not None
        assert connection.execute(select(row_id).select_from(table)).scalar() == 1


def test_an_attached_database_is_a_schema(tmp_path: Path) -> None:
    """Tables of an attached database are read, changed by ALTER TABLE and rebuilt under its name."""
    engine = create_engine(f"sqlite:///{tmp_path / 'main.db'}")

    @event.listens_for(engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        connection.execute(f"ATTACH '{tmp_path / 'aux.db'}' AS billing")

    script(
        engine,
        "CREATE TABLE t (id INTEGER)",
        "CREATE TABLE billing.t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)",
        "CREATE INDEX billing.i ON t (v)",
        "CREATE TRIGGER billing.g AFTER INSERT ON t BEGIN UPDATE t SET v = 'seen' WHERE id = new.id; END",
        "INSERT INTO billing.t (id) VALUES (7)",
    )
    key = TableKey("billing", "t")
    with SQLITE.reading(engine) as connection:
        live = SQLITE.read(connection, [None, "billing"])
    assert list(live.tables) == [TableKey(None, "t"), key]
    models = Table("t", MetaData(), Column("w", Integer), schema="billing")
    operations = [
        Operation(directive, kind, Element(ElementKind.COLUMN, key, name), Phase.CONTRACT, "")
        for kind, name, directive in [
            (Kind.SET_NOT_NULL, "v", ops.AlterColumnOp("t", "v", schema="billing", modify_nullable=False)),
            (Kind.ADD_COLUMN, "w", ops.AddColumnOp.from_column(models.c.w)),
        ]
    ]
    run_steps(engine, SQLITE.steps(operations, live))
    script(engine, "INSERT INTO billing.t (v) VALUES ('x')")
    assert rows(engine, "SELECT id, v, w FROM billing.t") == [(7, "seen", None), (8, "seen", None)]
    assert rows(engine, "SELECT name FROM billing.sqlite_master WHERE type != 'table'") == [("i",), ("g",)]
    engine.dispose()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_without_write_permission_is_named(tmp_path: Path) -> None:
    """The file system is asked, not only the URL."""
    path = tmp_path / "emc.db"
    engine = create_engine(f"sqlite:///{path}")
    script(engine, "CREATE TABLE t (id INTEGER)")
    path.chmod(0o400)
    index = operation(Kind.DROP_INDEX, "t", "i", ops.DropIndexOp("i", "t"))
    with SQLITE.reading(engine) as connection:
        assert SQLITE.missing_privileges(connection, SQLITE.steps([index], live_of(engine)))
    engine.dispose()
