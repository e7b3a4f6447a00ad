"""Where batches end: few looks where rows are dense, few batches where they are not, and never too many rows."""

import re
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    create_engine,
    event,
    insert,
    update,
)

from emc.data import ProgressEvent
from emc.dialects import dialect_of
from emc.errors import LeaseHeldError, LeaseLostError
from emc.state.lease import acquire
from emc.state.progress import load
from emc.state.tables import LEASE
from emc.upgrade import Upgrade
from tests.data.support import column, execute, migrate, only_work


def items(key: Any = Integer) -> Table:
    """A table with a size to be filled."""
    return Table(
        "items",
        MetaData(),
        Column("id", key, primary_key=True, autoincrement=False),
        Column("size", Integer),
        Column("deleted_at", DateTime),
    )


def filled(engine: Engine, table: Table, keys: Iterable[Any], done: Iterable[Any] = ()) -> None:
    """Rows with *keys*, of which those with the keys *done* need nothing."""
    finished = set(done)
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": key, "size": 1 if key in finished else None} for key in keys]
        connection.execute(insert(table), rows)


def run(engine: Engine, table: Table, small: int) -> tuple[list[ProgressEvent], list[str]]:
    """The batches of a migration, and the questions where they end."""
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="sized", where=table.c.size.is_(None), values={table.c.size: 1})
    events: list[ProgressEvent] = []
    asked: list[str] = []

    def note(*sending: Any) -> None:
        # Where a batch ends is the only question that passes rows over.
        if sending[2].startswith("SELECT") and "emc_key_0" in sending[2] and "DESC" not in sending[2]:
            asked.append(sending[2])

    event.listen(engine, "before_cursor_execute", note)
    result = migrate(engine, only_work(upgrade, engine), small=small, report=events.append)
    event.remove(engine, "before_cursor_execute", note)
    assert result.outcome == "complete"
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [0]
    assert all(one.batch_rows <= small for one in events)
    return events, asked


def test_dense_integers_are_not_asked_for(engine: Engine) -> None:
    """Along a dense integer key the end of a batch is arithmetic, once it is known to be dense."""
    table = items()
    filled(engine, table, range(-50, 350))
    events, asked = run(engine, table, 10)
    assert len(events) == 40
    assert len(asked) < 10


def test_other_dense_keys_take_one_step_of_the_index(engine: Engine) -> None:
    """Along any other key one question for each batch is enough, and it looks at no more rows than it has."""
    table = items(Uuid)
    filled(engine, table, (uuid.uuid5(uuid.NAMESPACE_DNS, str(n)) for n in range(200)))
    events, asked = run(engine, table, 10)
    assert len(events) == 20
    assert len(asked) <= 25


def test_huge_gaps_cost_no_batches(engine: Engine) -> None:
    """Between rows that are far apart there is nothing to do, and nothing is done."""
    table = items()
    far = [*range(100), *range(10**9, 10**9 + 100), -(2**31), 2**31 - 1, *range(2 * 10**9, 2 * 10**9 + 100)]
    filled(engine, table, far)
    events, _ = run(engine, table, 10)
    assert len(events) < 50


@pytest.mark.parametrize("every", [2, 3, 7, 40])
def test_few_pending_rows_cost_few_batches(engine: Engine, every: int) -> None:
    """Whatever share of the rows is pending, batches are not much smaller than they may be."""
    table = items()
    filled(engine, table, range(1200), [n for n in range(1200) if n % every])
    events, _ = run(engine, table, 20)
    assert len(events) <= 3 * (1200 / every / 20) + 6


def test_a_batch_is_not_too_large_where_pending_rows_begin(engine: Engine) -> None:
    """Behind many rows that are done a batch looks far ahead; where pending ones begin it has no more than it may."""
    table = items()
    filled(engine, table, range(2000), [n for n in range(2000) if n % 1000 < 800])
    events, _ = run(engine, table, 10)
    assert sum(one.batch_rows for one in events) == 400
    assert len(events) < 80


def test_a_table_without_a_key_is_not_sorted_for_each_batch(postgresql_url: str) -> None:
    """No index has the order of addresses, so a batch must not look at all that lies ahead, however wide rows are."""
    engine = create_engine(postgresql_url)
    table = Table("items", MetaData(), Column("id", Integer), Column("size", Integer), Column("text", Text))
    table.metadata.create_all(engine)
    execute(
        engine,
        "ALTER TABLE items ALTER COLUMN text SET STORAGE PLAIN",
        "INSERT INTO items SELECT n, NULL, CASE WHEN n < 500 THEN repeat('x', 3000) END"
        " FROM generate_series(1, 4000) n",
        "DELETE FROM items WHERE id BETWEEN 100 AND 400",
    )
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="sized", where=table.c.size.is_(None), values={table.c.size: 1})
    looks: list[float] = []

    def note(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT anon_1.emc_key_0"):
            plan = "\n".join(row[0] for row in cursor.execute(f"EXPLAIN ANALYZE {statement}", parameters))
            looks.append(max(float(rows) for rows in re.findall(r"actual time=\S+ rows=([0-9.]+)", plan)))

    event.listen(engine, "before_cursor_execute", note)
    events: list[ProgressEvent] = []
    result = migrate(engine, only_work(upgrade, engine), small=50, report=events.append)
    assert (result.outcome, result.rows_done) == ("complete", 4000 - 301)
    assert looks
    assert sum(looks) <= 8 * 4000  # All that lies ahead would be forty times as many.
    assert len(events) < 3 * 4000 / 50
    engine.dispose()


# -- which rows, and by whom ------------------------------------------------------------------------------------


def test_soft_deleted_rows_are_migrated_like_all_others(engine: Engine) -> None:
    """A row that the application calls deleted may be restored, and is in the way of NOT NULL, so it is work as well.

    Unless ``where`` leaves it out.
    """
    table = items()
    filled(engine, table, range(6))
    execute(engine, "UPDATE items SET deleted_at = '2020-01-01 00:00:00' WHERE id IN (1, 4)")
    upgrade = Upgrade(table.metadata)
    alive = table.c.size.is_(None) & table.c.deleted_at.is_(None)
    upgrade.data_migration(table, name="alive", where=alive, values={table.c.size: 1})
    assert migrate(engine, only_work(upgrade, engine)).rows_done == 4
    assert column(engine, "SELECT id FROM items WHERE size IS NULL ORDER BY id") == [1, 4]
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="all", where=table.c.size.is_(None), values={table.c.size: 1})
    assert migrate(engine, only_work(upgrade, engine)).rows_done == 2


def test_whoever_was_taken_over_writes_nothing(engine: Engine) -> None:
    """A runner that sleeps past its lease finds another one at work: neither rows nor cursor are its to write any more.

    And while it is in the middle of a batch nobody can take over.
    """
    table = items()
    filled(engine, table, range(10))
    dialect = dialect_of(engine)
    refused: list[str] = []
    kept: list[Any] = []

    def expire() -> None:
        with engine.begin() as connection:
            connection.execute(update(LEASE).values(expires_at=LEASE.c.acquired_at, host="elsewhere"))

    def take_over(event: ProgressEvent) -> None:
        expire()
        # Kept by another runner until the end of the test.
        other = acquire(engine, dialect, command="emc migrate")
        kept.append(other)
        with engine.connect() as connection:
            kept.append(load(connection, "sized"))

    def size(row: Any) -> dict[str, Any]:
        if row.id == 0 and dialect.concurrent_sessions:
            try:
                with acquire(engine, dialect, command="emc migrate"):
                    pass
            except LeaseHeldError as error:
                refused.append(str(error))
        return {"size": 1}

    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="sized", where=table.c.size.is_(None))(size)
    with pytest.raises(LeaseLostError):
        migrate(engine, only_work(upgrade, engine), small=4, report=take_over)
    assert column(engine, "SELECT id FROM items WHERE size = 1 ORDER BY id") == [0, 1, 2, 3]
    with engine.connect() as connection:
        assert load(connection, "sized") == kept[1]
    assert len(refused) == dialect.concurrent_sessions
