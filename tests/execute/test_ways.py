"""The other ways to have a statement's effect, where the server cannot do it as asked."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure
from emc.errors import Refusal, StatementFailedError
from emc.execute import SubtractiveStatementError
from emc.operations import Kind
from emc.phases import Phase
from emc.steps import LockPolicy, Step, Transaction, Way
from tests.execute.course import Course, step

SHORT, WEAK = LockPolicy.SHORT, LockPolicy.WEAK
HOLDS = "SELECT count(*) FROM users WHERE id = 9"


@pytest.fixture
def course(course: Course) -> Course:
    """A course whose database cannot do what speaks of a table that is not there."""
    original = course.dialect.failure

    def failure(error: DBAPIError) -> Failure:
        return Failure.UNSUPPORTED if "unsupported" in str(error.orig) else original(error)

    course.dialect.failure = failure  # type: ignore[method-assign]
    return course


def insert(into: str) -> str:
    """A statement that the course's database cannot do, unless *into* is a table."""
    return f"INSERT INTO {into} (id) VALUES (9)"


def climbing(*ways: Way, **more: Any) -> Step:
    """A step with two statements; the first one is asked for in several ways."""
    first = insert("unsupported_1")
    return step(
        "x",
        first,
        "UPDATE users SET name = 'done' WHERE id = 9",
        holds="SELECT count(*) FROM users WHERE id = 9 AND name = 'done'",
        transaction=Transaction.AUTOCOMMIT,
        instead={first: ways},
        **more,
    )


def test_the_next_way_takes_the_place_of_one_that_the_server_does_not_know(course: Course) -> None:
    """ALGORITHM=INSTANT is asked for, and what the server refuses costs no attempt; the ledger keeps what was sent."""
    course.run(climbing(Way(insert("unsupported_2"), SHORT), Way(insert("users"), WEAK)))
    [entry] = course.ledger
    assert entry.details["statements"] == [insert("users"), "UPDATE users SET name = 'done' WHERE id = 9"]
    assert entry.details["attempts"] == 1
    assert course.pauses == []


def test_each_way_waits_for_its_lock_as_it_has_to(course: Course) -> None:
    """An in-place build must not lose its work to the short timeout of an instant change."""
    course.run(climbing(Way(insert("unsupported_2"), SHORT), Way(insert("users"), WEAK)))
    policies = [policy for transaction, policy, _ in course.opened if transaction is Transaction.AUTOCOMMIT]
    assert policies == [SHORT, WEAK, SHORT]


def test_where_no_way_is_left_a_person_hears_what_it_would_cost(course: Course) -> None:
    """The server refuses to copy unasked; the error says what that would cost, and how to allow it."""
    beyond = Refusal("users.x", "it would copy 9 rows", 'upgrade.allow("alter-type:users.x", reason="…")')
    error = course.fail(StatementFailedError, climbing(Way(insert("unsupported_2"), SHORT), beyond=beyond))
    assert "it would copy 9 rows" in error.message
    assert error.remedy == beyond.remedy
    assert error.statement == insert("unsupported_2")


def test_other_failures_are_no_reason_for_another_way(course: Course) -> None:
    """A statement that is wrong, or that the data does not allow, is not sent again in a slower way."""
    failing = insert("gone")
    one = step(
        "x",
        failing,
        holds=HOLDS,
        transaction=Transaction.AUTOCOMMIT,
        instead={failing: (Way(insert("users"), SHORT),)},
    )
    course.fail(StatementFailedError, one)
    assert course.sql(HOLDS) == 0


def test_every_way_of_an_expand_step_is_looked_at(course: Course) -> None:
    """The phase rule is enforced on what may be sent, in whichever way."""
    fine = "ALTER TABLE users ADD COLUMN tz INTEGER"
    one = step(
        "x",
        fine,
        holds=HOLDS,
        kind=Kind.ADD_COLUMN,
        phase=Phase.EXPAND,
        transaction=Transaction.AUTOCOMMIT,
        instead={fine: (Way("ALTER TABLE users DROP COLUMN name", SHORT),)},
    )
    error = course.fail(SubtractiveStatementError, one, phase=Phase.EXPAND)
    assert error.statement == "ALTER TABLE users DROP COLUMN name"


@pytest.mark.parametrize("doubts", [True, False])
def test_duplicates_that_may_not_be_there_are_looked_for_again(course: Course, *, doubts: bool) -> None:
    """MySQL's online unique builds fail over rows that were rolled back: gate and server are asked once more."""
    course.sql("CREATE UNIQUE INDEX only_one ON users (name)")
    course.sql("INSERT INTO users (id, name) VALUES (7, 'nine')")
    asked = []

    def confirm(_: Connection) -> Mapping[str, Any]:
        asked.append(1)
        return {}

    one = step(
        "x",
        "INSERT INTO users (id, name) VALUES (9, 'nine')",
        holds=HOLDS,
        transaction=Transaction.AUTOCOMMIT,
        doubts_duplicates=doubts,
    )
    if not doubts:
        course.fail(StatementFailedError, one, confirm=confirm)
        assert len(asked) == 1
        return
    course.on_pause = [lambda: None, lambda: course.sql("DELETE FROM users WHERE id = 7")]
    course.run(one, confirm=confirm)
    assert len(asked) == 3


def test_duplicates_that_stay_are_believed_in_the_end(course: Course) -> None:
    """After a few looks the server is right."""
    course.sql("CREATE UNIQUE INDEX only_one ON users (name)")
    one = step(
        "x",
        "INSERT INTO users (id, name) VALUES (9, 'ann')",
        holds=HOLDS,
        transaction=Transaction.AUTOCOMMIT,
        doubts_duplicates=True,
    )
    course.fail(StatementFailedError, one, retry={"doubts": 2})
    assert len(course.pauses) == 2
