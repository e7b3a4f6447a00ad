"""Are Alembic's revisions, run on an empty database, found to agree with the models, or not to?"""

from __future__ import annotations

import logging
import sys
import unittest
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, String, create_engine, inspect
from sqlalchemy.pool import NullPool

import emc
from emc.testing import CheckFailedError, check_revisions_match
from emc.testing.revisions import alembic_config
from emc.upgrade import Upgrade
from tests.alembic.project import Project
from tests.testing.shop import new_metadata, old_metadata, upgrade

HISTORY = """
    op.create_table(
        "teams", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20), nullable=False)
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String(length), nullable=name != "name") for name, length in
          (("name", 20), ("email", 40), ("age", 20), ("fax", 20))),
        sa.Column("team_id", sa.Integer, sa.ForeignKey("teams.id")),
    )
"""


def first() -> Upgrade:
    """The release before emc came."""
    return emc.Upgrade(old_metadata(), release="1")


def write(project: Project, message: str, body: str, **options: str) -> None:
    """Write a revision by hand."""
    script = Path(str(project.by_hand(message, **options).path))
    source = script.read_text()
    assert source.count("    pass\n") == 2
    script.write_text(source.replace("    pass\n", f"{body}\n", 1))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a linear history; its own database has nothing to do with the test's."""
    made = Project(tmp_path / "project", f"sqlite:///{tmp_path / 'own.db'}")
    write(made, "users", HISTORY)
    made.hook()
    made.release(first())
    return made


def test_revisions_agree(project: Project, engine: Engine) -> None:
    """A history from before emc, joined by emc's revisions, makes what the models say, wherever env.py connects to.

    So it does when the declarations that the revisions were written for are gone from the code.
    """
    project.upgrade_to("heads")
    project.release(upgrade())
    project.autogenerate("two")
    later = emc.Upgrade(new_metadata(), release="3")
    project.release(later)
    path, options, heard = list(sys.path), project.config.cmd_opts, logging.getLogger("shop")
    project.env.write_text(
        project.env.read_text().replace("    pass\n", "    fileConfig(config.config_file_name)\n", 1)
    )
    check_revisions_match(engine, later, project.config)
    columns = {one["name"] for one in inspect(engine).get_columns("users")}
    assert columns == set(new_metadata().tables["users"].columns.keys())
    # Its own database, and this process, are as they were.
    own = create_engine(project.url, poolclass=NullPool)
    assert "fax" in {one["name"] for one in inspect(own).get_columns("users")}
    assert (sys.path, project.config.cmd_opts, heard.disabled) == (path, options, False)


def test_what_is_missing_or_too_much(project: Project, sqlite_url: str) -> None:
    """What the models have and no revision makes is named, and the other way round, each with what to do."""
    metadata = old_metadata()
    metadata.tables["users"].append_column(Column("tz", String(9)))
    write(project, "more", '    op.add_column("users", sa.Column("shoe", sa.Integer))', head="heads")
    engine = create_engine(sqlite_url, poolclass=NullPool)
    with pytest.raises(CheckFailedError) as caught:
        check_revisions_match(engine, emc.Upgrade(metadata, release="1"), project.config)
    assert caught.value.facts == ("expand: add-column:users.tz", "not in the models: column users.shoe")
    assert caught.value.remedy == (
        "Write the revision that is missing: alembic revision --autogenerate -m '…'\n"
        "Say what becomes of what the models do not have:\n"
        '  upgrade.retire("users.shoe")'
    )


def test_revision_that_fails(project: Project, sqlite_url: str) -> None:
    """A revision that the database refuses, or emc, fails the check with what they say."""
    engine = create_engine(sqlite_url, poolclass=NullPool)
    write(project, "fails", '    op.execute("INSERT INTO users (id) SELECT 1")')
    with pytest.raises(
        CheckFailedError, match="fails on an empty database: IntegrityError: NOT NULL constraint"
    ):
        check_revisions_match(engine, first(), project.config)
    engine = create_engine(f"{sqlite_url}2", poolclass=NullPool)
    project = Project(project.directory / "other", project.url)
    project.hook()
    project.release(first())
    project.autogenerate("one")
    write(project, "drops", '    op.drop_column("users", "fax")', head="expand@head")
    with pytest.raises(CheckFailedError, match=r"stops on an empty database.*users.fax") as caught:
        check_revisions_match(engine, first(), project.config)
    assert "alembic revision --head contract@head" in str(caught.value.remedy)


def test_another_database_is_left_alone(project: Project, sqlite_url: str, tmp_path: Path) -> None:
    """Where env.py would run revisions on a database of its own, or cannot be run, none is run, and it is named."""
    engine = create_engine(sqlite_url, poolclass=NullPool)
    env = project.env.read_text()
    project.env.write_text(
        env.replace(
            'emc.alembic.configure(\n            context, config.attributes["upgrade"],', "context.configure("
        )
    )
    with pytest.raises(CheckFailedError, match=r"would run on sqlite:.*own.db and not on that of the test"):
        check_revisions_match(engine, first(), project.config)
    assert inspect(create_engine(project.url, poolclass=NullPool)).get_table_names() == []
    project.env.write_text(f"import os\nos.environ['SHOP_DATABASE']\n{env}")
    with pytest.raises(CheckFailedError, match=r"env\.py cannot be run: KeyError: 'SHOP_DATABASE'"):
        check_revisions_match(engine, first(), project.config)


def test_configuration_is_found(tmp_path: Path, sqlite_url: str) -> None:
    """It is where Alembic looks for it, or where it is said to be; without any the test is skipped."""
    with pytest.raises(unittest.SkipTest, match=r"no alembic\.ini"):
        alembic_config(tmp_path)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[tool.alembic]\nscript_location = '%(here)s/migrations'\n")
    assert alembic_config(tmp_path) == pyproject
    (tmp_path / "alembic.ini").touch()
    assert alembic_config(tmp_path) == tmp_path / "alembic.ini"
    with pytest.raises(CheckFailedError, match="Alembic has no configuration"):
        check_revisions_match(create_engine(sqlite_url), first(), alembic_config(tmp_path, "db/alembic.ini"))
