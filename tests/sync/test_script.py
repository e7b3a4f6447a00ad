"""A script for MariaDB, as the server's own client takes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Numeric, String, Table, create_engine, make_url

import emc
from emc.commands.sql import plan_sql
from emc.phases import Phase
from emc.upgrade import Upgrade
from tests.servers import missing
from tests.sync.keeping import writing


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh MariaDB database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


def client(url: str, script: str) -> None:
    """Feed *script* to the client."""
    program = shutil.which("mariadb") or shutil.which("mysql")
    if program is None:
        missing("the client of MariaDB is not installed")
    address = make_url(url)
    subprocess.run(
        [program, f"-h{address.host}", f"-P{address.port}", f"-u{address.username}", str(address.database)],
        input=script.encode(),
        check=True,
        capture_output=True,
    )


def test_a_script_keeps_columns_in_step(engine: Engine, mariadb_url: str) -> None:
    """Triggers, copy and end can be sent by hand, phase by phase, and emc finds all of it done."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("full_name", String(50)),
        Column("cents", Integer, server_default="5"),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c.full_name)
    upgrade.convert("users.price", to=users.c.cents, up=lambda old: old * 100, down=lambda new: new / 100)
    before = Table(
        "users",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(50)),
        Column("price", Numeric(10, 2)),
    )
    before.metadata.create_all(engine)
    with writing(engine) as write:
        write("INSERT INTO users VALUES (1, '100%', 2.5)")
        for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.CONTRACT):
            client(mariadb_url, plan_sql(emc.plan(upgrade, engine), engine.dialect, [phase]))
            if phase is Phase.EXPAND:
                write("INSERT INTO users (id, name, price) VALUES (2, 'Bob', 1)")
    assert emc.plan(upgrade, engine).is_empty
    with engine.connect() as connection:
        found = connection.execute(users.select().order_by(users.c.id)).all()
    assert [tuple(one) for one in found] == [(1, "100%", 250), (2, "Bob", 100)]
