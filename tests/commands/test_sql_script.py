"""The script of `emc plan --sql` for PostgreSQL, run by psql as it stands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url
from sqlalchemy.pool import NullPool

import emc
from emc.commands import script
from emc.commands.sql import rendering
from emc.errors import ExitCode
from emc.phases import Phase
from emc.testing.copying import copies
from emc.upgrade import Upgrade
from tests.lifecycle.pairs_mixed import SHOP
from tests.lifecycle.ritual import Release, build_old, modelled, upgrade_of
from tests.servers import missing, require

SAID = "SET emc.old_code_gone = 'who says so';"
ROUNDS = 3
"""How often a script may have to be made anew, since what stands above changes what a drop rests on."""
STOPPED = 3
"""psql's exit code when a script ends early."""


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """An engine on a fresh database that keeps no connection open."""
    engine = sa.create_engine(postgresql_url, poolclass=NullPool)
    yield engine
    engine.dispose()


def program(name: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL's on a database, out of reach of the developer's settings."""
    _, directory = require()
    found = directory / name if (directory / name).exists() else shutil.which(name)
    if found is None:
        missing(f"{name} is not installed")
    address = make_url(url)
    settings = {
        "PGHOST": str(address.host),
        "PGPORT": str(address.port),
        "PGUSER": str(address.username),
        "PGDATABASE": str(address.database),
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return subprocess.run(
        [found, *arguments], env={**environment, **settings}, capture_output=True, text=True, check=False
    )


def psql(engine: sa.Engine, text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as its first lines say."""
    path = directory / "script.sql"
    path.write_text(text)
    return program("psql", engine.url.render_as_string(hide_password=False), "-X", "-q", "-f", str(path))


def apply(engine: sa.Engine, text: str, directory: Path) -> None:
    """Run a script to its end."""
    done = psql(engine, text, directory)
    assert (done.returncode, done.stderr) == (0, "")


def dump(engine: sa.Engine) -> str:
    """The schema as pg_dump has it, without emc's own tables."""
    url = engine.url.render_as_string(hide_password=False)
    done = program("pg_dump", url, "--schema-only", "--no-owner", "--exclude-table=emc_*")
    assert done.returncode == 0, done.stderr
    # A word of its own in each dump, since 15.14 (CVE-2025-8714).
    lines = done.stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith((r"\restrict", r"\unrestrict")))


def with_word(text: str) -> str:
    """A script in which a person has said that the old release is gone."""
    assert f"-- {SAID}" in text
    return text.replace(f"-- {SAID}", SAID)


def send(engine: sa.Engine, *statements: str) -> None:
    """Run *statements* in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def ask(engine: sa.Engine, query: str) -> Any:
    """The first value that *query* answers."""
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def columns(engine: sa.Engine, table: str = "users") -> list[str]:
    """The columns of a table."""
    return [column["name"] for column in sa.inspect(engine).get_columns(table)]


def contract_by_scripts(upgrade: Upgrade, engine: sa.Engine, directory: Path) -> None:
    """Run scripts of contract until one comes to its end; those before it say that another has to be made."""
    for _ in range(ROUNDS):
        done = psql(engine, with_word(script(upgrade, engine, [Phase.CONTRACT])), directory)
        if done.returncode == 0:
            return
        assert "make it anew" in done.stderr
    pytest.fail(f"no script came to its end in {ROUNDS} rounds")


@pytest.mark.parametrize("big", [False, True])
def test_a_script_leaves_the_schema_that_emc_leaves(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, big: bool
) -> None:
    """Expand and contract by psql, on a twin of the database: pg_dump tells no difference, and the plan is empty."""
    if big:
        monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)
    build_old(SHOP, database)
    Release(modelled(SHOP.old), SHOP.old_work).exercise(database, 1000)
    upgrade = upgrade_of(SHOP)
    with copies(database.url.render_as_string(hide_password=False), tmp_path) as copy:
        twin = sa.create_engine(copy(), poolclass=NullPool)
        for engine in (database, twin):
            if engine is database:
                emc.expand(upgrade, engine)
            else:
                apply(engine, script(upgrade, engine, [Phase.EXPAND]), tmp_path)
            assert emc.plan(upgrade, engine).plan.expand == ()
            emc.migrate(upgrade, engine)
            if engine is database:
                assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
            else:
                contract_by_scripts(upgrade, engine, tmp_path)
        assert dump(twin) == dump(database)
        assert emc.plan(upgrade, twin).is_empty
        twin.dispose()


# -- the gates of a script ------------------------------------------------------------------------------------------


@pytest.fixture
def users(database: sa.Engine) -> sa.Engine:
    """A database with users, one of whom has a nickname."""
    send(
        database,
        "CREATE TABLE users (id int PRIMARY KEY, name text, nick text)",
        "INSERT INTO users VALUES (1, NULL, 'it''s 100%% :id \\n'), (2, 'bob', NULL)",
    )
    return database


def retiring(*, required: bool = True) -> Upgrade:
    """The nickname becomes the name, if there is none, and goes; names may be required, and have odd characters."""
    metadata = sa.MetaData()
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=not required),
        sa.Column("tz", sa.Text, server_default="100% :tz \\ '$emc$'"),
        sa.CheckConstraint("name NOT LIKE '%:x\\%'", name="ck:odd"),
    )
    upgrade = Upgrade(metadata)
    upgrade.data_migration(
        "users",
        name="nick_to_name",
        values={"name": sa.func.concat(sa.column("nick"), " 5% :of \\ it")},
        where=lambda t: t.c.nick.is_not(None) & t.c.name.is_(None),
    )
    upgrade.retire("users.nick", after=["nick_to_name"])
    return upgrade


def made(users: sa.Engine) -> str:
    """The whole script, with the word that the old release is gone."""
    return with_word(script(retiring(), users))


@pytest.mark.parametrize("big", [False, True])
def test_the_whole_upgrade_is_one_script_where_sql_says_all_of_it(
    users: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, big: bool
) -> None:
    """Expand, data and contract run through, behind guards on a big table; odd characters stay what they are."""
    if big:
        monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)
    text = made(users)
    assert ("emc_guard_" in text) is big
    apply(users, text, tmp_path)
    assert columns(users) == ["id", "name", "tz"]
    assert ask(users, "SELECT name FROM users WHERE id = 1") == "it's 100% :id \\n 5% :of \\ it"
    send(users, "INSERT INTO users VALUES (3, 'c')")
    assert ask(users, "SELECT tz FROM users WHERE id = 3") == "100% :tz \\ '$emc$'"
    assert ask(users, "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'emc%%'") == 0
    assert emc.plan(retiring(), users).is_empty


def test_a_script_that_is_run_again_stops_and_changes_nothing(users: sa.Engine, tmp_path: Path) -> None:
    """What is there already ends the second run, with the schema and the rows as the first one left them."""
    text = made(users)
    apply(users, text, tmp_path)
    before = dump(users)
    again = psql(users, text, tmp_path)
    assert again.returncode == STOPPED
    assert "already exists" in again.stderr
    assert dump(users) == before


def test_nobody_having_said_that_the_old_release_is_gone_stops_the_script(
    users: sa.Engine, tmp_path: Path
) -> None:
    """The line that says it is a comment until a person takes the dashes away."""
    done = psql(users, script(retiring(), users), tmp_path)
    assert done.returncode == STOPPED
    assert "nobody has said that the old release is gone" in done.stderr
    assert "nick" in columns(users)


def test_expand_that_was_not_run_stops_contract(users: sa.Engine, tmp_path: Path) -> None:
    """The script of contract looks for the results of expand itself."""
    done = psql(users, with_word(script(retiring(), users, [Phase.CONTRACT])), tmp_path)
    assert done.returncode == STOPPED
    assert "expand is not done" in done.stderr
    assert "nick" in columns(users)


@pytest.mark.parametrize("big", [False, True])
def test_a_straggler_stops_the_script_that_was_made_before_it(
    users: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, big: bool
) -> None:
    """A row that comes up after the script was made keeps the column; no guard is left to refuse further ones."""
    if big:
        monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)
    upgrade = retiring(required=False)
    emc.expand(upgrade, users)
    emc.migrate(upgrade, users)
    text = with_word(script(upgrade, users, [Phase.CONTRACT]))
    assert ("emc_guard_" in text) is big
    send(users, "INSERT INTO users (id, nick) VALUES (4, 'late')")
    done = psql(users, text, tmp_path)
    assert done.returncode == STOPPED
    assert "data-elsewhere:users.nick is shut" in done.stderr
    assert ask(users, "SELECT nick FROM users WHERE id = 4") == "late"
    assert ask(users, "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'emc_guard%%'") == 0
    send(users, "INSERT INTO users (id, nick) VALUES (5, 'later')")


def test_a_gate_that_only_emc_can_judge_stays_as_it_was(users: sa.Engine, tmp_path: Path) -> None:
    """A view that hangs on the column shuts the gate when the script is made; the script says so, and ends there."""
    emc.expand(retiring(), users)
    emc.migrate(retiring(), users)
    send(users, "CREATE VIEW v AS SELECT nick FROM users")
    done = psql(users, with_word(script(retiring(), users, [Phase.CONTRACT])), tmp_path)
    assert done.returncode == STOPPED
    assert "nothing-hangs:users.nick was shut (view public.v)" in done.stderr
    assert "nick" in columns(users)


def test_names_lead_to_the_tables_that_the_script_was_made_for(users: sa.Engine, tmp_path: Path) -> None:
    """A session whose search path leads elsewhere runs nothing of it."""
    text = made(users)
    path = f"ALTER ROLE CURRENT_USER IN DATABASE {users.url.database} SET search_path = elsewhere"
    send(users, "CREATE SCHEMA elsewhere", path)
    done = psql(users, text, tmp_path)
    assert done.returncode == STOPPED
    assert "have to lead to public" in done.stderr


def test_no_statement_waits_long_for_a_lock(users: sa.Engine, tmp_path: Path) -> None:
    """Somebody who has the table locked stops the script after its lock timeout; concurrent builds have none."""
    text = script(retiring(), users, [Phase.EXPAND]).replace("1000ms", "50ms")
    with users.connect() as other:
        other.exec_driver_sql("LOCK TABLE users")
        done = psql(users, text, tmp_path)
    assert done.returncode == STOPPED
    assert "lock timeout" in done.stderr


@pytest.mark.parametrize("url", ["postgresql+psycopg://", "mysql+pymysql://", "sqlite://"])
def test_per_cent_signs_are_shown_once(url: str) -> None:
    """What a driver needs doubled is not what a person would send, or reads in JSON."""
    dialect = sa.create_engine(url).dialect
    users = sa.table("users", sa.column("name"))
    shown = rendering(dialect)(sa.select(users.c.name).where(users.c.name.like("5% %%")))
    assert shown.endswith("'5% %%'")
