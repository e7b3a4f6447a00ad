"""A column moves to another table of PostgreSQL: beside writers, roles and triggers that know nothing of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

import emc
from tests.sync.moving import before, both, moved, write


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Engine]:
    """A fresh database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


def test_triggers_of_others(postgresql: Engine) -> None:
    """Where a trigger of somebody's own answers a write by another one, both sides have what is stored in the end."""
    before(postgresql, [(1, "a")])
    body = "UPDATE users SET street = lower(street) WHERE id = new.id AND street <> lower(street)"
    write(
        postgresql,
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$",
        "CREATE TRIGGER aaa AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()",
    )
    emc.expand(moved(), postgresql)
    emc.migrate(moved(), postgresql)
    write(postgresql, "UPDATE users SET street = 'BIG'")
    assert both(postgresql) == {1: ("big", "big")}
    write(postgresql, "UPDATE addresses SET street = 'GREAT'")
    assert both(postgresql) == {1: ("great", "great")}


def test_old_role_needs_no_rights_on_the_new_table(postgresql: Engine) -> None:
    """The role of the old release, which nobody has granted anything on a table it does not know, writes as before."""
    before(postgresql, [(1, "a")])
    write(
        postgresql,
        "DROP ROLE IF EXISTS emc_moves_old",
        "CREATE ROLE emc_moves_old",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON users TO emc_moves_old",
    )
    emc.expand(moved(), postgresql)
    with postgresql.begin() as connection:
        connection.execute(text("SET LOCAL ROLE emc_moves_old"))
        # What it calls addresses is not what the triggers write to.
        connection.execute(
            text("CREATE TEMPORARY TABLE addresses (user_id int PRIMARY KEY, street text) ON COMMIT DROP")
        )
        connection.execute(text("UPDATE users SET street = 'b'"))
        connection.execute(text("INSERT INTO users (id, street) VALUES (2, 'c')"))
        assert connection.execute(text("SELECT count(*) FROM addresses")).scalar_one() == 0
    assert both(postgresql) == {1: ("b", "b"), 2: ("c", "c")}
    write(postgresql, "DROP OWNED BY emc_moves_old", "DROP ROLE emc_moves_old")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE users SET street = 'late' WHERE id = 5", ("late", "late")),
        ("INSERT INTO addresses (user_id, street) VALUES (5, 'late')", ("late", "late")),
        ("DELETE FROM users WHERE id = 5", None),
    ],
)
def test_copy_beside_a_writer(postgresql: Engine, statement: str, expected: object) -> None:
    """A row that somebody is writing while it is copied has, in the end, what was written last."""
    before(postgresql, [(at, f"s{at}") for at in range(1, 11)])
    upgrade = moved()
    emc.expand(upgrade, postgresql)
    copying = threading.Thread(target=lambda: emc.migrate(upgrade, postgresql))
    with postgresql.connect() as writer:
        writer.execute(text(statement))
        copying.start()
        with postgresql.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            waits = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            until = time.monotonic() + 60
            while not looking.execute(text(waits)).scalar_one():
                assert time.monotonic() < until, "the copy never came to the row"
        writer.commit()
    copying.join(60)
    assert not copying.is_alive()
    emc.migrate(upgrade, postgresql)
    rows = both(postgresql)
    assert rows.pop(5, None) == expected
    assert all(row == (f"s{at}",) * 2 for at, row in rows.items())
    assert not emc.contract(upgrade, postgresql, old_code_gone=True).blocked


def test_both_releases_beside_the_copy(postgresql: Engine) -> None:
    """Old and new writers of the same few rows, beside a copy, may be told of a deadlock, but leave no difference."""
    before(postgresql, [(at, f"s{at}" if at % 4 else None) for at in range(1, 41)])
    upgrade = moved()
    emc.expand(upgrade, postgresql)
    old = (
        "UPDATE users SET street = '{0}' WHERE id = {1}",
        "UPDATE users SET street = NULL WHERE id = {1}",
        "DELETE FROM users WHERE id = {1}",
        "INSERT INTO users (id, street) VALUES ({1}, '{0}') ON CONFLICT DO NOTHING",
    )
    new = (
        "UPDATE addresses SET street = '{0}' WHERE user_id = {1}",
        "INSERT INTO addresses (user_id, street) SELECT id, '{0}' FROM users WHERE id = {1} ON CONFLICT DO NOTHING",
        "UPDATE addresses SET street = '{0}' WHERE user_id BETWEEN {1} AND {1} + 2",
        "DELETE FROM addresses WHERE user_id = {1}",
    )
    unexpected: list[DBAPIError] = []

    def writes(release: tuple[str, ...], first: int) -> None:
        engine = create_engine(make_url(str(postgresql.url.render_as_string(hide_password=False))))
        try:
            for at in range(200):
                statement = release[(at + first) % 4].format(f"{first}-{at}", (at * 7 + first) % 40 + 1)
                try:
                    write(engine, statement)
                except OperationalError as error:
                    if getattr(error.orig, "sqlstate", None) != "40P01":
                        raise
        except DBAPIError as error:
            unexpected.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=writes, args=(release, at)) for at in (0, 1) for release in (old, new)]
    for one in threads:
        one.start()
    emc.migrate(upgrade, postgresql)
    for one in threads:
        one.join(120)
    assert not unexpected
    emc.migrate(upgrade, postgresql)
    assert all(row == (None,) or row[0] == row[1] for row in both(postgresql).values())
    assert not emc.contract(upgrade, postgresql, old_code_gone=True).blocked
