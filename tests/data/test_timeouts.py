"""Users' own functions and SQL run under emc's timeouts on PostgreSQL, whatever they do with them."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Row, Table, create_engine, event, text

from emc.data import BatchPolicy, Outcome
from emc.errors import DeclarationError, LockBudgetError
from emc.state.progress import load
from emc.upgrade import Upgrade
from tests.data.support import column, execute, migrate, only_work

USERS = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("a", Integer))


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Engine]:
    """Three users without a value, and a table of somebody else."""
    engine = create_engine(postgresql_url)
    execute(
        engine,
        "CREATE TABLE users (id integer PRIMARY KEY, a integer)",
        "INSERT INTO users (id) VALUES (1), (2), (3)",
        "CREATE TABLE other (id integer)",
    )
    yield engine
    engine.dispose()


def show(connection: Connection) -> tuple[str, str]:
    """The timeouts of a session."""
    names = ("lock_timeout", "statement_timeout")
    lock, statement = (str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names)
    return lock, statement


def test_a_function_waits_no_longer_than_emc(database: Engine) -> None:
    """A function that meets a lock of another session fails within the lock timeout and is called again.

    Each call finds the timeouts of its batch, although the one before switched them off for the whole session.
    """
    upgrade = Upgrade(USERS.metadata)
    found: list[tuple[str, str]] = []

    @upgrade.data_migration(USERS, where=USERS.c.a.is_(None))
    def look_up(row: Row[Any], connection: Connection) -> dict[str, Any]:
        if row.id == 1:
            found.append(show(connection))
        connection.execute(text("SELECT count(*) FROM other"))
        connection.execute(text("SET lock_timeout = 0"))
        connection.execute(text("SET statement_timeout = '1h'"))
        return {"a": row.id}

    with database.connect() as holder:
        holder.exec_driver_sql("LOCK TABLE other")
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                holder.rollback()

        policy = BatchPolicy(sleep=sleep, lock_timeout=0.05)
        result = migrate(database, only_work(upgrade, database), batch=policy)
    assert result.outcome is Outcome.COMPLETE
    assert found == [("50ms", "0")] * 3
    assert column(database, "SELECT a FROM users ORDER BY id") == [1, 2, 3]


def test_a_function_that_sets_timeouts_does_not_set_those_of_emc(database: Engine) -> None:
    """What is written after a function switched the timeouts off has them again."""
    upgrade = Upgrade(USERS.metadata)

    @upgrade.data_migration(USERS, where=USERS.c.a.is_(None))
    def careless(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.execute(text("SET lock_timeout = 0"))
        connection.execute(text("SET LOCAL row_security = on"))
        return {"a": row.id}

    seen: list[tuple[str, str]] = []

    @event.listens_for(database, "before_cursor_execute")
    def _look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE users"):
            cursor.execute("SELECT current_setting('lock_timeout'), current_setting('row_security')")
            seen.append(tuple(cursor.fetchone()))

    policy = BatchPolicy(sleep=lambda _: None, lock_timeout=0.05)
    assert migrate(database, only_work(upgrade, database), batch=policy).outcome is Outcome.COMPLETE
    assert seen
    assert set(seen) == {("50ms", "off")}


def test_rows_that_stay_locked_end_the_run(database: Engine) -> None:
    """A fill that never gets its rows waits for the lock timeout each time and ends with what is done kept."""
    upgrade = Upgrade(USERS.metadata)

    @upgrade.data_migration(USERS, where=USERS.c.a.is_(None))
    def fill(row: Row[Any]) -> dict[str, Any]:
        return {"a": row.id}

    with database.connect() as holder:
        holder.exec_driver_sql("SELECT * FROM users WHERE id = 2 FOR UPDATE")
        policy = BatchPolicy(sleep=lambda _: None, lock_timeout=0.02)
        with pytest.raises(LockBudgetError):
            migrate(database, only_work(upgrade, database), batch=policy)
        assert column(database, "SELECT a FROM users ORDER BY id") == [1, None, 3]
        holder.rollback()
    assert migrate(database, only_work(upgrade, database)).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_a_function_that_ends_the_transaction_is_refused(database: Engine, statement: str) -> None:
    """Without the transaction of its batch a row would be written without timeouts and apart from its cursor."""
    upgrade = Upgrade(USERS.metadata)

    @upgrade.data_migration(USERS, where=USERS.c.a.is_(None))
    def commits(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.exec_driver_sql(statement)
        return {"a": row.id}

    work = only_work(upgrade, database)
    with pytest.raises(DeclarationError) as caught:
        migrate(database, work)
    assert caught.value.places == (work.place,)
    assert column(database, "SELECT a FROM users") == [None, None, None]
    with database.connect() as connection:
        assert load(connection, work.name) is None
