"""What SQLite adds to the rules: triggers that write after the fact, upserts, tables without rowid, rebuilds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Computed, Engine, Integer, MetaData, String, Table, create_engine, event, func

import emc
from emc.dialects import dialect_of
from emc.errors import PlanRefusedError
from emc.names import TableKey
from emc.sync import Sync
from emc.upgrade import Upgrade
from tests.sync.keeping import install, kept, live, out_of_step, rows, send, stands, sync_of, table, writing

USERS = TableKey(None, "users")


@pytest.fixture(params=[False, True], ids=["plain", "recursive"])
def recursive(request: pytest.FixtureRequest) -> bool:
    """Whether triggers may set themselves off."""
    return bool(request.param)


@pytest.fixture
def engine(sqlite_url: str, recursive: bool) -> Iterator[Engine]:
    """An engine on a fresh database."""
    engine = create_engine(sqlite_url)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA recursive_triggers = {int(recursive)}")
        connection.execute("PRAGMA foreign_keys = ON")

    yield engine
    engine.dispose()


def renamed(*more: Column[Any]) -> tuple[Table, Sync]:
    """users.name has become users.full_name."""
    row = table(Column("name", String(50)), Column("full_name", String(50)), *more)
    return row, sync_of(row, ["name"], ["full_name"])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "INSERT INTO users (id, name) VALUES (1, 'Bob') ON CONFLICT DO UPDATE SET name = excluded.name",
            "Bob",
        ),
        ("INSERT INTO users (id, name) VALUES (1, 'Bob') ON CONFLICT DO UPDATE SET full_name = 'Cid'", "Cid"),
        ("INSERT INTO users (id, name) VALUES (1, 'Bob') ON CONFLICT DO NOTHING", "Ann"),
        ("INSERT OR IGNORE INTO users (id, name) VALUES (1, 'Bob')", "Ann"),
        ("INSERT OR REPLACE INTO users (id, name) VALUES (1, 'Bob')", "Bob"),
        ("REPLACE INTO users (id, full_name) VALUES (1, 'Bob')", "Bob"),
        (
            "UPDATE users SET name = o.word FROM (SELECT 1 AS id, 'Eve' AS word) AS o WHERE o.id = users.id",
            "Eve",
        ),
        ("UPDATE users SET (name, full_name) = ('Bob', 'Cid')", "Cid"),
        ("UPDATE OR REPLACE users SET id = 2, name = 'Bob'", "Bob"),
    ],
)
def test_statements_of_its_own(engine: Engine, statement: str, expected: str) -> None:
    """Upserts and REPLACE keep each row that they write in step."""
    row, sync = renamed()
    kept(engine, row, sync, [{"id": 1, "name": "Ann", "full_name": "Ann"}])
    with writing(engine) as write:
        write(statement)
    assert rows(engine, row) == [(expected, expected)]


def test_what_the_application_counts(engine: Engine) -> None:
    """The number of rows that a statement has written, and the last row's id, are what they were without triggers."""
    row, sync = renamed()
    kept(engine, row, sync)
    with engine.begin() as connection:
        inserted = send(connection, "INSERT INTO users (name) VALUES ('a'), ('b'), ('c')")
        assert (inserted.rowcount, inserted.lastrowid) == (3, 3)
        assert send(connection, "UPDATE users SET name = 'x'").rowcount == 3
        assert send(connection, "SELECT changes()").scalar() == 3


def test_an_update_that_meets_a_lossy_way_back(engine: Engine) -> None:
    """Triggers that set each other off come to rest, whichever may run again within itself."""
    row = table(Column("cents", Integer), Column("euros", Integer))
    sync = sync_of(row, ["cents"], ["euros"], lambda old: old.op("/")(100), lambda new: new * 100)
    kept(engine, row, sync)
    with writing(engine) as write:
        write("INSERT INTO users (id, cents) VALUES (1, 199), (2, 5)")
        write("UPDATE users SET cents = cents + 1")
        assert rows(engine, row) == [(200, 2), (6, 0)]
        write("UPDATE users SET euros = euros + 1")
    assert rows(engine, row) == [(300, 3), (100, 1)]
    assert out_of_step(engine, sync) == 0


def test_affinity_and_collation(engine: Engine) -> None:
    """Values are compared as columns store them, and to the letter, though NEW knows neither affinity nor collation."""
    row = table(Column("number", String(collation="NOCASE")), Column("value", Integer))
    sync = sync_of(row, ["number"], ["value"])
    kept(engine, row, sync, [{"id": 1, "number": "x", "value": None}])
    with writing(engine) as write:
        write("INSERT INTO users (id, number) VALUES (2, '05'), (3, '7.0')")
        write("INSERT INTO users (id, value) VALUES (4, '8')")
        write("UPDATE users SET number = 'X' WHERE id = 1")
        write("UPDATE users SET number = '6' WHERE id = 2")
    with engine.connect() as connection:
        found = send(
            connection, "SELECT number, typeof(number), value, typeof(value) FROM users ORDER BY id"
        ).all()
    assert [tuple(one) for one in found] == [
        ("X", "text", "X", "text"),
        ("6", "text", 6, "integer"),
        ("7.0", "text", 7, "integer"),
        ("8", "text", 8, "integer"),
    ]
    assert out_of_step(engine, sync) == 0


@pytest.mark.parametrize("side", ["name", "full_name"])
def test_users_triggers(engine: Engine, side: str) -> None:
    """What triggers of users write to either side, before ours, after or within them, comes over."""
    row, sync = renamed()
    row.metadata.create_all(engine)
    tidy = (
        f"CREATE TRIGGER {{}}_{side} AFTER {{}} ON users WHEN NEW.{side} <> trim(NEW.{side}) "
        f"BEGIN UPDATE users SET {side} = trim({side}) WHERE id = NEW.id; END"
    )
    with writing(engine) as write:
        write(tidy.format("early", "INSERT"))
        write(tidy.format("early_too", f"UPDATE OF {side}"))
        install(engine, sync)
        write(tidy.format("late", "UPDATE"))
        write("INSERT INTO users (id, name) VALUES (1, ' a '), (2, 'b')")
        write("INSERT INTO users (id, full_name) VALUES (3, ' c '), (4, 'd')")
        write("UPDATE users SET name = ' e ' WHERE id = 2")
        write("UPDATE users SET full_name = ' f ' WHERE id = 4")
    assert rows(engine, row) == [("a", "a"), ("e", "e"), ("c", "c"), ("f", "f")]
    assert out_of_step(engine, sync) == 0


def test_actions_of_foreign_keys(engine: Engine) -> None:
    """They fire triggers here, so what they write comes over."""
    row, sync = renamed()
    row.metadata.create_all(engine)
    with writing(engine) as write:
        write("DROP TABLE users")
        write("CREATE TABLE teams (code TEXT PRIMARY KEY)")
        write(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, full_name TEXT, "
            "name TEXT REFERENCES teams ON DELETE SET NULL ON UPDATE CASCADE)"
        )
        install(engine, sync)
        write("INSERT INTO teams VALUES ('a'), ('b')")
        write("INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b')")
        write("UPDATE teams SET code = 'c' WHERE code = 'a'")
        write("DELETE FROM teams WHERE code = 'b'")
    assert rows(engine, row) == [("c", "c"), (None, None)]


@pytest.mark.parametrize("taken", [(), ("rowid",), ("rowid", "OID")])
def test_names_of_the_row_id(engine: Engine, taken: tuple[str, ...]) -> None:
    """Rows are found again under whichever name of the row id is free."""
    row, sync = renamed(*(Column(name, String(9)) for name in taken))
    kept(engine, row, sync)
    with writing(engine) as write:
        write("INSERT INTO users (id, name) VALUES (5, 'a')")
    assert rows(engine, row)[0][:2] == ("a", "a")


def test_no_name_of_the_row_id_is_left(engine: Engine) -> None:
    """Where columns take all its names the plan refuses."""
    row, sync = renamed(*(Column(name, String(9)) for name in ("rowid", "oid", "_rowid_")))
    row.metadata.create_all(engine)
    refusal = dialect_of(engine).cannot_sync(sync, live(engine))
    assert refusal is not None
    assert "rowid" in refusal.reason


def test_without_rowid(engine: Engine) -> None:
    """A table without row ids is written by its primary key, also when that changes."""
    metadata = MetaData()
    row = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("part", String(9), primary_key=True),
        Column("name", String(50)),
        Column("full_name", String(50)),
        sqlite_with_rowid=False,
    )
    sync = sync_of(row, ["name"], ["full_name"])
    kept(engine, row, sync)
    with writing(engine) as write:
        write("INSERT INTO users (id, part, name) VALUES (1, 'x', 'a'), (1, 'y', 'b')")
        write("UPDATE users SET part = 'z', name = 'c' WHERE part = 'y'")
        write("UPDATE users SET full_name = 'd' WHERE part = 'x'")
    assert rows(engine, row) == [("x", "d", "d"), ("z", "c", "c")]


def test_generated_columns(engine: Engine) -> None:
    """A generated column is refused."""
    row = table(Column("a", Integer), Column("b", Integer, Computed("a + 1")), Column("c", Integer))
    row.metadata.create_all(engine)
    refusal = dialect_of(engine).cannot_sync(sync_of(row, ["b"], ["c"]), live(engine))
    assert refusal is not None
    assert "users.b is generated" in refusal.reason


def test_functions_of_the_application(engine: Engine) -> None:
    """A function that only the application's connections know is refused: all other writers would fail."""
    row = table(Column("a", String(9)), Column("b", String(9)))
    row.metadata.create_all(engine)
    refusal = dialect_of(engine).cannot_sync(sync_of(row, ["a"], ["b"], func.my_own), live(engine))
    assert refusal is not None
    assert "my_own()" in refusal.reason


# -- tables that are made anew ------------------------------------------------------------------------------------


def upgraded(*columns: Column[Any], name: str = "full_name") -> Upgrade:
    """users.name becomes users.full_name; *columns* besides."""
    metadata = MetaData()
    users = Table(
        "users", metadata, Column("id", Integer, primary_key=True), Column(name, String(50)), *columns
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c[name])
    return upgrade


OLD = "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(50), n INTEGER)"


def test_a_rebuild_in_between(engine: Engine) -> None:
    """A rebuild for another reason keeps the triggers, to the letter, and they work on."""
    with writing(engine) as write:
        write(OLD)
        write("INSERT INTO users VALUES (1, 'Ann', NULL)")
        emc.expand(upgraded(Column("n", Integer)), engine)
        before = dict(live(engine).tables[USERS].syncs)
        later = upgraded(Column("n", Integer, server_default="7"))
        expanded = emc.expand(later, engine)
        assert [step.id for step in expanded.steps] == ["set-default:users.n"]
        assert dict(live(engine).tables[USERS].syncs) == before
        write("INSERT INTO users (id, name) VALUES (2, 'Bob')")
        write("UPDATE users SET full_name = 'Cid' WHERE id = 1")
        assert send_all(engine, "SELECT name, full_name, n FROM users ORDER BY id") == [
            ("Cid", "Cid", None),
            ("Bob", "Bob", 7),
        ]
        emc.migrate(later, engine)
        assert emc.contract(later, engine, old_code_gone=True).blocked == ()
    assert live(engine).tables[USERS].syncs == {}
    assert emc.plan(later, engine).is_empty


def send_all(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """What *query* answers."""
    with engine.connect() as connection:
        return [tuple(one) for one in send(connection, query)]


def test_a_column_that_sqlite_drops_by_itself(engine: Engine) -> None:
    """Triggers and column go in one transaction, without a rebuild where that is to be had."""
    with writing(engine) as write:
        write(OLD)
        write("INSERT INTO users VALUES (1, 'Ann', NULL)")
    upgrade = upgraded(Column("n", Integer))
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    drops = emc.plan(upgrade, engine).plan.contract
    assert {step.unit for step in drops} == {"sync:users.full_name"}
    assert [one for step in drops for one in step.statements if not one.startswith("DROP TRIGGER")] == [
        'ALTER TABLE "users" DROP COLUMN "name"'
    ]
    assert emc.contract(upgrade, engine, old_code_gone=True).blocked == ()
    assert emc.plan(upgrade, engine).is_empty
    with writing(engine) as write:
        write("INSERT INTO users (id, full_name) VALUES (2, 'Bob')")


def test_a_column_that_takes_a_rebuild(engine: Engine) -> None:
    """So they do in one rebuild, whose other triggers stay."""
    with writing(engine) as write:
        write("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(50) UNIQUE NOT NULL, n INTEGER)")
        write("CREATE TABLE log (n)")
        write("CREATE TRIGGER noted AFTER INSERT ON users BEGIN INSERT INTO log VALUES (NEW.n); END")
        write("INSERT INTO users VALUES (1, 'Ann', NULL)")
    upgrade = upgraded(Column("n", Integer))
    emc.expand(upgrade, engine)
    with writing(engine) as write:
        write("INSERT INTO users (id, full_name, n) VALUES (2, 'Bob', 4)")
    emc.migrate(upgrade, engine)
    assert emc.contract(upgrade, engine, old_code_gone=True).blocked == ()
    assert emc.plan(upgrade, engine).is_empty
    with writing(engine) as write:
        write("INSERT INTO users (id, full_name, n) VALUES (3, 'Cid', 5)")
    assert send_all(engine, "SELECT * FROM log") == [(None,), (4,), (5,)]


def test_changed_between_the_gate_and_the_drop(engine: Engine, sqlite_url: str) -> None:
    """A trigger that somebody has replaced is no proof: nothing goes, and expand makes it anew."""
    with writing(engine) as write:
        write(OLD)
    upgrade = upgraded(Column("n", Integer))
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    name = next(one for one in live(engine).tables[USERS].syncs if one.endswith("_s"))
    raw = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    raw.execute(f"DROP TRIGGER {name}")
    raw.execute(f"CREATE TRIGGER {name} AFTER UPDATE ON users BEGIN SELECT 1; END")
    raw.close()
    report = emc.contract(upgrade, engine, old_code_gone=True)
    shut = {verdict.gate for one in report.blocked for verdict in one.verdicts}
    assert "sync-live:users.full_name" in shut
    assert "name" in live(engine).tables[USERS].columns
    emc.expand(upgrade, engine)
    assert emc.contract(upgrade, engine, old_code_gone=True).blocked == ()


def test_nobody_sees_them(engine: Engine) -> None:
    """Triggers of ours are in no plan, and stand in the way of no column and table."""
    row, sync = renamed()
    kept(engine, row, sync)
    now = live(engine)
    assert stands(engine, sync)
    assert now.dependents == {}
    metadata = MetaData()
    table(Column("name", String(50)), Column("full_name", String(50))).to_metadata(metadata)
    assert emc.plan(Upgrade(metadata), engine).is_empty


def test_refused_before_anything_is_touched(engine: Engine) -> None:
    """A plan says what cannot be kept."""
    with writing(engine) as write:
        write("CREATE TABLE users (id INTEGER PRIMARY KEY, a TEXT)")
    metadata = MetaData()
    users = Table("users", metadata, Column("id", Integer, primary_key=True), Column("b", String))
    upgrade = Upgrade(metadata, release="2")
    upgrade.convert("users.a", to=users.c.b, up=func.my_own, down=lambda b: b)
    with pytest.raises(PlanRefusedError, match=r"my_own\(\)"):
        emc.expand(upgrade, engine)
    assert set(live(engine).tables[USERS].columns) == {"id", "a"}
