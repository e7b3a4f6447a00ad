"""Several workers on one table: every row once, wherever the cuts are, and whatever happens to one of them."""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)

from emc.data import Notice, ProgressEvent, run, run_all
from emc.dialects import dialect_of
from emc.errors import ConfigurationError, DeclarationError, LeaseLostError
from emc.state.failures import failures
from emc.state.lease import acquire
from emc.state.progress import load
from emc.state.ranges import Range, ranges
from emc.state.tables import LEASE
from emc.upgrade import Upgrade
from tests.data.support import QUICK, column, execute, migrate, only_work, rows, work_of
from tests.data.test_run import KEYS, by_function, items, made

SIDE_BY_SIDE = ("postgresql", "mariadb")
"""The databases that let several sessions write."""


@pytest.fixture
def shared(engine: Engine) -> Engine:
    """An engine on a database that lets several sessions write."""
    if not dialect_of(engine).concurrent_sessions:
        pytest.skip("one writer at a time")
    return engine


def counted(table: Table) -> Upgrade:
    """Counts up rather than sets, so that a row that is done twice can be told."""
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(
        table, name="sized", where=table.c.size < 1000, values={table.c.size: table.c.size + 1000}
    )
    return upgrade


def numbered(engine: Engine, ids: Sequence[int]) -> Table:
    """A table with the rows *ids*."""
    table = Table(
        "items",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(50)),
        Column("size", Integer),
    )
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": one, "name": f"n{one}", "size": one % 7} for one in ids])
    return table


def laid(engine: Engine) -> tuple[Range, ...]:
    """The ranges that are kept."""
    with engine.connect() as connection:
        return ranges(connection, "sized")


def bounds(found: tuple[Range, ...]) -> list[tuple[int, Any]]:
    """What of ranges never changes."""
    return [(one.number, one.upper) for one in found]


@pytest.mark.parametrize("kind", sorted(set(KEYS) - {"none"}))
@pytest.mark.parametrize("how", ["sql", "function"])
def test_every_row_is_done_whatever_the_key(shared: Engine, kind: str, how: str) -> None:
    """Cuts are found for integers, text, UUID, bytes, enums, composite and unique keys, and leave no row out."""
    columns, key = KEYS[kind]
    table = items(*(make() for make in columns))
    made(shared, table, 40, key)
    seen: list[int] = []
    upgrade = by_function(table, lambda row: {"size": len(row.name)})
    if how == "sql":
        upgrade = Upgrade(table.metadata)
        upgrade.data_migration(table, name="sized", where=table.c.size.is_(None), values={table.c.size: 1})
    result = migrate(
        shared,
        only_work(upgrade, shared),
        small=4,
        workers=3,
        report=lambda _: seen.append(len(laid(shared))),
    )
    assert (result.outcome, result.rows_done, result.rows_left) == ("complete", 40, 0)
    assert max(seen) == 10
    assert column(shared, "SELECT count(*) FROM items WHERE size IS NULL") == [0]
    assert laid(shared) == ()


def test_workers_are_at_work_at_once(shared: Engine) -> None:
    """Batches of two workers are under way at the same time: neither waits for the lease that the other confirms."""
    table = items()
    made(shared, table, 40)
    together = threading.Barrier(2, timeout=60)

    def meet(row: Row[Any], connection: Connection) -> dict[str, Any]:
        if row.id in (0, 20):
            together.wait()
        return {"size": 1}

    result = migrate(shared, only_work(by_function(table, meet), shared), small=5, workers=2)
    assert (result.outcome, result.rows_done, together.broken) == ("complete", 40, False)


def test_cuts_divide_rows_and_not_numbers(shared: Engine) -> None:
    """Keys with huge gaps are cut into ranges of as many rows each."""
    table = numbered(shared, [*range(100), *range(1_000_000, 1_000_100)])
    found: list[tuple[Range, ...]] = []
    migrate(
        shared,
        only_work(counted(table), shared),
        small=10,
        workers=2,
        report=lambda _: found.append(laid(shared)),
    )
    assert [upper for _, (upper,) in bounds(found[0])] == [
        24, 49, 74, 99, 1_000_024, 1_000_049, 1_000_074, 1_000_099,
    ]  # fmt: skip


def test_a_run_goes_on_with_its_ranges_whatever_the_workers(shared: Engine) -> None:
    """Stopped and begun again with more workers, then with one, the ranges stay, and no row is done twice."""
    table = numbered(shared, range(300))
    work = only_work(counted(table), shared)
    found: list[tuple[Range, ...]] = []
    for workers in (2, 4, 1):
        events: list[ProgressEvent] = []
        result = migrate(
            shared,
            work,
            small=5,
            workers=workers,
            report=events.append,
            stop=lambda events=events: len(events) >= 8,
        )
        assert result.outcome == "paused"
        assert result.rows_done == sum(event.batch_rows for event in events)
        found.append(laid(shared))
    assert bounds(found[0]) == bounds(found[1]) == bounds(found[2])
    done = sum(one.rows_done for one in found[2])
    assert column(shared, "SELECT count(*) FROM items WHERE size >= 1000") == [done]
    result = migrate(shared, work, small=50, workers=3)
    assert (result.outcome, result.rows_done) == ("complete", 300 - done)
    assert rows(shared, "SELECT id, size FROM items ORDER BY id") == [(n, n % 7 + 1000) for n in range(300)]
    with shared.connect() as connection:
        progress = load(connection, "sized")
    assert progress is not None
    assert (progress.rows_done, progress.finished) == (300, True)


def test_workers_take_over_where_one_stopped(shared: Engine) -> None:
    """What one worker has done of a pass is behind the ranges of several."""
    table = numbered(shared, range(200))
    work = only_work(counted(table), shared)
    assert migrate(shared, work, small=10, max_count=50).rows_done == 50
    found: list[tuple[Range, ...]] = []
    result = migrate(shared, work, small=10, workers=2, report=lambda _: found.append(laid(shared)))
    assert (result.outcome, result.rows_done) == ("complete", 150)
    assert found[0][0].upper == (68,)
    assert rows(shared, "SELECT id, size FROM items ORDER BY id") == [(n, n % 7 + 1000) for n in range(200)]


def test_a_limit_is_that_of_all_workers(shared: Engine) -> None:
    """max_count is exact, although the workers do not know of each other."""
    table = numbered(shared, range(300))
    work = only_work(counted(table), shared)
    for expected in (70, 140):
        result = migrate(shared, work, small=20, workers=3, max_count=70)
        assert (result.outcome, result.rows_done, result.rows_left) == ("more", 70, 300 - expected)
        assert column(shared, "SELECT count(*) FROM items WHERE size >= 1000") == [expected]


def test_what_waits_for_another_migration_waits_for_all_workers(shared: Engine) -> None:
    """No row of the second migration is touched before the last row of the first is done."""
    table = items()
    made(shared, table, 60)
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="sized", where=table.c.size.is_(None), values={table.c.size: 1})

    @upgrade.data_migration(table, name="named", where=table.c.name.like("n%"), after=["sized"])
    def named(row: Row[Any], connection: Connection) -> dict[str, Any]:
        left = connection.execute(text("SELECT count(*) FROM items WHERE size IS NULL")).scalar_one()
        return {"name": f"{left} left"}

    policy = dataclasses.replace(QUICK, start=5, smallest=1, largest=5)
    dialect, work = dialect_of(shared), work_of(upgrade, shared)
    with acquire(shared, dialect, command="emc migrate") as lease:
        results = run_all(shared, dialect, work, lease=lease, workers=3, batch=policy)
    assert [(one.name, one.outcome, one.rows_done) for one in results] == [
        ("sized", "complete", 60),
        ("named", "complete", 60),
    ]
    assert set(column(shared, "SELECT name FROM items")) == {"0 left"}


def test_a_poison_row_stops_no_worker(shared: Engine) -> None:
    """A row that cannot be migrated is noted by its worker, and all others are done."""
    table = items()
    made(shared, table, 60)

    def fails(row: Row[Any]) -> dict[str, Any]:
        if row.id in (7, 41):
            raise ValueError("no size")
        return {"size": 1}

    result = migrate(shared, only_work(by_function(table, fails), shared), small=5, workers=3)
    assert (result.outcome, result.rows_done, result.rows_left) == ("failed", 58, 2)
    assert sorted(row.key for row in result.failed) == [(7,), (41,)]
    with shared.connect() as connection:
        assert sorted(row.key for row in failures(connection)) == [(7,), (41,)]


def test_an_error_of_one_worker_ends_the_run(shared: Engine) -> None:
    """What would end a run of one worker ends that of several, and what was committed counts."""
    table = items()
    made(shared, table, 400)

    def wrong(row: Row[Any]) -> dict[str, Any]:
        return {"no_such_column": 1} if row.id == 3 else {"size": 1}

    with pytest.raises(DeclarationError, match="no_such_column"):
        migrate(shared, only_work(by_function(table, wrong), shared), small=2, workers=2)
    done = column(shared, "SELECT count(*) FROM items WHERE size = 1")
    assert [sum(one.rows_done for one in laid(shared))] == done
    result = migrate(shared, only_work(by_function(table, lambda _: {"size": 1}), shared), workers=2)
    assert [result.rows_done] == [400 - done[0]]


def test_workers_that_lost_the_lease_commit_nothing_more(shared: Engine) -> None:
    """Whoever takes the lease over takes it from every worker."""
    table = numbered(shared, range(400))
    taken: list[int] = []

    def take_over(event: ProgressEvent) -> None:
        if not taken:
            with shared.begin() as connection:
                # As whoever takes it does, who waits for those that confirm it.
                connection.execute(select(LEASE).where(LEASE.c.name == "runner").with_for_update())
                connection.execute(update(LEASE).where(LEASE.c.name == "runner").values(token=99))
                # Waits for the batches that are under way.
                connection.execute(delete(LEASE).where(LEASE.c.name != "runner"))
            taken.extend(column(shared, "SELECT count(*) FROM items WHERE size >= 1000"))

    with pytest.raises(LeaseLostError):
        migrate(shared, only_work(counted(table), shared), small=3, workers=3, report=take_over)
    assert column(shared, "SELECT count(*) FROM items WHERE size >= 1000") == taken


def test_rows_that_come_behind_the_cuts_are_done_too(shared: Engine) -> None:
    """Rows that are added while the workers are at it are left to a later pass, and not out."""
    table = numbered(shared, range(100))
    new = iter(range(1000, 1010))

    def add(event: ProgressEvent) -> None:
        number = next(new, None)
        if number is not None:
            execute(shared, f"INSERT INTO items VALUES ({number}, 'new', 1)")

    result = migrate(shared, only_work(counted(table), shared), small=10, workers=2, report=add)
    assert (result.outcome, result.rows_done) == ("complete", 110)
    assert column(shared, "SELECT count(*) FROM items WHERE size < 1000") == [0]


def test_empty_and_small_tables_have_no_ranges(shared: Engine) -> None:
    """A table that is not worth dividing is done by one worker."""
    table = numbered(shared, range(1))
    found: list[tuple[Range, ...]] = []
    result = migrate(
        shared, only_work(counted(table), shared), workers=4, report=lambda _: found.append(laid(shared))
    )
    assert (result.outcome, result.rows_done, found) == ("complete", 1, [()])
    execute(shared, "DELETE FROM items")
    assert migrate(shared, only_work(counted(table), shared), workers=4).outcome == "complete"


def test_rows_without_a_key_have_one_worker(postgresql_url: str) -> None:
    """The address of a row changes when it is written, so ranges of addresses hold nothing together."""
    engine = create_engine(postgresql_url)
    columns, key = KEYS["none"]
    table = items(*(make() for make in columns))
    made(engine, table, 40, key)
    upgrade = by_function(table, lambda _: {"size": 1})
    found: list[tuple[Range, ...]] = []
    result = migrate(
        engine, only_work(upgrade, engine), small=4, workers=3, report=lambda _: found.append(laid(engine))
    )
    assert (result.outcome, result.rows_done, set(found)) == ("complete", 40, {()})
    engine.dispose()


def test_one_writer_has_one_worker(sqlite_url: str) -> None:
    """SQLite is told apart by what it can do: the run says that it has one worker, and does all rows."""
    engine = create_engine(sqlite_url)
    table = numbered(engine, range(50))
    told: list[Notice] = []
    result = migrate(engine, only_work(counted(table), engine), small=5, workers=4, notice=told.append)
    assert (result.outcome, result.rows_done) == ("complete", 50)
    assert [one.text for one in told] == ["one worker instead of 4: this database has one writer at a time"]
    engine.dispose()


def test_a_pool_that_is_too_small_is_refused(postgresql_url: str) -> None:
    """A worker that would wait for a connection until the pool gives up is refused before anything is written."""
    engine = create_engine(postgresql_url, pool_size=2, max_overflow=1)
    table = numbered(engine, range(10))
    work = only_work(counted(table), engine)
    with pytest.raises(ConfigurationError, match="5 connections") as caught:
        migrate(engine, work, workers=3)
    assert caught.value.remedy == "create_engine(…, pool_size=5)"
    with acquire(engine, dialect_of(engine), command="emc migrate") as lease:
        result = run(
            engine, dialect_of(engine), work, lease=lease, workers=1, batch=dataclasses.replace(QUICK)
        )
    assert result.outcome == "complete"
    engine.dispose()
