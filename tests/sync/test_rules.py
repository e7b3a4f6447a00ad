"""The rules of :mod:`emc.sync`, write by write, the same on every database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Float,
    Integer,
    Numeric,
    String,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
)
from sqlalchemy.exc import DBAPIError

from emc.dialects import dialect_of
from emc.sync import Sync
from tests.sync.keeping import (
    backfill,
    install,
    kept,
    out_of_step,
    rows,
    stands,
    sync_of,
    table,
    writing,
)

OLD, NEW = "Ann", "Bob"


def renamed() -> tuple[Table, Sync]:
    """users.name has become users.full_name."""
    row = table(Column("name", String(50)), Column("full_name", String(50)), Column("visits", Integer))
    return row, sync_of(row, ["name"], ["full_name"])


# What a release writes -> name and full_name of the row afterwards. Each begins with a row (1, 'Ann', 'Ann', 0).
INSERTS = {
    "old": ("(id, name) VALUES (2, 'Bob')", ("Bob", "Bob")),
    "new": ("(id, full_name) VALUES (2, 'Bob')", ("Bob", "Bob")),
    "both, the same": ("(id, name, full_name) VALUES (2, 'Bob', 'Bob')", ("Bob", "Bob")),
    "both, the new one wins": ("(id, name, full_name) VALUES (2, 'Ann', 'Bob')", ("Bob", "Bob")),
    "neither": ("(id) VALUES (2)", (None, None)),
    "old, with a NULL for the new": ("(id, name, full_name) VALUES (2, 'Bob', NULL)", ("Bob", "Bob")),
    "new, with a NULL for the old": ("(id, name, full_name) VALUES (2, NULL, 'Bob')", ("Bob", "Bob")),
    "NULLs": ("(id, name, full_name) VALUES (2, NULL, NULL)", (None, None)),
    "empty": ("(id, name) VALUES (2, '')", ("", "")),
    "from a query": ("(id, name) SELECT 2, 'Bob' FROM users", ("Bob", "Bob")),
}
UPDATES = {
    "old": ("name = 'Bob'", ("Bob", "Bob")),
    "new": ("full_name = 'Bob'", ("Bob", "Bob")),
    "both, the same": ("name = 'Bob', full_name = 'Bob'", ("Bob", "Bob")),
    "both, the new one wins": ("name = 'Bob', full_name = 'Cid'", ("Cid", "Cid")),
    "both, in the other order": ("full_name = 'Cid', name = 'Bob'", ("Cid", "Cid")),
    "old to NULL": ("name = NULL", (None, None)),
    "new to NULL": ("full_name = NULL", (None, None)),
    "both to NULL": ("name = NULL, full_name = NULL", (None, None)),
    "old to NULL, new to a value": ("name = NULL, full_name = 'Bob'", ("Bob", "Bob")),
    "old unchanged, new changed": ("name = name, full_name = 'Bob'", ("Bob", "Bob")),
    "old changed, new unchanged": ("name = 'Bob', full_name = full_name", ("Bob", "Bob")),
    "neither": ("name = name, full_name = full_name", ("Ann", "Ann")),
    "something else": ("visits = 7", ("Ann", "Ann")),
    "another case": ("name = 'ANN'", ("ANN", "ANN")),
    "another case of the new": ("full_name = 'ANN'", ("ANN", "ANN")),
    "a space behind it": ("name = 'Ann '", ("Ann ", "Ann ")),
    "empty": ("name = ''", ("", "")),
}


@pytest.mark.parametrize("what", INSERTS)
def test_insert(engine: Engine, what: str) -> None:
    """Whoever inserts a row, and whichever columns are named, both sides have the value."""
    row, sync = renamed()
    kept(engine, row, sync, [{"id": 1, "name": OLD, "full_name": OLD, "visits": 0}])
    statement, expected = INSERTS[what]
    with writing(engine) as write:
        write(f"INSERT INTO users {statement}")
    assert rows(engine, row)[1][:2] == expected
    assert out_of_step(engine, sync) == 0


@pytest.mark.parametrize("what", UPDATES)
def test_update(engine: Engine, what: str) -> None:
    """Whoever updates a row, the side that has changed is followed by the other one, to the letter."""
    row, sync = renamed()
    kept(engine, row, sync, [{"id": 1, "name": OLD, "full_name": OLD, "visits": 0}])
    statement, expected = UPDATES[what]
    with writing(engine) as write:
        write(f"UPDATE users SET {statement}")
    assert rows(engine, row)[0][:2] == expected
    assert out_of_step(engine, sync) == 0


def test_pending_rows_wait(engine: Engine) -> None:
    """An unrelated update of a row that has yet to be copied does not copy it; one of the old column does."""
    row, sync = renamed()
    kept(engine, row, sync, [{"id": at, "name": OLD, "full_name": None, "visits": 0} for at in (1, 2, 3)])
    with writing(engine) as write:
        write("UPDATE users SET visits = 1")
        assert rows(engine, row) == [(OLD, None, 1)] * 3
        write("UPDATE users SET name = 'Bob' WHERE id = 1")
        write("UPDATE users SET full_name = 'Cid' WHERE id = 2")
    assert rows(engine, row) == [("Bob", "Bob", 1), ("Cid", "Cid", 1), (OLD, None, 1)]
    assert out_of_step(engine, sync) == 1


def test_many_rows_in_one_statement(engine: Engine) -> None:
    """A statement that writes many rows keeps each of them in step."""
    row, sync = renamed()
    kept(
        engine,
        row,
        sync,
        [{"id": at, "name": f"n{at}", "full_name": None, "visits": 0} for at in range(1, 50)],
    )
    with engine.begin() as connection:
        connection.execute(row.insert(), [{"id": at, "name": f"m{at}"} for at in range(50, 100)])
        connection.execute(row.insert().values([{"id": at, "full_name": f"o{at}"} for at in range(100, 150)]))
        connection.execute(row.update().where(row.c.id % 2 == 0).values(name=row.c.name + "!"))
        connection.execute(row.update().where(row.c.id % 3 == 0).values(full_name=func.upper(row.c.name)))
        connection.execute(row.delete().where(row.c.id % 7 == 0))
        backfill(connection, sync, dialect_of(engine), row.c.id > 0)
    assert out_of_step(engine, sync) == 0
    assert all(name == full for name, full, _ in rows(engine, row))


def test_the_backfill_leaves_the_old_side_alone(engine: Engine) -> None:
    """What the backfill copies by a conversion that loses something does not flow back."""
    row = table(Column("cents", Integer), Column("euros", Integer))
    sync = sync_of(row, ["cents"], ["euros"], lambda old: _whole(old / 100), lambda new: new * 100)
    kept(engine, row, sync, [{"id": 1, "cents": 250, "euros": None}, {"id": 2, "cents": 0, "euros": None}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 2
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 0
    assert [tuple(found) for found in rows(engine, row)] in ([(250, 2), (0, 0)], [(250, 3), (0, 0)])
    assert out_of_step(engine, sync) == 0


def _whole(value: Any) -> Any:
    return cast(func.round(cast(value, Numeric(12, 4))), Integer)


def test_what_a_conversion_loses_is_not_lost_on_its_own_side(engine: Engine) -> None:
    """A value that does not survive the way there and back stays on the side that wrote it."""
    row = table(Column("cents", Integer), Column("euros", Integer))
    sync = sync_of(row, ["cents"], ["euros"], lambda old: _whole(old / 100), lambda new: new * 100)
    kept(engine, row, sync)
    with writing(engine) as write:
        write("INSERT INTO users (id, cents) VALUES (1, 149), (2, 1)")
        write("INSERT INTO users (id, euros) VALUES (3, 7)")
        assert [tuple(found) for found in rows(engine, row)] == [(149, 1), (1, 0), (700, 7)]
        write("UPDATE users SET euros = 2 WHERE id = 1")
        write("UPDATE users SET cents = 701 WHERE id = 3")
    assert [tuple(found) for found in rows(engine, row)] == [(200, 2), (1, 0), (701, 7)]
    assert out_of_step(engine, sync) == 0


def test_a_column_that_rounds(engine: Engine) -> None:
    """A value that the column rounds is in step with what it was made of, so that the gate can open."""
    row = table(Column("price", Float(53)), Column("amount", Numeric(10, 2)))
    sync = sync_of(row, ["price"], ["amount"], lambda old: old / 3, lambda new: new * 3)
    kept(engine, row, sync, [{"id": 1, "price": 1.0, "amount": None}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 1
        connection.execute(row.insert().values(id=2, price=10.0))
        connection.execute(row.insert().values(id=3, amount=0.5))
        connection.execute(row.update().where(row.c.id == 1).values(price=2.0))
    assert out_of_step(engine, sync) == 0


def test_split(engine: Engine) -> None:
    """One column that becomes two is kept in step with both."""
    row = table(Column("name", String(50)), Column("first", String(50)), Column("last", String(50)))
    sync = sync_of(row, ["name"], ["first", "last"], _split, lambda first, last: first + " " + last)
    kept(engine, row, sync)
    with writing(engine) as write:
        write("INSERT INTO users (id, name) VALUES (1, 'Ann Lee')")
        write("INSERT INTO users (id, first, last) VALUES (2, 'Bob', 'Fox')")
        assert rows(engine, row) == [("Ann Lee", "Ann", "Lee"), ("Bob Fox", "Bob", "Fox")]
        write("UPDATE users SET last = 'Day' WHERE id = 1")
        write("UPDATE users SET name = 'Cid Poe' WHERE id = 2")
        assert rows(engine, row) == [("Ann Day", "Ann", "Day"), ("Cid Poe", "Cid", "Poe")]
        write("UPDATE users SET first = NULL WHERE id = 1")
    assert out_of_step(engine, sync) == 0


def _split(name: Any) -> tuple[Any, Any]:
    """By the length that the tests use: three letters, a space, three letters."""
    return func.substr(name, 1, 3), func.substr(name, 5)


def test_merge(engine: Engine) -> None:
    """Two columns that become one are kept in step with it."""
    row = table(Column("first", String(50)), Column("last", String(50)), Column("name", String(50)))
    sync = sync_of(row, ["first", "last"], ["name"], lambda first, last: first + " " + last, _split)
    kept(engine, row, sync, [{"id": 9, "first": "Old", "last": "Row", "name": None}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 1
    with writing(engine) as write:
        write("INSERT INTO users (id, first, last) VALUES (1, 'Ann', 'Lee')")
        write("INSERT INTO users (id, name) VALUES (2, 'Bob Fox')")
        write("UPDATE users SET last = 'Day' WHERE id = 1")
        write("UPDATE users SET name = 'Cid Poe' WHERE id = 2")
        write("UPDATE users SET first = 'Eva', name = 'Eva Row' WHERE id = 9")
    assert rows(engine, row) == [
        ("Ann", "Day", "Ann Day"),
        ("Cid", "Poe", "Cid Poe"),
        ("Eva", "Row", "Eva Row"),
    ]
    assert out_of_step(engine, sync) == 0


def test_labels_to_numbers(engine: Engine) -> None:
    """A conversion by CASE, with literals that need care, works in both directions."""
    row = table(Column("state", String(20)), Column("code", Integer))
    odd = "it's 100% \\ 'ä'"
    sync = sync_of(
        row,
        ["state"],
        ["code"],
        lambda state: case((state == odd, 1), (state == "off", 0)),
        lambda code: case((code == 1, odd), (code == 0, "off")),
    )
    kept(engine, row, sync)
    assert stands(engine, sync)
    with engine.begin() as connection:
        connection.execute(row.insert(), [{"id": 1, "state": odd}, {"id": 2, "state": "off"}])
        connection.execute(row.insert(), [{"id": 3, "code": 1}, {"id": 4, "code": 0}])
        connection.execute(row.update().where(row.c.id == 4).values(code=1))
        connection.execute(row.update().where(row.c.id == 3).values(state="off"))
    assert rows(engine, row) == [(odd, 1), ("off", 0), ("off", 0), (odd, 1)]
    assert out_of_step(engine, sync) == 0


def test_what_has_no_counterpart(engine: Engine) -> None:
    """A value for which the other side has none leaves NULL there, and is no row to be copied for ever."""
    row = table(Column("state", String(20)), Column("code", Integer))
    sync = sync_of(
        row,
        ["state"],
        ["code"],
        lambda state: case((state == "on", 1), (state == "off", 0)),
        lambda code: case((code == 1, "on"), (code == 0, "off")),
    )
    kept(engine, row, sync, [{"id": 1, "state": "odd", "code": None}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 0
    with writing(engine) as write:
        write("INSERT INTO users (id, state) VALUES (2, 'odd'), (3, 'on')")
        write("UPDATE users SET state = 'odd' WHERE id = 3")
        write("INSERT INTO users (id, code) VALUES (4, 5)")
    assert rows(engine, row) == [("odd", None), ("odd", None), ("odd", None), (None, 5)]
    assert out_of_step(engine, sync) == 0


def test_a_default_of_the_conversion(engine: Engine) -> None:
    """A conversion that makes something of NULL leaves no row that looks as if it had yet to be copied."""
    row = table(Column("nick", String(20)), Column("label", String(20)))
    sync = sync_of(
        row, ["nick"], ["label"], lambda nick: func.coalesce(nick, "-"), lambda label: func.nullif(label, "-")
    )
    kept(engine, row, sync, [{"id": 1, "nick": None, "label": None}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 1
    with writing(engine) as write:
        write("INSERT INTO users (id) VALUES (2)")
        write("INSERT INTO users (id, nick) VALUES (3, 'x')")
        write("UPDATE users SET label = NULL WHERE id = 3")
        write("INSERT INTO users (id, label) VALUES (4, '-')")
    assert rows(engine, row) == [(None, "-"), (None, "-"), (None, "-"), (None, "-")]
    assert out_of_step(engine, sync) == 0


def no_way_back() -> tuple[Table, Sync]:
    """A conversion that only knows one direction."""
    row = table(Column("name", String(50)), Column("digest", String(50)), Column("visits", Integer))
    return row, sync_of(row, ["name"], ["digest"], func.lower, None)


def test_without_a_way_back(engine: Engine) -> None:
    """Where there is no way back old rows come over, and the old column is left as it is by the new release."""
    row, sync = no_way_back()
    kept(engine, row, sync, [{"id": 1, "name": "Ann", "digest": None, "visits": 0}])
    with engine.begin() as connection:
        assert backfill(connection, sync, dialect_of(engine), row.c.id > 0) == 1
    with writing(engine) as write:
        write("INSERT INTO users (id, name) VALUES (2, 'Bob')")
        write("INSERT INTO users (id, digest) VALUES (3, 'x')")
        write("INSERT INTO users (id, name, digest) VALUES (4, 'Cid', 'y')")
        write("UPDATE users SET digest = 'z' WHERE id = 2")
        write("UPDATE users SET visits = 1, name = name")
    assert rows(engine, row) == [("Ann", "ann", 1), ("Bob", "z", 1), (None, "x", 1), ("Cid", "y", 1)]
    assert out_of_step(engine, sync) == 0


@pytest.mark.parametrize("change", ["name = 'Bob'", "name = NULL", "name = 'Bob', digest = 'x'"])
def test_without_a_way_back_the_old_column_is_read_only(engine: Engine, change: str) -> None:
    """An UPDATE of a column without a way back is refused, in words that name the column and what took its place."""
    row, sync = no_way_back()
    kept(engine, row, sync, [{"id": 1, "name": "Ann", "digest": "ann", "visits": 0}])
    with writing(engine) as write, pytest.raises(DBAPIError, match=r"users\.name is read-only.*digest"):
        write(f"UPDATE users SET {change}")
    assert rows(engine, row) == [("Ann", "ann", 0)]


def test_without_a_way_back_both_may_be_written_alike(engine: Engine) -> None:
    """An UPDATE of both sides passes where the new one is what the conversion would have made."""
    row, sync = no_way_back()
    kept(engine, row, sync, [{"id": 1, "name": "Ann", "digest": "ann", "visits": 0}])
    with writing(engine) as write:
        write("UPDATE users SET name = 'Bob', digest = 'bob'")
        write("UPDATE users SET name = 'BOB'")
    assert rows(engine, row) == [("BOB", "bob", 0)]


def test_made_anew(engine: Engine) -> None:
    """A sync whose declaration has changed takes the place of the one that stands."""
    row = table(Column("a", Integer), Column("b", Integer))
    before = sync_of(row, ["a"], ["b"], lambda a: a + 1, lambda b: b - 1)
    after = sync_of(row, ["a"], ["b"], lambda a: a + 2, lambda b: b - 2)
    kept(engine, row, before)
    assert stands(engine, before)
    assert not stands(engine, after)
    install(engine, after)
    assert stands(engine, after)
    with writing(engine) as write:
        write("INSERT INTO users (id, a) VALUES (1, 1)")
    assert rows(engine, row) == [(1, 3)]


def test_names_and_literals_that_need_care(engine: Engine) -> None:
    """Names of any kind, in quotes and beyond ASCII, are the user's own."""
    row = table(
        Column("select", Text().with_variant(String(50), "mysql", "mariadb")),
        Column("größe `\"' %s :x", Text().with_variant(String(50), "mysql", "mariadb")),
        name="order",
    )
    sync = sync_of(row, ["select"], ["größe `\"' %s :x"], lambda old: old + literal("%:\"'`\\"), _cut)
    kept(engine, row, sync)
    assert stands(engine, sync)
    with engine.begin() as connection:
        connection.execute(row.insert(), [{"id": 1, "select": "a"}])
    assert rows(engine, row) == [("a", "a%:\"'`\\")]
    assert out_of_step(engine, sync) == 0


def _cut(new: Any) -> Any:
    return func.replace(new, "%:\"'`\\", "")
