"""``alembic check`` at each moment of an upgrade, whatever emc and others have put into the database meanwhile."""

from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Column, Engine, Index, Integer, MetaData, String, Table, create_engine, event, text

import emc
from tests.alembic.project import Project
from tests.alembic.test_writing import first, reach, second

FOREIGN = {
    "sqlite": ["CREATE TRIGGER theirs AFTER INSERT ON users BEGIN SELECT 1; END"],
    "postgresql": [
        "CREATE SCHEMA others",
        "CREATE TABLE others.users (id INTEGER PRIMARY KEY, colour TEXT)",
        "CREATE TABLE events (at DATE) PARTITION BY RANGE (at)",
        "CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "CREATE TYPE their_mood AS ENUM ('calm')",
        "CREATE SEQUENCE their_sequence",
        "CREATE MATERIALIZED VIEW their_counts AS SELECT count(*) FROM users",
    ],
    "mariadb": ["CREATE TABLE events (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2"],
}
"""What somebody else has in the database."""


@pytest.fixture
def project(tmp_path: Path, database_url: str, engine: Engine) -> Project:
    """A project whose first release runs, with rows, beside what belongs to others."""
    project = Project(tmp_path / "project", database_url)
    project.hook()
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO users (id) VALUES (1), (2)",
            "CREATE TABLE theirs (id INTEGER PRIMARY KEY)",
            "CREATE VIEW their_view AS SELECT id FROM users",
            "CREATE INDEX their_index ON users (name)",
            *FOREIGN[engine.dialect.name],
        ):
            connection.execute(text(statement))
    return project


def beyond(**columns: str) -> emc.Upgrade:
    """The second release, with more columns, or without its new one."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tz", String(40), nullable=False),
        *(Column(name, String(40)) for name in columns),
    )
    upgrade = emc.Upgrade(metadata, release="2")
    upgrade.fill(users.c.tz, "UTC")
    upgrade.retire("users.name")
    if "email" not in columns:
        upgrade.retire("users.email")
        upgrade.retire("users.ix_users_email")
    else:
        Index("ix_users_email", users.c.email)
    return upgrade


def test_clean_at_every_moment(project: Project, engine: Engine) -> None:
    """Expanded, half migrated, migrated, contracted: there is nothing that a revision would have to be written for."""
    command.check(project.config)
    project.release(second())
    project.autogenerate("names")

    project.upgrade_to("expand@head")
    command.check(project.config)
    emc.migrate(second(), engine, max_count=1)
    command.check(project.config)
    emc.migrate(second(), engine)
    command.check(project.config)
    project.upgrade_to("heads", "old-code-gone")
    command.check(project.config)

    assert project.output.getvalue().count("No new upgrade operations detected.") == 5
    assert project.autogenerate("nothing") == []


def test_what_no_revision_has_is_found(project: Project) -> None:
    """Between expand and contract, what neither has done nor will do is named; revisions wait for the end."""
    project.release(second())
    project.autogenerate("names")
    project.upgrade_to("expand@head")

    project.release(beyond(email="", phone=""))
    with pytest.raises(CommandError, match=r"add-column:users\.phone") as found:
        command.check(project.config)
    assert "drop-column" not in str(found.value)
    project.release(beyond())
    with pytest.raises(CommandError, match=r"drop-column:users\.email") as found:
        command.check(project.config)
    assert "users.name" not in str(found.value)
    with pytest.raises(CommandError, match=r"^Target database is not up to date\.$"):
        project.autogenerate("too early")


def test_what_a_revision_by_hand_will_do(tmp_path: Path, postgresql_url: str) -> None:
    """What contract will do is read off its statements, whoever has written them."""
    project = Project(tmp_path / "project", postgresql_url)
    project.hook()
    engine = create_engine(postgresql_url)
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())
    _, contract = project.autogenerate("names")
    project.upgrade_to("expand@head")
    path = Path(contract.path)
    code = path.read_text().partition("def upgrade()")[0]
    path.write_text(
        f"{code}def upgrade():\n"
        "    op.execute('ALTER TABLE users DROP COLUMN name')\n"
        "    op.alter_column('users', 'tz', nullable=False)\n"
    )
    with pytest.raises(CommandError, match=r"drop-default:users\.tz") as found:
        command.check(project.config)
    assert "name" not in str(found.value)
    with path.open("a") as file:
        file.write("    op.alter_column('users', 'tz', server_default=None)\n")
    command.check(project.config)
    with path.open("a") as file:
        file.write("    op.get_bind().scalar(sa.text('SELECT 1')).bit_length()\n")
    with pytest.raises(CommandError, match="only running it would tell"):
        command.check(project.config)
    engine.dispose()


class KilledError(BaseException):
    """Stands for the end of the process: nothing is cleaned up."""


def test_clean_while_a_guard_stands(
    tmp_path: Path, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract that was killed leaves its guard behind, which is no difference, and the next run goes on."""
    project = Project(tmp_path / "project", mariadb_url)
    project.hook()
    engine = create_engine(mariadb_url)
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())
    project.autogenerate("names")
    project.upgrade_to("expand@head")
    emc.migrate(second(), engine)

    @event.listens_for(engine, "after_cursor_execute")
    def die(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("CREATE TRIGGER"):
            monkeypatch.setattr("emc.commands.guarding.lift", lambda *_, **__: None)
            raise KilledError

    with pytest.raises(KilledError):
        emc.contract(second(), engine, old_code_gone=True, only=["drop-column:users.name"])
    monkeypatch.undo()
    event.remove(engine, "after_cursor_execute", die)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW TRIGGERS")).all()

    command.check(project.config)
    project.upgrade_to("heads", "old-code-gone")
    command.check(project.config)
    with engine.connect() as connection:
        assert not connection.execute(text("SHOW TRIGGERS")).all()
    engine.dispose()
