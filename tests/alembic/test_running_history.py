"""Long histories: of several releases, with the models of the newest and its declarations only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Column, Engine, ForeignKey, Index, Integer, MetaData, String, Table, inspect, text

import emc
from emc.alembic import StoppedError
from tests.alembic.project import Project
from tests.lifecycle.test_lifecycle import beside

WORD = "old-code-gone"


@pytest.fixture
def twin(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A second database of the same kind."""
    with beside(engine, tmp_path) as other:
        yield other


def first() -> emc.Upgrade:
    """Users with a name, and what goes later."""
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40), nullable=False),
        Column("team", String(20)),
        Index("ix_users_team", "team"),
    )
    sessions = Table("sessions", metadata, Column("id", Integer, primary_key=True))
    sessions.append_column(Column("user_id", Integer, ForeignKey("users.id", name="fk_user")))
    return emc.Upgrade(metadata, release="1")


def second() -> emc.Upgrade:
    """They have a full name, and there are no sessions any more."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("full_name", String(40), nullable=False),
    )
    upgrade = emc.Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c.full_name)
    upgrade.retire("users.team")
    upgrade.retire("sessions")
    return upgrade


def third() -> emc.Upgrade:
    """They have an address, which has to be unique, in the place of a name. Nothing is said of release 1 any more."""
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("email", String(80), unique=True),
    )
    upgrade = emc.Upgrade(metadata, release="3")
    upgrade.discard("users.full_name", reason="not asked for any more")
    return upgrade


def fourth() -> emc.Upgrade:
    """As the second release, with a rank besides; its declarations are still there."""
    upgrade = second()
    (metadata,) = upgrade.metadata
    rank = Column("rank", Integer, nullable=False)
    metadata.tables["users"].append_column(rank)
    upgrade.release = "3"
    upgrade.fill(rank, metadata.tables["users"].c.id)
    return upgrade


def history(engine: Engine, directory: Path, *releases: emc.Upgrade) -> Project:
    """A project with the revisions of *releases*, each but the last carried out."""
    project = Project(directory, engine.url.render_as_string(hide_password=False))
    project.hook()
    for number, release in enumerate(releases, start=1):
        project.release(release)
        project.autogenerate(f"release {number}")
        if number < len(releases):
            project.upgrade_to("expand@head")
            emc.migrate(release, engine)
            project.upgrade_to("heads", WORD)
    return project


def assert_in_step(project: Project, engine: Engine) -> None:
    """The database is what the models of the last release say."""
    assert project.upgrade is not None
    found = emc.plan(project.upgrade, engine)
    assert found.is_empty, list(found.plan.names)
    assert not found.plan.unmanaged
    command.check(project.config)
    names = inspect(engine).get_table_names()
    assert [name for name in names if not name.startswith(("emc_", "alembic_"))] == ["users"]


def test_a_new_database_is_built_by_all_revisions(engine: Engine, twin: Engine, tmp_path: Path) -> None:
    """On an empty database all revisions of a long history run with the newest code, and nobody has to vouch for it."""
    project = history(engine, tmp_path / "project", first(), second(), third())
    project.upgrade_to("heads", WORD)
    assert_in_step(project, engine)

    project.config.attributes["url"] = twin.url.render_as_string(hide_password=False)
    project.upgrade_to("heads")
    assert_in_step(project, twin)


def test_what_revisions_have_put_into_a_new_database_is_not_lost(postgresql_url: str, tmp_path: Path) -> None:
    """Where an old revision has written rows, the gates see them, be the database as new as it may."""
    project = Project(tmp_path / "project", postgresql_url)
    project.hook()
    start = project.by_hand("start")
    path = Path(start.path)
    made = 'op.execute("CREATE TABLE users (id integer PRIMARY KEY, name text)")'
    seeded = "op.execute(\"INSERT INTO users VALUES (1, 'root')\")"
    path.write_text(path.read_text().replace("    pass\n", f"    {made}\n    {seeded}\n", 1))
    project.by_hand("e", head="head", branch_label="expand")
    drop = project.by_hand("c", head=start.revision, splice=True, branch_label="contract")
    path = Path(drop.path)
    path.write_text(path.read_text().replace("    pass\n", '    op.drop_column("users", "name")\n', 1))
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
    project.release(emc.Upgrade(metadata, release="2"))
    with pytest.raises(StoppedError, match=r"shut data-elsewhere:users\.name"):
        project.upgrade_to("heads")
    with project.connected() as connection:
        assert connection.execute(text("SELECT name FROM users")).all() == [("root",)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_old_contract_runs_with_the_code_of_the_next_release(
    engine: Engine, twin: Engine, tmp_path: Path
) -> None:
    """Where contract of one release was left for the next, it goes first; what is left of expand comes behind it."""
    project = history(engine, tmp_path / "project", first(), second(), fourth())
    expansion = next(one for one in project.scripts.walk_revisions() if "release_2" in one.path)
    while "expand" not in expansion.path:
        expansion = project.scripts.get_revision(str(expansion.dependencies))

    project.config.attributes["url"] = twin.url.render_as_string(hide_password=False)
    project.release(second())
    project.upgrade_to(expansion.revision, WORD)
    with twin.begin() as connection:
        connection.execute(text("INSERT INTO users (id, name) VALUES (1, 'ann')"))
    emc.migrate(second(), twin)
    project.release(fourth())
    with pytest.raises(StoppedError) as stopped:
        project.upgrade_to("heads")
    assert "shut old-code-gone:" in str(stopped.value)
    assert "expand-done" not in str(stopped.value)
    assert "rank" not in {column["name"] for column in inspect(twin).get_columns("users")}
    with pytest.raises(StoppedError, match=r"fill:users\.rank"):
        project.upgrade_to("heads", WORD)
    emc.migrate(fourth(), twin)
    project.upgrade_to("heads", WORD)
    assert_in_step(project, twin)
