"""A server that crashes and comes back in the middle of a build, of a validation, of a batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)

import emc
from emc.data import BatchPolicy
from emc.errors import DatabaseUnavailableError, ExitCode
from emc.execute import RetryPolicy
from emc.testing.snapshots import shape
from emc.upgrade import Upgrade
from tests.servers import PostgresServer, require

POLL = 0.01
"""Seconds between looks at what emc's session waits for."""

OLD = [
    "CREATE TABLE users (id integer PRIMARY KEY, name varchar(20), points integer)",
    "INSERT INTO users SELECT n, 'u' || n, n FROM generate_series(1, 50) AS n",
    # Waits where the test wants it to, and nowhere else.
    (
        "CREATE FUNCTION is_good(points integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " IF strpos(current_query(), 'VALIDATE CONSTRAINT') > 0 THEN PERFORM pg_advisory_xact_lock_shared(4); END IF;"
        " RETURN points > 0; END $$"
    ),
    (
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF new.id = 30 THEN PERFORM pg_advisory_xact_lock_shared(4); END IF; RETURN new; END $$"
    ),
    "CREATE TRIGGER waits BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION wait()",
]
HOLD = "SELECT pg_advisory_lock(4)"
WRITE = "INSERT INTO users VALUES (1000, 'straggler', 1)"
READ = "SELECT * FROM users"


@pytest.fixture(scope="module")
def crashing() -> Iterator[PostgresServer]:
    """A server that only these tests know."""
    version, software = require()
    server = PostgresServer(software, version)
    yield server
    server.stop()


@pytest.fixture
def engine(crashing: PostgresServer) -> Iterator[Engine]:
    """An engine on a fresh database of that server."""
    with crashing.database() as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


def upgrade() -> Upgrade:
    """An index, a CHECK and a data migration; made anew for each run."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("points", Integer),
        Column("tz", String(9), nullable=False),
        CheckConstraint("is_good(points)", name="ck_users_points"),
        Index("ix_users_name", "name", unique=False),
    )
    made = Upgrade(metadata)
    made.fill(users.c.tz, text("'UTC'"))
    return made


def expand(engine: Engine, patience: int) -> Any:
    """The index is built."""
    return emc.expand(upgrade(), engine, retry=RetryPolicy(reconnects=patience))


def migrate(engine: Engine, patience: int) -> Any:
    """The rows are filled, twenty at a time."""
    batch = BatchPolicy(start=20, largest=20, fast=True, reconnects=patience)
    return emc.migrate(upgrade(), engine, batch=batch)


def contract(engine: Engine, patience: int) -> Any:
    """The CHECK is validated."""
    return emc.contract(upgrade(), engine, old_code_gone=True, retry=RetryPolicy(reconnects=patience))


COMMANDS = {"expand": expand, "migrate": migrate, "contract": contract}
MOMENTS = {
    "build, before the table is read": ("expand", "READ COMMITTED", WRITE, "virtualxid", "transactionid"),
    "build, before the index is valid": ("expand", "REPEATABLE READ", READ, "virtualxid"),
    "batch": ("migrate", "AUTOCOMMIT", HOLD, "advisory"),
    "validation": ("contract", "AUTOCOMMIT", HOLD, "advisory"),
}
"""The command; who keeps it waiting, in which kind of transaction, by what; and what emc's session waits for then."""


def bring_to(command: str, engine: Engine) -> None:
    """Make the database on which *command* is the next one."""
    with engine.begin() as connection:
        for statement in OLD:
            connection.exec_driver_sql(statement)
    # The column would wait for those who are to keep the build waiting.
    emc.expand(upgrade(), engine, only=["add-column:users.tz"])
    for earlier, run in COMMANDS.items():
        if earlier == command:
            break
        assert run(engine, 0).exit_code is ExitCode.DONE


@contextmanager
def crash_when_waiting(server: PostgresServer, engine: Engine, moment: str) -> Iterator[threading.Event]:
    """While emc waits at *moment*, the server ends at once and comes back; answers when it has."""
    _, level, statement, *events = MOMENTS[moment]
    ready, back, over = threading.Event(), threading.Event(), threading.Event()
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'emc' AND wait_event_type = 'Lock'"
        " AND datname = current_database() AND wait_event = ANY (%s)"
    )

    def crash() -> None:
        application = create_engine(engine.url, isolation_level=level)
        connection = application.connect()
        connection.exec_driver_sql(statement)
        raw = engine.url
        with psycopg.connect(
            host=raw.host, port=raw.port, user=raw.username, dbname=raw.database, autocommit=True
        ) as watch:
            ready.set()
            while not over.wait(POLL):
                if watch.execute(waits, [events]).fetchone() != (0,):
                    server.restart(immediate=True)
                    back.set()
                    break
        connection.invalidate()
        connection.close()
        application.dispose()

    thread = threading.Thread(target=crash)
    thread.start()
    assert ready.wait(60)
    try:
        yield back
    finally:
        over.set()
        thread.join()


def outcome(engine: Engine) -> tuple[Any, list[Any]]:
    """Everything that the run was to bring about."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM users ORDER BY id").all()
    return shape(engine), [tuple(row) for row in rows]


def undisturbed(server: PostgresServer, command: str) -> tuple[Any, list[Any]]:
    """What *command* leaves where nothing happens."""
    with server.database() as url:
        engine = create_engine(url)
        bring_to(command, engine)
        assert COMMANDS[command](engine, 0).exit_code is ExitCode.DONE
        found = outcome(engine)
        engine.dispose()
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_emc_outlives_a_crash_of_the_server(crashing: PostgresServer, engine: Engine, moment: str) -> None:
    """Emc connects again as long as its patience lasts, and ends as if nothing had happened."""
    command = MOMENTS[moment][0]
    expected = undisturbed(crashing, command)
    bring_to(command, engine)
    with crash_when_waiting(crashing, engine, moment) as back:
        assert COMMANDS[command](engine, 10).exit_code is ExitCode.DONE
        # Emc may be through before the one who restarts the server has heard that it is up.
        assert back.wait(60)
    assert outcome(engine) == expected


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_same_command_heals_a_crash_of_the_server(
    crashing: PostgresServer, engine: Engine, moment: str
) -> None:
    """An emc that gave up says so; the same command, run once the server is back, ends like an undisturbed one."""
    command = MOMENTS[moment][0]
    expected = undisturbed(crashing, command)
    bring_to(command, engine)
    with crash_when_waiting(crashing, engine, moment) as back:
        with pytest.raises(DatabaseUnavailableError):
            COMMANDS[command](engine, 0)
        assert back.wait(60)
    assert COMMANDS[command](engine, 0).exit_code is ExitCode.DONE
    assert outcome(engine) == expected
