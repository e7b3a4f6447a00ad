"""Alembic is killed in the middle of a revision, and run again."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.alembic.running import Project


@pytest.fixture(params=["postgresql_url", "mariadb_url"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """A project on each kind of server."""
    made = Project(tmp_path / "project", request.getfixturevalue(request.param))
    yield made
    made.engine.dispose()


def kill_while_it_waits(project: Project, *arguments: str) -> None:
    """Run Alembic's command line, and kill it as soon as it says whose lock it waits for."""
    with subprocess.Popen(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=project.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as alembic:
        assert alembic.stderr is not None
        said = ""
        patience = threading.Timer(120, alembic.kill)
        patience.start()
        for line in alembic.stderr:
            said += line
            if "blocked by session" in line:
                alembic.kill()
                break
        patience.cancel()
        alembic.stderr.close()
        assert alembic.wait() == -9, said
        assert "blocked by session" in said


def test_what_was_killed_is_run_again(project: Project) -> None:
    """After a kill -9 in the middle of expand, and of contract, the same command goes on, and does nothing twice.

    Statements written by hand and operations of the plan alike say whose lock they wait for.
    """
    project.expand(
        'op.execute("CREATE TABLE notes (id integer)")\n'
        'op.execute("ALTER TABLE users ADD COLUMN note varchar(9)")\n'
        'op.add_column("users", sa.Column("tz", sa.String(40)))'
    )
    project.contract('op.execute("CREATE TABLE more (id integer)")\nop.drop_column("users", "name")')
    with project.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM users"))
        kill_while_it_waits(project, "upgrade", "expand@head")
    assert project.tables == {"users", "notes"}
    assert project.heads == set()
    assert project.columns() == {"id", "name", "email"}
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.columns() == {"id", "name", "email", "note", "tz"}

    project.send("UPDATE users SET name = NULL")
    with project.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM users"))
        kill_while_it_waits(project, "-x", "old-code-gone", "upgrade", "contract@head")
    assert project.tables == {"users", "notes", "more"}
    assert project.heads == {"e1"}
    assert "name" in project.columns()
    done = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert done.is_done, done.said
    assert project.heads == {"e1", "c1"}
    assert project.columns() == {"id", "email", "note", "tz"}
    sent = [name for event, name in project.ledger if event == "done" and name.startswith("statement:")]
    assert len(sent) == len(set(sent)) == 3
    project.send("INSERT INTO users (id, email) VALUES (9, 'zoe')")  # No guard is left.
