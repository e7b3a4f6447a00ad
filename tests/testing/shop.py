"""Two releases of a small service, for whoever tests the checks."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Connection, ForeignKey, Integer, MetaData, String, Table, cast, text

import emc
from emc.upgrade import Upgrade


def old_metadata() -> MetaData:
    """The models of the release that runs."""
    metadata = MetaData()
    Table(
        "teams", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), nullable=False)
    )
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(20), nullable=False),
        Column("email", String(40)),
        Column("age", String(20)),
        Column("fax", String(20)),
        Column("team_id", ForeignKey("teams.id")),
    )
    return metadata


def new_metadata() -> MetaData:
    """The models of the release to come."""
    metadata = MetaData()
    Table(
        "teams", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), nullable=False)
    )
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("full_name", String(20), nullable=False),
        Column("email", String(40), nullable=False),
        Column("age", String(20)),
        Column("tz", String(9), nullable=False),
        Column("team_id", ForeignKey("teams.id")),
    )
    return metadata


def upgrade() -> Upgrade:
    """The upgrade as it should be."""
    metadata = new_metadata()
    users = metadata.tables["users"]
    made = emc.Upgrade(metadata, release="2")
    made.rename("users.name", to=users.c.full_name)
    made.fill(users.c.tz, "UTC")
    made.fill(users.c.email, text("'nobody@example.org'"))
    made.discard("users.fax", reason="nobody faxes")
    return made


def strict_upgrade() -> Upgrade:
    """One whose conversion does not take what the old release writes."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(20), nullable=False),
        Column("email", String(40)),
        Column("years", Integer),
        Column("fax", String(20)),
        Column("team_id", Integer),
    )
    made = emc.Upgrade(metadata, release="2")
    made.convert(
        "users.age",
        to=users.c.years,
        up=lambda age: cast(age, Integer),
        down=lambda years: cast(years, String(20)),
    )
    return made


def rows(connection: Connection) -> None:
    """What the old release has stored."""
    tables = old_metadata().tables
    connection.execute(tables["teams"].insert().values(id=1, name="red"))
    for number in (1, 2, 3):
        connection.execute(
            tables["users"]
            .insert()
            .values(
                id=number,
                name=f"u{number}",
                email=None if number == 2 else f"u{number}@x",
                age="42",
                team_id=1,
            )
        )


Rows = Callable[[Connection], None]
