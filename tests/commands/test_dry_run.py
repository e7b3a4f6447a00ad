"""What is said of a clean-up before it is done, and in which order clean-ups go."""

from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, create_engine, text

import emc
from emc.commands import MigrateReport
from emc.commands.jsonable import migrate_json, plan_json
from emc.data import BatchPolicy
from emc.errors import DeclarationError, ExitCode
from emc.upgrade import Upgrade
from tests.servers import make_role

OLD = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), boss_id INTEGER)",
    """CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER,
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)""",
    """CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER,
    FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE SET NULL)""",
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER)",
    "INSERT INTO users VALUES (1, 'a', NULL), (2, 'a', 1), (3, 'a', 77), (4, 'b', 1), (5, 'b', NULL)",
    "INSERT INTO orders VALUES (1, 1), (2, 1), (3, 5)",
    "INSERT INTO notes VALUES (1, 2), (2, 4), (3, 88)",
)


def send(engine: Engine, *statements: str) -> None:
    """Run *statements*."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(engine: Engine, query: str) -> list[Any]:
    """The rows that *query* answers."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def shop() -> tuple[Upgrade, dict[str, Table]]:
    """Users with a boss and a unique address; orders with items, and notes, of users."""
    metadata = MetaData()
    key: dict[str, Any] = {"primary_key": True, "autoincrement": False}
    Table(
        "users",
        metadata,
        Column("id", Integer, **key),
        Column("email", String(50), unique=True),
        Column("boss_id", ForeignKey("users.id", name="fk_boss")),
    )
    Table(
        "orders",
        metadata,
        Column("id", Integer, **key),
        Column("user_id", ForeignKey("users.id", ondelete="CASCADE")),
    )
    Table(
        "items",
        metadata,
        Column("id", Integer, **key),
        Column("order_id", ForeignKey("orders.id", ondelete="SET NULL")),
    )
    Table(
        "notes",
        metadata,
        Column("id", Integer, **key),
        Column("user_id", ForeignKey("users.id", name="fk_notes")),
    )
    return Upgrade(metadata, release="2"), dict(metadata.tables)


def declared() -> Upgrade:
    """Notes of nobody and users without their boss go, and so do users that are alike; in the worst of orders."""
    upgrade, t = shop()
    upgrade.orphans(t["notes"].c.user_id, action="delete")
    upgrade.deduplicate(t["users"].c.email, keep=t["users"].c.id.desc())
    upgrade.orphans(t["users"].c.boss_id, action="delete")
    return upgrade


def dry(upgrade: Upgrade, engine: Engine) -> MigrateReport:
    """What migrate would do."""
    return emc.migrate(upgrade, engine, dry_run=True)


def test_what_would_go_and_what_goes_along(engine: Engine) -> None:
    """A dry run counts groups and rows, shows samples with their values, and what cascades, sets NULL or orphans."""
    send(engine, *OLD)
    report = dry(declared(), engine)
    assert report.exit_code is ExitCode.DONE
    users = report.previews["deduplicate:users.email"]
    assert (users.rows, users.groups) == (3, 2)
    assert users.samples[0] == "id=1 goes, id=3 stays: email='a'"
    said = "\n".join(users.references)
    if engine.dialect.name == "sqlite":  # Unless the application asks for it on each connection.
        assert "orders.user_id refers to users, and foreign keys are not enforced" in said
        assert "become orphans (2 now)" in said
    else:
        assert "orders.user_id is ON DELETE CASCADE" in said
        assert "deleted along (2 now)" in said
        assert "items.order_id is ON DELETE SET NULL" in said
    assert "notes.user_id refers to users in the models" in said
    notes = report.previews["orphans:notes.user_id"]
    assert (notes.rows, notes.groups, notes.samples) == (1, None, ("id=3: user_id=88 has no parent",))
    as_json = migrate_json(report)
    assert [one["id"] for one in as_json["previews"]] == [result.name for result in report.results]
    assert rows(engine, "SELECT count(*) FROM users") == [(5,)]
    planned = plan_json(emc.plan(declared(), engine), engine.dialect)["phases"]["migrate"]
    [work] = [one for one in planned if one["id"] == "deduplicate:users.email"]
    assert work["hazards"] == ["loses-data"]
    assert any("CASCADE" in one for one in work["references"])


def test_a_role_that_may_only_read_looks_first(postgresql_url: str) -> None:
    """A dry run takes no more than SELECT."""
    owner = create_engine(postgresql_url)
    send(owner, *OLD)
    reader = create_engine(make_role(postgresql_url, "emc_dry", "reader"))
    assert dry(declared(), reader).previews["deduplicate:users.email"].rows == 3
    reader.dispose()
    owner.dispose()


def test_the_row_that_stays_is_no_orphan(engine: Engine) -> None:
    """Orphans of a table go before its duplicates, or the last of several equal rows would; their own orphans after."""
    send(engine, *OLD, "DELETE FROM orders")
    report = emc.migrate(declared(), engine, batch=BatchPolicy(fast=True))
    assert report.exit_code is ExitCode.DONE
    order = [result.name for result in report.results]
    assert order.index("orphans:users.boss_id") < order.index("deduplicate:users.email")
    # 3 has no boss and goes; then 1 loses to 2, whose boss it was, so that 2 and 4 have none.
    assert {result.name: result.rows_left for result in report.results} == dict.fromkeys(order, 0)
    assert rows(engine, "SELECT id FROM users ORDER BY id") == [(5,)]
    assert rows(engine, "SELECT count(*) FROM notes") == [(0,)]


def test_a_clean_up_waits_for_what_it_is_told_to(engine: Engine) -> None:
    """With after= nothing is deleted before the data migration is complete that makes rows alike, or repoints them."""
    send(engine, *OLD)
    upgrade, t = shop()
    users = t["users"]

    @upgrade.data_migration(users, where=users.c.email == "b")
    def tidy(row: Any) -> dict[str, Any]:
        return {"email": f"b{row.id}"}

    upgrade.deduplicate(users.c.email, keep=users.c.id, after=[tidy])
    upgrade.orphans(t["notes"].c.user_id, action="set null", after=["deduplicate:users.email"])
    blocked = emc.migrate(upgrade, engine, only=["deduplicate:users.email"])
    assert (blocked.exit_code, blocked.results[0].outcome) == (ExitCode.GATE_SHUT, "blocked")
    report = emc.migrate(upgrade, engine, batch=BatchPolicy(fast=True))
    assert report.exit_code is ExitCode.DONE
    assert [result.name for result in report.results] == [
        "tidy",
        "deduplicate:users.email",
        "orphans:notes.user_id",
    ]
    assert rows(engine, "SELECT id, email FROM users ORDER BY id") == [(1, "a"), (4, "b4"), (5, "b5")]
    assert rows(engine, "SELECT user_id FROM notes ORDER BY id") == [(None,), (4,), (None,)]


def test_a_merge_has_to_be_a_function() -> None:
    """Values instead of a function are a mistake that names the line."""
    upgrade, t = shop()
    with pytest.raises(DeclarationError) as caught:
        upgrade.deduplicate(t["users"].c.email, keep=t["users"].c.id, merge={"visits": 1})  # type: ignore[arg-type]
    assert len(caught.value.places) == 1
