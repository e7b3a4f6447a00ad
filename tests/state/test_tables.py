import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from emc.names import is_own
from emc.state import control, entries, failures, holder, observation, progress, ranges
from emc.state.failures import clear_failures
from emc.state.observations import forget
from emc.state.tables import LEDGER, METADATA, OBSERVATIONS, ensure, exists

READERS: dict[str, Callable[[Connection], Any]] = {
    "entries": entries,
    "some entries": lambda connection: entries(connection, limit=3, operation="x"),
    "observation": lambda connection: observation(connection, "x"),
    "progress": lambda connection: progress.load(connection, "x"),
    "failures": failures,
    "some failures": lambda connection: failures(connection, "x"),
    "holder": holder,
    "ranges": lambda connection: ranges.ranges(connection, "x"),
    "asked": lambda connection: control.asked(connection, 1),
    "published": lambda connection: control.published(connection, 1),
}


@pytest.mark.parametrize("reader", READERS)
def test_reading_without_tables(engine: Engine, reader: str) -> None:
    """Before emc first wrote, reading finds nothing, writes nothing, and leaves the transaction usable."""
    with engine.connect() as connection:
        assert not READERS[reader](connection)
        assert connection.execute(text("SELECT 1")).scalar() == 1
        assert inspect(connection).get_table_names() == []


def test_reading_in_a_read_only_transaction(postgresql_url: str) -> None:
    """`plan`, `status` and `check` work inside a read-only transaction, with and without the tables."""
    engine = create_engine(postgresql_url)
    for prepared in (False, True):
        if prepared:
            with engine.begin() as connection:
                ensure(connection)
        with engine.connect().execution_options(postgresql_readonly=True) as connection:
            assert [read(connection) for read in READERS.values()] == [
                (),
                (),
                None,
                None,
                (),
                (),
                None,
                (),
                None,
                None,
            ]
    engine.dispose()


def test_forgetting_without_tables(engine: Engine) -> None:
    """There is nothing to forget before emc first wrote, and that is no reason to make tables."""
    with engine.begin() as connection:
        forget(connection, "x")
        progress.forget(connection, "x")
        clear_failures(connection, "x")
    assert inspect(engine).get_table_names() == []


def test_ensure_is_idempotent(engine: Engine) -> None:
    """Making the tables again changes nothing and keeps what is in them."""
    with engine.begin() as connection:
        ensure(connection)
        connection.execute(
            insert(OBSERVATIONS).values(name="x", first_seen=dt.datetime.now(dt.UTC), facts="{}")
        )
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with engine.begin() as connection:
        ensure(connection)
        ensure(connection, OBSERVATIONS)
        assert connection.execute(select(OBSERVATIONS.c.name)).scalars().all() == ["x"]
    assert not [statement for statement in statements if "CREATE" in statement.upper()]


def test_everything_bears_the_prefix(engine: Engine) -> None:
    """Tables, indexes and constraints of emc's own can be told from the user's by name."""
    with engine.begin() as connection:
        ensure(connection)
    inspector = inspect(engine)
    names = list(inspector.get_table_names())
    assert set(names) == set(METADATA.tables)
    for table in inspector.get_table_names():
        names += [str(index["name"]) for index in inspector.get_indexes(table)]
        names += [name for name in [inspector.get_pk_constraint(table)["name"]] if name]
    assert [name for name in names if not is_own(name)] == []


def test_ensure_in_a_transaction_is_rolled_back_with_it(postgresql_url: str) -> None:
    """A transaction that fails leaves no table behind."""
    engine = create_engine(postgresql_url)
    with engine.connect() as connection:
        ensure(connection)
        assert exists(connection, LEDGER)
        connection.rollback()
        assert not exists(connection, LEDGER)
    engine.dispose()


def test_two_at_once(postgresql_url: str) -> None:
    """The second of two runners that make the tables at once waits for the first, then finds them made."""
    engine = create_engine(postgresql_url)
    errors: list[BaseException] = []

    def second() -> None:
        try:
            with engine.begin() as connection:
                connection.execute(text("SET application_name = 'second'"))
                ensure(connection)
                connection.execute(select(LEDGER))
        except BaseException as error:  # noqa: BLE001  # Seen by the thread of the test.
            errors.append(error)

    with engine.begin() as first:
        ensure(first)
        thread = threading.Thread(target=second)
        thread.start()
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'second' AND wait_event_type = 'Lock'"
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            while watcher.execute(waiting).scalar() == 0 and thread.is_alive():
                watcher.execute(text("SELECT pg_sleep(0.01)"))
    thread.join()
    assert errors == []
    assert set(inspect(engine).get_table_names()) == set(METADATA.tables)
    engine.dispose()


def test_a_missing_privilege_is_not_taken_for_a_race(postgresql_url: str) -> None:
    """A table that cannot be made is an error, and the caller's transaction goes on."""
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE emc_nobody"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        connection.execute(text("SET LOCAL ROLE emc_nobody"))
        with pytest.raises(DBAPIError, match="permission denied"):
            ensure(connection)
        assert connection.execute(text("SELECT 1")).scalar() == 1
        connection.rollback()
    engine.dispose()


def test_times_are_utc(engine: Engine) -> None:
    """A point in time comes back as the same point in time, in UTC, whatever zone it was given in."""
    east = dt.timezone(dt.timedelta(hours=9))
    given = dt.datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=east)
    with engine.begin() as connection:
        ensure(connection)
        connection.execute(insert(OBSERVATIONS).values(name="x", first_seen=given, facts="{}"))
        found = connection.execute(select(OBSERVATIONS.c.first_seen)).scalar_one()
    assert found == given
    assert found.tzinfo is dt.UTC


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    """A naive datetime is not a point in time, so it is never stored as if it were UTC."""
    with engine.begin() as connection:
        ensure(connection)
        with pytest.raises(Exception, match="no time zone"):
            connection.execute(
                insert(OBSERVATIONS).values(name="x", first_seen=dt.datetime(2026, 1, 1), facts="{}")  # noqa: DTZ001
            )


def test_mysql_keeps_microseconds_case_and_length() -> None:
    """MySQL's and MariaDB's own ideas of DATETIME, TEXT and equality of names do not get in."""
    sql = " ".join(
        str(CreateTable(table).compile(dialect=mysql.dialect())) for table in METADATA.sorted_tables
    )
    assert "DATETIME(6)" in sql
    assert "utf8mb4_bin" in sql
    assert "DATETIME," not in sql
    assert " TEXT" not in sql
