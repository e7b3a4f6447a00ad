"""Locks, lost connections and missing privileges where no transaction spans DDL, on real MariaDB servers."""

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
from emc.execute.unit import FOUND_DONE, FOUND_DONE_WHEN_REFUSED
from emc.operations import Kind
from emc.phases import Phase
from emc.state import Event
from emc.state.ledger import carried_out_beside_old_code
from emc.steps import LockPolicy, Step, Transaction
from tests.execute.course import Course, has_column, has_index, has_table, step

STARTED, WAITING, DONE, FAILED = StepState.STARTED, StepState.WAITING, StepState.DONE, StepState.FAILED

DROP = "ALTER TABLE users DROP COLUMN name, ALGORITHM=INSTANT"
ADD = "ALTER TABLE users ADD COLUMN tz VARCHAR(40), ALGORITHM=INSTANT"
BUILD = "ALTER TABLE users ADD INDEX ix (name), ALGORITHM=NOCOPY, LOCK=NONE"
BY_ITSELF: dict[str, Any] = {"transaction": Transaction.AUTOCOMMIT}
WEAK: dict[str, Any] = {**BY_ITSELF, "locks": LockPolicy.WEAK}


@contextlib.contextmanager
def transaction(course: Course, statement: str) -> Iterator[Connection]:
    """Another session, in a transaction that has run *statement*."""
    with course.engine.connect() as other:
        other.exec_driver_sql(statement)
        yield other
        if not other.invalidated:
            other.rollback()


def session_of(connection: Connection) -> int:
    """The thread id of a session."""
    return int(connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one())


def drop_name(course: Course, **more: Any) -> Step:
    """Drops users.name."""
    gone = f"SELECT NOT ({has_column('name', course.engine)})"
    return step("name", DROP, holds=gone, **{**BY_ITSELF, **more})


def build() -> Step:
    """Builds an index."""
    return step("name", BUILD, holds=has_index("ix"), **WEAK)


def kill(course: Course, session: int, how: str = "") -> None:
    """End a session of the server."""
    course.sql(f"KILL {how} {session}")


def wait_until(course: Course, question: str, every: float = 0.01) -> None:
    """Ask the server until it says yes; *every* so many seconds."""
    with course.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
        while not watcher.execute(text(question)).scalar():
            watcher.execute(text(f"SELECT SLEEP({every})"))


@pytest.mark.parametrize("statement", ["SELECT * FROM users", "INSERT INTO users VALUES (9, 'x')"])
def test_a_lock_is_asked_for_until_it_is_had(maria: Course, statement: str) -> None:
    """An open reader or writer delays a drop; once it ends, the next attempt succeeds."""
    with transaction(maria, statement) as other:
        maria.on_pause = [lambda: None, other.rollback]
        maria.run(drop_name(maria))
    assert maria.states == [STARTED, WAITING, WAITING, DONE]
    assert maria.columns() == ["id"]
    [entry] = maria.ledger
    assert entry.details["attempts"] == 3
    assert entry.details["statements"] == [DROP]
    assert "outcome" not in entry.details


def test_no_attempt_is_without_a_timeout(maria: Course) -> None:
    """A metadata lock is waited for by default for a day: every attempt has its own timeout, the first do not wait."""
    seen: list[int] = []

    @event.listens_for(maria.engine, "before_cursor_execute")
    def _look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == DROP:
            cursor.execute("SELECT @@SESSION.lock_wait_timeout")
            seen.append(cursor.fetchone()[0])

    with transaction(maria, "SELECT * FROM users"):
        timeouts = {"lock_timeout_first": 0.5, "lock_timeout_cap": 1.0, "attempts": 3}
        maria.fail(LockBudgetError, drop_name(maria), retry=timeouts)
    assert seen == [0, 1, 1]


def test_the_budget_ends(maria: Course) -> None:
    """After the last attempt emc gives up, names step, attempts and the session in the way, and exits with 4."""
    with transaction(maria, "SELECT 'the long report' FROM users") as other:
        error = maria.fail(LockBudgetError, drop_name(maria))
        session = session_of(other)
    assert error.exit_code is ExitCode.LOCK_BUDGET
    assert (error.step, error.attempts) == ("drop-column:users.name", 6)
    [blocker] = error.blockers
    assert (blocker.session, blocker.user) == (str(session), "root")
    assert not blocker.sure
    assert "does not tell" in error.message
    assert str(session) in error.remedy
    assert maria.columns() == ["id", "name"]
    [entry] = maria.ledger
    assert entry.event is Event.FAILED


def test_blockers_are_shown_after_three_failures(maria: Course) -> None:
    """Whoever watches learns who may be in the way once three attempts have failed, and emc's own sessions are not."""
    with transaction(maria, "SELECT * FROM users") as other:
        maria.fail(LockBudgetError, drop_name(maria))
        session = str(session_of(other))
    waiting = [event for event in maria.events if event.state is WAITING]
    assert [[one.session for one in event.blockers] for event in waiting] == [[], [], *[[session]] * 3]
    assert "Lock wait timeout" in waiting[0].reason


def test_a_statement_of_unknown_outcome_is_looked_up(maria: Course) -> None:
    """A session killed after its DDL: the reply is lost, the result is found, and the ledger says how it is known."""

    @event.listens_for(maria.engine, "after_cursor_execute")
    def _kill(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == DROP:
            event.remove(maria.engine, "after_cursor_execute", _kill)
            kill(maria, session_of(connection))
            connection.exec_driver_sql("SELECT 1")

    maria.run(drop_name(maria), rerender=lambda _: pytest.fail("there is nothing left"))
    assert maria.states == [STARTED, WAITING, DONE]
    [entry] = maria.ledger
    assert entry.details["outcome"] == FOUND_DONE
    assert maria.columns() == ["id"]


@pytest.mark.parametrize("how", ["", "HARD"])
def test_a_killed_session_did_nothing(maria: Course, how: str) -> None:
    """A session killed while its DDL waits: nothing was done, and it is sent again from a new session."""

    def shoot() -> None:
        wait_until(maria, f"SELECT COUNT(*) FROM information_schema.processlist WHERE info = '{DROP}'")
        [session] = [maria.sql(f"SELECT id FROM information_schema.processlist WHERE info = '{DROP}'")]
        kill(maria, session, how)

    with transaction(maria, "SELECT * FROM users") as other:
        killer = threading.Thread(target=shoot)
        killer.start()
        maria.on_pause = [other.rollback]
        maria.run(drop_name(maria), retry={"lock_timeout_first": 60.0, "lock_timeout_cap": 60.0})
        killer.join()
    assert maria.states == [STARTED, WAITING, DONE]
    assert maria.columns() == ["id"]


def test_what_runs_on_without_us_is_not_done_twice(maria: Course) -> None:
    """An emc is killed, its DDL goes on; the next emc sends the same, is refused, looks, and finds it done."""
    running: list[threading.Thread] = []

    def predecessor() -> None:
        with create_engine(maria.engine.url, isolation_level="AUTOCOMMIT").connect() as other:
            other.exec_driver_sql(ADD)

    reader = maria.engine.connect()
    reader.exec_driver_sql("SELECT * FROM users")

    def overtake(connection: Connection) -> dict[str, Any]:
        # After the look that showed nothing: the predecessor's statement waits, and comes to its end before ours.
        running.append(threading.Thread(target=predecessor))
        running[0].start()
        wait_until(
            maria, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%%'"
        )
        reader.rollback()
        running[0].join()
        return {}

    added = step("tz", ADD, holds=has_column("tz", maria.engine), **BY_ITSELF)
    maria.run(added, confirm=overtake, rerender=lambda _: pytest.fail("there is nothing left"))
    reader.close()
    assert maria.states == [STARTED, DONE]
    [entry] = maria.ledger
    assert entry.details["outcome"] == FOUND_DONE_WHEN_REFUSED
    assert entry.details["statements"] == []


@pytest.mark.parametrize("found", [True, False], ids=["done", "not done"])
def test_the_ledger_knows_what_was_begun(maria: Course, *, found: bool) -> None:
    """An emc that is killed between its DDL and the ledger has said beforehand what it was about, and only once."""

    class KilledError(BaseException):
        """Nothing is tidied up after it."""

    def die(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == ADD:
            raise KilledError

    when = "after_cursor_execute" if found else "before_cursor_execute"
    event.listen(maria.engine, when, die)
    added = step(
        "tz", ADD, holds=has_column("tz", maria.engine), kind=Kind.ADD_COLUMN, phase=Phase.EXPAND, **BY_ITSELF
    )
    with pytest.raises(KilledError):
        maria.run(added, phase=Phase.EXPAND)
    assert ("tz" in maria.columns()) is found
    assert maria.ledger == ()
    assert maria.intended == [added.id]
    with maria.engine.connect() as connection:
        assert carried_out_beside_old_code(connection, "2026.2") == {added.id}
    event.remove(maria.engine, when, die)
    maria.run(added, phase=Phase.EXPAND)
    assert len(maria.ledger) == (0 if found else 1)


def test_what_is_refused_for_good_is_not_sent_for_ever(maria: Course) -> None:
    """Where the catalog does not show that what was refused is done, the first answer of the server stands."""
    wrong = step("tz", "ALTER TABLE users ADD COLUMN name INT", holds="SELECT 1 = 0", **BY_ITSELF)
    asked: list[bool] = []

    def same(connection: Connection) -> Sequence[Step]:
        asked.append(True)
        return [wrong]

    error = maria.fail(StatementFailedError, wrong, rerender=same)
    assert "1060" in error.message
    assert asked == [True]
    assert maria.pauses == []


def test_an_interrupted_sequence_goes_on_where_it_stopped(maria: Course) -> None:
    """Statements that commit by themselves are not sent again once they came back."""
    sequence = step(
        "name",
        "CREATE TABLE first (id INTEGER)",
        DROP,
        "CREATE TABLE last (id INTEGER)",
        holds=has_table("last", maria.engine),
        **BY_ITSELF,
    )
    with transaction(maria, "SELECT * FROM users") as other:
        maria.on_pause = [other.rollback]
        maria.run(sequence)
    assert maria.states == [STARTED, WAITING, DONE]
    [entry] = maria.ledger
    assert tuple(entry.details["statements"]) == sequence.statements


def test_a_connection_that_is_lost_for_good(maria: Course) -> None:
    """After the last reconnection emc says that it cannot tell, and what to do."""

    def confirm(connection: Connection) -> dict[str, Any]:
        kill(maria, session_of(connection))
        connection.exec_driver_sql("SELECT 1")
        return {}

    error = maria.fail(DatabaseUnavailableError, drop_name(maria), confirm=confirm, retry={"reconnects": 2})
    assert "users.name" in error.message
    assert maria.columns() == ["id", "name"]
    assert maria.states == [STARTED, WAITING, WAITING, FAILED]


# -- builds -------------------------------------------------------------------------------------------------------


def test_a_build_makes_nobody_wait_for_its_start(maria: Course) -> None:
    """Where somebody holds the table, a build is not even sent: it would wait, and everybody else behind it."""
    sent: list[str] = []

    @event.listens_for(maria.engine, "before_cursor_execute")
    def _look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == BUILD:
            sent.append(statement)

    with transaction(maria, "SELECT * FROM users") as other:
        maria.on_pause = [lambda: None, other.rollback]
        maria.run(build())
    assert maria.states == [STARTED, WAITING, WAITING, DONE]
    assert sent == [BUILD]
    assert [event.seconds for event in maria.events if event.state is WAITING] == [0.0, 0.0]


def test_a_lost_build_says_what_it_cost(maria: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that meets a reader loses its work: who watches learns how much and to whom, and the pauses are long."""
    monkeypatch.setattr("emc.dialects.mysql.sessions.BUILD_WAIT", 1)
    reader = maria.engine.connect()

    @event.listens_for(maria.engine, "before_cursor_execute")
    def _meet(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement == BUILD and not reader.in_transaction():
            reader.exec_driver_sql("SELECT * FROM users")

    maria.on_pause = [reader.rollback, reader.rollback]
    error = maria.fail(LockBudgetError, build(), retry={"build_pauses": (60.0, 120.0)})
    reader.close()
    assert maria.pauses == [60.0, 120.0]
    assert maria.states == [STARTED, WAITING, WAITING, FAILED]
    lost = [event for event in maria.events if event.state is WAITING]
    assert all(event.seconds > 0 and len(event.blockers) == 1 for event in lost)
    assert "that work is lost" in error.message
    assert error.attempts == 3


def test_a_build_is_put_off_for_long_transactions(maria: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a build emc looks for transactions that it would meet at its end, names them, and waits for a while."""
    monkeypatch.setattr("emc.dialects.mysql.blockers._LONG", 0.0)
    maria.sql("CREATE TABLE elsewhere (id INTEGER) ENGINE=InnoDB")
    with transaction(maria, "SELECT * FROM elsewhere") as other:
        other.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        session = session_of(other)

        def end() -> None:
            other.rollback()
            mine = f"SELECT COUNT(*) = 0 FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = {session}"
            # InnoDB shows again what it showed less than 0.1 s ago.
            wait_until(maria, mine, every=0.15)

        maria.on_pause = [lambda: None, end]
        maria.run(build())
    assert maria.states == [STARTED, WAITING, WAITING, DONE]
    for waiting in maria.events[1:3]:
        assert [one.session for one in waiting.blockers] == [str(session)]
        assert "has been open for" in waiting.reason
    [entry] = maria.ledger
    assert entry.details["attempts"] == 1


def test_a_build_is_not_put_off_for_ever(maria: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that never ends and never touches the table keeps no build from being tried."""
    monkeypatch.setattr("emc.dialects.mysql.blockers._LONG", 0.0)
    with transaction(maria, "START TRANSACTION WITH CONSISTENT SNAPSHOT"):
        maria.run(build(), retry={"build_patience": 2.0})
    assert maria.states[-1] is DONE
    assert WAITING in maria.states


# -- privileges and the rest ----------------------------------------------------------------------------------------


def test_a_missing_privilege_is_named(maria: Course) -> None:
    """What the role may not do is said with the step, the statement and the database's words, and not tried again."""
    database = maria.engine.url.database
    maria.sql("CREATE USER app IDENTIFIED BY 'x'")
    maria.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX ON {database}.* TO app")
    engine = create_engine(maria.engine.url.set(username="app", password="x"))
    try:
        mortal = Course(engine, maria.dialect, maria.lease)
        error = mortal.fail(PrivilegeError, drop_name(maria))
        # What it may not see is left out, and breaks nothing.
        with transaction(maria, "SELECT * FROM users"), mortal.dialect.reading(engine) as connection:
            assert mortal.dialect.blockers(connection, []) == []
            assert mortal.dialect.long_transactions(connection) == []
    finally:
        engine.dispose()
        maria.sql("DROP USER app")
    assert DROP in error.message
    assert "denied" in error.message
    assert mortal.pauses == []


def test_a_lease_lost_between_statements_stops_the_rest(maria: Course) -> None:
    """A sequence that commits by itself stops at the next session when somebody else has taken over."""

    def steal(connection: Connection) -> None:
        if connection.exec_driver_sql(has_table("first", maria.engine)).scalar():
            maria.sql("UPDATE emc_lease SET token = token + 1")

    maria.after_open = steal
    maria.fail(
        LeaseLostError,
        step(
            "a",
            "CREATE TABLE first (id INTEGER)",
            "CREATE TABLE last (id INTEGER)",
            holds=has_table("last", maria.engine),
            statement_locks=(LockPolicy.SHORT, LockPolicy.WEAK),
            **BY_ITSELF,
        ),
    )
    assert not maria.sql(has_table("last", maria.engine))
    assert maria.ledger == ()


def test_ddl_in_a_transaction_is_a_mistake(maria: Course) -> None:
    """A unit that counts on a rollback of DDL is refused before anything is sent."""
    with pytest.raises(ValueError, match="commits by itself"):
        maria.run(drop_name(maria, transaction=Transaction.TOGETHER))
    assert maria.opened == []
