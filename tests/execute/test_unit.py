"""The order of work of one unit, on each database."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection

from emc.errors import EmcError, LeaseLostError, PostconditionError, StatementFailedError
from emc.execute import RetryPolicy, StepState, SubtractiveStatementError
from emc.operations import Kind
from emc.phases import Phase
from emc.state import Event, acquire
from emc.steps import LockPolicy, Step, Transaction
from tests.execute.course import STRANGER, Course, has_table, step

STARTED, DONE, SKIPPED, FAILED = StepState.STARTED, StepState.DONE, StepState.SKIPPED, StepState.FAILED
TRANSACTIONS = [Transaction.TOGETHER, Transaction.AUTOCOMMIT]


def make(course: Course, table: str, **more: Any) -> Step:
    """A step that makes *table*."""
    more.setdefault("transaction", course.usual)
    return step(table, f"CREATE TABLE {table} (id INTEGER)", holds=has_table(table, course.engine), **more)


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_a_step_is_done_and_recorded(course: Course, transaction: Transaction) -> None:
    """What ran is in the ledger, with its statements, the gates' evidence, the server and the runner."""
    evidence = {"rows": 0, "predicate": "name IS NOT NULL"}
    course.run(
        make(course, "a", transaction=transaction), confirm=lambda _: {"drop-column:users.a": evidence}
    )
    assert course.columns("a") == ["id"]
    assert course.states == [STARTED, DONE]
    [entry] = course.ledger
    assert (entry.event, entry.operation, entry.phase, entry.release) == (
        Event.DONE,
        "drop-column:users.a",
        Phase.CONTRACT,
        "2026.2",
    )
    assert entry.details["statements"] == ["CREATE TABLE a (id INTEGER)"]
    assert entry.details["evidence"] == evidence
    assert entry.details["attempts"] == 1
    assert entry.details["seconds"] >= 0
    assert "outcome" not in entry.details
    assert entry.server == course.dialect.server_version(course.engine.connect())
    assert entry.runner == str(course.lease.runner)


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_nothing_is_sent_where_the_result_is_there(course: Course, transaction: Transaction) -> None:
    """Sentry's two-step deletes did nothing for months: nothing executed is success only where the result is there."""
    course.sql("CREATE TABLE a (id INTEGER)")

    def unasked(connection: Connection) -> Mapping[str, Any]:
        raise AssertionError("the gates are asked about what is going to happen only")

    course.run(make(course, "a", transaction=transaction), confirm=unasked)
    assert course.states == [SKIPPED]
    assert course.ledger == ()


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_nothing_executed_is_no_success(course: Course, transaction: Transaction) -> None:
    """A step without statements whose result is not there fails."""
    error = course.fail(
        PostconditionError, step("a", holds=has_table("a", course.engine), transaction=transaction)
    )
    assert error.step == "drop-column:users.a"
    assert "a is done" in error.message
    assert course.states == [STARTED, FAILED]
    [entry] = course.ledger
    assert entry.event is Event.FAILED


def test_statements_without_their_result_are_rolled_back(transactional: Course) -> None:
    """Where the catalog does not show the result, the transaction takes back what the statements did."""
    wrong = step("a", "CREATE TABLE b (id INTEGER)", holds=has_table("a", transactional.engine))
    transactional.fail(PostconditionError, wrong)
    assert not transactional.sql(has_table("b", transactional.engine))


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_literals_and_operators_arrive_as_they_are(course: Course, transaction: Transaction) -> None:
    """Neither % nor : in a statement or a probe is taken for a parameter."""
    text = "100%s %% :x %(y)s"
    course.run(
        step(
            "name",
            f"UPDATE users SET name = '{text}' WHERE id % 2 = 0 AND name IS NULL",
            holds=f"SELECT count(*) > 0 FROM users WHERE name = '{text}' AND name LIKE '100%s %% :x%'",
            transaction=transaction,
        )
    )
    assert course.sql("SELECT name FROM users WHERE id = 2") == text


def test_steps_of_a_unit_run_together_or_not_at_all(transactional: Course) -> None:
    """When the second step of a unit fails, the first is undone; the error has the statement and the reason."""
    error = transactional.fail(
        StatementFailedError,
        make(transactional, "a"),
        step(
            "b",
            "CREATE TABLE b (id INTEGER)",
            "INSERT INTO gone VALUES (1)",
            holds=has_table("b", transactional.engine),
        ),
    )
    assert (error.step, error.statement) == ("drop-column:users.b", "INSERT INTO gone VALUES (1)")
    assert "do something with users.b" in error.message
    assert "gone" in error.message
    assert error.remedy
    assert not transactional.sql(has_table("a", transactional.engine))
    assert transactional.states == [STARTED, STARTED, FAILED]
    [entry] = transactional.ledger
    assert (entry.event, entry.operation) == (Event.FAILED, "drop-column:users.b")
    assert entry.details["statement"] == error.statement


def test_the_data_may_refuse(course: Course) -> None:
    """A unique index over duplicates fails as a matter of data."""
    course.sql("INSERT INTO users VALUES (3, 'ann')")
    probe = "SELECT count(*) = 99 FROM users"
    error = course.fail(
        StatementFailedError,
        step("name", "CREATE UNIQUE INDEX u ON users (name)", holds=probe, transaction=course.usual),
    )
    assert error.remedy is not None
    assert "deduplicate" in error.remedy


def test_the_gates_are_asked_in_the_transaction_that_drops(transactional: Course) -> None:
    """What a gate sees and does shares the fate of the statements after it."""

    def confirm(connection: Connection) -> Mapping[str, Any]:
        connection.exec_driver_sql("INSERT INTO users VALUES (3, 'seen')")
        return {}

    transactional.fail(
        StatementFailedError, step("a", "DROP TABLE gone", holds="SELECT 1 = 0"), confirm=confirm
    )
    assert transactional.sql("SELECT count(*) FROM users") == 2
    transactional.run(make(transactional, "a"), confirm=confirm)
    assert transactional.sql("SELECT count(*) FROM users") == 3


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_a_gate_that_shuts_stops_the_unit(course: Course, transaction: Transaction) -> None:
    """When the gates say no at the last look nothing is sent; that is an answer, and not a failure to be recorded."""

    class ShutError(EmcError):
        """A gate is shut."""

    def confirm(connection: Connection) -> Mapping[str, Any]:
        raise ShutError

    course.fail(ShutError, make(course, "a", transaction=transaction), confirm=confirm)
    assert not course.sql(has_table("a", course.engine))
    assert course.ledger == ()
    assert course.states == [STARTED, FAILED]


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_nothing_runs_without_the_lease(course: Course, transaction: Transaction) -> None:
    """A runner that was taken over sends nothing more, and leaves the ledger alone."""
    with acquire_late(course) as taken:
        course.fail(LeaseLostError, make(course, "a", transaction=transaction))
        assert taken.token > course.lease.token
    assert not course.sql(has_table("a", course.engine))
    assert course.ledger == ()


def acquire_late(course: Course) -> Any:
    """Take the lease over, a minute later."""
    return acquire(
        course.engine,
        course.dialect,
        command="emc other",
        runner=STRANGER,
        now=lambda connection: course.dialect.now(connection) + dt.timedelta(minutes=2),
    )


def test_expand_refuses_before_anything_is_sent(course: Course) -> None:
    """A subtractive statement of the expand phase does not reach the server, and neither does its unit."""
    course.fail(
        SubtractiveStatementError,
        make(course, "a", kind=Kind.CREATE_TABLE),
        step("name", "ALTER TABLE users DROP COLUMN name", holds="SELECT 1 = 0", kind=Kind.ADD_COLUMN),
        phase=Phase.EXPAND,
    )
    assert course.opened == []
    assert course.columns() == ["id", "name"]


def test_expand_refuses_what_is_rendered_later_too(course: Course) -> None:
    """Statements that are derived afresh pass the same guard."""
    course.sql("CREATE TABLE a (id INTEGER)")
    more: dict[str, Any] = {"kind": Kind.ADD_COLUMN}
    course.fail(
        SubtractiveStatementError,
        make(course, "a", **more),
        make(course, "b", **more),
        phase=Phase.EXPAND,
        rerender=lambda _: [step("b", "DROP TABLE users", holds="SELECT 1 = 0", **more)],
    )
    assert course.columns() == ["id", "name"]


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_a_half_done_unit_is_derived_afresh(course: Course, transaction: Transaction) -> None:
    """Where somebody else did one of two steps, only the other one is sent and recorded."""
    course.sql("CREATE TABLE a (id INTEGER)")
    both = [make(course, name, transaction=transaction) for name in "ab"]
    course.run(*both, rerender=lambda _: [both[1]])
    assert course.states == [STARTED, STARTED, SKIPPED, DONE]
    assert [entry.operation for entry in course.ledger] == ["drop-column:users.b"]


def test_a_unit_that_cannot_be_completed_afresh_fails(course: Course) -> None:
    """Where nothing is left to send and a result is missing, that is no success."""
    course.sql("CREATE TABLE a (id INTEGER)")
    both = [make(course, name) for name in "ab"]
    nothing: Sequence[Step] = ()
    error = course.fail(PostconditionError, *both, rerender=lambda _: nothing)
    assert error.step == "drop-column:users.b"


def test_each_statement_has_its_own_lock_policy(course: Course) -> None:
    """A short DDL statement and a long validation of one step run with the timeouts that each needs."""
    course.run(
        step(
            "name",
            "CREATE TABLE a (id INTEGER)",
            "CREATE INDEX i ON a (id)",
            "CREATE INDEX k ON a (id)",
            "CREATE TABLE j (id INTEGER)",
            holds=has_table("j", course.engine),
            transaction=Transaction.AUTOCOMMIT,
            statement_locks=(LockPolicy.SHORT, LockPolicy.WEAK, LockPolicy.WEAK, LockPolicy.SHORT),
        )
    )
    assert [locks for transaction, locks, _ in course.opened if transaction is Transaction.AUTOCOMMIT] == [
        LockPolicy.SHORT,
        LockPolicy.WEAK,
        LockPolicy.SHORT,
    ]


def test_a_unit_has_one_way_with_transactions(course: Course) -> None:
    """Steps that meet transactions differently are no unit."""
    with pytest.raises(ValueError, match="several ways"):
        course.run(make(course, "a"), make(course, "b", transaction=Transaction.REBUILD))


def test_no_steps_are_no_work(course: Course) -> None:
    """An empty unit sends nothing."""
    course.run()
    assert (course.events, course.opened) == ([], [])


def test_pauses_and_timeouts_grow_up_to_their_caps() -> None:
    """Timeouts double from 100 ms to 1 s, pauses grow by 1.7 from 250 ms to 30 s, for any number of attempts."""
    policy = RetryPolicy(random=lambda: 1.0)
    assert [policy.lock_timeout(attempt) for attempt in (1, 2, 3, 4, 5, 40, 10_000)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
        1.0,
    ]
    assert [round(policy.pause(attempt), 3) for attempt in (1, 2, 3, 40, 10_000)] == [
        0.25,
        0.425,
        0.722,
        30.0,
        30.0,
    ]
    assert RetryPolicy(random=lambda: 0.5).pause(40) == 15.0
