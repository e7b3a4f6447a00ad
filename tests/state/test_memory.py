"""Ledger, observations, progress and failed rows, on each database."""

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from emc.phases import Phase
from emc.state import (
    Entry,
    Event,
    Progress,
    clear_failures,
    entries,
    failures,
    note_failure,
    observation,
    observe,
    progress,
    record,
)
from emc.state.observations import forget


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction."""
    with engine.connect() as connection, connection.begin():
        yield connection


def at(minute: int) -> dt.datetime:
    """A point in time."""
    return dt.datetime(2026, 5, 1, 12, minute, tzinfo=dt.UTC)


def test_an_entry_comes_back_whole(connection: Connection) -> None:
    """Everything that was known when an operation ran can be read in the ledger afterwards."""
    entry = Entry(
        event=Event.DONE,
        release="2026.2",
        phase=Phase.CONTRACT,
        operation="drop-column:users.name",
        details={"predicate": "name IS NULL", "rows": 12, "seconds": 0.25, "statements": ["ALTER TABLE …"]},
        server="PostgreSQL 15.18",
        runner="ann@web1:12",
    )
    recorded = record(connection, entry)
    assert entries(connection) == (recorded,)
    assert recorded.id is not None
    assert recorded.at == entry.at
    assert recorded.details == entry.details


@pytest.mark.parametrize("which", list(Event))
def test_every_event_can_be_recorded(connection: Connection, which: Event) -> None:
    """The ledger takes each event, with as little as its name."""
    record(connection, Entry(which))
    assert [entry.event for entry in entries(connection)] == [which]


def test_entries_are_in_order_and_can_be_narrowed(connection: Connection) -> None:
    """The newest entry comes last; a limit keeps the newest; an operation is found by its id."""
    for number in range(5):
        record(connection, Entry(Event.DONE, operation=f"add-column:t.c{number % 2}", details={"n": number}))
    assert [entry.details["n"] for entry in entries(connection)] == [0, 1, 2, 3, 4]
    assert [entry.details["n"] for entry in entries(connection, limit=2)] == [3, 4]
    assert [entry.details["n"] for entry in entries(connection, operation="add-column:t.c1")] == [1, 3]
    assert entries(connection, operation="add-column:t.c") == ()


@pytest.mark.parametrize(
    "leak",
    [
        "postgresql://ann:hunter2@db/prod",
        "postgresql+psycopg://:hunter2@db/prod",
        "host=db password=hunter2 user=ann",
        "dblink('password = ''hunter2''')",
        "ALTER ROLE ann PASSWORD 'hunter2'",
        "CREATE USER ann IDENTIFIED BY 'hunter2'",
    ],
)
def test_no_credentials_in_the_ledger(connection: Connection, leak: str) -> None:
    """A password that gets into a message or a statement does not get into the ledger."""
    record(connection, Entry(Event.FAILED, details={"error": leak, "statements": [f"-- {leak}"]}))
    [entry] = entries(connection)
    assert "hunter2" not in str(entry.details)


def test_the_first_observation_counts(connection: Connection) -> None:
    """What was seen first stays, with its time and facts, until it is forgotten."""
    first = observe(connection, "gate-open:x", {"scans": 7}, clock=lambda: at(0))
    assert (first.name, first.first_seen, first.facts) == ("gate-open:x", at(0), {"scans": 7})
    assert observe(connection, "gate-open:x", {"scans": 9}, clock=lambda: at(5)) == first
    assert observation(connection, "gate-open:x") == first
    assert observation(connection, "gate-open:y") is None

    forget(connection, "gate-open:x")
    assert observation(connection, "gate-open:x") is None
    assert observe(connection, "gate-open:x", {"scans": 9}, clock=lambda: at(9)).first_seen == at(9)


def test_names_differ_by_case(connection: Connection) -> None:
    """Two elements whose names differ by case only are two."""
    observe(connection, "drop-column:t.A", {"n": 1})
    assert observation(connection, "drop-column:t.a") is None


@pytest.mark.parametrize(
    "cursor",
    [
        None,
        (),
        (1,),
        ("a'b", uuid.UUID(int=5)),
        (Decimal("1.10"), dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), b"\0\xff", None, 1.5),
    ],
)
def test_progress_comes_back(connection: Connection, cursor: tuple[Any, ...] | None) -> None:
    """A data migration goes on from the very key where it stopped."""
    saved = Progress("fill:t.c", cursor, 2**40, 2, at(0), at(1), finished=False)
    progress.save(connection, saved)
    assert progress.load(connection, "fill:t.c") == saved


def test_progress_is_replaced_and_forgotten(connection: Connection) -> None:
    """Each name has one progress, that of the last batch."""
    progress.save(connection, Progress("a", (1,), 1, 1, at(0), at(0), finished=False))
    progress.save(connection, Progress("b", (7,), 7, 1, at(0), at(0), finished=False))
    newer = Progress("a", None, 3, 1, at(0), at(2), finished=True)
    progress.save(connection, newer)
    assert progress.load(connection, "a") == newer
    progress.forget(connection, "a")
    assert progress.load(connection, "a") is None
    assert progress.load(connection, "b") is not None


def test_the_cursor_shares_the_fate_of_its_batch(engine: Engine) -> None:
    """A batch that is rolled back takes its cursor with it."""
    with engine.begin() as connection:
        progress.save(connection, Progress("a", (1,), 1, 1, at(0), at(0), finished=False))
    with engine.connect() as connection, connection.begin() as batch:
        progress.save(connection, Progress("a", (2,), 2, 1, at(0), at(1), finished=False))
        batch.rollback()
    with engine.connect() as connection:
        loaded = progress.load(connection, "a")
    assert loaded is not None
    assert loaded.cursor == (1,)


def test_failed_rows(connection: Connection) -> None:
    """A failed row is noted once, with its key and its last error, until it is cleared."""
    note_failure(connection, "m", (1, "x"), "first", clock=lambda: at(0))
    note_failure(connection, "m", (2, "y"), "boom", clock=lambda: at(1))
    note_failure(connection, "m", (1, "x"), "again", clock=lambda: at(2))
    note_failure(connection, "n", (1, "x"), "other", clock=lambda: at(3))
    assert [(row.key, row.error, row.at) for row in failures(connection, "m")] == [
        ((2, "y"), "boom", at(1)),
        ((1, "x"), "again", at(2)),
    ]
    clear_failures(connection, "m", (2, "y"))
    assert [row.key for row in failures(connection, "m")] == [(1, "x")]
    clear_failures(connection, "m")
    assert [row.migration for row in failures(connection)] == ["n"]
