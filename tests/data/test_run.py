"""Batches on real databases: every row once, whatever the key, the rows and the other sessions do."""

import dataclasses
import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Engine,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    Uuid,
    and_,
    create_engine,
    event,
    exists,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql

from emc.data import ProgressEvent, run, run_all
from emc.dialects import Dialect, dialect_of
from emc.dialects.postgresql import PostgreSQL
from emc.dialects.sqlite import SQLite
from emc.errors import (
    DatabaseUnavailableError,
    DeclarationError,
    EmcError,
    LeaseLostError,
    LockBudgetError,
    StatementFailedError,
)
from emc.state.failures import failures
from emc.state.lease import acquire
from emc.state.progress import load
from emc.state.tables import LEASE
from emc.upgrade import Upgrade
from emc.work import DELETE, Work, all_work
from tests.data.support import (
    QUICK,
    column,
    execute,
    has_addresses,
    migrate,
    only_work,
    rows,
    work_of,
)
from tests.mariadb_server import spelled


def items(*key: Column[Any], **options: Any) -> Table:
    """A table with the key columns *key* and something to fill."""
    return Table(
        "items",
        MetaData(),
        *(key or (Column("id", Integer, primary_key=True, autoincrement=False),)),
        Column("name", String(50)),
        Column("size", Integer, CheckConstraint("size < 100")),
        **options,
    )


def made(
    engine: Engine, table: Table, count: int, key: Callable[[int], dict[str, Any]] | None = None
) -> None:
    """Create *table* with *count* rows, whose size is to be filled."""
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(count):
            values = key(number) if key else {"id": number}
            connection.execute(insert(table).values(**values, name=f"n{number}", size=None))


def sized(table: Table, **options: Any) -> Upgrade:
    """An upgrade that gives each row the size 1, in SQL."""
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(
        table, name="sized", where=table.c.size.is_(None), values={table.c.size: 1}, **options
    )
    return upgrade


def by_function(table: Table, function: Callable[..., Any], where: Any = None) -> Upgrade:
    """An upgrade that calls *function* for each row without a size."""
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="sized", where=table.c.size.is_(None) if where is None else where)(
        function
    )
    return upgrade


def statements(engine: Engine) -> list[str]:
    """Collects what is sent to the database from now on."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *sending: sent.append(sending[2]))
    return sent


# -- every row, once --------------------------------------------------------------------------------------------

EXACT = String(50).with_variant(mysql.VARCHAR(50, collation="utf8mb4_bin"), "mysql", "mariadb")
"""Text that is equal only where it is the same."""
KEYS: dict[str, tuple[list[Callable[[], Any]], Callable[[int], dict[str, Any]]]] = {
    "integer": ([lambda: Column("id", Integer, primary_key=True)], lambda n: {"id": n * 7 - 20}),
    "text": (
        [lambda: Column("id", EXACT, primary_key=True)],
        lambda n: {
            "id": ["a", "B", "ä", "", "'", "a b", "Z", "%", "\\", "_"][n % 10] * (n // 10 + 1) or f" {n}"
        },
    ),
    "uuid": (
        [lambda: Column("id", Uuid, primary_key=True)],
        lambda n: {"id": uuid.uuid5(uuid.NAMESPACE_DNS, str(n))},
    ),
    "bytes": (
        [
            lambda: Column(
                "id", LargeBinary(16).with_variant(mysql.VARBINARY(16), "mysql", "mariadb"), primary_key=True
            )
        ],
        lambda n: {"id": bytes([255 - n, 0, n])},
    ),
    "composite": (
        [
            lambda: Column("region", String(10), primary_key=True),
            lambda: Column("id", Integer, primary_key=True),
        ],
        lambda n: {"region": "eu" if n % 2 else "US", "id": n // 2},
    ),
    "unique": (
        [lambda: Column("code", Numeric(10, 2), nullable=False, unique=True), lambda: Column("id", Integer)],
        lambda n: {"code": n / 4, "id": 1},
    ),
    "enum": (
        [
            lambda: Column("kind", Enum("z", "b", "a", name="kinds"), primary_key=True),
            lambda: Column("id", Integer, primary_key=True),
        ],
        lambda n: {"kind": "zba"[n % 3], "id": n // 3},
    ),
    "none": ([lambda: Column("id", Integer)], lambda _: {"id": 1}),
}


@pytest.mark.parametrize("kind", sorted(KEYS))
@pytest.mark.parametrize("how", ["sql", "function"])
# Numeric keys are floats to SQLite, as SQLAlchemy says.
@pytest.mark.filterwarnings("ignore:Dialect sqlite.*does.*not.*support Decimal")
def test_every_row_is_done_whatever_the_key(engine: Engine, kind: str, how: str) -> None:
    """Walks along integers, text, UUID, bytes, composite and unique keys, and without any key."""
    if kind == "none" and not has_addresses(engine):
        pytest.skip("a row without a key has no address here")
    columns, key = KEYS[kind]
    table = items(*(make() for make in columns))
    made(engine, table, 25, key)
    upgrade = sized(table) if how == "sql" else by_function(table, lambda row: {"size": len(row.name)})
    result = migrate(engine, only_work(upgrade, engine), small=4)
    assert (result.outcome, result.rows_done, result.rows_left) == ("complete", 25, 0)
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [0]


class PlainSQLite(SQLite):
    """SQLite as if no row had a rowid."""

    def row_id(self, table: Table) -> None:
        """None."""


class PlainPostgreSQL(PostgreSQL):
    """PostgreSQL as if no row had a ctid."""

    def row_id(self, table: Table) -> None:
        """None."""


WITHOUT_ADDRESSES: dict[str, Dialect] = {"sqlite": PlainSQLite(), "postgresql": PlainPostgreSQL()}


def test_a_table_without_any_address_is_refused(engine: Engine) -> None:
    """Where rows cannot be told apart the run does not begin, and says what to add."""
    table = items(Column("id", Integer))
    made(engine, table, 2)
    with pytest.raises(EmcError) as caught:
        migrate(engine, only_work(sized(table), engine), dialect=WITHOUT_ADDRESSES.get(engine.dialect.name))
    assert "primary key" in (caught.value.remedy or "")
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [2]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_empty_and_one_row_tables_are_ordinary(engine: Engine, count: int) -> None:
    """GitLab's batched migrations were marked finished without running when a table had one row (min = max)."""
    table = items()
    made(engine, table, count)
    result = migrate(engine, only_work(sized(table), engine))
    assert (result.outcome, result.rows_done) == ("complete", count)
    assert column(engine, "SELECT count(*) FROM items WHERE size = 1") == [count]


def test_a_rerun_writes_nothing(engine: Engine) -> None:
    """When nothing is left, nothing is sent that could write."""
    table = items()
    made(engine, table, 5)
    work = only_work(sized(table), engine)
    dialect = dialect_of(engine)
    with acquire(engine, dialect, command="emc migrate") as lease:
        run(engine, dialect, work, lease=lease, batch=QUICK)
        sent = statements(engine)
        result = run(engine, dialect, work, lease=lease, batch=QUICK)
    assert result.outcome == "complete"
    assert result.rows_done == 0
    written = [one for one in sent if one.split()[0] in {"UPDATE", "DELETE", "INSERT", "CREATE"}]
    # Giving back the lease is not part of the run.
    assert [one for one in written if "emc_lease" not in one] == []


def test_only_the_rows_of_the_condition_are_written(engine: Engine) -> None:
    """Rows that do not satisfy the condition, or for which it is NULL, keep what they have."""
    table = items()
    made(engine, table, 0)
    execute(engine, "INSERT INTO items VALUES (1, 'a', 5), (2, NULL, 5), (3, 'b', 5), (4, 'a', NULL)")
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(
        table, name="m", where=table.c.name == "a", values={"name": "c", "size": table.c.id}
    )
    assert migrate(engine, only_work(upgrade, engine)).rows_done == 2
    assert rows(engine, "SELECT * FROM items ORDER BY id") == [
        (1, "c", 1),
        (2, None, 5),
        (3, "b", 5),
        (4, "c", 4),
    ]


def test_no_column_is_written_that_was_not_named(engine: Engine) -> None:
    """The onupdate of a model, such as that of updated_at, is for its application and not for emc."""
    metadata = MetaData()
    table = Table(
        "items",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("size", Integer),
        Column("updated", Integer, onupdate=99),
    )
    metadata.create_all(engine)
    execute(engine, "INSERT INTO items VALUES (1, NULL, 1), (2, NULL, 1)")
    migrate(engine, only_work(sized(table), engine))
    execute(engine, "UPDATE items SET size = NULL")
    migrate(engine, only_work(by_function(table, lambda _: {table.c.size: 3}), engine))
    assert rows(engine, "SELECT size, updated FROM items") == [(3, 1), (3, 1)]


@pytest.mark.parametrize("drivername", ["mariadb+pymysql", "mysql+mysqldb"])
def test_on_update_is_not_for_emc(mariadb_url: str, drivername: str) -> None:
    """ON UPDATE CURRENT_TIMESTAMP tells what the application did to a row; of a migration only where that says so."""
    engine = create_engine(spelled(mariadb_url, drivername))
    execute(
        engine,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, size INTEGER, updated DATETIME NOT NULL DEFAULT "
        "'2020-01-01' ON UPDATE CURRENT_TIMESTAMP, seen TIMESTAMP(6) NULL ON UPDATE CURRENT_TIMESTAMP(6))",
        "INSERT INTO items (id) VALUES (1), (2)",
    )
    metadata = MetaData()
    size, updated = Column("size", Integer), Column("updated", DateTime)
    table = Table("items", metadata, Column("id", Integer, primary_key=True), size, updated)
    ways = [
        sized(table),
        by_function(table, lambda _: {"size": 3}),
        by_function(table, lambda row: {"size": row.id}),
    ]
    ways.append(by_function(table, lambda _: {"size": table.c.id + 1}))
    times = "SELECT CAST(updated AS CHAR), seen FROM items"
    for way in ways:
        execute(engine, "UPDATE items SET size = NULL, updated = '2020-01-01', seen = NULL")
        assert migrate(engine, work_on_server(way, engine)).rows_done == 2
        assert rows(engine, times) == [("2020-01-01 00:00:00", None)] * 2
    named = by_function(table, lambda _: {"size": 1, "updated": func.makedate(2021, 1)})
    execute(engine, "UPDATE items SET size = NULL, updated = '2020-01-01', seen = NULL")
    migrate(engine, work_on_server(named, engine))
    assert rows(engine, times) == [("2021-01-01 00:00:00", None)] * 2
    engine.dispose()


def test_a_change_of_case_is_a_change(mariadb_url: str) -> None:
    """What another session wrote after a row was read is not overwritten, though the collation finds it equal."""
    engine = create_engine(mariadb_url)
    table = items()
    made(engine, table, 2)
    execute(engine, "ALTER TABLE items ADD COLUMN weight FLOAT", "UPDATE items SET weight = 1.2345678")
    turns: list[int] = []

    def answer(row: Row[Any]) -> dict[str, Any]:
        turns.append(row.id)
        if len(turns) == 1:
            execute(engine, "UPDATE items SET name = 'N0' WHERE id = 0")
        if len(turns) == 2:
            execute(engine, "UPDATE items SET weight = 1.2345679 WHERE id = 1")
        return {"name": f"{row.name}!", "size": 1}

    result = migrate(engine, work_on_server(by_function(table, answer), engine))
    assert result.outcome == "complete"
    assert column(engine, "SELECT name FROM items ORDER BY id") == ["N0!", "n1!"]
    assert turns == [0, 1, 0, 1]
    engine.dispose()


@pytest.mark.parametrize("answered", [{"size": 1}, DELETE], ids=["update", "delete"])
@pytest.mark.parametrize("how", ["sql", "function"])
def test_a_condition_may_look_at_the_table_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str, answered: Any
) -> None:
    """MySQL lets no statement look into the table that it writes to (error 1093): rows are locked, and judged first."""
    table = items()
    made(engine, table, 7)
    monkeypatch.setattr(type(dialect_of(engine)), "updates_what_it_reads", False)
    sent = statements(engine)
    other = table.alias()
    alike = exists().where(other.c.id == table.c.id + 1)
    upgrade = Upgrade(table.metadata)
    where = and_(table.c.size.is_(None), alike)
    if how == "function":
        upgrade.data_migration(table, name="m", where=where)(lambda _: answered)
    elif answered is DELETE:
        pytest.skip("only functions delete")
    else:
        upgrade.data_migration(table, name="m", where=where, values=answered)
    result = migrate(engine, only_work(upgrade, engine), small=3)
    assert result.outcome == "complete"
    if answered is not DELETE:
        assert column(engine, "SELECT size FROM items ORDER BY id") == [1, 1, 1, 1, 1, 1, None]
    writes = [one for one in sent if one.startswith(("UPDATE items", "DELETE FROM items"))]
    assert writes
    assert not [one for one in writes if "EXISTS" in one]


def work_on_server(upgrade: Upgrade, engine: Engine) -> Work:
    """The one work of *upgrade*, on the tables as emc itself reads them."""
    with engine.connect() as connection:
        [work] = all_work(
            upgrade, (dialect := dialect_of(engine)).read(connection, [None]), dialect.uniqueness
        )
    assert isinstance(work, Work)
    return work


def test_few_pending_rows_among_many_cost_few_batches(engine: Engine) -> None:
    """A batch looks past rows that are done already, so the number of batches follows the rows that are left."""
    table = items()
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "name": "x", "size": 1} for n in range(2000)])
        connection.execute(update(table).where(table.c.id.in_([3, 900, 1999])).values(size=None))
    events: list[ProgressEvent] = []
    result = migrate(engine, only_work(sized(table), engine), small=100, report=events.append)
    assert (result.rows_done, len(events)) == (3, 1)
    events.clear()
    execute(engine, "UPDATE items SET size = NULL WHERE id IN (3, 900, 1999)")
    migrate(engine, only_work(sized(table), engine), small=2, report=events.append)
    assert sum(event.batch_rows for event in events) == 3
    assert len(events) == 2000 / 40


# -- functions --------------------------------------------------------------------------------------------------


def test_a_function_reads_the_whole_live_row(engine: Engine) -> None:
    """Retired columns are there by name, values are converted by the types of the models, and nothing else is."""
    metadata = MetaData()
    table = Table("docs", metadata, Column("id", Integer, primary_key=True), Column("body", JSON))
    execute(engine, "CREATE TABLE docs (id INTEGER PRIMARY KEY, old VARCHAR(20), body JSON)")
    execute(engine, """INSERT INTO docs VALUES (1, 'seven', '{"a": [1]}'), (2, 'eight', '{}')""")
    seen: list[tuple[Any, ...]] = []
    upgrade = Upgrade(metadata)

    @upgrade.data_migration(table, where=lambda live: live.c.old.is_not(None))
    def move(row: Row[Any]) -> dict[str, Any]:
        seen.append(tuple(row))
        return {"body": {**row.body, "old": row.old}, "old": None}

    assert migrate(engine, only_work(upgrade, engine)).rows_done == 2
    assert seen == [(1, "seven", {"a": [1]}), (2, "eight", {})]
    with engine.connect() as connection:
        assert list(connection.execute(select(table.c.body).order_by(table.c.id)).scalars()) == [
            {"a": [1], "old": "seven"},
            {"old": "eight"},
        ]


def test_a_function_may_delete_rows_and_answer_sql(engine: Engine) -> None:
    """DELETE deletes, a dictionary sets, SQL expressions are evaluated by the database; keys are of three kinds."""
    table = items()
    made(engine, table, 6)

    def decide(row: Row[Any]) -> Any:
        return [DELETE, {"size": 1}, {table.c.size: table.c.id + 10}][row.id % 3]

    result = migrate(engine, only_work(by_function(table, decide), engine))
    assert (result.outcome, result.rows_done) == ("complete", 6)
    assert rows(engine, "SELECT id, size FROM items ORDER BY id") == [(1, 1), (2, 12), (4, 1), (5, 15)]


def test_a_fill_may_be_a_function(engine: Engine) -> None:
    """A function given to fill answers the value of the one column."""
    table = Table(
        "items", MetaData(), Column("id", Integer, primary_key=True), Column("size", Integer, nullable=False)
    )
    execute(
        engine,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, size INTEGER)",
        "INSERT INTO items (id) VALUES (4)",
    )
    upgrade = Upgrade(table.metadata)
    upgrade.fill(table.c.size, lambda row: row.id * 2)
    assert migrate(engine, only_work(upgrade, engine)).outcome == "complete"
    assert rows(engine, "SELECT * FROM items") == [(4, 8)]


def test_a_function_writes_elsewhere_in_the_same_transaction(engine: Engine) -> None:
    """With the connection as second argument, what it writes elsewhere is kept if and only if its row is."""
    table = items()
    made(engine, table, 4)
    execute(engine, "CREATE TABLE log (id INTEGER)")

    def note(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.execute(text("INSERT INTO log VALUES (:id)"), {"id": row.id})
        if row.id == 2:
            raise ValueError("not this one")
        return {"size": 1}

    result = migrate(engine, only_work(by_function(table, note), engine))
    assert [(row.key, row.error) for row in result.failed] == [((2,), "ValueError: not this one")]
    assert column(engine, "SELECT id FROM log ORDER BY id") == [0, 1, 3]
    assert column(engine, "SELECT id FROM items WHERE size = 1 ORDER BY id") == [0, 1, 3]


@pytest.mark.parametrize("answer", [{"sice": 1}, [("size", 1)], 5])
def test_an_answer_that_cannot_be_written_names_the_declaration(engine: Engine, answer: Any) -> None:
    """An unknown column or another kind of answer is a mistake in the declaration, whose line is named."""
    table = items()
    made(engine, table, 2)
    with pytest.raises(DeclarationError) as caught:
        migrate(engine, only_work(by_function(table, lambda _: answer), engine))
    assert "test_run.py" in caught.value.places[0]
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [2]


def test_a_row_that_changes_between_read_and_write_is_not_overwritten(postgresql_url: str) -> None:
    """Compare and set: what the application wrote meanwhile stays, and the next pass sees it."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 3)
    execute(engine, "ALTER TABLE items ADD COLUMN doc json")
    execute(engine, 'UPDATE items SET doc = \'{"b": 1,  "a": 2}\'')
    interrupted: list[str] = []

    def name_length(row: Row[Any]) -> dict[str, Any]:
        if row.id == 1 and not interrupted:
            interrupted.append(row.name)
            # Another column than the one that is written, of a row that stays pending.
            execute(engine, "UPDATE items SET name = 'longer than that' WHERE id = 1")
        return {"size": len(row.name)}

    result = migrate(engine, only_work(by_function(table, name_length), engine))
    assert (result.outcome, result.rows_done) == ("complete", 3)
    assert rows(engine, "SELECT id, name, size FROM items ORDER BY id") == [
        (0, "n0", 2),
        (1, "longer than that", 16),
        (2, "n2", 2),
    ]
    engine.dispose()


def test_a_row_that_is_done_by_somebody_else_is_left_alone(postgresql_url: str) -> None:
    """A value that the application writes while the function thinks is not overwritten; nor is its DELETE undone."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 3)

    def slow(row: Row[Any]) -> Any:
        if row.id == 0:
            execute(engine, "UPDATE items SET size = 77 WHERE id = 0", "DELETE FROM items WHERE id = 2")
        return DELETE if row.id == 0 else {"size": 1}

    result = migrate(engine, only_work(by_function(table, slow), engine))
    assert (result.outcome, result.rows_done) == ("complete", 1)
    assert rows(engine, "SELECT id, size FROM items ORDER BY id") == [(0, 77), (1, 1)]
    engine.dispose()


def test_a_row_that_never_stands_still_is_stuck_in_the_end(postgresql_url: str) -> None:
    """A function that always loses its row to another writer ends as stuck, and not never."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 2)
    ticks = itertools.count()

    def meddle(row: Row[Any]) -> dict[str, Any]:
        if row.id == 1:
            execute(engine, f"UPDATE items SET name = '{next(ticks)}' WHERE id = 1")
        return {"size": 1}

    result = migrate(engine, only_work(by_function(table, meddle), engine))
    assert (result.outcome, result.rows_done, result.rows_left) == ("stuck", 1, 1)
    engine.dispose()


# -- rows that cannot be migrated -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sql", "function", "value"])
def test_one_poison_row_does_not_starve_the_others(engine: Engine, how: str) -> None:
    """The rows that fail are reported with key and error, all others are done, and a later run tries them again."""
    table = items()
    made(engine, table, 40)
    execute(
        engine,
        "UPDATE items SET name = '500' WHERE id IN (13, 14, 39)",
        "UPDATE items SET name = '5' WHERE size IS NULL AND name <> '500'",
    )

    def in_python(row: Row[Any]) -> dict[str, Any]:
        if row.name == "500":
            raise ValueError(row.name)
        return {"size": int(row.name)}

    if how == "sql":
        upgrade = Upgrade(table.metadata)
        upgrade.data_migration(
            table, name="sized", where=table.c.size.is_(None), values={"size": table.c.name.cast(Integer)}
        )
    else:
        function = in_python if how == "function" else lambda row: {"size": int(row.name)}
        upgrade = by_function(table, function)
    work = only_work(upgrade, engine)
    result = migrate(engine, work)
    assert (result.outcome, result.rows_done, result.rows_left) == ("failed", 37, 3)
    assert [row.key for row in result.failed] == [(13,), (14,), (39,)]
    assert all(row.error for row in result.failed)
    with engine.connect() as connection:
        assert [row.key for row in failures(connection, "sized")] == [(13,), (14,), (39,)]
    execute(engine, "UPDATE items SET name = '6' WHERE id = 13")
    again = migrate(engine, work)
    assert (again.outcome, again.rows_done, [row.key for row in again.failed]) == (
        "failed",
        1,
        [(14,), (39,)],
    )
    with engine.connect() as connection:
        assert [row.key for row in failures(connection, "sized")] == [(14,), (39,)]
    execute(engine, "UPDATE items SET name = '6' WHERE id IN (14, 39)")
    assert migrate(engine, work).outcome == "complete"
    with engine.connect() as connection:
        assert failures(connection, "sized") == ()


def test_a_function_that_always_fails_ends_early(engine: Engine) -> None:
    """When most rows fail the function is wrong; the run ends, and the next one goes on behind those rows."""
    table = items()
    made(engine, table, 130)
    execute(engine, "UPDATE items SET name = 'bad' WHERE id < 100")

    def fails(row: Row[Any]) -> dict[str, Any]:
        if row.name == "bad":
            raise ZeroDivisionError
        return {"size": 1}

    work = only_work(by_function(table, fails), engine)
    result = migrate(engine, work, small=10)
    assert (result.outcome, result.rows_done, len(result.failed)) == ("failed", 0, 50)
    assert result.rows_left == 130
    migrate(engine, work, small=10)
    migrate(engine, work, small=10)
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [100]


def test_a_statement_that_is_wrong_for_every_row_ends_the_run(postgresql_url: str) -> None:
    """A mistake in SQL is not blamed on the rows one by one."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 20)
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(
        table, name="m", where=table.c.size.is_(None), values={"size": func.no_such_function()}
    )
    with pytest.raises(StatementFailedError) as caught:
        migrate(engine, only_work(upgrade, engine))
    assert caught.value.step == "m"
    assert "no_such_function" in caught.value.statement
    engine.dispose()


@pytest.mark.parametrize("how", ["sql", "function", "delete"])
@pytest.mark.parametrize(
    "key", ["name VARCHAR(50) PRIMARY KEY, id INTEGER", "name VARCHAR(50), id INT, PRIMARY KEY (id, name)"]
)
def test_rows_without_a_key_are_reached(tmp_path: Path, key: str, how: str) -> None:
    """SQLite allows NULL in a primary key, in many rows even: the table is walked by its row ids then."""
    engine = create_engine(f"sqlite:///{tmp_path / 'emc.db'}")
    execute(
        engine,
        f"CREATE TABLE items (size INTEGER, {key})",
        "INSERT INTO items (id, name) VALUES (1, 'a'), (2, NULL), (2, NULL), (3, 'c'), (2, NULL), (4, 'd')",
    )
    table = items(Column("id", Integer))
    upgrade = Upgrade(table.metadata)
    pending = table.c.size.is_(None)
    if how == "sql":
        upgrade.data_migration(table, name="m", where=pending, values={"size": table.c.id})
    else:
        upgrade.data_migration(table, name="m", where=pending)(
            lambda row: DELETE if how == "delete" else {"size": row.id}
        )
    for rest in (3, 0):
        result = migrate(engine, only_work(upgrade, engine), small=1, max_count=3)
        assert (result.rows_done, result.rows_left) == (3, rest)
    assert column(engine, "SELECT size FROM items ORDER BY size") == (
        [] if how == "delete" else [1, 2, 2, 2, 3, 4]
    )
    engine.dispose()


@pytest.mark.parametrize("first", ["('a', 1), ('b', 1)", "('a', 1)", "(NULL, 1)"])
def test_duplicates_without_a_key_are_refused(tmp_path: Path, first: str) -> None:
    """Rows that are to be compared with one another have to have a name."""
    engine = create_engine(f"sqlite:///{tmp_path / 'emc.db'}")
    execute(
        engine,
        "CREATE TABLE items (name VARCHAR(50) PRIMARY KEY, size INTEGER)",
        f"INSERT INTO items VALUES {first}, (NULL, 1)",
    )
    table = Table(
        "items",
        MetaData(),
        Column("name", String(50), primary_key=True),
        Column("size", Integer, unique=True),
    )
    upgrade = Upgrade(table.metadata)
    upgrade.deduplicate(table.c.size, keep=table.c.name.desc())
    before = rows(engine, "SELECT * FROM items")
    with pytest.raises(EmcError, match=r"NULL in its primary key \(name\)") as caught:
        migrate(engine, only_work(upgrade, engine))
    assert "WHERE name IS NULL" in (caught.value.remedy or "")
    assert rows(engine, "SELECT * FROM items") == before
    engine.dispose()


@pytest.mark.parametrize("how", ["sql", "function", "nothing"])
def test_a_migration_that_changes_nothing_is_stuck(engine: Engine, how: str) -> None:
    """Writing values that leave rows pending is no progress, however many rows the database says it has updated."""
    table = items()
    made(engine, table, 9)
    if how == "sql":
        upgrade = Upgrade(table.metadata)
        upgrade.data_migration(table, name="m", where=table.c.size.is_(None), values={"name": "x"})
    else:
        upgrade = by_function(table, lambda _: {"name": "x"} if how == "function" else None)
    work = only_work(upgrade, engine)
    assert (migrate(engine, work, small=2).outcome, migrate(engine, work).rows_left) == ("stuck", 9)
    # A loop around the command, as operators write it, comes to an end as well.
    outcomes = [str(migrate(engine, work, small=2, max_count=3).outcome) for _ in range(4)]
    assert "stuck" in outcomes


def test_a_stuck_migration_along_physical_rows_ends(engine: Engine) -> None:
    """An update moves a row behind all others; the pass ends where the table ended when it began."""
    if not has_addresses(engine):
        pytest.skip("a row without a key has no address here")
    table = items(Column("id", Integer))
    made(engine, table, 9)
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="m", where=table.c.size.is_(None), values={"name": "x"})
    assert migrate(engine, only_work(upgrade, engine), small=2).outcome == "stuck"


# -- limits and stops -------------------------------------------------------------------------------------------


def test_a_limit_is_kept_and_the_next_run_goes_on(engine: Engine) -> None:
    """max_count is exact, and nothing is done twice."""
    table = items()
    made(engine, table, 10)
    work = only_work(sized(table), engine)
    result = migrate(engine, work, small=3, max_count=4)
    assert (result.outcome, result.rows_done, result.rows_left) == ("more", 4, 6)
    assert column(engine, "SELECT id FROM items WHERE size = 1 ORDER BY id") == [0, 1, 2, 3]
    with engine.connect() as connection:
        progress = load(connection, "sized")
    assert progress is not None
    assert (progress.cursor, progress.rows_done, progress.finished) == ((3,), 4, False)
    # The limit is reached with the last row: nothing is left, so nothing more is asked for.
    result = migrate(engine, work, small=3, max_count=6)
    assert (result.outcome, result.rows_done, result.rows_left) == ("complete", 6, 0)
    assert migrate(engine, work, max_count=0).outcome == "complete"


def test_no_count_at_all_does_nothing(engine: Engine) -> None:
    """A limit of no rows writes none."""
    table = items()
    made(engine, table, 2)
    assert migrate(engine, only_work(sized(table), engine), max_count=0).outcome == "more"
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [2]


def test_a_stop_request_ends_after_the_batch(engine: Engine) -> None:
    """The batch at work is committed, and the result says that somebody asked."""
    table = items()
    made(engine, table, 10)
    events: list[ProgressEvent] = []
    result = migrate(
        engine,
        only_work(sized(table), engine),
        small=3,
        stop=lambda: len(events) == 2,
        report=events.append,
    )
    assert (result.outcome, result.rows_done) == ("paused", 6)
    assert [(one.rows_done, one.rows_total, one.batch_rows) for one in events] == [(3, 10, 3), (6, 10, 3)]


def test_time_is_kept(engine: Engine) -> None:
    """No batch begins when the time is over."""
    table = items()
    made(engine, table, 10)
    now = [0.0]
    policy = dataclasses.replace(QUICK, clock=lambda: now[0])

    def tick(event: ProgressEvent) -> None:
        now[0] += 10

    result = migrate(engine, only_work(sized(table), engine), small=2, batch=policy, max_time=25, report=tick)
    assert (result.outcome, result.rows_done) == ("more", 6)


def test_work_waits_for_other_work(engine: Engine) -> None:
    """Nothing is written before what has to be complete is complete; then it runs."""
    table = items()
    made(engine, table, 3)
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="first", where=table.c.name != "x", values={"name": "x"})
    upgrade.data_migration(
        table, name="second", where=table.c.size.is_(None), values={"size": 1}, after=["first"]
    )
    every = work_of(upgrade, engine)
    second = every[1]
    result = migrate(engine, second, upgrade_work=every)
    assert (result.outcome, result.rows_done) == ("blocked", 0)
    assert "first" in (result.remedy or "")
    assert migrate(engine, second).outcome == "blocked"  # Nothing is known of what it waits for.
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [3]
    dialect = dialect_of(engine)
    with acquire(engine, dialect, command="emc migrate") as lease:
        results = run_all(engine, dialect, every, lease=lease, max_count=4, batch=QUICK)
        assert [(str(r.outcome), r.rows_done) for r in results] == [("complete", 3), ("more", 1)]
        results = run_all(engine, dialect, every, lease=lease, batch=QUICK)
    assert [(str(r.outcome), r.rows_done) for r in results] == [("complete", 0), ("complete", 2)]


def test_work_that_is_not_ready_says_why(engine: Engine) -> None:
    """What the schema is not ready for is blocked, with the remedy."""
    table = items()
    execute(engine, "CREATE TABLE items (id INTEGER PRIMARY KEY)")
    [work] = work_of(sized(table), engine)
    result = migrate(engine, work)
    assert (result.outcome, result.remedy) == ("blocked", "run emc expand")


# -- other sessions ---------------------------------------------------------------------------------------------


def test_rows_that_are_added_meanwhile_are_done_too(postgresql_url: str) -> None:
    """Rows that another connection inserts, before and behind the cursor, are done by another pass."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 10)
    new = iter([(-1,), (100,), (-2,)])

    def insert_more(event: ProgressEvent) -> None:
        for (number,) in itertools.islice(new, 1):
            execute(engine, f"INSERT INTO items VALUES ({number}, 'new', NULL)")

    result = migrate(engine, only_work(sized(table), engine), small=4, report=insert_more)
    assert (result.outcome, result.rows_done) == ("complete", 13)
    engine.dispose()


def test_rows_that_come_as_fast_as_they_go_are_not_chased_for_ever(postgresql_url: str) -> None:
    """Beside an old release that keeps on inserting, a run ends and says so; each pass reads the whole table."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 10)
    new = itertools.count(100)
    passes: set[int] = set()

    def insert_one(event: ProgressEvent) -> None:
        passes.add(event.pass_number)
        execute(engine, f"INSERT INTO items VALUES ({next(new)}, 'new', NULL)")

    result = migrate(engine, only_work(sized(table), engine), report=insert_one)
    assert (result.outcome, result.rows_left) == ("outrun", 1)
    assert len(passes) < 10
    assert migrate(engine, only_work(sized(table), engine)).outcome == "complete"
    engine.dispose()


def test_a_run_that_lost_its_lease_commits_nothing_more(engine: Engine) -> None:
    """Whoever was taken over stops before the next batch is written."""
    table = items()
    made(engine, table, 10)

    def take_over(event: ProgressEvent) -> None:
        with engine.begin() as connection:
            connection.execute(update(LEASE).values(token=LEASE.c.token + 1))

    with pytest.raises(LeaseLostError):
        migrate(engine, only_work(sized(table), engine), small=4, report=take_over)
    assert column(engine, "SELECT count(*) FROM items WHERE size = 1") == [4]


def test_a_locked_row_is_left_for_later(postgresql_url: str) -> None:
    """A row that another session holds does not keep the others from being done."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 10)
    policy = dataclasses.replace(QUICK, lock_timeout=0.05)
    with engine.connect() as other:
        other.execute(text("SELECT * FROM items WHERE id = 4 FOR UPDATE"))
        with pytest.raises(LockBudgetError):
            migrate(engine, only_work(sized(table), engine), batch=policy)
        assert column(engine, "SELECT id FROM items WHERE size IS NULL") == [4]
    assert migrate(engine, only_work(sized(table), engine), batch=policy).rows_done == 1
    engine.dispose()


def test_a_locked_table_spends_the_lock_budget(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the whole table is held the run ends with what it has, and does not blame the rows."""
    monkeypatch.setattr("emc.dialects.mysql.sessions._READING_WAIT", 0)
    table = items()
    made(engine, table, 100)
    # MariaDB waits in whole seconds.
    attempts = 0 if engine.dialect.name == "mariadb" else 3
    policy = dataclasses.replace(QUICK, lock_timeout=0.02, start=40, lock_attempts=attempts)
    held: list[Connection] = []

    def hold(event: ProgressEvent) -> None:
        other = engine.connect()
        held.append(other)
        if engine.dialect.name == "sqlite":
            other.execute(text("UPDATE items SET name = name WHERE id = 99"))
        elif engine.dialect.name == "mariadb":
            other.execute(text("LOCK TABLES items WRITE"))
        else:
            other.execute(text("LOCK TABLE items IN EXCLUSIVE MODE"))

    dialect, work = dialect_of(engine), only_work(sized(table), engine)
    with acquire(engine, dialect, command="emc migrate") as lease:
        try:
            with pytest.raises(LockBudgetError):
                run(engine, dialect, work, lease=lease, batch=policy, report=hold)
        finally:
            for other in held:
                other.invalidate()  # LOCK TABLES would get into the pool.
                other.close()
        assert column(engine, "SELECT count(*) FROM items WHERE size = 1") == [40]
        assert run(engine, dialect, work, lease=lease, batch=QUICK).outcome == "complete"


def test_a_lost_connection_is_replaced(postgresql_url: str) -> None:
    """A connection that dies in a batch is replaced; the cursor tells what was committed, and nothing is done twice."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 30)
    execute(engine, "CREATE TABLE log (id INTEGER)")
    deaths = [7, 8, 22]

    def die(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.execute(text("INSERT INTO log VALUES (:id)"), {"id": row.id})
        if row.id in deaths:
            deaths.remove(row.id)
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            execute(engine, f"SELECT pg_terminate_backend({pid})")
        return {"size": 1}

    result = migrate(engine, only_work(by_function(table, die), engine), small=5)
    assert (result.outcome, result.rows_done, deaths) == ("complete", 30, [])
    assert column(engine, "SELECT id FROM log ORDER BY id") == list(range(30))
    engine.dispose()


def test_a_database_that_stays_away_ends_the_run(postgresql_url: str) -> None:
    """Reconnecting is tried a bounded number of times."""
    engine = create_engine(postgresql_url)
    table = items()
    made(engine, table, 5)

    def die(row: Row[Any], connection: Connection) -> dict[str, Any]:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        execute(engine, f"SELECT pg_terminate_backend({pid})")
        connection.execute(text("SELECT 1"))
        return {"size": 1}

    with pytest.raises(DatabaseUnavailableError):
        migrate(engine, only_work(by_function(table, die), engine))
    assert column(engine, "SELECT count(*) FROM items WHERE size IS NULL") == [5]
    engine.dispose()
