"""Duplicates go in favour of the row that stays: whichever way they are merged, and whoever else writes to them."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    select,
    text,
    update,
)

from emc.data import losers
from emc.errors import DeclarationError
from emc.upgrade import Upgrade
from emc.work import Work, preview
from tests.data import merging
from tests.data.support import column, execute, migrate, only_work, rows

USERS = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("email", String(50), unique=True),
    Column("visits", Integer),
    Column("token", String(50)),
)
ORDERS = Table("orders", MetaData(), Column("id", Integer, primary_key=True), Column("user_id", Integer))

SCHEMA = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), visits INTEGER, token VARCHAR(50) UNIQUE)",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id))",
)
ROWS = (
    "INSERT INTO users (id, email, visits, token) VALUES (1, 'a', 1, 'one'), (2, 'a', 2, NULL), (3, 'b', 4, NULL)",
    "INSERT INTO users (id, email, visits) VALUES (4, 'a', 8), (5, NULL, 16), (6, NULL, 32)",
    "INSERT INTO orders VALUES (1, 1), (2, 2), (3, 2), (4, 3), (5, 4)",
)

Merge = Callable[..., Any]


def repoint(winner: Row[Any], loser: Row[Any], connection: Connection) -> dict[Any, Any]:
    """Take over what refers to the loser, what it has counted, and its token, which has to be unique."""
    connection.execute(update(ORDERS).where(ORDERS.c.user_id == loser.id).values(user_id=winner.id))
    return {USERS.c.visits: winner.visits + loser.visits, "token": winner.token or loser.token}


def declared(merge: Merge | None = None) -> Upgrade:
    """The newest of equal users stays."""
    upgrade = Upgrade(USERS.metadata)
    upgrade.deduplicate(USERS.c.email, keep=USERS.c.id.desc(), merge=merge)
    return upgrade


def work_on(engine: Engine, merge: Merge | None = None) -> Work:
    """The deduplication of users."""
    return only_work(declared(merge), engine)


@pytest.fixture
def users(engine: Engine) -> Engine:
    """Three users that are alike, with orders; one that is alone; and two without an address."""
    execute(engine, *SCHEMA, *ROWS)
    return engine


@pytest.mark.parametrize("small", [1, 2, None])
def test_losers_are_merged_into_the_row_that_stays(users: Engine, small: int | None) -> None:
    """Whatever referred to a loser refers to the winner, which has what the losers had, a unique value too."""
    result = migrate(users, work_on(users, repoint), small=small)
    assert (result.outcome, result.rows_done) == ("complete", 2)
    assert rows(users, "SELECT id, visits, token FROM users WHERE id < 5 ORDER BY id") == [
        (3, 4, None),
        (4, 11, "one"),
    ]
    assert column(users, "SELECT user_id FROM orders ORDER BY id") == [4, 4, 4, 3, 4]
    assert migrate(users, work_on(users, repoint)).rows_done == 0


def _count_the_first(_winner: Row[Any], loser: Row[Any]) -> dict[str, Any] | None:
    return {"visits": USERS.c.visits + loser.visits} if loser.id == 1 else None


def test_a_merge_without_a_connection(users: Engine) -> None:
    """A function of two rows answers values for the winner, as SQL too; None leaves the winner as it is."""
    execute(users, "DELETE FROM orders")
    work = work_on(users, _count_the_first)
    assert migrate(users, work).outcome == "complete"
    assert rows(users, "SELECT id, visits FROM users WHERE email = 'a'") == [(4, 9)]


def test_rows_that_are_referred_to_are_not_lost(users: Engine) -> None:
    """Without a merge the database keeps a loser that others refer to; it is reported with its key, the others go."""
    if users.dialect.name == "sqlite":
        event.listen(users, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
        users.dispose()
    execute(users, "DELETE FROM orders WHERE user_id = 2")
    result = migrate(users, work_on(users))
    assert (result.outcome, result.rows_done, result.rows_left) == ("failed", 1, 1)
    assert [row.key for row in result.failed] == [(1,)]
    assert column(users, "SELECT id FROM users ORDER BY id") == [1, 3, 4, 5, 6]


def test_a_merge_that_raises_costs_its_row_alone(users: Engine) -> None:
    """What it wrote before is undone, the row is reported with its key; corrected, it is merged by the next run."""

    def careful(winner: Row[Any], loser: Row[Any], connection: Connection) -> dict[Any, Any]:
        answer = repoint(winner, loser, connection)
        if loser.id == 1:
            raise ValueError("whose token is it?")
        return answer

    result = migrate(users, work_on(users, careful))
    assert (result.outcome, result.rows_done, result.rows_left) == ("failed", 1, 1)
    [failed] = result.failed
    assert failed.key == (1,)
    assert "whose token" in failed.error
    assert column(users, "SELECT user_id FROM orders ORDER BY id") == [1, 4, 4, 3, 4]
    assert migrate(users, work_on(users, repoint)).outcome == "complete"
    assert rows(users, "SELECT id, visits FROM users WHERE email = 'a'") == [(4, 11)]


@pytest.mark.parametrize("page", [1, 2, 3])
def test_groups_are_larger_than_what_is_looked_for_at_once(
    engine: Engine, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few losers are kept in mind, and however few go at once, one row of each group stays."""
    monkeypatch.setattr(losers, "PAGE", page)
    execute(engine, *SCHEMA)
    with engine.begin() as connection:
        some = [{"id": n, "email": f"u{n % 3}", "visits": 1} for n in range(20)]
        connection.execute(USERS.insert(), some)
    result = migrate(engine, work_on(engine, merging.add_visits), small=2)
    assert (result.outcome, result.rows_done) == ("complete", 17)
    assert rows(engine, "SELECT id, visits FROM users ORDER BY id") == [(17, 6), (18, 7), (19, 7)]


def test_two_rules_over_the_same_columns(engine: Engine) -> None:
    """A unique constraint and a unique index on an expression of its column: who loses by either of them goes."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB has no indexes on expressions")
    execute(
        engine,
        *SCHEMA,
        "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'A'), (3, 'a'), (4, 'b'), (5, 'B')",
    )
    metadata = MetaData()
    users = USERS.to_metadata(metadata)
    Index("ix", users.c.email.collate("C" if engine.dialect.name == "postgresql" else "NOCASE"), unique=True)
    upgrade = Upgrade(metadata)
    upgrade.deduplicate(users.c.email, keep=users.c.id)
    work = only_work(upgrade, engine)
    assert len(work.rivalries) == 2
    assert migrate(engine, work, small=1).outcome == "complete"
    left = [1, 4] if engine.dialect.name == "sqlite" else [1, 2, 4, 5]
    assert column(engine, "SELECT id FROM users ORDER BY id") == left


def _take_the_token(winner: Row[Any], loser: Row[Any]) -> dict[str, Any]:
    return {"token": winner.token or loser.token}


@pytest.mark.parametrize("merge", [None, _take_the_token])
@pytest.mark.parametrize("small", [1, None])
@pytest.mark.parametrize("is_newest", [False, True])
def test_what_loses_to_a_row_that_goes_stays(
    engine: Engine, merge: Merge | None, small: int | None, is_newest: bool
) -> None:
    """Two indexes of a part of the rows each: the row that is in both goes, and the others are no duplicates then."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB has no partial indexes")
    execute(
        engine,
        *SCHEMA,
        "INSERT INTO users (id, email, visits) VALUES (1, 'a', 1), (2, 'a', 2), (3, 'a', 4), (7, 'b', 1), (8, 'b', 8)",
    )
    metadata = MetaData()
    users = USERS.to_metadata(metadata)
    users.constraints = {one for one in users.constraints if not isinstance(one, UniqueConstraint)}
    for name, where in (("low", users.c.visits < 3), ("high", users.c.visits > 1)):
        Index(name, users.c.email, unique=True, sqlite_where=where, postgresql_where=where)
    upgrade = Upgrade(metadata)
    upgrade.deduplicate(users.c.email, keep=users.c.id.desc() if is_newest else users.c.id, merge=merge)
    work = only_work(upgrade, engine)
    assert len(work.rivalries) == 2
    result = migrate(engine, work, small=small)
    assert (result.outcome, result.rows_done) == ("complete", 1)
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 3, 7, 8]


def test_a_chain_of_rows_that_are_alike_in_turn(engine: Engine) -> None:
    """Each row is like the next, by one rule or by the other: every second one goes, however many batches it takes."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB has no indexes on expressions")
    execute(engine, "CREATE TABLE t (a INTEGER, b INTEGER, v INTEGER, PRIMARY KEY (a, b))")
    execute(engine, *(f"INSERT INTO t VALUES ({n // 3}, {n % 3}, {n})" for n in range(9)))
    metadata = MetaData()
    t = Table(
        "t",
        metadata,
        Column("a", Integer, primary_key=True),
        Column("b", Integer, primary_key=True),
        Column("v", Integer),
    )
    Index("even", t.c.v // 2, unique=True)
    Index("odd", (t.c.v + 1) // 2, unique=True)
    upgrade = Upgrade(metadata)
    upgrade.deduplicate(t.c.v, keep=t.c.v)
    assert migrate(engine, only_work(upgrade, engine), small=2).outcome == "complete"
    assert column(engine, "SELECT v FROM t ORDER BY v") == [0, 2, 4, 6, 8]


def test_a_key_of_two_columns(engine: Engine) -> None:
    """Losers and winners are told apart by the whole key."""
    execute(
        engine,
        "CREATE TABLE t (a INTEGER, b INTEGER, v INTEGER, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES (1, 1, 7), (1, 2, 7), (2, 1, 7), (2, 2, 8), (3, 1, 8)",
    )
    metadata = MetaData()
    t = Table(
        "t",
        metadata,
        Column("a", Integer, primary_key=True),
        Column("b", Integer, primary_key=True),
        Column("v", Integer, unique=True),
    )
    upgrade = Upgrade(metadata)
    upgrade.deduplicate(t.c.v, keep=[t.c.b.desc(), t.c.a])
    work = only_work(upgrade, engine)
    with engine.connect() as connection:
        seen = preview(connection, work)
    assert (seen.rows, seen.groups) == (3, 2)
    assert seen.samples[0] == "a=1, b=1 goes, a=1, b=2 stays: v=7"
    assert migrate(engine, work, small=2).outcome == "complete"
    assert rows(engine, "SELECT a, b FROM t ORDER BY a, b") == [(1, 2), (2, 2)]


# -- whoever else writes --------------------------------------------------------------------------------------------


@pytest.fixture(params=["postgresql_url", "mariadb_url"])
def shared(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The same users on a database with several writers."""
    engine = create_engine(request.getfixturevalue(request.param))
    execute(engine, *SCHEMA, *ROWS)
    yield engine
    engine.dispose()


def before(engine: Engine, is_it: Callable[[str], bool], *statements: str) -> None:
    """Another session commits *statements* once, right before a statement of emc's."""
    other = create_engine(engine.url)
    done: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not done and is_it(statement):
            done.append(statement)
            execute(other, *statements)
            other.dispose()


def _locks(statement: str) -> bool:
    return statement.startswith("SELECT users.id") and "FOR UPDATE" in statement


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        ("UPDATE users SET email = 'c' WHERE id = 4", [2, 4]),
        ("DELETE FROM users WHERE id = 4", [2]),
        ("INSERT INTO users VALUES (9, 'a', 64, NULL)", [9]),
        ("UPDATE users SET email = 'c' WHERE id = 1", [1, 4]),
    ],
    ids=["the winner changes", "the winner goes", "a better one comes", "a loser changes"],
)
def test_who_wins_is_decided_when_both_are_locked(shared: Engine, meanwhile: str, left: list[int]) -> None:
    """Nothing is deleted in favour of a row that is no longer there, or no longer alike; the next look decides."""
    execute(shared, "DELETE FROM orders")
    work = work_on(shared, merging.add_visits)
    before(shared, _locks, meanwhile)
    assert migrate(shared, work).outcome == "complete"
    assert column(shared, "SELECT id FROM users WHERE email IN ('a', 'c') ORDER BY id") == left
    total = {1: 1, 2: 2, 4: 8, 9: 64}
    gone = 8 if meanwhile.startswith("DELETE") else 0
    expected = sum(total[one] for one in (1, 2, 4)) + (64 if 9 in left else 0) - gone
    assert sum(column(shared, "SELECT visits FROM users WHERE email IN ('a', 'c')")) == expected


def test_nobody_refers_to_a_loser_while_it_is_merged(shared: Engine) -> None:
    """A row that comes to refer to a loser right before it is locked is taken along: no cascade deletes it."""
    work = work_on(shared, repoint)
    before(shared, _locks, "INSERT INTO orders VALUES (9, 1)")
    assert migrate(shared, work).outcome == "complete"
    assert set(column(shared, "SELECT user_id FROM orders WHERE id IN (1, 2, 3, 5, 9)")) == {4}


def test_a_locked_child_is_waited_for(shared: Engine) -> None:
    """Somebody holds an order of a loser: that loser is passed over, and merged when the order is free."""
    work = work_on(shared, repoint)
    other = create_engine(shared.url)
    with other.begin() as holding:
        holding.execute(select(ORDERS).where(ORDERS.c.id == 1).with_for_update()).all()
        passed: list[int] = []

        def told(event: Any) -> None:
            passed.append(event.rows_done)
            holding.rollback()

        result = migrate(shared, work, small=1, report=told)
    other.dispose()
    assert result.outcome == "complete"
    assert column(shared, "SELECT user_id FROM orders ORDER BY id") == [4, 4, 4, 3, 4]


def _commit(_winner: Row[Any], _loser: Row[Any], connection: Connection) -> None:
    connection.exec_driver_sql("COMMIT")


def _delete_the_winner(winner: Row[Any], _loser: Row[Any], connection: Connection) -> None:
    connection.execute(USERS.delete().where(USERS.c.id == winner.id))


def _unknown_column(_winner: Row[Any], _loser: Row[Any]) -> dict[str, Any]:
    return {"nonsense": 1}


def _number(_winner: Row[Any], _loser: Row[Any]) -> int:
    return 5


@pytest.mark.parametrize(
    ("merge", "said"),
    [
        (_commit, "ended the transaction"),
        (_delete_the_winner, "deleted the row that stays"),
        (_unknown_column, "nonsense"),
        (_number, "answered 5"),
    ],
)
def test_a_merge_that_breaks_the_rules_is_a_mistake(postgresql_url: str, merge: Merge, said: str) -> None:
    """A function that ends the transaction, deletes the winner or answers nonsense stops the run; no row is lost."""
    engine = create_engine(postgresql_url)
    execute(engine, *SCHEMA, *ROWS, "DELETE FROM orders")
    with pytest.raises(DeclarationError, match=said):
        migrate(engine, work_on(engine, merge))
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 2, 3, 4, 5, 6]
    engine.dispose()


def test_a_run_that_is_killed_in_the_middle_of_a_merge(engine: Engine) -> None:
    """Kill -9 between repointing and deleting leaves nothing half done; the next run merges each row once."""
    execute(engine, *SCHEMA)
    with engine.begin() as connection:
        connection.execute(USERS.insert(), [{"id": n, "email": f"u{n % 5}", "visits": 1} for n in range(60)])
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.data.merging", url]
    for at in (7, 25, 3):
        assert subprocess.run([*command, str(at)], cwd=Path(__file__).parents[2], check=False).returncode == 9
        assert column(engine, "SELECT sum(visits) FROM users") == [60]
    assert migrate(engine, work_on(engine, merging.add_visits)).outcome == "complete"
    assert rows(engine, "SELECT id, visits FROM users ORDER BY id") == [(n, 12) for n in range(55, 60)]


WAITS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mariadb": "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


@contextmanager
def finding_it_locked(engine: Engine, *statements: str) -> Iterator[None]:
    """Another session has sent *statements* when emc wants its first row, and commits as soon as emc waits for it."""
    other = create_engine(engine.url)
    threads: list[threading.Thread] = []

    def commit(writing: Connection) -> None:
        while True:
            with other.connect() as looking:
                if looking.execute(text(WAITS[engine.dialect.name])).first() is not None:
                    break
            # InnoDB shows again what it showed less than 0.1 s ago: who asks more often never sees anything else.
            time.sleep(0.15)
        writing.commit()
        writing.close()

    @event.listens_for(engine, "before_cursor_execute")
    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if (
            not threads
            and "notes" in statement
            and ("FOR UPDATE" in statement or statement.startswith("UPDATE"))
        ):
            writing = other.connect()
            for one in statements:
                writing.execute(text(one))
            threads.append(threading.Thread(target=commit, args=(writing,)))
            threads[0].start()

    yield
    event.remove(engine, "before_cursor_execute", sent)
    assert threads
    threads[0].join()
    other.dispose()


def test_an_orphan_that_has_got_a_parent_keeps_it(shared: Engine) -> None:
    """PostgreSQL judges a row that was changed meanwhile again, and its parent by the old snapshot."""
    execute(
        shared,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER)",
        "INSERT INTO notes VALUES (1, 77)",
    )
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True))
    notes = Table(
        "notes",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("user_id", Integer, ForeignKey("users.id")),
    )
    upgrade = Upgrade(metadata)
    upgrade.orphans(notes.c.user_id, action="set null")
    work = only_work(upgrade, shared)
    with finding_it_locked(
        shared, "INSERT INTO users VALUES (78, 'z', 1, NULL)", "UPDATE notes SET user_id = 78"
    ):
        assert migrate(shared, work).outcome == "complete"
    assert column(shared, "SELECT user_id FROM notes") == [78]
