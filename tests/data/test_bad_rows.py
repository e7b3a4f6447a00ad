"""Rows that cannot be migrated: what becomes of them, of the others, and of the run."""

import enum
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    Engine,
    Enum,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    insert,
    text,
    type_coerce,
)

from emc.data import ProgressEvent
from emc.data.breaker import Breaker
from emc.errors import DeclarationError
from emc.state.failures import failures
from emc.state.progress import load
from emc.upgrade import Upgrade
from emc.work import Work
from tests.data.support import column, execute, migrate, only_work

ITEMS = Table(
    "items",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(50)),
    Column("size", Integer, CheckConstraint("size < 100")),
)
LOG = "CREATE TABLE log (id INTEGER)"


def made(engine: Engine, count: int, bad: list[int]) -> None:
    """*count* rows whose size is to be filled from their name, which is too large for those that are *bad*."""
    ITEMS.metadata.create_all(engine)
    execute(engine, LOG)
    with engine.begin() as connection:
        rows = [{"id": n, "name": "500" if n in bad else "5"} for n in range(count)]
        connection.execute(insert(ITEMS), rows)


def sized(how: str, **options: Any) -> Upgrade:
    """An upgrade that fills the size.

    :param how: ``sql``, ``value`` (the database refuses it), ``function`` (it raises), or ``connection`` (it raises
        with the connection in its hands).
    """
    upgrade = Upgrade(ITEMS.metadata)
    where = ITEMS.c.size.is_(None)
    if how == "sql":
        values = {"size": ITEMS.c.name.cast(Integer)}
        upgrade.data_migration(ITEMS, name="sized", where=where, values=values, **options)
        return upgrade

    def number(row: Row[Any]) -> dict[str, Any]:
        if how != "value" and row.name == "500":
            raise ValueError(row.name)
        return {"size": int(row.name)}

    def logged(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.execute(text("INSERT INTO log VALUES (:id)"), {"id": row.id})
        return number(row)

    function = logged if how == "connection" else number
    upgrade.data_migration(ITEMS, name="sized", where=where, **options)(function)
    return upgrade


def noted(engine: Engine) -> list[Any]:
    """The keys of the rows on record."""
    with engine.connect() as connection:
        return [row.key[0] for row in failures(connection, "sized")]


WAYS = ["sql", "value", "function", "connection"]


@pytest.mark.parametrize("how", WAYS)
def test_a_run_stops_at_the_first_bad_row(engine: Engine, how: str) -> None:
    """With on_error="stop" the run ends there with the row's key; what lies before is done, what lies behind is not."""
    made(engine, 40, [13, 14, 39])
    work = only_work(sized(how, on_error="stop"), engine)
    result = migrate(engine, work)
    assert (result.outcome, result.rows_found, result.rows_done, result.rows_left) == ("failed", 40, 13, 27)
    assert [row.key for row in result.failed] == [(13,)]
    assert noted(engine) == [13]
    assert column(engine, "SELECT count(*) FROM items WHERE size = 5 AND id < 13") == [13]
    with engine.connect() as connection:
        progress = load(connection, "sized")
    assert progress is not None
    assert progress.cursor == (12,)
    if how == "connection":
        assert column(engine, "SELECT id FROM log ORDER BY id") == list(range(13))
    # It is where the next run begins.
    assert (migrate(engine, work).rows_done, noted(engine)) == (0, [13])
    execute(engine, "UPDATE items SET name = '5' WHERE id = 13")
    result = migrate(engine, work)
    assert (result.rows_done, [row.key for row in result.failed], noted(engine)) == (1, [(14,)], [14])
    execute(engine, "UPDATE items SET name = '5'")
    assert (migrate(engine, work).outcome, noted(engine)) == ("complete", [])


@pytest.mark.parametrize("how", WAYS)
def test_the_very_first_row_may_be_bad(engine: Engine, how: str) -> None:
    """A run that stops before it has done anything has no cursor, and begins anew."""
    made(engine, 3, [0])
    work = only_work(sized(how, on_error="stop"), engine)
    for _ in range(2):
        result = migrate(engine, work)
        assert (result.rows_done, [row.key for row in result.failed]) == (0, [(0,)])
    execute(engine, "UPDATE items SET name = '5'")
    assert migrate(engine, work).outcome == "complete"


@pytest.mark.parametrize("how", WAYS)
def test_quarantined_rows_are_tried_again_by_the_next_run(engine: Engine, how: str) -> None:
    """By default the run goes on without bad rows; each later run tries them once more, and forgets what is done."""
    made(engine, 40, [13, 14, 39])
    work = only_work(sized(how), engine)
    result = migrate(engine, work)
    assert (result.outcome, result.rows_found, result.rows_done, result.rows_left) == ("failed", 40, 37, 3)
    assert noted(engine) == [13, 14, 39]
    assert all(row.error and row.at.tzinfo for row in result.failed)
    execute(engine, "UPDATE items SET name = '5' WHERE id = 14")
    result = migrate(engine, work)
    assert (result.rows_found, result.rows_done, noted(engine)) == (3, 1, [13, 39])
    execute(engine, "DELETE FROM items WHERE id = 13", "UPDATE items SET name = '5'")
    assert (migrate(engine, work).outcome, noted(engine)) == ("complete", [])


def test_a_function_that_fails_from_some_row_on_ends_the_run(engine: Engine) -> None:
    """However many rows were done before: when most of the last ones fail, it is not the rows."""
    made(engine, 2000, list(range(1000, 2000)))
    events: list[ProgressEvent] = []
    result = migrate(engine, only_work(sized("function"), engine), small=10, report=events.append)
    assert result.outcome == "failed"
    assert result.rows_done == 1000
    # Fifty batches are looked at, so it takes as many rows as half of them have done.
    assert 250 <= len(result.failed) <= 260
    assert "more than the last batches" in (result.reason or "")


class State(enum.Enum):
    """What the models have left of it."""

    NEW = "new"
    FRESH = "new"  # noqa: PIE796  # An alias is no label.
    DONE = "done"


@pytest.mark.parametrize("labels", [("NEW", "DONE"), (State,)], ids=["labels", "members"])
def test_a_label_that_the_models_no_longer_have_is_read(engine: Engine, labels: Any) -> None:
    """The function that gets rid of it sees it as text, and members of the enumeration as such."""
    execute(
        engine,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, state VARCHAR(20) NOT NULL, other VARCHAR(20))",
        "INSERT INTO items VALUES (1, 'OLD', 'NEW'), (2, 'NEW', NULL), (3, 'OLD', 'OLD')",
    )
    kind = Enum(*labels, name="state", native_enum=False, length=20, create_constraint=False)
    table = Table(
        "items",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("state", kind),
        Column("other", kind),
    )
    seen: list[Any] = []
    upgrade, old = Upgrade(table.metadata), type_coerce("OLD", String)

    @upgrade.data_migration(table, where=table.c.state == old)
    def renewed(row: Row[Any]) -> dict[str, Any]:
        seen.append((row.state, row.other))
        return {"state": State.DONE if kind.enum_class else "DONE"}

    assert migrate(engine, only_work(upgrade, engine)).outcome == "complete"
    assert seen == [("OLD", State.NEW if kind.enum_class else "NEW"), ("OLD", "OLD")]
    assert column(engine, "SELECT state FROM items ORDER BY id") == ["DONE", "NEW", "DONE"]


class Even(TypeDecorator[Any]):
    """A type of the models that cannot read every number."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Raises as conversions do, with the value in its message."""
        if value is not None and value % 2:
            raise ValueError(f"{value} is odd")
        return value


WITH_EVEN = Table(
    "items",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(50)),
    Column("size", Integer),
    Column("other", Even),
)


def unreadable(engine: Engine, bad: list[int], **options: Any) -> Work:
    """The sizes of 40 rows, those of which that are *bad* cannot be read, by a function of the row."""
    WITH_EVEN.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": n, "other": 777 if n in bad else 2} for n in range(40)]
        connection.execute(insert(WITH_EVEN), rows)
    upgrade = Upgrade(WITH_EVEN.metadata)
    upgrade.data_migration(WITH_EVEN, name="sized", where=WITH_EVEN.c.size.is_(None), **options)(
        lambda _: {"size": 5}
    )
    return only_work(upgrade, engine)


def test_a_row_that_cannot_be_read_is_quarantined(engine: Engine) -> None:
    """A value of a column that nobody asked for costs its row alone; key and column are told, and not the value."""
    work = unreadable(engine, [0, 13, 14])
    result = migrate(engine, work)
    assert (result.outcome, result.rows_done, result.rows_left) == ("failed", 37, 3)
    assert noted(engine) == [0, 13, 14]
    for row in result.failed:
        assert "items.other" in row.error
        assert "ValueError" in row.error
        assert "777" not in row.error
    execute(engine, "UPDATE items SET other = 4")
    assert (migrate(engine, work).outcome, noted(engine)) == ("complete", [])


def test_a_run_stops_at_a_row_that_cannot_be_read(engine: Engine) -> None:
    """With on_error="stop" what lies before it is done, and it is named."""
    work = unreadable(engine, [13, 14], on_error="stop")
    result = migrate(engine, work)
    assert (result.outcome, result.rows_done, [row.key for row in result.failed]) == ("failed", 13, [(13,)])


def test_rows_that_cannot_be_read_are_not_merged(engine: Engine) -> None:
    """The loser is reported with the column, be it its own value or that of the row that stays."""
    metadata = MetaData()
    table = WITH_EVEN.to_metadata(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": n, "name": "ab"[n // 2], "other": 777 if n == 1 else 2} for n in range(4)]
        connection.execute(insert(table), rows)
    table.append_constraint(UniqueConstraint("name"))
    upgrade = Upgrade(metadata)
    upgrade.deduplicate(table.c.name, keep=table.c.id, merge=lambda _winner, _loser: None)
    result = migrate(engine, only_work(upgrade, engine))
    assert (result.outcome, result.rows_done, [row.key for row in result.failed]) == ("failed", 1, [(1,)])
    assert "items.other" in result.failed[0].error
    assert "777" not in result.failed[0].error


def test_few_bad_rows_end_no_run() -> None:
    """One row in ten fails, of a million: that is for a person to look at afterwards."""
    breaker = Breaker()
    for _ in range(10_000):
        breaker.record(done=90, failed=10)
        assert not breaker.has_tripped
    for _ in range(49):
        breaker.record(done=0, failed=1)
    assert not breaker.has_tripped
    for _ in range(10):
        breaker.record(done=0, failed=100)
    assert breaker.has_tripped


def test_another_way_to_go_on_is_refused() -> None:
    """on_error is one of two words."""
    with pytest.raises(DeclarationError, match="ignore") as caught:
        sized("sql", on_error="ignore")
    assert "quarantine" in (caught.value.remedy or "")
