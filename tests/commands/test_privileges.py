"""What a role that is no superuser can do on PostgreSQL, and what it is told that it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    inspect,
    make_url,
)

import emc
from emc.errors import ExitCode, PrivilegeError
from tests.commands import shop

ROLE = "emc Test deploy"
READER = "emc_test_looks"
OTHER = "emc_test_other"


def quoted(role: str) -> str:
    """A role as SQL has it."""
    return f'"{role}"'


@pytest.fixture
def admin(postgresql_url: str) -> Iterator[Engine]:
    """A superuser on a database in which nobody has what is not granted."""
    engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    database = make_url(postgresql_url).database
    send(
        engine,
        *(f"CREATE ROLE {quoted(role)} LOGIN" for role in (ROLE, READER, OTHER)),
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {quoted(ROLE)}, {READER}",
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        f"GRANT CONNECT, TEMP ON DATABASE {database} TO {quoted(ROLE)}, {READER}",
    )
    yield engine
    for role in (ROLE, READER, OTHER):
        send(engine, f"DROP OWNED BY {quoted(role)} CASCADE", f"DROP ROLE {quoted(role)}")
    engine.dispose()


def send(engine: Engine, *statements: str) -> None:
    """Send statements, each on its own."""
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextmanager
def logged_in(admin: Engine, role: str) -> Iterator[Engine]:
    """An engine of a role."""
    engine = create_engine(admin.url.set(username=role))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("schema", [None, "shop"])
def test_an_owner_of_tables_needs_nothing_else_but_create(admin: Engine, schema: str | None) -> None:
    """A whole upgrade by a role that owns the tables and may create in their schema, and owns nothing else."""
    send(admin, f"GRANT CREATE ON SCHEMA public TO {quoted(ROLE)}")
    if schema:
        send(admin, f"CREATE SCHEMA {schema}", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {quoted(ROLE)}")
    with logged_in(admin, ROLE) as engine:
        with engine.begin() as connection:
            for statement in shop.old_statements(schema):
                connection.exec_driver_sql(statement)
        shop.run_all(engine, schema)


def test_whoever_may_read_may_plan(admin: Engine) -> None:
    """Plan and status answer a role with SELECT what they answer the owner, before, between and after the phases."""
    send(
        admin,
        f"GRANT CREATE ON SCHEMA public TO {quoted(ROLE)}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(ROLE)} GRANT SELECT ON TABLES TO {READER}",
    )
    upgrade = shop.make_upgrade()
    with logged_in(admin, ROLE) as owner, logged_in(admin, READER) as reader:
        with owner.begin() as connection:
            for statement in shop.old_statements():
                connection.exec_driver_sql(statement)
        for command in (emc.plan, emc.expand, emc.migrate, emc.plan):
            command(upgrade, owner)
            theirs, ours = emc.plan(upgrade, owner).plan, emc.plan(upgrade, reader).plan
            assert [step.id for step in ours.expand] == [step.id for step in theirs.expand]
            assert [step.id for step in ours.contract] == [step.id for step in theirs.contract]
            assert ours.notes == theirs.notes
            assert emc.status(upgrade, reader).next == emc.status(upgrade, owner).next
        with pytest.raises(PrivilegeError):
            emc.contract(upgrade, reader, old_code_gone=True)


OLD = (
    "CREATE TABLE parent (id integer PRIMARY KEY)",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE TYPE size AS ENUM ('s')",
    "CREATE TABLE t (id integer PRIMARY KEY, moods mood[])",
    f"ALTER TABLE t OWNER TO {quoted(ROLE)}",
    f"ALTER TYPE mood OWNER TO {quoted(ROLE)}",
    f"GRANT REFERENCES ON parent TO {quoted(ROLE)}",
    f"GRANT CREATE ON SCHEMA public TO {quoted(ROLE)}",
)


def widened() -> emc.Upgrade:
    """A column of a type that is there with a foreign key, an index, a table and a label."""
    metadata = MetaData()
    Table("parent", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
    Table(
        "t",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("moods", ARRAY(Enum("a", "b", name="mood"))),
        Column("size", Enum("s", name="size")),
        Column("parent_id", ForeignKey("parent.id"), index=True),
    )
    Table("more", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
    return emc.Upgrade(metadata)


@pytest.mark.parametrize(
    ("taken", "lacking"),
    [
        (f"REVOKE CREATE ON SCHEMA public FROM {quoted(ROLE)}", "CREATE on schema public"),
        ("ALTER TABLE t OWNER TO postgres", "ownership of table t"),
        (f"ALTER TABLE t OWNER TO {OTHER}", "ownership of table t"),
        ("ALTER TYPE mood OWNER TO postgres", "ownership of type mood"),
        (f"REVOKE REFERENCES ON parent FROM {quoted(ROLE)}", "REFERENCES on table parent"),
        ("REVOKE USAGE ON TYPE size FROM PUBLIC", "USAGE on type size"),
        (f"ALTER ROLE {quoted(ROLE)} SET default_transaction_read_only = on", "sessions that may write"),
    ],
)
def test_what_is_missing_is_found_before_the_first_step(admin: Engine, taken: str, lacking: str) -> None:
    """The privilege is named, nothing has been changed, and the statements of the remedy, as they are, settle it."""
    send(admin, *OLD, taken)
    with logged_in(admin, ROLE) as engine:
        before = inspect(admin).get_table_names()
        with pytest.raises(PrivilegeError) as caught:
            emc.expand(widened(), engine)
        assert lacking in caught.value.message
        assert inspect(admin).get_table_names() == before
        assert caught.value.remedy is not None
        grants = caught.value.remedy.partition("\n")[2].splitlines()
        assert grants
        send(admin, *grants)
        engine.dispose()
        assert emc.expand(widened(), engine).exit_code is ExitCode.DONE


def test_tables_of_another_emc_are_granted_too(admin: Engine) -> None:
    """Where another role made emc's own tables, what is missing on them is named with its GRANTs, which are enough."""
    send(admin, *OLD)
    emc.expand(widened(), admin, only=["create-table:more"])
    send(
        admin, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {quoted(ROLE)}"
    )  # Who may not plan is told that.
    with logged_in(admin, ROLE) as engine:
        with pytest.raises(PrivilegeError) as caught:
            emc.expand(widened(), engine)
        assert caught.value.remedy is not None
        send(admin, *caught.value.remedy.partition("\n")[2].splitlines())
        assert emc.expand(widened(), engine).exit_code is ExitCode.DONE
