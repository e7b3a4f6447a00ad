"""What holds up a run: as real servers tell it, as the application declares it, and what follows from it."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, MetaData, Row, create_engine, text

from emc.data import Notice, ThrottlePolicy, Throttles
from emc.dialects import dialect_of
from emc.dialects.answers import Pressure, Signal
from emc.errors import DeclarationError
from emc.state.control import State, published
from emc.steps import LockPolicy, Transaction
from emc.upgrade import Upgrade
from tests.data.replicas import standby
from tests.data.support import QUICK, column, execute, migrate, only_work
from tests.data.test_run import by_function, items, made, sized
from tests.mariadb_server import MariaDBPool, make_account
from tests.mariadb_server import execute as maria
from tests.servers import PostgresServer, make_role
from tests.waiting import until

QUIET = ThrottlePolicy(
    limits={Signal.THREADS_RUNNING: None, Signal.WAL_BACKLOG: None, Signal.REPLICA_LAG: None}
)
"""Looks at nothing that other tests on the same server have to do with."""


def ticking() -> Any:
    """A policy whose clock goes a second further whenever somebody looks at it, and that waits for nothing."""
    seconds = itertools.count()
    return dataclasses.replace(QUICK, clock=lambda: float(next(seconds)))


def throttles(engine: Engine, upgrade: Upgrade, policy: ThrottlePolicy = QUIET) -> Throttles:
    """What may hold up a run of *upgrade*."""
    return Throttles(engine, dialect_of(engine), policy, upgrade.throttles)


def pressures(engine: Engine) -> list[Pressure]:
    """What the server tells."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        return list(dialect.pressures(connection))


# -- what follows ------------------------------------------------------------------------------------------------


def test_no_batch_begins_while_there_is_a_reason(engine: Engine) -> None:
    """The reason is told once and again when it changes, others can see it, and the run goes on without it."""
    table = items()
    made(engine, table, 12)
    upgrade = sized(table)
    reasons = iter(["one", "two", None])
    seen: list[tuple[State, str | None, int]] = []

    @upgrade.throttle
    def busy() -> str | None:
        return next(reasons, None)

    @upgrade.throttle
    def late() -> str | None:
        return "it is late" if len(told) == 1 else None

    told: list[Notice] = []

    def hear(notice: Notice) -> None:
        told.append(notice)
        with engine.connect() as connection:
            standing = published(connection, 1)
            done = connection.execute(text("SELECT count(*) FROM items WHERE size = 1")).scalar_one()
        assert standing is not None
        seen.append((standing.state, standing.reason, done))

    result = migrate(
        engine,
        only_work(upgrade, engine),
        small=4,
        batch=ticking(),
        throttles=throttles(engine, upgrade),
        notice=hear,
    )
    assert (result.outcome, result.rows_done) == ("complete", 12)
    assert seen == [
        (State.THROTTLED, "throttle busy: one", 0),
        (State.THROTTLED, "throttle busy: two; throttle late: it is late", 0),
        (State.RUNNING, None, 0),
    ]
    assert [notice.text for notice in told] == [seen[0][1], seen[1][1], "goes on"]


def test_patience_ends(engine: Engine) -> None:
    """A run that is held up for too long ends, says why, and all work behind it is not begun."""
    table = items()
    made(engine, table, 12)
    upgrade = sized(table)
    upgrade.throttle("SELECT 'the shop is open'", name="opening_hours")
    told: list[Notice] = []
    result = migrate(
        engine,
        only_work(upgrade, engine),
        batch=ticking(),
        throttles=throttles(engine, upgrade, dataclasses.replace(QUIET, patience=100.0)),
        notice=told.append,
    )
    assert (result.outcome, result.rows_done, result.rows_left) == ("paused", 0, 12)
    assert result.reason is not None
    assert "throttle opening_hours: the shop is open" in result.reason
    assert [notice.state for notice in told] == [State.THROTTLED]


def test_a_stop_ends_a_run_that_is_held_up(engine: Engine) -> None:
    """Somebody who asks to stop need not wait until the database has less to bear."""
    table = items()
    made(engine, table, 3)
    upgrade = sized(table)
    upgrade.throttle("SELECT 1", name="always")
    told: list[Notice] = []
    result = migrate(
        engine,
        only_work(upgrade, engine),
        batch=ticking(),
        throttles=throttles(engine, upgrade),
        notice=told.append,
        stop=lambda: bool(told),
    )
    assert (result.outcome, result.reason) == ("paused", "3 rows are left; it was asked to stop")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("SELECT 'full'", "full"),
        ("SELECT 1", "it says so"),
        ("SELECT 0", None),
        ("SELECT NULL", None),
        ("SELECT 1 WHERE 1 = 0", None),
        ("SELECT name FROM items WHERE id = 1", "n1"),
        (lambda: "by hand", "by hand"),
        (lambda: None, None),
        (lambda connection: connection.execute(text("SELECT 'asked'")).scalar(), "asked"),
    ],
)
def test_what_a_declared_throttle_may_answer(engine: Engine, answer: Any, said: str | None) -> None:
    """A reason is text, or anything that is true; no row, NULL, 0 and None are none."""
    made(engine, items(), 2)
    upgrade = Upgrade(MetaData())
    upgrade.throttle(answer, name="mine")
    held = throttles(engine, upgrade).look()
    assert (None if held is None else held.reason) == (None if said is None else f"throttle mine: {said}")


@pytest.mark.parametrize("how", ["sql", "function"])
def test_a_declared_throttle_that_fails_holds_up_the_run(engine: Engine, how: str) -> None:
    """It may be the moment for which it was made; the run does not fall over it, and says what is wrong."""
    table = items()
    made(engine, table, 4)
    upgrade = sized(table)

    def broken(connection: Connection) -> str | None:
        raise ZeroDivisionError("no way to tell")

    upgrade.throttle("SELECT x FROM not_there" if how == "sql" else broken, name="broken")
    result = migrate(
        engine,
        only_work(upgrade, engine),
        batch=ticking(),
        throttles=throttles(engine, upgrade, dataclasses.replace(QUIET, patience=50.0)),
    )
    assert (result.outcome, result.rows_done) == ("paused", 0)
    assert result.reason is not None
    assert "throttle broken cannot be read: " in result.reason
    assert ("not_there" if how == "sql" else "no way to tell") in result.reason


def test_declarations_that_are_none() -> None:
    """A throttle is text with a name, or a function; two of one name are a mistake."""
    upgrade = Upgrade(MetaData())
    for wrong, options in (("SELECT 1", {}), (5, {"name": "five"})):
        with pytest.raises(DeclarationError):
            upgrade.throttle(wrong, **options)  # type: ignore[arg-type]
    upgrade.throttle("SELECT 1", name="one")
    with pytest.raises(DeclarationError, match="twice"):
        upgrade.throttle("SELECT 2", name="one")


# -- PostgreSQL --------------------------------------------------------------------------------------------------


@pytest.fixture
def lagging(throwaway_pg_server: PostgresServer) -> Iterator[tuple[str, str]]:
    """A primary and its standby, whose replay stands still while the primary has written on."""
    with standby(throwaway_pg_server, "standby1") as replica:
        primary = throwaway_pg_server.url()
        other, engine = create_engine(replica), create_engine(primary)
        until(lambda: column(engine, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
        execute(other, "SELECT pg_wal_replay_pause()")
        until(lambda: column(other, "SELECT pg_get_wal_replay_pause_state()") == ["paused"])
        execute(engine, "CREATE TABLE filler AS SELECT generate_series(1, 1000) AS n")
        yield primary, replica
        execute(other, "SELECT pg_wal_replay_resume()")
        other.dispose()
        engine.dispose()


def test_a_standby_that_is_behind_holds_up_the_run(lagging: tuple[str, str]) -> None:
    """Both the primary and the standby itself tell the lag; a role without rights is told what it lacks."""
    primary, replica = (create_engine(url) for url in lagging)
    [found] = until(lambda: [one for one in pressures(primary) if one.value])
    assert (found.signal, found.limit) == (Signal.REPLICA_LAG, 10.0)
    assert found.said.startswith("replica standby1 is ")
    policy = ThrottlePolicy(limits={Signal.REPLICA_LAG: 0.0})
    held = throttles(primary, Upgrade(MetaData()), policy).look()
    assert held is not None
    assert held.sources == {"replica-lag"}
    asked = dataclasses.replace(policy, replicas=(replica,))

    def tells_itself() -> bool:
        # It knows that it is behind once it has received what it does not replay.
        held = throttles(primary, Upgrade(MetaData()), asked).look()
        return held is not None and any(one.startswith("replica 127.0.0.1:") for one in held.sources)

    assert until(tells_itself)

    reader = create_engine(make_role(lagging[0], "throttle_reader", "reader"))
    known = throttles(reader, Upgrade(MetaData()), policy)
    assert known.look() is None
    assert list(known.unread.values()) == [
        "how far standbys are behind is not shown to this role; GRANT pg_read_all_stats TO throttle_reader;"
    ]
    for engine in (primary, replica, reader):
        engine.dispose()


def test_a_replica_that_is_named_has_to_answer(postgresql_url: str) -> None:
    """One that is away, and a server that is no replica, hold up the run: nobody knows how far they are behind."""
    engine = create_engine(postgresql_url)
    nobody = create_engine(engine.url.set(port=1), connect_args={"connect_timeout": 2})
    policy = dataclasses.replace(QUIET, limits={**QUIET.limits, Signal.REPLICA_LAG: 5.0})
    for replica, said in ((nobody, "cannot be read"), (engine, "is not a replica")):
        held = throttles(engine, Upgrade(MetaData()), dataclasses.replace(policy, replicas=(replica,))).look()
        assert held is not None
        assert said in held.reason
    engine.dispose()


def test_wal_that_waits_to_be_archived(throwaway_pg_server: PostgresServer) -> None:
    """Segments are counted where a role may look, and told by the last one that was archived where it may not."""
    settings = throwaway_pg_server.directory / "data" / "postgresql.conf"
    archive = "test -e %p.never || test -e {0}/open && true"
    with settings.open("a") as file:
        command = archive.format(throwaway_pg_server.directory)
        file.write(f"archive_mode = on\narchive_command = '{command}'\n")
    throwaway_pg_server.restart()
    engine = create_engine(throwaway_pg_server.url())

    def another_segment() -> None:
        execute(engine, "CREATE TABLE IF NOT EXISTS w (n INTEGER)", "INSERT INTO w VALUES (1)")
        column(engine, "SELECT pg_switch_wal()")

    opened = throwaway_pg_server.directory / "open"
    opened.touch()
    another_segment()
    until(lambda: column(engine, "SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal ~ '^[0-9A-F]{24}$'"))
    opened.unlink()
    for _ in range(4):
        another_segment()
    reader = create_engine(make_role(throwaway_pg_server.url(), "wal_reader", "reader"))
    for asking in (engine, reader):
        found = until(partial(_backlog, asking))
        assert found.said.endswith(" WAL segments wait to be archived")
    engine.dispose()
    reader.dispose()


def _backlog(engine: Engine) -> Pressure | None:
    found = [one for one in pressures(engine) if one.signal is Signal.WAL_BACKLOG]
    return found[0] if found and (found[0].value or 0) >= 4 else None


def test_who_waits_for_a_batch_is_noticed(postgresql_url: str) -> None:
    """A session that waits for a row of the batch is seen at its end, and the next batch does not begin at once."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 8)
    execute(engine, "INSERT INTO items VALUES (100, 'done', 1)")
    waiting: list[threading.Thread] = []
    wait = "UPDATE items SET name = 'waited' WHERE id = 100"
    waits = "SELECT 1 FROM pg_locks WHERE clock_timestamp() - waitstart > interval '20 ms' AND NOT granted"

    def slow(row: Row[Any], connection: Connection) -> dict[str, Any]:
        if row.id == 0:
            connection.execute(text("UPDATE items SET name = 'held' WHERE id = 100"))
            waiting.append(threading.Thread(target=execute, args=(engine, wait)))
            waiting[0].start()
            until(lambda: column(engine, waits))
        return {"size": 1}

    upgrade = by_function(table, slow)
    told: list[Notice] = []
    limits = {**QUIET.limits, Signal.LOCK_WAIT: 0.01}
    result = migrate(
        engine,
        only_work(upgrade, engine),
        small=4,
        batch=ticking(),
        throttles=throttles(engine, upgrade, dataclasses.replace(QUIET, limits=limits)),
        notice=told.append,
    )
    waiting[0].join()
    assert result.outcome == "complete"
    assert [notice.state for notice in told] == [State.THROTTLED, State.RUNNING]
    assert "of user postgres waited" in told[0].text
    engine.dispose()


def test_nobody_waits(postgresql_url: str) -> None:
    """Whoever waits for somebody else, or is emc itself, does not wait for the batch."""
    engine = create_engine(postgresql_url)
    made(engine, items(), 2)
    dialect = dialect_of(engine)
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(engine.connect())
        other.execute(text("UPDATE items SET name = 'x' WHERE id = 1"))
        blocked = threading.Thread(target=execute, args=(engine, "UPDATE items SET name = 'y' WHERE id = 1"))
        blocked.start()
        until(lambda: column(engine, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        with dialect.open(engine, Transaction.TOGETHER, LockPolicy.WEAK, 1.0) as connection:
            assert dialect.waiters(connection) is None
        other.rollback()
        blocked.join()
    engine.dispose()


# -- MariaDB -----------------------------------------------------------------------------------------------------


def test_sessions_at_work(mariadb_url: str) -> None:
    """Threads_running is read by any account, and too many hold up the run."""
    engine = create_engine(make_account(mariadb_url, "throttled", "owner"))
    root = create_engine(mariadb_url)
    asleep = [threading.Thread(target=_sleep, args=(root,)) for _ in range(3)]
    for thread in asleep:
        thread.start()
    sleeping = "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(300)'"
    until(lambda: len(column(root, sleeping)) == 3)
    policy = ThrottlePolicy(limits={Signal.THREADS_RUNNING: 3.0})
    held = throttles(engine, Upgrade(MetaData()), policy).look()
    assert held is not None
    assert held.sources == {"threads-running"}
    for session in column(root, sleeping):
        execute(root, f"KILL {session}")
    for thread in asleep:
        thread.join()
    [found] = [one for one in pressures(engine) if one.signal is Signal.THREADS_RUNNING]
    assert found.limit == 25.0
    engine.dispose()
    root.dispose()


def _sleep(engine: Engine) -> None:
    with contextlib.suppress(Exception), engine.connect() as connection:
        connection.exec_driver_sql("SELECT SLEEP(300)")


@pytest.fixture
def replicated(mariadb_pool: MariaDBPool) -> Iterator[tuple[str, str]]:
    """A primary with a database, and a server that replicates it."""
    with contextlib.ExitStack() as stack:
        primary = mariadb_pool.new({"log-bin": "binlog", "server-id": "1"})
        stack.callback(primary.stop)
        replica = mariadb_pool.new({"server-id": "2", "report-host": "replica1"})
        stack.callback(replica.stop)
        maria(primary.url(), "CREATE USER repl", "GRANT REPLICATION SLAVE ON *.* TO repl")
        maria(
            replica.url(),
            f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {primary.port}, MASTER_USER = 'repl'",
            "START REPLICA",
        )
        maria(primary.url(), "CREATE DATABASE shop", "CREATE TABLE shop.t (id INTEGER)")
        until(lambda: maria(replica.url(), "SHOW DATABASES LIKE 'shop'"))
        yield primary.url("shop"), replica.url("shop")


def test_a_replica_of_mariadb_tells_itself(replicated: tuple[str, str]) -> None:
    """The primary says that it does not know, and how to name replicas; a replica that is named is asked."""
    primary, replica = (create_engine(url) for url in replicated)
    plain = ThrottlePolicy(limits={Signal.THREADS_RUNNING: None})
    known = throttles(primary, Upgrade(MetaData()), plain)
    until(lambda: known.look() is None and "replica1" in known.unread.get("replica-lag", ""))
    assert "[tool.emc.throttle]" in known.unread["replica-lag"]

    account = make_account(replicated[0], "modest", "owner")
    modest = create_engine(account)
    known = throttles(modest, Upgrade(MetaData()), plain)
    assert known.look() is None
    said, _, grant = known.unread["replica-lag"].partition("; ")
    assert said == "whether there are replicas is not shown to this account"
    maria(replicated[0], grant)
    modest.dispose()
    assert known.look() is None
    assert "replica1" in known.unread["replica-lag"]

    named = dataclasses.replace(plain, limits={**plain.limits, Signal.REPLICA_LAG: 0.0}, replicas=(replica,))
    asking = throttles(primary, Upgrade(MetaData()), named)
    assert asking.look() is None
    assert asking.unread == {}
    with replica.connect() as holding:
        holding.exec_driver_sql("LOCK TABLES t READ")
        execute(primary, "INSERT INTO t VALUES (1)")
        held = until(asking.look)
        assert "s behind" in held.reason
        holding.exec_driver_sql("UNLOCK TABLES")
    until(lambda: asking.look() is None)

    watcher = create_engine(make_account(replicated[1], "watcher", "reader"))
    watching = throttles(primary, Upgrade(MetaData()), dataclasses.replace(named, replicas=(watcher,)))
    held = watching.look()
    assert held is not None
    assert "cannot be read" in held.reason
    maria(replicated[1], "GRANT REPLICA MONITOR ON *.* TO watcher")
    watcher.dispose()
    assert watching.look() is None
    watcher.dispose()

    maria(replicated[1], "STOP REPLICA SQL_THREAD")
    held = asking.look()
    assert held is not None
    assert "its replication does not run" in held.reason
    for engine in (primary, replica, modest):
        engine.dispose()


# -- who does not answer -----------------------------------------------------------------------------------------


def test_whoever_does_not_answer_holds_up_nobody_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question without an answer is a reason by itself, is asked once, and is heard when its answer comes."""
    monkeypatch.setattr("emc.data.throttle._ANSWER", 0.05)
    engine = create_engine(postgresql_url)
    asked: list[int] = []
    answers = threading.Event()

    def frozen() -> None:
        asked.append(1)
        answers.wait(60)

    upgrade = Upgrade(MetaData())
    upgrade.throttle(frozen)
    waiting = throttles(engine, upgrade)
    for _ in range(3):
        held = waiting.look()
        assert held is not None
        assert "throttle frozen has not answered for" in held.reason
    assert len(asked) == 1
    answers.set()
    # The server too is given hardly any time here; its answer has to have come before the engine goes.
    until(lambda: waiting.look() is None and not waiting.unread)
    engine.dispose()
