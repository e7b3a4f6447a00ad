"""How the columns of a declaration are found in the objects of all kinds of classes."""

import enum
import pickle
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    Enum,
    Integer,
    Numeric,
    Row,
    String,
    TypeDecorator,
    Uuid,
    and_,
    exists,
    select,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    load_only,
    mapped_column,
    scoped_session,
    selectin_polymorphic,
    sessionmaker,
)

import emc.orm
from emc.errors import ConfigurationError
from emc.upgrade import Upgrade
from tests.orm.support import (
    ANIMALS,
    Animal,
    Base,
    Cat,
    Declared,
    Dog,
    Pets,
    Team,
    User,
    do,
    expanded,
    one,
    questions,
    settings_of,
    statements,
)


def test_inherited_tables_are_converted_in_each_class(engine: Engine) -> None:
    """A fill of the base table is seen in every class, one of a class's own table there; each by its own key."""
    for statement in (
        ANIMALS,
        "CREATE TABLE dogs (dog_id INTEGER PRIMARY KEY REFERENCES animals (animal_id), tricks INTEGER, age INTEGER)",
        "INSERT INTO animals VALUES (1, 'cat', NULL, 7), (2, 'dog', NULL, NULL), (3, 'animal', 'named', NULL)",
        "INSERT INTO dogs VALUES (2, NULL, 4)",
    ):
        do(engine, statement)
    upgrade = Upgrade(Pets.metadata)
    upgrade.fill(Animal.title, lambda row: f"{row.kind} {row.animal_id}")
    upgrade.fill(Dog.tricks, lambda row: row.age * 10)
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        animals = session.scalars(select(Animal).order_by(Animal.id)).all()
        assert [(type(one), one.title) for one in animals] == [
            (Cat, "cat 1"),
            (Dog, "dog 2"),
            (Animal, "named"),
        ]
        dog = animals[1]
        assert isinstance(dog, Dog)
        assert dog.tricks == 40
        dog.title = "Rex"
        session.commit()
        assert (dog.title, dog.tricks) == ("Rex", 40)
    assert one(engine, "SELECT name FROM animals WHERE animal_id = 2") == "Rex"
    assert one(engine, "SELECT tricks FROM dogs") == 40
    assert one(engine, "SELECT name FROM animals WHERE animal_id = 1") is None
    conversion.stop()


def test_a_value_that_refers_to_a_parent_changes_the_parent(engine: Engine) -> None:
    """Where a converted column is a foreign key, the related object is that of the converted value."""
    expanded(engine, rows=1)
    do(engine, "INSERT INTO teams VALUES (2)")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.team_id == 1)
    def move(row: Row[Any]) -> dict[Any, Any]:
        return {User.team_id: 2}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        user = session.scalars(select(User).options(joinedload(User.team))).unique().one()
        assert user.team_id == 2
        assert user.team is not None
        assert user.team.id == 2
        user.email = "saved"
        session.commit()
    assert one(engine, "SELECT team_id FROM users") == 2
    conversion.stop()


def test_a_composite_key_tells_rows_apart(engine: Engine) -> None:
    """Rows of a table with several columns in its key are each converted by their own."""

    class Own(DeclarativeBase): ...

    class Price(Own):
        __tablename__ = "prices"
        shop: Mapped[str] = mapped_column(String(10), primary_key=True)
        item: Mapped[int] = mapped_column(primary_key=True)
        cents: Mapped[int]

    columns = "shop VARCHAR(10), item INTEGER, cents INTEGER, price INTEGER"
    do(engine, f"CREATE TABLE prices ({columns}, PRIMARY KEY (shop, item))")
    do(
        engine,
        "INSERT INTO prices VALUES ('a', 1, NULL, 1), ('a', 2, NULL, 2), ('b', 1, 5, 9), ('b', 2, NULL, 4)",
    )
    upgrade = Upgrade(Own.metadata)
    upgrade.fill(Price.cents, lambda row: row.price * 100)
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        prices = session.scalars(select(Price).order_by(Price.shop, Price.item)).all()
        assert [price.cents for price in prices] == [100, 200, 5, 400]
        prices[3].cents += 1
    with engine.connect() as connection:
        found = connection.execute(text("SELECT cents FROM prices ORDER BY shop, item")).scalars().all()
    assert found == [None, None, 5, 401]
    conversion.stop()


def test_a_fill_asks_nothing_while_its_column_is_not_loaded(engine: Engine) -> None:
    """A partial load without the column that is filled costs no question; the column is filled when it is loaded."""
    do(engine, ANIMALS)
    do(engine, "INSERT INTO animals VALUES (1, 'cat', NULL, 7)")
    upgrade = Upgrade(Pets.metadata)
    upgrade.fill(Animal.title, lambda row: f"{row.kind} {row.animal_id}")
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session, statements(engine) as sent:
        [animal] = session.scalars(select(Animal).options(load_only(Animal.kind)))
        assert questions(sent) == []
        assert animal.title == "cat 1"
        assert len(questions(sent)) == 1
    conversion.stop()


def test_what_is_answered_in_sql_is_shown_as_the_database_makes_it(engine: Engine) -> None:
    """An answer may be an expression on the row; the object shows its value."""
    expanded(engine, rows=2)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_(None))
    def lower(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: User.email + "!", User.team_id: None}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        user = session.get_one(User, 2)
        assert user.bio == "2@x!"
        assert user.team_id is None
        user.email = "new"
        session.flush()
        assert user.bio == "2@x!"
    assert one(engine, "SELECT bio FROM users WHERE id = 2") == "2@x!"
    conversion.stop()


def test_what_is_counted_up_in_sql_is_counted_once(engine: Engine) -> None:
    """An answer in SQL that depends on the column it is written to is shown as it was written."""
    expanded(engine, rows=1)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.team_id == 1)
    def count(row: Row[Any]) -> dict[Any, Any]:
        return {User.team_id: User.team_id + 1, User.bio: "counted"}

    do(engine, "INSERT INTO teams VALUES (2)")
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine, expire_on_commit=False)))
    with sessions() as session:
        user = session.get_one(User, 1)
        assert user.team_id == 2
        user.email = "new"
        session.commit()
        assert (user.team_id, user.bio) == (2, "counted")
    assert one(engine, "SELECT team_id FROM users") == 2
    conversion.stop()


def test_declarations_and_classes_may_come_later(engine: Engine) -> None:
    """It may be turned on above the declarations and above the classes, as modules are imported in any order."""

    class Own(DeclarativeBase): ...

    upgrade = Upgrade(Own.metadata)
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))

    class Note(Own):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str] = mapped_column(String(20))

    do(engine, "CREATE TABLE notes (id INTEGER PRIMARY KEY, body VARCHAR(20))")
    do(engine, "INSERT INTO notes VALUES (1, NULL)")
    with sessions() as session:
        assert session.get_one(Note, 1).body is None
    upgrade.fill(Note.body, lambda row: f"note {row.id}")
    with sessions() as session:
        assert session.get_one(Note, 1).body == "note 1"
    conversion.stop()


def test_all_kinds_of_factories_are_listened_to(engine: Engine, declared: Declared) -> None:
    """A factory, a registry of sessions, a class or one session will do; anything else is refused with what would."""
    expanded(engine, rows=1)

    class OwnSession(Session):
        pass

    scoped = scoped_session(sessionmaker(engine))
    single = Session(engine)
    cases: list[tuple[Any, Callable[[], Session]]] = [
        (OwnSession, lambda: OwnSession(engine)),
        (scoped, scoped),
        (single, lambda: single),
    ]
    for on, make in cases:
        conversion = emc.orm.convert(declared.upgrade, on=on)
        session = make()
        assert session.get_one(User, 1).prefs == {"n": 1}
        session.close()
        conversion.stop()
    with pytest.raises(ConfigurationError, match="neither a session nor"):
        emc.orm.convert(declared.upgrade, on=engine)


class Reference(TypeDecorator[str]):
    """A key that the database has otherwise than Python."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> int | None:
        """The number in a reference."""
        return None if value is None else int(value.removeprefix("R"))

    def process_result_value(self, value: int | None, dialect: Any) -> str | None:
        """The reference of a number."""
        return None if value is None else f"R{value}"


class Level(enum.Enum):
    """What is stored by its name."""

    LOW = 1
    HIGH = 2


def test_rows_have_the_types_of_the_models(engine: Engine) -> None:
    """Keys and values that are another thing in Python find their rows, and are given to the function as such."""

    class Own(DeclarativeBase): ...

    class Ticket(Own):
        __tablename__ = "tickets"
        token: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
        number: Mapped[str] = mapped_column(Reference, primary_key=True)
        level: Mapped[Level] = mapped_column(Enum(Level, native_enum=False, length=10))
        weight: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))

    Own.metadata.create_all(engine)
    do(engine, "ALTER TABLE tickets ADD COLUMN grams INTEGER")
    one_, other = uuid.uuid4(), uuid.uuid4()
    upgrade = Upgrade(Own.metadata)
    given: list[Row[Any]] = []

    @upgrade.data_migration(Ticket, where=lambda t: t.c.weight.is_(None))
    def weigh(row: Row[Any]) -> dict[str, Any]:
        given.append(row)
        return {"weight": Decimal(row.grams) / 1000}

    with Session(engine) as session, session.begin():
        session.add(Ticket(token=one_, number="R7", level=Level.LOW))
        session.add(Ticket(token=other, number="R7", level=Level.HIGH))
    do(engine, "UPDATE tickets SET grams = 1500")
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        ticket = session.get_one(Ticket, (other, "R7"))
        assert ticket.weight == Decimal("1.5")
        ticket.level = Level.LOW
    # By a load, and by a save before it writes.
    assert [tuple(row) for row in given] == [(other, "R7", Level.HIGH, None, 1500)] * 2
    with Session(engine) as session:
        assert session.get_one(Ticket, (other, "R7")).weight == Decimal("1.50")
        assert session.get_one(Ticket, (one_, "R7")).weight is None
    conversion.stop()


def test_a_condition_may_ask_other_tables(engine: Engine) -> None:
    """What only the database can answer is asked there, of loaded and of saved rows."""
    expanded(engine, rows=2)
    do(engine, "UPDATE users SET team_id = NULL WHERE id = 2")
    upgrade = Upgrade(Base.metadata)
    has_team = exists().where(Team.id == User.team_id)

    @upgrade.data_migration(User, where=and_(User.bio.is_distinct_from("in a team"), has_team))
    def describe(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: "in a team"}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        users = session.scalars(select(User).order_by(User.id)).all()
        assert [user.bio for user in users] == ["in a team", None]
        users[0].email = "saved"
        users[1].team_id = 1
    with engine.connect() as connection:
        assert (
            connection.execute(text("SELECT bio FROM users ORDER BY id")).scalars().all() == ["in a team"] * 2
        )
    conversion.stop()


def test_an_object_may_go_through_a_cache(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """One that was pickled, and comes back in another session, still converts its row when it is saved."""
    with sessions() as session:
        pickled = pickle.dumps(session.get_one(User, 1))
    with sessions.begin() as session:
        user = pickle.loads(pickled)
        session.add(user)
        assert user.prefs == {"n": 1}
        user.email = "new"
    assert settings_of(engine, 1) == {"n": 1}


def test_subclasses_are_converted_by_each_statement_that_loads_them(engine: Engine) -> None:
    """Tables of subclasses that a second statement loads are converted with it, streams included."""
    for statement in (
        ANIMALS,
        "CREATE TABLE dogs (dog_id INTEGER PRIMARY KEY REFERENCES animals (animal_id), tricks INTEGER, age INTEGER)",
        "INSERT INTO animals VALUES (1, 'dog', 'Rex', NULL), (2, 'dog', 'Max', NULL)",
        "INSERT INTO dogs VALUES (1, NULL, 4), (2, NULL, 5)",
    ):
        do(engine, statement)
    upgrade = Upgrade(Pets.metadata)
    upgrade.fill(Dog.tricks, lambda row: row.age * 10)
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    query = select(Animal).options(selectin_polymorphic(Animal, [Dog])).order_by(Animal.id)
    with sessions() as session, statements(engine) as sent:
        assert [dog.tricks for dog in session.scalars(query) if isinstance(dog, Dog)] == [40, 50]
        assert len(questions(sent)) == 1
    conversion.stop()
