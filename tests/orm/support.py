"""What tests of the object layer share: a table in the middle of an upgrade, and statements that are counted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, Row, String, event, insert, inspect, text
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column, relationship

from emc.upgrade import Upgrade


class Base(DeclarativeBase):
    """The models of these tests."""


class Team(Base):
    """What users belong to."""

    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    users: Mapped[list["User"]] = relationship(back_populates="team", order_by="User.id")


class User(Base):
    """The new release: settings are JSON, in an attribute with a name of its own. The old one wrote text."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str | None] = mapped_column(String(50))
    prefs: Mapped[dict[str, Any] | None] = mapped_column("settings", MutableDict.as_mutable(JSON()))
    bio: Mapped[str | None] = deferred(mapped_column(String(50)))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team | None] = relationship(back_populates="users")


class Pets(DeclarativeBase):
    """Classes that share tables, and such as are spread over several."""


class Animal(Pets):
    """The table of all."""

    __tablename__ = "animals"
    id: Mapped[int] = mapped_column("animal_id", primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10))
    title: Mapped[str] = mapped_column("name", String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Cat(Animal):
    """In the same table."""

    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Dog(Animal):
    """In a table of its own besides."""

    __tablename__ = "dogs"
    id: Mapped[int] = mapped_column("dog_id", ForeignKey("animals.animal_id"), primary_key=True)
    tricks: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


ANIMALS = (
    "CREATE TABLE animals (animal_id INTEGER PRIMARY KEY, kind VARCHAR(10), name VARCHAR(20), lives INTEGER)"
)

AFTER_EXPAND = (
    "CREATE TABLE teams (id INTEGER PRIMARY KEY)",
    """CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), settings JSON, bio VARCHAR(50),
    team_id INTEGER REFERENCES teams (id), preferences VARCHAR(200))""",
)


def expanded(engine: Engine, rows: int = 3) -> None:
    """The database between expand and migrate, with *rows* old rows in one team."""
    with engine.begin() as connection:
        for statement in AFTER_EXPAND:
            connection.execute(text(statement))
        connection.execute(insert(Team.__table__).values(id=1))  # type: ignore[arg-type]
        for at in range(1, rows + 1):
            old = {"id": at, "email": f"{at}@x", "old": json.dumps({"n": at})}
            connection.execute(
                text("INSERT INTO users (id, email, team_id, preferences) VALUES (:id, :email, 1, :old)"), old
            )


@dataclass
class Declared:
    """An upgrade whose function reads a column that the models no longer have, and the rows it was given."""

    upgrade: Upgrade = field(default_factory=lambda: Upgrade(Base.metadata))
    given: list[Row[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        @self.upgrade.data_migration(
            User, where=lambda table: table.c.settings.is_(None) & table.c.preferences.is_not(None)
        )
        def parse(row: Row[Any]) -> dict[str, Any]:
            self.given.append(row)
            return {"settings": json.loads(row.preferences)}

        self.upgrade.retire("users.preferences", after=[parse])


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Whatever is sent meanwhile, in one line each."""
    sent: list[str] = []

    def note(*sending: Any) -> None:
        sent.append(" ".join(sending[2].split()))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def questions(sent: list[str]) -> list[str]:
    """Those of the statements that ask which rows are pending."""
    return [statement for statement in sent if "emc_pending" in statement]


def one(engine: Engine, query: str) -> Any:
    """The one value that *query* answers."""
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def do(engine: Engine, statement: str) -> None:
    """What another process does, in a transaction of its own."""
    with engine.begin() as connection:
        connection.execute(text(statement))


def settings_of(engine: Engine, key: int) -> Any:
    """The settings in the row of a user, parsed; ``None`` while they are NULL."""
    found = one(engine, f"SELECT settings FROM users WHERE id = {key}")
    return json.loads(found) if isinstance(found, str) else found


def is_unchanged(instance: object) -> bool:
    """Whether a flush would have nothing to write for *instance*."""
    return not inspect(instance).modified
