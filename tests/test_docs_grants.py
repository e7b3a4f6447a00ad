"""An account that has been granted what the documentation says, and nothing else, can do what it says."""

import re
from collections.abc import Iterator

import pymysql
import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    column,
    create_engine,
    event,
    make_url,
)

import emc
from emc.errors import ExitCode
from tests.commands import shop
from tests.mariadb_server import execute
from tests.snippets import ROOT, blocks

ACCOUNT = "emc_documented"


@pytest.fixture
def documented(mariadb_url: str) -> Iterator[Engine]:
    """An engine of such an account, on a fresh MariaDB database."""
    text = (ROOT / "docs" / "explanation" / "databases.rst").read_text()
    [grants] = [one.code for one in blocks(text) if one.language == "mysql"]
    address = make_url(mariadb_url)
    database = str(address.database).replace("_", r"\_")
    statements = [
        line.removesuffix(";").replace("`shop`", f"`{database}`").replace("deploy", ACCOUNT)
        for line in grants.splitlines()
    ]
    execute(mariadb_url, f"DROP USER IF EXISTS {ACCOUNT}", f"CREATE USER {ACCOUNT}", *statements)
    engine = create_engine(address.set(username=ACCOUNT))
    yield engine
    engine.dispose()
    execute(mariadb_url, f"DROP USER {ACCOUNT}")


def test_documented_grants_are_enough(documented: Engine, mariadb_url: str) -> None:
    """The grants serve for a whole upgrade, compared in a scratch database, and nothing fails or is left unknown."""
    execute(
        mariadb_url,
        "CREATE TABLE users (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(200), old INTEGER, state INTEGER, "
        "CONSTRAINT ck_state CHECK (state != 3))",
        "INSERT INTO users (name, state) VALUES ('a', 1), ('b', 2)",
    )
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(200), nullable=False),
        Column("state", Integer, CheckConstraint("state != 3", name="ck_state")),
        Column("tz", String(40), nullable=False),
    )
    Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("user_id", ForeignKey("users.id")),
        Column("number", Integer, index=True),
    )
    upgrade = emc.Upgrade(metadata)
    upgrade.fill(users.c.tz, "UTC")
    upgrade.retire("users.old")
    sent: list[str] = []
    event.listen(documented, "before_cursor_execute", lambda *sending: sent.append(sending[2]))

    assert emc.plan(upgrade, documented).plan.notes == ()
    assert any(re.match("\\s*CREATE TABLE `?emc_scratch_", statement) for statement in sent)
    emc.expand(upgrade, documented)
    assert emc.migrate(upgrade, documented).exit_code is ExitCode.DONE
    assert emc.contract(upgrade, documented, old_code_gone=True).exit_code is ExitCode.DONE
    assert emc.plan(upgrade, documented).plan.is_empty


def test_documented_grants_are_enough_to_go_back(documented: Engine, mariadb_url: str) -> None:
    """The grants serve for undo too: triggers and guards come and go, data flows back, and rules are put back."""
    execute(
        mariadb_url,
        "CREATE TABLE users (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL, language VARCHAR(9))",
        "INSERT INTO users (name, language) VALUES ('a', 'en'), ('b', 'de')",
    )
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("full_name", String(40), nullable=False),
        Column("locale", String(9)),
        Column("badge", String(9), index=True),
    )
    Table(
        "orders", metadata, Column("id", Integer, primary_key=True), Column("user_id", ForeignKey("users.id"))
    )
    upgrade = emc.Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c.full_name)
    upgrade.data_migration(
        users,
        name="locales",
        where=lambda t: t.c.locale.is_(None) & t.c.language.is_not(None),
        values={"locale": column("language")},
        undo={"language": column("locale")},
    )
    upgrade.retire("users.language", after=["locales"])
    emc.expand(upgrade, documented)
    assert emc.migrate(upgrade, documented).exit_code is ExitCode.DONE
    execute(mariadb_url, "UPDATE users SET full_name = 'c', locale = 'it' WHERE id = 2")
    assert emc.undo(upgrade, documented, new_code_gone=True).exit_code is ExitCode.DONE
    with documented.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM users ORDER BY id").all()
    assert [tuple(row) for row in rows] == [(1, "a", "en"), (2, "c", "it")]
    with pytest.raises(pymysql.err.IntegrityError):
        execute(mariadb_url, "INSERT INTO users (name) VALUES (NULL)")


ROLES = {"shop_owner": "emc_documented_owner", "deploy": "emc_documented", "watch": "emc_documented_watch"}


@pytest.fixture
def administrator(postgresql_url: str) -> Iterator[Engine]:
    """A superuser on PostgreSQL, with the old tables of a role, and roles that have what is documented."""
    engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    database = str(engine.url.database)
    text = (ROOT / "docs" / "explanation" / "databases.rst").read_text()
    grants = [line for one in blocks(text) if one.language == "postgresql" for line in one.code.splitlines()]
    replaced = {**ROLES, "DATABASE shop": f"DATABASE {database}"}
    pattern = re.compile("|".join(rf"\b{name}\b" for name in replaced))
    with engine.connect() as connection:
        for role in ROLES.values():
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        connection.exec_driver_sql(f"GRANT ALL ON SCHEMA public TO {ROLES['shop_owner']}")
        connection.exec_driver_sql(f"SET ROLE {ROLES['shop_owner']}")
        for statement in shop.old_statements():
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("RESET ROLE")
        connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA public FROM {ROLES['shop_owner']}")
        for line in grants:
            connection.exec_driver_sql(pattern.sub(lambda match: replaced[match[0]], line))
    yield engine
    with engine.connect() as connection:
        for role in ROLES.values():
            connection.exec_driver_sql(f"DROP OWNED BY {role} CASCADE")
        for role in ROLES.values():
            connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_documented_grants_are_enough_on_postgresql(administrator: Engine) -> None:
    """One role carries out a whole upgrade, another one may look on, and everything belongs to the owner afterwards."""
    upgrade = shop.make_upgrade()
    deploy, watch = (create_engine(administrator.url.set(username=ROLES[one])) for one in ("deploy", "watch"))
    assert emc.plan(upgrade, watch).plan.notes == emc.plan(upgrade, deploy).plan.notes == ()
    shop.run_all(deploy)
    assert emc.status(upgrade, watch).next == emc.status(upgrade, deploy).next
    with administrator.connect() as connection:
        owners = connection.exec_driver_sql(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        )
        assert owners.scalars().all() == [ROLES["shop_owner"]]
    for engine in (deploy, watch):
        engine.dispose()
