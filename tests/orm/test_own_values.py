"""What becomes of values that the application writes itself to rows that are to be converted."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, FetchedValue, ForeignKey, Row, String, event, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, defer, mapped_column, relationship, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

import emc
import emc.orm
from emc.errors import ConversionError
from emc.upgrade import Upgrade
from tests.orm.support import do, one, questions, statements


class Base(DeclarativeBase):
    """The models of these tests."""


class Person(Base):
    """Had one name and has two."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[str | None] = mapped_column(String(20))
    last: Mapped[str | None] = mapped_column(String(20))
    email: Mapped[str | None] = mapped_column(String(20))


class Shop(Base):
    """What items are sold in."""

    __tablename__ = "shops"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Item(Base):
    """Its price was in euros and is in cents, in the same column."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    price: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shops.id"))
    shop: Mapped[Shop | None] = relationship()


@pytest.fixture
def people(engine: Engine) -> Iterator[sessionmaker[Session]]:
    """Sessions that split the name of one person."""
    names = "first VARCHAR(20), last VARCHAR(20), email VARCHAR(20), name VARCHAR(40)"
    do(engine, f"CREATE TABLE people (id INTEGER PRIMARY KEY, {names})")
    do(engine, "INSERT INTO people (id, name) VALUES (1, 'Ada Byron')")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Person, where=lambda t: t.c.first.is_(None) & t.c.name.is_not(None))
    def split(row: Row[Any]) -> dict[str, Any]:
        first, last = row.name.split()
        return {"first": first, "last": last}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    yield sessions
    conversion.stop()


@pytest.fixture
def items(engine: Engine) -> Iterator[sessionmaker[Session]]:
    """Sessions that make cents of the price of one item."""
    do(engine, "CREATE TABLE shops (id INTEGER PRIMARY KEY)")
    columns = "price INTEGER, version INTEGER, shop_id INTEGER, shop_name VARCHAR(20)"
    do(engine, f"CREATE TABLE items (id INTEGER PRIMARY KEY, {columns})")
    do(engine, "INSERT INTO items VALUES (1, 199, 1, NULL, NULL)")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Item, where=Item.version < 2)
    def to_cents(row: Row[Any]) -> dict[Any, Any]:
        return {Item.price: row.price * 100, Item.version: 2}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    yield sessions
    conversion.stop()


def row(engine: Engine, query: str) -> tuple[Any, ...]:
    """The one row that *query* answers."""
    with engine.connect() as connection:
        return tuple(connection.execute(text(query)).one())


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"first": "Augusta"}, ("Augusta", "Byron")),
        ({"last": "Lovelace"}, ("Ada", "Lovelace")),
        ({"first": "Augusta", "last": "King"}, ("Augusta", "King")),
        ({"last": None}, ("Ada", None)),
        ({"first": None}, ("Ada", "Byron")),
        ({"first": "Ada"}, ("Ada", "Byron")),
        ({"first": None, "last": "Lovelace"}, ("Ada", "Lovelace")),
    ],
)
def test_a_part_that_is_set_leaves_the_other_parts_converted(
    engine: Engine, people: sessionmaker[Session], own: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    """What is set is written, the rest comes from the old column, and the object is the row; loaded anew or not."""
    with people(expire_on_commit=False) as session:
        person = session.get_one(Person, 1)
        assert (person.first, person.last) == ("Ada", "Byron")
        for name, value in own.items():
            setattr(person, name, value)
        session.commit()
        assert (person.first, person.last) == expected
    assert row(engine, "SELECT first, last FROM people") == expected


@pytest.mark.parametrize("expired", [["first", "last"], None])
def test_what_is_set_before_it_is_loaded_is_set(
    engine: Engine, people: sessionmaker[Session], expired: list[str] | None
) -> None:
    """An object need not have loaded what is set, nor the rest."""
    with people.begin() as session:
        person = session.get_one(Person, 1)
        session.expire(person, expired)
        person.first = "Augusta"
        session.flush()
        assert (person.first, person.last) == ("Augusta", "Byron")
    assert row(engine, "SELECT first, last FROM people") == ("Augusta", "Byron")


def test_a_part_that_was_not_loaded_is_converted_all_the_same(
    engine: Engine, people: sessionmaker[Session]
) -> None:
    """Deferred columns are written to in the row."""
    with people.begin() as session:
        [person] = session.scalars(select(Person).options(defer(Person.last)))
        person.first = "Augusta"
    assert row(engine, "SELECT first, last FROM people") == ("Augusta", "Byron")


def test_a_new_key_does_not_hide_the_row(engine: Engine, people: sessionmaker[Session]) -> None:
    """The row of an object whose key is changed is found by the key that it has."""
    with people.begin() as session:
        person = session.get_one(Person, 1)
        person.id, person.first = 7, "Augusta"
    assert row(engine, "SELECT id, first, last FROM people") == (7, "Augusta", "Byron")


def test_savepoints_take_both_back(engine: Engine, people: sessionmaker[Session]) -> None:
    """With a savepoint goes what was converted in it; the object shows its row converted again, and saves it."""
    with people.begin() as session:
        person = session.get_one(Person, 1)
        savepoint = session.begin_nested()
        person.first = "Augusta"
        # Queries flush.
        assert session.scalars(select(Person.last)).one() == "Byron"
        savepoint.rollback()
        assert (person.first, person.last) == ("Ada", "Byron")
        assert session.execute(text("SELECT first, last FROM people")).one() == (None, None)
        person.last = "Lovelace"
    assert row(engine, "SELECT first, last FROM people") == ("Ada", "Lovelace")


def test_a_value_in_the_new_form_is_not_converted(engine: Engine, items: sessionmaker[Session]) -> None:
    """Where old and new form share a column, what the application sets is in the new form."""
    with items.begin() as session:
        item = session.get_one(Item, 1)
        assert (item.price, item.version) == (19900, 2)
        item.price = 25000
        session.flush()
        assert (item.price, item.version) == (25000, 2)
    assert row(engine, "SELECT price, version FROM items") == (25000, 2)


def test_an_expression_is_evaluated_on_the_converted_row(
    engine: Engine, items: sessionmaker[Session]
) -> None:
    """What is set in SQL means the columns of the new release."""
    with items.begin() as session:
        session.get_one(Item, 1).price = Item.price + 1
    assert row(engine, "SELECT price, version FROM items") == (19901, 2)


def test_new_objects_keep_what_they_have(engine: Engine, items: sessionmaker[Session]) -> None:
    """A new row that is work is given what it has no value for."""
    with items.begin() as session:
        session.add_all([Item(id=2, price=500), Item(id=3, price=func.abs(-250))])
    assert row(engine, "SELECT price, version FROM items WHERE id = 2") == (500, 2)
    assert row(engine, "SELECT price, version FROM items WHERE id = 3") == (250, 2)


def test_what_listeners_set_later_is_not_converted(engine: Engine, items: sessionmaker[Session]) -> None:
    """Nor is what comes to an object when the flush has begun, and its row was not looked at before."""

    def later(session: Session, *_: Any) -> None:
        session.get_one(Item, 1).price = 25000

    event.listen(items, "before_flush", later)
    with items.begin() as session:
        item = session.get_one(Item, 1)
        session.add(Shop(id=1))
        session.flush()
        assert item.version == 2
        event.remove(items, "before_flush", later)
    assert row(engine, "SELECT price, version FROM items") == (25000, 2)


def test_what_a_listener_sets_to_what_is_shown_is_no_change(
    engine: Engine, items: sessionmaker[Session]
) -> None:
    """The flush does not write it, so the function's answer is."""

    def later(session: Session, *_: Any) -> None:
        session.get_one(Item, 1).price = 19900

    event.listen(items, "before_flush", later)
    with items.begin() as session:
        item = session.get_one(Item, 1)
        session.add(Shop(id=1))
        session.flush()
        assert item.version == 2
        event.remove(items, "before_flush", later)
    assert row(engine, "SELECT price, version FROM items") == (19900, 2)


def test_a_parent_that_is_set_is_the_column_that_refers_to_it(
    engine: Engine, items: sessionmaker[Session]
) -> None:
    """The row is converted before a new parent's key is written, which may make it look done."""
    do(engine, "UPDATE items SET version = 2, shop_name = 'none'")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Item, where=lambda t: t.c.shop_id.is_(None) & t.c.shop_name.is_not(None))
    def move(row: Row[Any]) -> dict[Any, Any]:
        return {Item.shop_id: 1, Item.price: 0}

    do(engine, "INSERT INTO shops VALUES (1)")
    conversion = emc.orm.convert(upgrade, on=items)
    with items() as session:
        item = session.get_one(Item, 1)
        item.shop = shop = Shop(id=2)
        session.commit()
        assert item.shop is shop
        assert (item.shop_id, item.price) == (2, 0)
    assert row(engine, "SELECT shop_id, price FROM items") == (2, 0)
    conversion.stop()


def test_a_function_that_writes_elsewhere_is_called_once(
    engine: Engine, items: sessionmaker[Session]
) -> None:
    """Even if what the application writes makes the row work again, which is left to the backfill."""
    do(engine, "UPDATE items SET version = 2")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Item, where=Item.shop_id.is_(None))
    def move(row: Row[Any], connection: Connection) -> dict[Any, Any]:
        connection.execute(text("INSERT INTO shops VALUES (1)"))
        return {Item.shop_id: 1, Item.price: 0}

    conversion = emc.orm.convert(upgrade, on=items)
    with items.begin() as session:
        item = session.get_one(Item, 1)
        session.expire(item, ["shop_id"])
        item.price, item.shop_id = 7, None
        session.flush()
        assert (item.price, item.shop_id) == (7, None)
    assert row(engine, "SELECT price, shop_id FROM items") == (7, None)
    assert one(engine, "SELECT count(*) FROM shops") == 1
    conversion.stop()


def test_a_failure_ends_the_transaction(engine: Engine, people: sessionmaker[Session]) -> None:
    """As a flush that fails does: what was converted by then cannot be committed by one who does not look."""
    do(engine, "INSERT INTO people (id, name) VALUES (2, 'Alan Turing')")
    with people() as session:
        person = session.get_one(Person, 2)
        session.execute(text("UPDATE people SET email = 'lost' WHERE id = 1"))
        session.execute(text("UPDATE people SET name = 'Turing' WHERE id = 2"))
        person.first = "Alan M."
        with pytest.raises(ConversionError):
            session.flush()
        assert not session.is_active
        session.rollback()
        session.get_one(Person, 2).first = "Alan M."
        session.commit()
    assert row(engine, "SELECT first, last FROM people WHERE id = 2") == ("Alan M.", "Turing")
    assert one(engine, "SELECT email FROM people WHERE id = 1") is None


def test_a_row_is_asked_about_once(engine: Engine, people: sessionmaker[Session]) -> None:
    """What was no work before the flush is no work after it if nothing was written that the condition speaks of."""
    do(engine, "INSERT INTO people (id, email) VALUES (2, 'x')")
    with people.begin() as session:
        for key in (1, 2):
            session.get_one(Person, key).email = "new"
        with statements(engine) as sent:
            session.flush()
    assert len(questions(sent)) == 1


def test_rows_are_locked_in_the_order_in_which_a_flush_writes_them(
    engine: Engine, people: sessionmaker[Session]
) -> None:
    """Sessions that save the same rows, more than one statement asks for, do not wait for each other."""
    with engine.begin() as connection:
        rows = [{"id": key} for key in range(2, 1200)]
        connection.execute(text("INSERT INTO people (id, name) VALUES (:id, 'Ada Byron')"), rows)
    asked: list[Any] = []

    def note(*sending: Any) -> None:
        if "emc_pending" in sending[2]:
            found = sending[3]
            asked.append(max(found.values() if isinstance(found, dict) else found))

    with people.begin() as session:
        for person in session.scalars(select(Person).order_by(Person.id.desc())):
            person.email = "new"
        event.listen(engine, "before_cursor_execute", note)
        session.flush()
        event.remove(engine, "before_cursor_execute", note)
    assert asked == [500, 1000, 1199]


class Versioned(Base):
    """Told apart from what others made of it by a version that the server counts."""

    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    new: Mapped[int | None]
    other: Mapped[int | None]
    revision: Mapped[int] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())
    __mapper_args__ = {"version_id_col": revision, "version_id_generator": False}  # noqa: RUF012


TRIGGERS = {
    "postgresql": """CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.revision := OLD.revision + 1; RETURN NEW; END';
        CREATE TRIGGER counts BEFORE UPDATE ON versioned FOR EACH ROW EXECUTE FUNCTION counts()""",
    "mariadb": """CREATE TRIGGER counts BEFORE UPDATE ON versioned
        FOR EACH ROW SET NEW.revision = OLD.revision + 1""",
}


def test_versions_that_the_server_counts_are_no_conflict(engine: Engine) -> None:
    """To convert a row makes another version of it, which the flush expects; one that somebody else made is stale."""
    if engine.dialect.name not in TRIGGERS:
        pytest.skip("its triggers come after RETURNING, by which SQLAlchemy learns of the version")
    columns = "new INTEGER, other INTEGER, revision INTEGER DEFAULT 1, old INTEGER"
    do(engine, f"CREATE TABLE versioned (id INTEGER PRIMARY KEY, {columns})")
    with engine.begin() as connection:
        connection.exec_driver_sql(TRIGGERS[engine.dialect.name])
    do(engine, "INSERT INTO versioned (id, old) VALUES (1, 10), (2, 20)")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Versioned, where=lambda t: t.c.new.is_(None) & t.c.old.is_not(None))
    def convert(row: Row[Any]) -> dict[str, Any]:
        return {"new": row.old}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        first = session.get_one(Versioned, 1)
        first.other = 1
        session.flush()
        first.new = None  # Which makes it work again.
        session.flush()
        first.other = 2
    assert row(engine, "SELECT new, other FROM versioned WHERE id = 1") == (10, 2)
    with sessions() as session:
        second = session.get_one(Versioned, 2)
        do(engine, "UPDATE versioned SET old = 21 WHERE id = 2")
        do(engine, "UPDATE versioned SET other = 5 WHERE id = 2")
        second.other = 6
        with pytest.raises(StaleDataError):
            session.flush()
    assert row(engine, "SELECT new, other FROM versioned WHERE id = 2") == (None, 5)
    conversion.stop()
