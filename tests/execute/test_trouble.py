"""Locks, lost connections and missing privileges, on real servers."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, text

from emc.errors import (
    DatabaseUnavailableError,
    ExitCode,
    LeaseLostError,
    LockBudgetError,
    PrivilegeError,
    StatementFailedError,
)
from emc.execute import StepState
from emc.execute.unit import FOUND_DONE
from emc.state import Event
from emc.steps import LockPolicy, Step, Transaction
from tests.execute.course import Course, disconnected, has_table, step

STARTED, WAITING, DONE, FAILED = StepState.STARTED, StepState.WAITING, StepState.DONE, StepState.FAILED

DROP = "ALTER TABLE users DROP COLUMN name"
DROPPED = (
    "SELECT count(*) = 0 FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'name'"
)


@contextlib.contextmanager
def transaction(course: Course, statement: str) -> Iterator[Connection]:
    """Another session, in a transaction that has run *statement*."""
    with course.engine.connect() as other:
        other.exec_driver_sql(statement)
        yield other
        if not other.invalidated:
            other.rollback()


def drop_name(**more: Any) -> Step:
    """Drops users.name on PostgreSQL."""
    return step("name", DROP, holds=DROPPED, **more)


@pytest.mark.parametrize("way", [Transaction.TOGETHER, Transaction.AUTOCOMMIT])
@pytest.mark.parametrize("statement", ["SELECT * FROM users", "INSERT INTO users VALUES (9, 'x')"])
def test_a_lock_is_asked_for_until_it_is_had(pg: Course, way: Transaction, statement: str) -> None:
    """An open reader or writer delays a drop; once it ends, the next attempt succeeds."""
    with transaction(pg, statement) as other:
        pg.on_pause = [lambda: None, other.rollback]
        pg.run(drop_name(transaction=way))
    assert pg.states == [STARTED, WAITING, WAITING, DONE]
    assert pg.columns() == ["id"]
    [entry] = pg.ledger
    assert entry.details["attempts"] == 3
    assert entry.details["statements"] == [DROP]


def test_no_attempt_is_without_a_timeout(pg: Course) -> None:
    """strong_migrations #95: a retry waited for ever, because the rollback had undone the timeout.

    Every attempt, the last one too, finds its lock_timeout set on the server, and longer than the one before.
    """
    seen: list[str] = []

    @event.listens_for(pg.engine, "before_cursor_execute")
    def _look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == DROP:
            seen.append(cursor.execute("SHOW lock_timeout").fetchone()[0])

    with transaction(pg, "SELECT * FROM users"):
        pg.fail(LockBudgetError, drop_name())
    assert seen == ["10ms", "20ms", "40ms", "50ms", "50ms", "50ms"]


def test_the_budget_ends(pg: Course) -> None:
    """After the last attempt emc gives up, names step, attempts and the session in the way, and keeps what was done."""
    with transaction(pg, "SELECT 'the long report' FROM users") as other:
        pid = other.execute(text("SELECT pg_backend_pid()")).scalar()
        other.exec_driver_sql("SELECT 'the long report' FROM users")
        error = pg.fail(LockBudgetError, drop_name())
    assert error.exit_code is ExitCode.LOCK_BUDGET
    assert (error.step, error.attempts) == ("drop-column:users.name", 6)
    [blocker] = error.blockers
    assert blocker.session == str(pid)
    assert "the long report" in blocker.query
    assert str(pid) in error.remedy
    assert "users.name" in error.message
    assert len(pg.pauses) == 5
    assert pg.columns() == ["id", "name"]
    [entry] = pg.ledger
    assert entry.event is Event.FAILED


def test_blockers_are_shown_after_three_failures(pg: Course) -> None:
    """Whoever watches learns who is in the way once three attempts have failed, and not before."""
    with transaction(pg, "SELECT * FROM users"):
        pg.fail(LockBudgetError, drop_name())
    waiting = [event for event in pg.events if event.state is WAITING]
    assert [len(event.blockers) for event in waiting] == [0, 0, 1, 1, 1]
    assert [event.attempt for event in waiting] == [1, 2, 3, 4, 5]
    assert [event.pause for event in waiting] == pg.pauses
    assert "lock timeout" in waiting[0].reason


def test_the_time_budget_ends_too(pg: Course) -> None:
    """No attempt begins after the budget, however many attempts are left."""
    now = [0.0]

    def clock() -> float:
        now[0] += 100
        return now[0]

    with transaction(pg, "SELECT * FROM users"):
        error = pg.fail(
            LockBudgetError, drop_name(), retry={"attempts": 1000, "budget": 600.0, "clock": clock}
        )
    assert 1 < error.attempts < 10


def test_sqlite_waits_for_its_writer(lite: Course) -> None:
    """Another connection's transaction delays a step on SQLite; when it ends, the step succeeds."""
    with create_engine(lite.engine.url).connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        lite.on_pause = [lambda: None, other.rollback]
        lite.run(step("a", "CREATE TABLE a (id INTEGER)", holds=has_table("a", lite.engine)))
    assert lite.states == [WAITING, WAITING, STARTED, DONE]


def test_sqlite_gives_up_on_its_writer(lite: Course) -> None:
    """Another connection's transaction that does not end uses up the budget; nothing has changed."""
    with create_engine(lite.engine.url).connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        error = lite.fail(
            LockBudgetError, step("a", "CREATE TABLE a (id INTEGER)", holds=has_table("a", lite.engine))
        )
        other.rollback()
    assert error.attempts == 6
    assert lite.ledger == ()


def test_an_interrupted_sequence_goes_on_where_it_stopped(pg: Course) -> None:
    """Statements that commit by themselves are not sent again once they came back."""
    sequence = step(
        "name",
        "CREATE TABLE first (id INTEGER)",
        DROP,
        "CREATE TABLE last (id INTEGER)",
        holds=has_table("last", pg.engine),
        transaction=Transaction.AUTOCOMMIT,
    )
    with transaction(pg, "SELECT * FROM users") as other:
        pg.on_pause = [other.rollback]
        pg.run(sequence)
    assert pg.states == [STARTED, WAITING, DONE]
    [entry] = pg.ledger
    assert tuple(entry.details["statements"]) == sequence.statements


def test_an_interrupted_sequence_is_derived_afresh(pg: Course) -> None:
    """After a failure among statements that commit by themselves, the live schema says what is left to send."""
    asked: list[bool] = []

    def left(connection: Connection) -> Sequence[Step]:
        asked.append(bool(connection.exec_driver_sql(has_table("first", pg.engine)).scalar()))
        return [drop_name(transaction=Transaction.AUTOCOMMIT)]

    with transaction(pg, "SELECT * FROM users") as other:
        pg.on_pause = [other.rollback]
        pg.run(
            step(
                "name",
                "CREATE TABLE first (id INTEGER)",
                DROP,
                holds=DROPPED,
                transaction=Transaction.AUTOCOMMIT,
            ),
            rerender=left,
        )
    assert asked == [True]
    assert pg.states == [STARTED, WAITING, DONE]
    [entry] = pg.ledger
    assert entry.details["statements"] == ["CREATE TABLE first (id INTEGER)", DROP]


def test_a_lost_connection_before_the_commit(pg: Course) -> None:
    """A connection that goes within a transaction took everything back: it is all sent again."""
    killed = [False]

    def confirm(connection: Connection) -> dict[str, Any]:
        if not killed[0]:
            killed[0] = True
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {drop_name().id: {"asked": True}}

    pg.run(drop_name(), confirm=confirm)
    assert pg.states == [STARTED, WAITING, DONE]
    [entry] = pg.ledger
    assert entry.details["evidence"] == {"asked": True}
    assert "outcome" not in entry.details


def test_a_commit_of_unknown_outcome_is_looked_up(pg: Course) -> None:
    """A connection lost while committing: the catalog shows that it was done, and the ledger has it once."""

    def lose() -> None:
        pg.after_commit = lambda: None
        raise disconnected()

    pg.after_commit = lose
    pg.run(drop_name())
    assert pg.states == [STARTED, WAITING, DONE]
    [entry] = pg.ledger
    assert entry.event is Event.DONE
    assert entry.details["attempts"] == 1


def test_a_statement_of_unknown_outcome_is_looked_up(pg: Course) -> None:
    """A connection lost after a statement that commits by itself: found done, and recorded as such."""

    @event.listens_for(pg.engine, "after_cursor_execute")
    def _kill(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == DROP:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    pg.run(
        drop_name(transaction=Transaction.AUTOCOMMIT), rerender=lambda _: pytest.fail("there is nothing left")
    )
    assert pg.states == [STARTED, WAITING, DONE]
    [entry] = pg.ledger
    assert entry.details["outcome"] == FOUND_DONE
    assert pg.columns() == ["id"]


def test_a_connection_that_is_lost_for_good(pg: Course) -> None:
    """After the last reconnection emc says that it cannot tell, and what to do."""

    def confirm(connection: Connection) -> dict[str, Any]:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {}

    error = pg.fail(DatabaseUnavailableError, drop_name(), confirm=confirm, retry={"reconnects": 2})
    assert "users.name" in error.message
    assert pg.columns() == ["id", "name"]
    assert pg.states == [STARTED, WAITING, WAITING, FAILED]


def test_a_terminated_index_build_is_repaired(pg: Course) -> None:
    """A concurrent build that is killed leaves an INVALID index; the steps derived afresh drop it and build again."""
    create = "CREATE INDEX CONCURRENTLY ix ON users (name)"
    valid = "SELECT count(*) = 1 FROM pg_index WHERE indexrelid = to_regclass('ix') AND indisvalid"
    weak: dict[str, Any] = {"transaction": Transaction.AUTOCOMMIT, "locks": LockPolicy.WEAK}

    def left(connection: Connection) -> Sequence[Step]:
        there = connection.exec_driver_sql("SELECT to_regclass('ix') IS NOT NULL").scalar()
        statements = ["DROP INDEX CONCURRENTLY ix", create] if there else [create]
        return [step("name", *statements, holds=valid, **weak)]

    waits = "FROM pg_stat_activity WHERE query = %s AND wait_event_type = 'Lock' AND state = 'active'"

    def kill() -> None:
        with pg.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            while not other.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {waits}", (create,)).scalar():
                other.exec_driver_sql("SELECT pg_sleep(0.01)")

    # The build waits for this writer, which began before it.
    with transaction(pg, "INSERT INTO users VALUES (9, 'x')") as writer:
        killer = threading.Thread(target=kill)
        killer.start()
        pg.on_pause = [writer.rollback]
        pg.run(step("name", create, holds=valid, **weak), rerender=left)
        killer.join()
    assert pg.states == [STARTED, WAITING, DONE]
    assert pg.sql(valid)
    [entry] = pg.ledger
    assert entry.details["statements"] == ["DROP INDEX CONCURRENTLY ix", create]
    assert "outcome" not in entry.details


def test_a_missing_privilege_is_named(pg: Course, postgresql_url: str) -> None:
    """What the role may not do is said with the step, the statement and the database's words, and not tried again."""
    pg.sql("CREATE ROLE app")
    pg.sql("GRANT USAGE, CREATE ON SCHEMA public TO app")
    pg.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    pg.sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app")
    engine = create_engine(postgresql_url, connect_args={"options": "-c role=app"})
    try:
        mortal = Course(engine, pg.dialect, pg.lease)
        error = mortal.fail(PrivilegeError, drop_name())
    finally:
        engine.dispose()
        pg.sql("DROP OWNED BY app")
        pg.sql("DROP ROLE app")
    assert DROP in error.message
    assert "must be owner" in error.message
    assert mortal.pauses == []


def test_a_ledger_that_cannot_be_told_is_mentioned(pg: Course) -> None:
    """When a failure cannot be recorded either, the failure is what is raised, with a note."""

    def break_ledger() -> None:
        pg.sql("DROP TABLE emc_ledger")
        pg.sql("CREATE VIEW emc_ledger AS SELECT 1 AS id")

    break_ledger()
    error = pg.fail(StatementFailedError, step("a", "DROP TABLE gone", holds="SELECT false"))
    assert error.statement == "DROP TABLE gone"
    [note] = error.__notes__
    assert "ledger" in note


def test_a_lease_lost_between_statements_stops_the_rest(pg: Course) -> None:
    """A sequence that commits by itself stops at the next session when somebody else has taken over."""

    def steal(connection: Connection) -> None:
        if connection.exec_driver_sql(has_table("first", pg.engine)).scalar():
            with pg.engine.begin() as other:
                other.exec_driver_sql("UPDATE emc_lease SET token = token + 1")

    pg.after_open = steal
    pg.fail(
        LeaseLostError,
        step(
            "a",
            "CREATE TABLE first (id INTEGER)",
            "CREATE TABLE last (id INTEGER)",
            holds=has_table("last", pg.engine),
            transaction=Transaction.AUTOCOMMIT,
            statement_locks=(LockPolicy.SHORT, LockPolicy.WEAK),
        ),
    )
    assert not pg.sql(has_table("last", pg.engine))
    assert pg.ledger == ()


def test_a_deadlock_is_tried_again(pg: Course) -> None:
    """Being the victim of a deadlock is a lock that was not to be had: everything is rolled back and sent again."""
    pg.sql("CREATE TABLE other (id INTEGER)")
    locked = threading.Event()
    crossing: list[threading.Thread] = []

    def confirm(connection: Connection) -> dict[str, Any]:
        if not crossing:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0; SET LOCAL deadlock_timeout = '10ms'")

            def cross() -> None:
                with pg.engine.begin() as other:
                    other.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'; LOCK TABLE other")
                    locked.set()
                    other.exec_driver_sql("LOCK TABLE users")

            connection.exec_driver_sql("LOCK TABLE users IN ACCESS SHARE MODE")
            crossing.append(threading.Thread(target=cross))
            crossing[0].start()
            assert locked.wait(60)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
            while not connection.exec_driver_sql(waits).scalar():
                connection.exec_driver_sql("SELECT pg_sleep(0.01)")
        return {}

    pg.on_pause = [lambda: crossing[0].join()]  # noqa: PLW0108  # Not there yet.
    pg.run(step("name", "LOCK TABLE other", DROP, holds=DROPPED), confirm=confirm)
    assert pg.states == [STARTED, WAITING, DONE]


def test_two_courses_on_one_server(pg: Course) -> None:
    """Whoever finds the work done by the other has nothing to do, and nothing to record."""
    pg.run(drop_name())
    again = Course(pg.engine, pg.dialect, pg.lease)
    again.run(drop_name())
    assert again.states == [StepState.SKIPPED]
    assert len(again.ledger) == 1
