"""What the new release has written is where the old one reads it, once it is at work alone again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    case,
    cast,
    column,
    func,
    literal_column,
    null,
    text,
)

import emc
from emc.data import BatchPolicy, Outcome
from emc.dialects import dialect_of
from emc.errors import DeclarationError, ExitCode
from emc.names import TableKey
from tests.undo.releases import Service, shut, table, users

FAST = BatchPolicy(fast=True)


def named(metadata: MetaData) -> None:
    """The models of the new release."""
    table(metadata, Column("full_name", String(20)))


def locales(upgrade: emc.Upgrade, t: Any, **undo: Any) -> None:
    """A name moves to another column."""
    upgrade.data_migration(
        t["users"],
        name="names",
        where=lambda live: live.c.full_name.is_(None) & live.c.name.is_not(None),
        values={"full_name": column("name")},
        **undo,
    )
    upgrade.retire("users.name", after=["names"])


def back(row: Any) -> dict[str, Any]:
    """The way back in Python."""
    return {"name": row.full_name}


WAYS: dict[str, dict[str, Any]] = {
    "values": {"undo": {"name": column("full_name")}},
    "function": {
        "undo": back,
        "undo_where": lambda live: (
            live.c.full_name.is_not(None) & live.c.name.is_distinct_from(live.c.full_name)
        ),
    },
}


# With values, another spelling is another name; a condition of the user's own follows the database's collation.
@pytest.mark.parametrize(("way", "new"), [("values", "ada"), ("function", "Adele")])
def test_a_migration_with_a_way_back(engine: Engine, way: str, new: str) -> None:
    """What was written to the new column comes back to the old one, in SQL or in Python, and then the column goes."""
    service = Service(engine, users(), named, lambda upgrade, t: locales(upgrade, t, **WAYS[way]))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob'), (3, NULL)")
    service.expand()
    assert emc.plan(service.upgrade, engine).plan.ways["names"].is_there
    emc.migrate(service.upgrade, engine, batch=FAST)
    service.send(
        f"UPDATE users SET full_name = '{new}' WHERE id = 1",
        "INSERT INTO users (id, full_name) VALUES (4, 'Eve')",
        "INSERT INTO users (id, name) VALUES (5, 'Old')",
    )
    foreseen = service.undo(dry_run=True)
    assert (foreseen.back, foreseen.done) == (("undo:names",), ())
    assert "undo:names brings back first" in str(shut(foreseen)["nothing-lost:users.full_name"].remedy)
    assert {gate: one.rows for gate, one in shut(foreseen).items()} == {"nothing-lost:users.full_name": 2}
    report = service.undo(batch=FAST)
    [result] = report.results
    assert (result.outcome, result.rows_done) == (Outcome.COMPLETE, 2)
    assert (report.done, report.exit_code) == (("drop-column:users.full_name",), ExitCode.DONE)
    assert service.is_as_before()
    assert service.rows("SELECT id, name FROM users ORDER BY id") == [
        (1, new),
        (2, "Bob"),
        (3, None),
        (4, "Eve"),
        (5, "Old"),
    ]
    assert service.undo().results == ()


@pytest.mark.parametrize("way", WAYS)
def test_a_way_back_speaks_of_no_other_column(engine: Engine, way: str) -> None:
    """What comes back from one column is no reason to let go of what the new release has written to another."""

    def new(metadata: MetaData) -> None:
        table(metadata, Column("full_name", String(20)), Column("badge", String(20)))

    service = Service(engine, users(), new, lambda upgrade, t: locales(upgrade, t, **WAYS[way]))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada')")
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    service.send("INSERT INTO users (id, full_name, badge) VALUES (2, 'Bob', 'x')")
    report = service.undo(batch=FAST)
    assert report.done == ("drop-column:users.full_name",)
    assert {gate: one.keys for gate, one in shut(report).items()} == {"nothing-lost:users.badge": ("id=2",)}
    assert service.rows("SELECT name, badge FROM users ORDER BY id") == [("Ada", None), ("Bob", "x")]


def unmigrated(where: Any, undo: Any = None, **more: Any) -> Any:
    """A name moves to another column, but not in every row."""

    def declare(upgrade: emc.Upgrade, t: Any, target: str = "users.name") -> None:
        upgrade.data_migration(
            t["users"],
            name="names",
            where=where,
            values={"full_name": column("name")},
            undo=undo or {"name": column("full_name")},
            **more,
        )
        upgrade.retire(target, after=["names"])

    return declare


def not_of_bob(live: Any) -> Any:
    """The second row is left out on purpose."""
    return live.c.full_name.is_(None) & live.c.name.is_not(None) & (live.c.id != 2)


def differ(live: Any) -> Any:
    """The rows in which the two sides differ."""
    return live.c.name.is_distinct_from(live.c.full_name)


def test_rows_of_which_nobody_knows_are_left(engine: Engine) -> None:
    """Where the condition is NULL, a row may never have been moved: it is left, and what is new in it stays."""
    service = Service(engine, users(), named, unmigrated(lambda live: live.c.full_name != live.c.name))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    service.send("INSERT INTO users (id, full_name) VALUES (3, 'Eve')")
    report = service.undo(batch=FAST)
    [verdict] = shut(report).values()
    assert (verdict.gate, verdict.keys) == ("nothing-lost:users.full_name", ("id=3",))
    assert re.match(r"-- the condition of names is NULL for some rows.*test_data\.py", str(verdict.remedy))
    service.send("DELETE FROM users WHERE id = 3")
    assert service.undo(batch=FAST).done == ("drop-column:users.full_name",)
    assert service.rows("SELECT id, name FROM users ORDER BY id") == [(1, "Ada"), (2, "Bob")]


@pytest.mark.parametrize(
    ("undo", "left"),
    [
        ({"name": column("full_name")}, "Bob"),
        ({"name": literal_column("full_name")}, "Bob"),
        ({"name": text("full_name")}, "Bob"),
        # That the key has a value says nothing.
        ({"name": case((column("id") > 0, column("full_name")), else_="x")}, "Bob"),
        # A value of its own is meant.
        ({"name": func.coalesce(column("full_name"), "none")}, "none"),
        ({"name": None}, None),
        ({"name": null()}, None),
    ],
    ids=["column", "literal", "text", "key", "other value", "constant", "null"],
)
def test_no_null_over_a_value_that_was_never_moved(engine: Engine, undo: Any, left: str | None) -> None:
    """A row that the condition leaves out on purpose keeps what it has where undo= would only put NULL there."""
    service = Service(engine, users(), named, unmigrated(not_of_bob, undo))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob'), (3, NULL)")
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    service.undo(batch=FAST)
    assert service.rows("SELECT name FROM users WHERE id = 2") == [(left,)]


@pytest.mark.parametrize("target", ["users.ck_name", "users.ix_name", "users.uq_name", "users.old_lang_code"])
def test_what_held_no_data_ends_no_migration(engine: Engine, target: str) -> None:
    """That a rule or an index is gone, or a name is misspelt, says nothing of the rows: they are moved all the same."""
    declare = unmigrated(lambda live: live.c.full_name.is_(None) & live.c.name.is_not(None))

    def old(metadata: MetaData) -> None:
        known = table(metadata, Column("name", String(20)), Column("nick", String(20), index=True))
        if target == "users.ck_name":
            known.append_constraint(CheckConstraint("name <> ''", name="ck_name"))
        elif target == "users.uq_name":
            known.append_constraint(UniqueConstraint("name", name="uq_name"))
        elif target == "users.ix_name":
            Index("ix_name", known.c.name)

    def new(metadata: MetaData) -> None:
        columns = Column("nick", String(20), index=True), Column("full_name", String(20))
        table(metadata, Column("name", String(20)), *columns)

    def declaring(upgrade: emc.Upgrade, t: Any) -> None:
        declare(upgrade, t, target)

    service = Service(engine, old, new, declaring)
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    service.expand()
    # Nothing was moved: nothing is taken back either.
    names = [(1, "Ada"), (2, "Bob")]
    assert service.undo(batch=FAST).exit_code is ExitCode.DONE
    assert service.rows("SELECT id, name FROM users ORDER BY id") == names
    service.expand()
    emc.contract(service.upgrade, engine, old_code_gone=True)
    [result] = emc.migrate(service.upgrade, engine, batch=FAST).results
    assert (result.outcome, result.rows_done) == (Outcome.COMPLETE, 2)
    assert service.rows("SELECT id, full_name FROM users ORDER BY id") == names


def test_a_migration_that_is_over_is_not_taken_back(engine: Engine) -> None:
    """A migration that cannot run has moved nothing that anybody knows of: undo writes nothing for it."""

    def new(metadata: MetaData) -> None:
        table(metadata, Column("name", String(20)), Column("full_name", String(20)))

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.data_migration(
            t["users"],
            name="names",
            where=t["users"].c.full_name.is_(None),
            values={"full_name": column("first_name")},
            undo={"name": func.coalesce(column("full_name"), "none")},
        )
        upgrade.retire("users.first_name", after=["names"])

    service = Service(engine, users(), new, declare)
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada')")
    service.expand()
    report = service.undo(batch=FAST)
    assert (report.results, report.done) == ((), ("drop-column:users.full_name",))
    assert service.rows("SELECT name FROM users") == [("Ada",)]


def test_null_over_a_value_where_a_person_says_so(engine: Engine) -> None:
    """Rows that undo_where= names are taken back, whatever comes of it."""
    service = Service(engine, users(), named, unmigrated(not_of_bob, undo_where=differ))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    assert service.undo(batch=FAST).exit_code is ExitCode.DONE
    assert service.rows("SELECT id, name FROM users ORDER BY id") == [(1, "Ada"), (2, None)]


def test_a_migration_without_a_way_back(engine: Engine) -> None:
    """What emc itself has copied may go; what the new release has changed since keeps the column."""
    service = Service(engine, users(), named, locales)
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    assert not emc.plan(service.upgrade, engine).plan.ways["names"].is_there
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    report = service.undo(dry_run=True)
    assert (shut(report), [note.target for note in report.stays]) == ({}, ["names"])
    service.send("UPDATE users SET full_name = 'Bobby' WHERE id = 2")
    assert {gate: one.rows for gate, one in shut(service.undo()).items()} == {
        "nothing-lost:users.full_name": 1
    }


def test_what_is_kept_in_step(engine: Engine) -> None:
    """What the new release has written to renamed and converted columns is in the old ones already."""

    def old(metadata: MetaData) -> None:
        table(metadata, Column("name", String(20), nullable=False), Column("price", Integer))

    def new(metadata: MetaData) -> None:
        table(metadata, Column("full_name", String(20), nullable=False), Column("cents", Integer))

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.rename("users.name", to=t["users"].c.full_name)
        upgrade.convert(
            "users.price",
            to=t["users"].c.cents,
            up=lambda old: old * 100,
            down=lambda new: cast(new / 100, Integer),
        )

    service = Service(engine, old, new, declare)
    service.send("INSERT INTO users (id, name, price) VALUES (1, 'Ada', 1), (2, 'Bob', 2)")
    service.expand()
    service.send(
        "INSERT INTO users (id, full_name, cents) VALUES (3, 'Eve', 300)",
        "UPDATE users SET full_name = 'ada', cents = 700 WHERE id = 1",
    )
    report = service.undo()
    assert (shut(report), report.exit_code) == ({}, ExitCode.DONE)
    assert service.is_as_before()
    rows = [(1, "ada", 7), (2, "Bob", 2), (3, "Eve", 3)]
    assert service.rows("SELECT id, name, price FROM users ORDER BY id") == rows
    service.send("UPDATE users SET name = 'x' WHERE id = 3", "INSERT INTO users (id, name) VALUES (4, 'y')")

    # Again, and further this time.
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    assert service.undo().exit_code is ExitCode.DONE
    assert service.is_as_before()


def test_a_conversion_without_a_way_back(engine: Engine) -> None:
    """Without down= what the new release has written would be lost, which plan says before, and the gate at last."""

    def new(metadata: MetaData) -> None:
        table(metadata, Column("name", String(20)), Column("cents", Integer))

    def old(metadata: MetaData) -> None:
        table(metadata, Column("name", String(20)), Column("price", Integer))

    service = Service(
        engine,
        old,
        new,
        lambda upgrade, t: upgrade.convert(
            "users.price", to=t["users"].c.cents, up=lambda price: price * 100
        ),
    )
    service.send("INSERT INTO users (id, price) VALUES (1, 1), (2, 2)")
    assert not emc.plan(service.upgrade, engine).plan.ways["add-column:users.cents"].is_there
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    assert shut(service.undo(dry_run=True)) == {}
    service.send("INSERT INTO users (id, cents) VALUES (3, 333)")
    assert {gate: one.rows for gate, one in shut(service.undo(dry_run=True)).items()} == {
        "nothing-lost:users.cents": 1
    }
    service.send("DELETE FROM users WHERE id = 3")
    assert service.undo().exit_code is ExitCode.DONE
    assert service.is_as_before()


def test_an_upgrade_that_comes_again_begins_anew(engine: Engine) -> None:
    """After undo, expand and migrate do all of their work again, to the same end."""
    service = Service(engine, users(), named, lambda upgrade, t: locales(upgrade, t, **WAYS["values"]))
    service.send("INSERT INTO users (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    for _ in range(2):
        service.expand()
        [result] = emc.migrate(service.upgrade, engine, batch=FAST).results
        assert result.rows_done == 2
        assert service.undo(batch=FAST).exit_code is ExitCode.DONE
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    assert emc.contract(service.upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert service.rows("SELECT id, full_name FROM users ORDER BY id") == [(1, "Ada"), (2, "Bob")]


@pytest.mark.parametrize(
    ("undo", "problem"),
    [
        ({"undo": {}}, "does not say what to write"),
        ({"undo": 3}, "does not say what to write"),
        ({"undo": back}, "nothing says which rows are left"),
        ({"undo_where": lambda t: t.c.id > 0}, "there is no undo="),
    ],
)
def test_declarations_that_do_not_say_enough(undo: Any, problem: str) -> None:
    """A way back that could not be followed is refused where it is declared."""
    metadata = MetaData()
    named(metadata)
    with pytest.raises(DeclarationError, match=problem):
        locales(emc.Upgrade(metadata), metadata.tables, **undo)


def test_what_was_written_past_the_triggers(engine: Engine) -> None:
    """Rows that only the new columns know keep them, and the statement that undo gives brings them over as it is."""

    def old(metadata: MetaData) -> None:
        table(metadata, Column("code", String(40)), Column("rate", String(40)))

    def new(metadata: MetaData) -> None:
        table(metadata, Column("label", String(40)), Column("percent", String(40)))

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        def down(new: Any) -> Any:
            return case((new.is_distinct_from(r"it's  5% \ :x"), new), else_="five")

        def up(old: Any) -> Any:
            return case((old.is_distinct_from("five"), old), else_=r"it's  5% \ :x")

        upgrade.rename("users.code", to=t["users"].c.label)
        upgrade.convert("users.rate", to=t["users"].c.percent, up=up, down=down)

    service = Service(engine, old, new, declare)
    service.send("INSERT INTO users (id, code, rate) VALUES (1, 'a', 'five')")
    service.expand()
    emc.migrate(service.upgrade, engine, batch=FAST)
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        triggers = sorted(dialect.read(connection, [None]).tables[TableKey(None, "users")].syncs)
    on_users = " ON users" if engine.dialect.name == "postgresql" else ""
    quote = engine.dialect.identifier_preparer.quote
    service.send(*(f"DROP TRIGGER {quote(one)}{on_users}" for one in triggers))
    past = users_of(service)
    with engine.begin() as connection:
        connection.execute(past.insert(), {"id": 2, "label": "b", "percent": r"it's  5% \ :x"})
        connection.execute(past.insert(), {"id": 3, "label": "it's  5%", "percent": "c"})

    assert {gate.partition(":")[0] for gate in shut(service.undo())} == {"nothing-lost"}
    service.expand()
    verdicts = shut(service.undo())
    assert {gate: (one.rows, one.keys) for gate, one in verdicts.items()} == {
        "nothing-lost:users.label": (2, ("id=2", "id=3")),
        "nothing-lost:users.percent": (2, ("id=2", "id=3")),
    }
    for verdict in verdicts.values():
        [statement] = re.findall(r"^UPDATE .*?;$", str(verdict.remedy), re.MULTILINE | re.DOTALL)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    assert service.undo().exit_code is ExitCode.DONE
    assert service.is_as_before()
    rows = [(1, "a", "five"), (2, "b", "five"), (3, "it's  5%", "c")]
    assert service.rows("SELECT id, code, rate FROM users ORDER BY id") == rows


def users_of(service: Service) -> Table:
    """The table as it is."""
    return Table("users", MetaData(), autoload_with=service.engine)
