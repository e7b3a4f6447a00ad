"""A column moves to another table: rules, write by write, and the whole way, where the database can keep them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
    func,
    inspect,
)

import emc
from emc import Upgrade
from emc.errors import PlanRefusedError
from tests.sync.moving import before, both, moved, new_tables, same_value, write

pytestmark = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def shut(report: Any) -> set[str]:
    """The gates that *report* has found shut."""
    return {verdict.gate for one in report.blocked for verdict in one.verdicts if not verdict.open}


# What a release sends -> what the old release and the new one read of user 1 then; before: ('a', 'a').
WRITES = {
    "old update": ("UPDATE users SET street = 'b' WHERE id = 1", ("b", "b")),
    "old update to NULL": ("UPDATE users SET street = NULL WHERE id = 1", (None, None)),
    "old update of another case": ("UPDATE users SET street = 'A' WHERE id = 1", ("A", "A")),
    "old update, bulk": ("UPDATE users SET street = street || 'b'", ("ab", "ab")),
    "unrelated": ("UPDATE users SET name = 'x'", ("a", "a")),
    "new update": ("UPDATE addresses SET street = 'b' WHERE user_id = 1", ("b", "b")),
    "new update, bulk": ("UPDATE addresses SET street = 'c'", ("c", "c")),
    "new update to NULL": ("UPDATE addresses SET street = NULL WHERE user_id = 1", (None, None)),
    "new delete": ("DELETE FROM addresses WHERE user_id = 1", (None,)),
    "new delete, bulk": ("DELETE FROM addresses", (None,)),
}


@pytest.mark.parametrize("what", WRITES)
def test_write(engine: Engine, what: str) -> None:
    """Whichever side is written, the other one follows, to the letter; a row that goes leaves nothing behind."""
    before(engine, [(1, "a"), (2, "b"), (3, None)])
    emc.expand(moved(), engine)
    emc.migrate(moved(), engine)
    assert both(engine) == {1: ("a", "a"), 2: ("b", "b"), 3: (None,)}
    statement, expected = WRITES[what]
    write(engine, statement)
    assert both(engine)[1] == expected
    assert all(len(row) == 1 or row[0] == row[1] for row in both(engine).values())
    assert shut(emc.contract(moved(), engine, old_code_gone=True)) == set()


def test_rows_come_and_go(engine: Engine) -> None:
    """An insert of either release makes, or finds, its counterpart; a user who is deleted takes the address along."""
    before(engine, [])
    emc.expand(moved(), engine)
    write(engine, "INSERT INTO users (id, street) VALUES (1, 'a'), (2, NULL), (3, 'c')")
    assert both(engine) == {1: ("a", "a"), 2: (None,), 3: ("c", "c")}
    write(engine, "INSERT INTO addresses (user_id, street) VALUES (2, 'b')")
    write(
        engine, "INSERT INTO users (id) VALUES (4)", "INSERT INTO addresses (user_id, street) VALUES (4, 'd')"
    )
    assert both(engine) == {1: ("a", "a"), 2: ("b", "b"), 3: ("c", "c"), 4: ("d", "d")}
    write(engine, "DELETE FROM addresses WHERE user_id = 3", "INSERT INTO addresses (user_id) VALUES (3)")
    assert both(engine)[3] == (None, None)
    write(engine, "DELETE FROM users WHERE id = 1")
    assert both(engine) == {2: ("b", "b"), 3: (None, None), 4: ("d", "d")}


def test_another_owner(engine: Engine) -> None:
    """An address that is given to another user leaves the first one without, and the other one with it."""
    before(engine, [(1, "a"), (2, None)])
    emc.expand(moved(), engine)
    emc.migrate(moved(), engine)
    write(engine, "UPDATE addresses SET user_id = 2 WHERE user_id = 1")
    assert both(engine) == {1: (None,), 2: ("a", "a")}


def test_whole_way(engine: Engine) -> None:
    """Rows are made by migrate, kept by triggers, and the old column goes with them in contract."""
    before(engine, [(at, f"s{at}" if at % 3 else None) for at in range(1, 1001)])
    metadata = new_tables(nullable=False)
    upgrade = moved(metadata)
    plan = emc.plan(upgrade, engine).plan
    assert [step.id for step in plan.expand] == ["create-table:addresses", "install-sync:addresses.street"]
    emc.expand(upgrade, engine)
    write(engine, "UPDATE users SET name = 'x'", "UPDATE addresses SET street = 'gone'")
    assert all(len(row) == 1 for row in both(engine).values()), "an unrelated write copies nothing"
    assert "in-step:addresses.street" in shut(emc.contract(upgrade, engine, old_code_gone=True))
    emc.migrate(upgrade, engine)
    assert all(row == ((None,) if at % 3 == 0 else (f"s{at}",) * 2) for at, row in both(engine).items())
    assert shut(emc.contract(upgrade, engine, old_code_gone=True)) == set()
    found = inspect(engine)
    assert [column["name"] for column in found.get_columns("users")] == ["id", "name"]
    assert [one["name"] for one in found.get_columns("addresses") if not one["nullable"]][-1] == "street"
    write(engine, "INSERT INTO users (id) VALUES (2000)", "DELETE FROM addresses WHERE user_id = 1")
    assert emc.plan(upgrade, engine).plan.is_empty


def test_undo_before_contract(engine: Engine) -> None:
    """What the new release has written is in the old column, so the table goes again; what is only there keeps it."""
    before(engine, [(1, "a"), (2, "b"), (3, None)])
    upgrade = moved(new_tables(Column("zip", String(9)), Column("kind", String(9), server_default="home")))
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    write(engine, "UPDATE addresses SET street = 'n', zip = '1' WHERE user_id = 2")
    report = emc.undo(upgrade, engine, new_code_gone=True)
    assert shut(report) == {"nothing-lost:addresses"}
    write(engine, "UPDATE addresses SET zip = NULL")
    assert shut(emc.undo(upgrade, engine, new_code_gone=True)) == set()
    assert "addresses" not in inspect(engine).get_table_names()
    write(engine, "UPDATE users SET street = 'o' WHERE id = 1", "DELETE FROM users WHERE id = 3")
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id, street FROM users ORDER BY id").all()
    assert [tuple(row) for row in found] == [(1, "o"), (2, "n")]


def test_what_was_written_without_triggers(engine: Engine) -> None:
    """Where triggers were missing for a while the gate names the rows, and either statement that it prints mends it."""
    for side, expected in (0, ("old", "old")), (1, ("new", "new")):
        write(engine, "DROP TABLE IF EXISTS addresses", "DROP TABLE IF EXISTS users")
        before(engine, [(1, "a"), (2, None)])
        upgrade = moved()
        emc.expand(upgrade, engine)
        emc.migrate(upgrade, engine)
        _tear(engine)
        report = emc.contract(upgrade, engine, old_code_gone=True)
        assert shut(report) >= {"sync-live:addresses.street"}
        emc.expand(upgrade, engine)
        emc.migrate(upgrade, engine)
        assert both(engine)[1] == ("old", "new"), "nobody but a person knows which of them is right"
        verdict = next(
            verdict
            for one in emc.contract(upgrade, engine, old_code_gone=True).blocked
            for verdict in one.verdicts
            if verdict.gate == "in-step:addresses.street"
        )
        assert verdict.rows == 1
        assert "addresses.street" in verdict.reason
        statements = re.split(r";   -- keeps .*\n?", str(verdict.remedy).partition("\n")[2])
        write(engine, statements[side])
        assert both(engine) == {1: expected, 2: (None,)}
        assert shut(emc.contract(upgrade, engine, old_code_gone=True)) == set()


def _tear(engine: Engine) -> None:
    """Write to both sides while no trigger stands."""
    upgrade = moved()
    plan = emc.plan(upgrade, engine).plan
    statements = [
        one
        for step in plan.contract
        if step.id.startswith("drop-sync:")
        for one in step.statements
        if one.startswith("DROP TRIGGER")
    ]
    assert statements
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    write(
        engine,
        "UPDATE users SET street = 'old' WHERE id = 1",
        "UPDATE addresses SET street = 'new' WHERE user_id = 1",
    )


def test_a_value_for_nothing(engine: Engine) -> None:
    """Where *down* makes a value of no row, a user with that value needs none, and a deleted row does not come back."""
    before(engine, [(1, ""), (2, "b")])
    upgrade = moved(down=lambda street: func.coalesce(street, ""))
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    assert both(engine) == {1: ("",), 2: ("b", "b")}
    write(engine, "DELETE FROM addresses WHERE user_id = 2")
    assert both(engine) == {1: ("",), 2: ("",)}
    write(engine, "UPDATE users SET street = 'c' WHERE id = 2")
    emc.migrate(upgrade, engine)
    assert both(engine) == {1: ("",), 2: ("c", "c")}
    write(engine, "UPDATE addresses SET street = NULL WHERE user_id = 2")
    assert both(engine)[2] == ("", "")
    assert shut(emc.contract(upgrade, engine, old_code_gone=True)) == set()


def _of_tenants() -> list[Column[Any]]:
    return [Column(name, Integer, primary_key=True, autoincrement=False) for name in ("tenant", "id")]


def _existing(engine: Engine) -> Upgrade:
    """Some users have an address already, which the column moves to: by a key of two columns."""
    old, new = MetaData(), MetaData()
    for metadata, here, there in (
        (old, [Column("street", String(20))], []),
        (new, [], [Column("street", String(20), nullable=False, server_default="none")]),
    ):
        Table("users", metadata, *_of_tenants(), *here)
        Table(
            "addresses",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("tenant", Integer),
            Column("user_id", Integer),
            Column("zip", String(9)),
            *there,
            UniqueConstraint("tenant", "user_id", name="uq_addresses_owner"),
            ForeignKeyConstraint(
                ["tenant", "user_id"],
                ["users.tenant", "users.id"],
                name="fk_addresses_owner",
                ondelete="CASCADE",
            ),
        )
    old.create_all(engine)
    write(
        engine,
        "INSERT INTO users (tenant, id, street) VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c'), (2, 2, NULL)",
        "INSERT INTO addresses (tenant, user_id, zip) VALUES (1, 1, 'z'), (2, 2, 'y')",
    )
    upgrade = Upgrade(new, release="2")
    addresses = new.tables["addresses"].c
    on = {addresses.tenant: "users.tenant", addresses.user_id: "users.id"}
    upgrade.convert("users.street", to=addresses.street, on=on, up=same_value, down=same_value)
    return upgrade


def _addresses(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        query = "SELECT tenant, user_id, zip, street FROM addresses ORDER BY 1, 2"
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_table_that_is_there_already(engine: Engine) -> None:
    """The column joins the addresses that there are, and the missing ones are made; a key may have several columns."""
    upgrade = _existing(engine)
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    assert _addresses(engine) == [(1, 1, "z", "a"), (1, 2, None, "b"), (2, 1, None, "c"), (2, 2, "y", None)]
    write(
        engine,
        "UPDATE users SET street = 'd' WHERE id = 2",
        "UPDATE addresses SET street = 'e' WHERE tenant = 1 AND user_id = 1",
        "UPDATE addresses SET zip = 'x' WHERE tenant = 2 AND user_id = 1",
    )
    assert _addresses(engine) == [(1, 1, "z", "e"), (1, 2, None, "d"), (2, 1, "x", "c"), (2, 2, "y", "d")]
    assert shut(emc.contract(upgrade, engine, old_code_gone=True)) == set()
    assert emc.plan(upgrade, engine).plan.is_empty


def test_undo_leaves_a_table_that_was_there(engine: Engine) -> None:
    """Only the column and the triggers go, and what the new release has written stays with the old one."""
    upgrade = _existing(engine)
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    write(engine, "UPDATE addresses SET street = 'e' WHERE tenant = 1 AND user_id = 1")
    assert shut(emc.undo(upgrade, engine, new_code_gone=True)) == set()
    assert "street" not in {one["name"] for one in inspect(engine).get_columns("addresses")}
    write(engine, "UPDATE users SET street = 'f' WHERE tenant = 2")
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT street FROM users ORDER BY tenant, id").scalars()
        assert list(found) == ["e", "b", "f", "f"]


# -- what is refused ------------------------------------------------------------------------------------------------

TABLES: dict[str, tuple[Callable[[], MetaData], str]] = {
    "not unique": (lambda: _owned(unique=False), "several rows"),
    "no foreign key": (lambda: _owned(foreign=False), "no foreign key"),
    "no cascade": (lambda: new_tables(ondelete=None), "ON DELETE CASCADE"),
    "a column that must be given": (
        lambda: new_tables(Column("zip", String(9), nullable=False)),
        "addresses.zip",
    ),
    "a CHECK": (lambda: new_tables(CheckConstraint("street <> ''", name="ck")), "CHECK"),
    "unique targets": (
        lambda: new_tables(Column("x", Integer), UniqueConstraint("street", name="uq_street")),
        "unique key",
    ),
}


def _owned(*, unique: bool = True, foreign: bool = True) -> MetaData:
    metadata = new_tables()
    metadata.remove(metadata.tables["addresses"])
    Table(
        "addresses",
        metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "user_id",
            Integer,
            *([ForeignKey("users.id", ondelete="CASCADE")] if foreign else []),
            nullable=False,
            unique=unique,
        ),
        Column("street", String(20)),
    )
    return metadata


@pytest.mark.parametrize("what", TABLES)
def test_tables_that_would_not_do(engine: Engine, what: str) -> None:
    """A table whose rows could not be made for the old release, or would be in its way, is refused with the remedy."""
    before(engine, [(1, "a")])
    tables, word = TABLES[what]
    with pytest.raises(PlanRefusedError) as refused:
        emc.plan(moved(tables()), engine)
    assert word in str(refused.value)
    assert "data_migration" in str(refused.value)


LIVE = {
    "a CHECK that asks for NULL": ("CHECK (phone IS NOT NULL OR fax IS NOT NULL)", "a CHECK of addresses"),
    "a CHECK of others": ("CHECK (phone <> fax)", None),
    "a unique default": ("UNIQUE (kind)", "a unique key of addresses"),
}


@pytest.mark.parametrize("what", LIVE)
def test_what_a_table_that_is_there_would_refuse(engine: Engine, what: str) -> None:
    """A CHECK or a unique key that a row made for the old release would break is seen before it does."""
    before(engine, [(1, "a")])
    constraint, word = LIVE[what]
    number = "SERIAL" if engine.dialect.name == "postgresql" else "INTEGER NOT NULL"
    write(
        engine,
        f"CREATE TABLE addresses (id {number} PRIMARY KEY, user_id INTEGER NOT NULL UNIQUE, phone VARCHAR(9), "
        "fax VARCHAR(9), kind VARCHAR(9) DEFAULT 'home', CONSTRAINT fk_addresses_user FOREIGN KEY (user_id) REFERENCES "
        f"users (id) ON DELETE CASCADE, CONSTRAINT theirs {constraint})",
    )
    others = (
        Column("phone", String(9)),
        Column("fax", String(9)),
        Column("kind", String(9), server_default="home"),
    )
    upgrade = moved(new_tables(*others))
    upgrade.discard("addresses.theirs", reason="only the test has it")
    if word is None:
        assert emc.plan(upgrade, engine).plan.expand
    else:
        with pytest.raises(PlanRefusedError, match=word):
            emc.plan(upgrade, engine)


def _keyed_by_name(onupdate: str | None) -> Upgrade:
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20), nullable=False),
        UniqueConstraint("name", name="uq_users_name"),
    )
    owner = ForeignKey("users.name", name="fk_owner", ondelete="CASCADE", onupdate=onupdate)
    Table(
        "addresses",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("owner", String(20), owner, nullable=False, unique=True),
        Column("street", String(20)),
    )
    upgrade, addresses = Upgrade(metadata, release="2"), metadata.tables["addresses"]
    on = {addresses.c.owner: "users.name"}
    upgrade.convert("users.street", to=addresses.c.street, up=same_value, down=same_value, on=on)
    return upgrade


def test_keys_that_change_take_addresses_along(engine: Engine) -> None:
    """A row that is made for the old release does not keep it from giving a user another name."""
    write(
        engine,
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(20) NOT NULL, street VARCHAR(20), "
        "CONSTRAINT uq_users_name UNIQUE (name))",
        "INSERT INTO users VALUES (1, 'ann', 'a')",
    )
    with pytest.raises(PlanRefusedError, match="ON UPDATE CASCADE"):
        emc.plan(_keyed_by_name(None), engine)
    emc.expand(_keyed_by_name("CASCADE"), engine)
    emc.migrate(_keyed_by_name("CASCADE"), engine)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
        engine.dispose()
    write(engine, "UPDATE users SET name = 'eve' WHERE id = 1")
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT owner, addresses.street, users.street FROM addresses, users"
        )
        assert found.all() == [("eve", "a", "a")]


def test_nobody_inherits_an_address(engine: Engine) -> None:
    """The address of a user who is deleted goes along, also where SQLite is not asked to enforce foreign keys."""
    before(engine, [(1, "a"), (2, "b")])
    emc.expand(moved(), engine)
    emc.migrate(moved(), engine)
    write(engine, "DELETE FROM users WHERE id = 2", "INSERT INTO users (id) VALUES (2)")
    assert both(engine) == {1: ("a", "a"), 2: (None,)}


def test_sources_that_are_no_key(engine: Engine) -> None:
    """Rows are matched by a key of the old table, or not at all."""
    before(engine, [(1, "a")])
    metadata = new_tables()
    with pytest.raises(PlanRefusedError, match="does not tell one row"):
        emc.plan(moved(metadata, on={metadata.tables["addresses"].c.user_id: "users.name"}), engine)
