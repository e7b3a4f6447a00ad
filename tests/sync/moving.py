"""users.street moves to addresses.street: the tables of both releases, and what tells whether they are in step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, text
from sqlalchemy.schema import SchemaItem

from emc import Upgrade


def old_tables(*columns: Column[Any]) -> MetaData:
    """What the old release has."""
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("street", String(20)),
        *columns,
    )
    return metadata


def new_tables(*columns: SchemaItem, nullable: bool = True, ondelete: str | None = "CASCADE") -> MetaData:
    """What the new release has; *columns* are more of the addresses, or constraints."""
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
    )
    Table(
        "addresses",
        metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "user_id",
            ForeignKey("users.id", name="fk_addresses_user", ondelete=ondelete),
            nullable=False,
            unique=True,
        ),
        Column("street", String(20), nullable=nullable),
        *columns,
    )
    return metadata


def same_value(value: Any) -> Any:
    """Nothing is converted."""
    return value


def moved(metadata: MetaData | None = None, **given: Any) -> Upgrade:
    """The upgrade that moves the column."""
    metadata = metadata if metadata is not None else new_tables()
    upgrade = Upgrade(metadata, release="2")
    addresses = metadata.tables["addresses"]
    how: dict[str, Any] = {"up": same_value, "down": same_value, "on": {addresses.c.user_id: "users.id"}}
    upgrade.convert("users.street", to=addresses.c.street, **(how | given))
    return upgrade


def before(engine: Engine, rows: Iterable[tuple[int, str | None]], *columns: Column[Any]) -> None:
    """The database of the old release, with users: id and street."""
    metadata = old_tables(*columns)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for id_, street in rows:
            connection.execute(metadata.tables["users"].insert().values(id=id_, street=street))


def write(engine: Engine, *statements: str) -> None:
    """What a release sends, in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def both(engine: Engine) -> dict[int, tuple[Any, ...]]:
    """Of each user what the old release reads, and what the new one: nothing (``()``) where there is no address."""
    query = (
        "SELECT u.id, u.street, a.user_id, a.street FROM users u LEFT JOIN addresses a ON a.user_id = u.id"
    )
    with engine.connect() as connection:
        found = connection.execute(text(query)).all()
    return {id_: (old, *(() if owner is None else (new,))) for id_, old, owner, new in found}
