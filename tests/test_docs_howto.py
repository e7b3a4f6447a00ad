"""Whoever follows a how-to guide gets where it says, on a database as the old release left it."""

import datetime as dt
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    column,
    create_engine,
    exists,
    select,
)
from sqlalchemy.dialects.postgresql import INT4RANGE, ExcludeConstraint

import emc
from emc.errors import ExitCode, PlanRefusedError
from emc.gates import _OWN, _REPLACED
from emc.gates.dependents import NothingHangs
from emc.gates.people import ExpandDone, OldCodeGone
from emc.operations import Kind
from emc.state.tables import METADATA
from tests.snippets import ROOT, Reader, blocks

HOWTO = ROOT / "docs" / "howto"


@dataclass(frozen=True)
class Guide:
    """One guide, with the database that somebody has who needs it."""

    name: str
    old: str
    """The schema and the rows of the old release; ``{id}`` is the key that SQLAlchemy makes of an integer."""
    query: str
    """A question to the database when all is done."""
    answer: list[tuple[Any, ...]]
    refused_by: tuple[str, ...] = ()
    """Databases on which the guide says that the plan refuses it, as SQLAlchemy calls them."""


GUIDES = [
    Guide(
        "rename-column",
        """
        CREATE TABLE users ({id}, name VARCHAR(200) NOT NULL);
        CREATE TABLE orders ({id}, price NUMERIC(10, 2), duration INTEGER);
        INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace');
        INSERT INTO orders VALUES (1, 1.25, 90);
        """,
        "SELECT users.id, full_name, price_cents, hours, minutes FROM users"
        " LEFT JOIN orders ON orders.id = users.id ORDER BY 1",
        [(1, "Ada", 125, 1, 30), (2, "Grace", None, None, None)],
    ),
    Guide(
        "move-column",
        """
        CREATE TABLE users ({id}, street VARCHAR(200));
        INSERT INTO users VALUES (1, 'Main Street'), (2, NULL);
        """,
        "SELECT users.id, street FROM users LEFT JOIN addresses ON user_id = users.id ORDER BY 1",
        [(1, "Main Street"), (2, None)],
        refused_by=("mysql", "mariadb"),
    ),
    Guide(
        "add-not-null-column",
        """
        CREATE TABLE users ({id}, email VARCHAR(200) NOT NULL);
        INSERT INTO users VALUES (1, 'Ada@example.org'), (2, 'grace@example.org');
        """,
        "SELECT id, tz, sort_key, initials FROM users ORDER BY id",
        [(1, "UTC", "ada@example.org", "AD"), (2, "UTC", "grace@example.org", "GR")],
    ),
    Guide(
        "drop-column",
        """
        CREATE TABLE users ({id}, nickname VARCHAR(200), legacy_flags INTEGER,
            cached_avatar VARCHAR(9) NOT NULL);
        INSERT INTO users VALUES (1, 'ada', NULL, 'x'), (2, NULL, NULL, 'y');
        """,
        "SELECT * FROM users ORDER BY id",
        [(1, "ada"), (2, None)],
    ),
    Guide(
        "drop-table",
        """
        CREATE TABLE users ({id});
        CREATE TABLE tokens ({id}, user_id INTEGER NOT NULL, secret VARCHAR(64) NOT NULL,
            FOREIGN KEY (user_id) REFERENCES users (id));
        CREATE TABLE old_tokens ({id}, user_id INTEGER NOT NULL, secret VARCHAR(64) NOT NULL,
            revoked BOOLEAN NOT NULL, CONSTRAINT of_user FOREIGN KEY (user_id) REFERENCES users (id));
        CREATE TABLE invitations ({id});
        CREATE TABLE page_views ({id});
        INSERT INTO users VALUES (1);
        INSERT INTO old_tokens VALUES (1, 1, 'a', false), (2, 1, 'b', true);
        INSERT INTO page_views VALUES (1);
        """,
        "SELECT user_id, secret FROM tokens",
        [(1, "a")],
    ),
    Guide(
        "unique-constraint",
        """
        CREATE TABLE users ({id}, email VARCHAR(200) NOT NULL, verified BOOLEAN NOT NULL);
        INSERT INTO users VALUES (1, 'ada', true), (2, 'ada', false), (3, 'zoe', false), (4, 'zoe', false);
        """,
        "SELECT id FROM users ORDER BY id",
        [(1,), (4,)],
    ),
    Guide(
        "foreign-key",
        """
        CREATE TABLE users ({id});
        CREATE TABLE orders ({id}, user_id INTEGER NOT NULL);
        CREATE TABLE notes ({id}, order_id INTEGER NOT NULL);
        INSERT INTO users VALUES (1);
        INSERT INTO orders VALUES (1, 1), (2, 9);
        INSERT INTO notes VALUES (1, 1), (2, 9);
        """,
        "SELECT orders.id, user_id, notes.id FROM orders LEFT JOIN notes ON order_id = orders.id ORDER BY 1",
        [(1, 1, 1), (2, None, None)],
    ),
    Guide(
        "move-data",
        """
        CREATE TABLE users ({id}, name VARCHAR(200), preferences VARCHAR(99));
        CREATE TABLE postal_addresses ({id}, user_id INTEGER NOT NULL, line VARCHAR(200) NOT NULL);
        INSERT INTO users VALUES (1, 'Ada', '[1]'), (2, 'Grace', NULL);
        INSERT INTO postal_addresses VALUES (7, 1, 'here');
        """,
        "SELECT users.id, full_name, TRIM(CAST(settings AS CHAR(9))), line FROM users LEFT JOIN addresses "
        "ON user_id = users.id ORDER BY 1",
        [(1, "Ada", "[1]", "here"), (2, "Grace", None, None)],
    ),
    Guide(
        "go-back",
        """
        CREATE TABLE users ({id}, name VARCHAR(200) NOT NULL, language VARCHAR(20));
        INSERT INTO users VALUES (1, 'Ada', 'en'), (2, 'Grace', NULL);
        """,
        "SELECT id, full_name, locale FROM users ORDER BY id",
        [(1, "Ada", "en"), (2, "Grace", None)],
    ),
    Guide(
        "allow-waiting",
        """
        CREATE TABLE orders ({id}, number INTEGER NOT NULL);
        INSERT INTO orders VALUES (1, 4711);
        """,
        "SELECT id, number FROM orders",
        [(1, 4711)],
    ),
    Guide(
        "convert-as-touched",
        """
        CREATE TABLE users ({id}, email VARCHAR(200), preferences VARCHAR(200));
        INSERT INTO users VALUES (1, 'ada', '{{"lang": "en"}}'), (2, 'grace', NULL);
        """,
        "SELECT id, email, settings IS NULL FROM users ORDER BY id",
        [(1, "ada", False), (2, "grace", True)],
    ),
]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Where a guide's snippets run."""
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return module


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_guide(guide: Guide, engine: Engine, module: ModuleType, tmp_path: Path) -> None:
    """The declarations of a guide take an old database to its end, and the rows are what the guide promises."""
    key = {"postgresql": "SERIAL", "sqlite": "INTEGER"}.get(engine.dialect.name, "INTEGER AUTO_INCREMENT")
    with engine.begin() as connection:
        for statement in guide.old.format(id=f"id {key} NOT NULL PRIMARY KEY").split(";")[:-1]:
            connection.exec_driver_sql(statement)
    list(Reader(HOWTO / f"{guide.name}.rst", tmp_path, module).follow())
    upgrade: emc.Upgrade = module.upgrade  # What every guide calls it.
    if engine.dialect.name in guide.refused_by:
        with pytest.raises(PlanRefusedError):
            emc.plan(upgrade, engine)
        return

    emc.expand(upgrade, engine)
    assert emc.migrate(upgrade, engine).exit_code is ExitCode.DONE
    shut = ExitCode.GATE_SHUT if emc.plan(upgrade, engine).plan.contract else ExitCode.DONE
    assert emc.contract(upgrade, engine).exit_code is shut
    report = emc.contract(upgrade, engine, old_code_gone=True, soak=dt.timedelta())
    assert [(one.step.id, one.verdicts) for one in report.blocked] == []

    plan = emc.plan(upgrade, engine).plan
    assert plan.is_empty
    assert plan.unmanaged == ()
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.exec_driver_sql(guide.query)] == guide.answer


SHUT = """
    CREATE TABLE users (id SERIAL PRIMARY KEY, name TEXT, email TEXT, tz TEXT, nickname TEXT, full_name TEXT);
    INSERT INTO users (name, email, tz, nickname) VALUES ('a', 'x', 'UTC', NULL), ('b', 'x', NULL, NULL),
        ('c', 'x', NULL, 'cc'), ('d', 'y', NULL, 'dd');
    INSERT INTO users (name, full_name, email, tz) VALUES ('e', 'e', 'y', 'UTC');
    CREATE INDEX ix_users_name ON users (name);
    CREATE TABLE orders (id SERIAL PRIMARY KEY, user_id INTEGER, total INTEGER, old_total INTEGER, cents INTEGER);
    INSERT INTO orders (user_id, total, old_total, cents) VALUES (1, 1, 1, 100), (8, -1, 1, 100), (9, -1, NULL, 1);
    CREATE TABLE bookings (id SERIAL PRIMARY KEY, during INT4RANGE);
    INSERT INTO bookings (during) VALUES ('[1,9)'), ('[2,3)'), ('[4,5)');
    CREATE TABLE products (id SERIAL PRIMARY KEY, code VARCHAR(20));
    INSERT INTO products (code) VALUES ('short'), ('much too long');
    CREATE TYPE state AS ENUM ('open', 'archived');
    CREATE TABLE tasks (id SERIAL PRIMARY KEY, state state);
    INSERT INTO tasks (state) VALUES ('archived'), ('archived'), ('open');
    CREATE TABLE late (id SERIAL PRIMARY KEY);
    CREATE TABLE people (id SERIAL PRIMARY KEY, name TEXT, title TEXT);
    INSERT INTO people (name, title) VALUES ('a', NULL), ('b', NULL), ('c', 'C');
    CREATE VIEW active_users AS SELECT id, nickname FROM users;
    CREATE FUNCTION report(integer) RETURNS bigint LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT sum(old_total) FROM orders WHERE user_id = $1); END';
"""


def shut_upgrade() -> emc.Upgrade:
    """Models that ask for something behind every gate."""
    metadata = MetaData()

    def table(name: str, *elements: Any) -> Table:
        return Table(name, metadata, Column("id", Integer, primary_key=True), *elements)

    users = table(
        "users",
        Column("email", Text, unique=True),
        Column("tz", Text, nullable=False),
        Column("full_name", Text),
    )
    orders = table(
        "orders",
        Column("user_id", ForeignKey("users.id")),
        Column("total", Integer),
        Column("cents", Integer),
        CheckConstraint("total >= 0", name="ck_orders_total"),
    )
    table("bookings", Column("during", INT4RANGE), ExcludeConstraint(("during", "&&"), name="excl_room"))
    table("products", Column("code", String(5)))
    table("tasks", Column("state", Enum("open", name="state")))
    table("late", Column("one", Integer), Column("two", Integer))
    people = table("people", Column("title", Text))
    upgrade = emc.Upgrade(metadata)
    upgrade.rename("people.name", to=people.c.title)
    upgrade.fill(users.c.tz, "UTC")
    upgrade.data_migration(
        users,
        name="full_names",
        where=lambda t: t.c.full_name.is_distinct_from(t.c.name),
        values={users.c.full_name: column("name")},
    )
    upgrade.data_migration(
        orders,
        name="cents",
        where=lambda t: t.c.cents != t.c.old_total * 100,
        values={orders.c.cents: column("old_total") * 100},
    )
    upgrade.retire("users.name", after=["full_names"], soak="24h")
    upgrade.retire("users.nickname")
    upgrade.retire("orders.old_total", after=["cents"])
    upgrade.retire("users.ix_users_name")
    return upgrade


def test_messages(postgresql_url: str) -> None:
    """The guide to shut gates quotes what emc says, word for word, and leaves no gate out."""
    quoted = set(re.findall(r"^   \*([^*]+)\*$", (HOWTO / "shut-gate.rst").read_text(), re.MULTILINE))
    engine = create_engine(postgresql_url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(SHUT)
        verdicts = emc.plan(shut_upgrade(), engine).verdicts.values()
    finally:
        engine.dispose()
    said = {one.reason for its in verdicts for one in its if not one.open}
    assert sorted(quoted - said) == []
    kinds = {one.gate.partition(":")[0] for its in verdicts for one in its if one.reason in quoted}
    assert kinds == gate_kinds()


def test_messages_of_guards(mariadb_url: str) -> None:
    """What the guide to shut gates quotes of guards is what emc says."""
    metadata = MetaData()
    users = Table("users", metadata, Column("id", Integer, primary_key=True))
    profiles = Table("profiles", metadata, Column("user_id", Integer, primary_key=True))
    upgrade = emc.Upgrade(metadata)
    upgrade.data_migration(
        users,
        name="profiles",
        where=lambda t: ~exists(select(1).where(profiles.c.user_id == t.c.id)),
    )(lambda _: None)
    upgrade.retire("users.name", after=["profiles"])
    engine = create_engine(mariadb_url)
    try:
        metadata.create_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE users ADD name TEXT")
        [verdicts] = emc.plan(upgrade, engine).verdicts.values()
    finally:
        engine.dispose()
    [said] = [one.reason for one in verdicts if one.gate == "data-elsewhere:users.name"]
    quoted = [
        one.code.strip() for one in blocks((HOWTO / "shut-gate.rst").read_text()) if one.language == "text"
    ]
    assert said in quoted


def test_pipeline(module: ModuleType, tmp_path: Path) -> None:
    """The shell script of the pipeline guide goes on while rows are left, waits for locks, and ends as emc ended."""
    list(Reader(HOWTO / "pipeline.rst", tmp_path, module).follow())
    answers = tmp_path / "answers"
    fake = tmp_path / "emc"
    fake.write_text(f'#!/bin/bash\nread -r code < "{answers}"\nsed -i 1d "{answers}"\nexit "$code"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PAUSE": "0"}
    for codes, end in (("1 1 4 0", 0), ("1 2", 2), ("3", 3), ("5", 5)):
        answers.write_text("\n".join([*codes.split(), "99", ""]))
        done = subprocess.run(["bash", "migrate.sh"], cwd=tmp_path, env=environment, check=False)
        assert done.returncode == end, codes
        assert answers.read_text() == "99\n", f"{codes}: not every answer was asked for"


def gate_kinds() -> set[str]:
    """The first halves of the names of all gates."""
    made = {gate for gates in (*_OWN.values(), *_REPLACED.values()) for gate in gates}
    return {gate.kind for gate in (*made, ExpandDone, OldCodeGone, NothingHangs)}  # type: ignore[attr-defined]


def test_gates_and_kinds_are_documented() -> None:
    """Every gate, kind of operation, hazard, exit code and table of emc's own is in the documentation."""

    def text(name: str) -> str:
        return (ROOT / "docs" / name).read_text()

    gates = gate_kinds()
    for page in ("explanation/gates.rst", "howto/shut-gate.rst"):
        assert [gate for gate in sorted(gates) if f"``{gate}``" not in text(page)] == []
    kinds = {value for name, value in vars(Kind).items() if name.isupper()}
    # No plan holds it: a type goes with the last column or table that uses it.
    kinds -= {Kind.DROP_ENUM}
    assert [kind for kind in sorted(kinds) if f"``{kind}``" not in text("reference/steps.rst")] == []
    assert [name for name in METADATA.tables if f"``{name}``" not in text("reference/tables.rst")] == []
    codes = {int(code) for code in ExitCode}
    first_column = {
        int(row)
        for block in text("howto/pipeline.rst").split("   * - ")
        if (row := block.split("\n", 1)[0]).isdigit()
    }
    assert first_column == codes


def test_every_guide_is_followed() -> None:
    """No how-to guide with declarations escapes these tests."""
    declaring = {
        path.stem
        for path in HOWTO.glob("*.rst")
        if any(one.language == "python" and "upgrade." in one.code for one in blocks(path.read_text()))
    }
    others = {"adopt", "alembic", "long-migration", "naming-convention", "test-upgrade"}
    assert declaring - others == {guide.name for guide in GUIDES}
