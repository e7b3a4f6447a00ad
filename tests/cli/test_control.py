"""A run that is paused, let go on and stopped from another terminal, while it is at work in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project
from tests.waiting import until

APP = """
import time
from pathlib import Path

from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from emc import Upgrade


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    nick: Mapped[str | None] = mapped_column(String(50))


upgrade = Upgrade(Base.metadata, release="2")


@upgrade.data_migration(User, where=User.nick.is_(None))
def nicks(row):
    if row.id == 1:
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        time.sleep(0.5)  # What a run knows of requests is up to a quarter of a second old.
    return {"nick": "x"}
"""

BACK = (
    APP.replace(
        """
@upgrade.data_migration(User, where=User.nick.is_(None))
def nicks(row):""",
        """
def back(row):""",
    ).replace('return {"nick": "x"}', 'return {"name": row.nick}')
    + """

upgrade.data_migration(
    User,
    name="nicks",
    where=User.nick.is_(None),
    values={User.nick: "none"},
    undo=back,
    undo_where=lambda t: t.c.nick.is_not(None) & t.c.name.is_(None),
)
"""
)
"""The same, whose way back waits for a file."""
ROWS = 1500
"""More than the first batch has, of which the first row waits for a word."""


@pytest.fixture
def waiting(bare_project: Project, database_url: str) -> Project:
    """A project whose first batch waits for a file."""
    if database_url.startswith("sqlite"):
        pytest.skip("nobody else may write while a batch is under way")
    project = bare_project
    project.url = database_url
    project.write("app.py", APP)
    project.configure(upgrade="app:upgrade", url=database_url)
    values = ", ".join(f"({n}, NULL)" for n in range(1, ROWS + 1))
    project.execute(
        "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, nick VARCHAR(50))",
        f"INSERT INTO users VALUES {values}",
    )
    return project


@pytest.fixture
def run(waiting: Project) -> "Iterator[subprocess.Popen[str]]":
    """``emc migrate`` in a process of its own, in the middle of its first batch."""
    with running(waiting, "migrate") as process:
        yield process


@contextmanager
def running(waiting: Project, *command: str) -> "Iterator[subprocess.Popen[str]]":
    """*command* in a process of its own, in the middle of its first batch."""
    with subprocess.Popen(
        [sys.executable, "-m", "emc", *command],
        cwd=waiting.directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            until(lambda: (waiting.directory / "begun").exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


def go(project: Project) -> None:
    """Let the first batch end."""
    project.write("go", "")


def paused(project: Project) -> Any:
    """How the run stands, once it is paused."""
    standing = project.json("status")["run"]
    return standing if standing is not None and standing["state"] == "paused" else None


def left(project: Project) -> Any:
    """How many rows are left."""
    return project.ask("SELECT count(*) FROM users WHERE nick IS NULL")


def test_paused_and_resumed(waiting: Project, run: "subprocess.Popen[str]") -> None:
    """The batch under way is finished, no other begins, nobody else gets in between, and then it goes on."""
    assert waiting.json("pause")["new"] is True
    again = waiting.emc("pause")
    assert (again.exit_code, "has asked for that already" in again.output) == (0, True)
    go(waiting)
    standing = until(lambda: paused(waiting))
    assert "asked it to pause" in standing["reason"]
    assert standing["id"] == "nicks"
    assert left(waiting) == ROWS - 1000
    assert "  paused since " in waiting.emc("status").output
    assert waiting.emc("migrate").exit_code == 4
    assert waiting.json("resume")["new"] is True
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert "paused: " in output
    assert "goes on" in output
    assert left(waiting) == 0


def test_stopped(waiting: Project, run: "subprocess.Popen[str]") -> None:
    """It ends after its batch with exit code 5; the request is nothing to the next run, nor to nobody."""
    assert waiting.json("stop")["new"] is True
    assert waiting.json("stop")["new"] is False
    late = waiting.emc("pause")
    assert (late.exit_code, "to stop" in late.output) == (2, True)
    go(waiting)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 5, output
    assert "asked it to stop" in output
    assert left(waiting) == ROWS - 1000
    nobody = waiting.emc("stop")
    assert (nobody.exit_code, "No emc migrate or emc undo is at work" in nobody.output) == (2, True)
    assert waiting.emc("migrate").exit_code == 0
    assert left(waiting) == 0


def test_undo_is_paused_and_stopped(waiting: Project) -> None:
    """Data on its way back is held up, and ended after its batch; the next undo goes on, and takes the column away."""
    waiting.write("app.py", BACK)
    waiting.execute("ALTER TABLE users DROP COLUMN nick", "ALTER TABLE users ADD name VARCHAR(50)")
    assert waiting.emc("expand").exit_code == 0
    waiting.execute("UPDATE users SET nick = 'x'")
    with running(waiting, "undo", "--new-code-gone") as run:
        assert waiting.json("pause")["command"] == "emc undo"
        go(waiting)
        until(lambda: paused(waiting))
        assert waiting.json("stop")["new"] is True
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 5, output
    assert "paused: " in output
    assert "run emc undo --new-code-gone again to go on" in output
    assert waiting.ask("SELECT count(*) FROM users WHERE name IS NULL") == ROWS - 1000
    assert waiting.emc("undo", "--new-code-gone").exit_code == 0
    assert waiting.ask("SELECT count(*) FROM users WHERE name = 'x'") == ROWS


def test_killed_while_paused(waiting: Project, run: "subprocess.Popen[str]") -> None:
    """A pause ends with the run that it was meant for."""
    waiting.json("pause")
    go(waiting)
    until(lambda: paused(waiting))
    run.kill()
    run.wait()
    assert waiting.emc("resume").exit_code == 2
    assert waiting.emc("migrate").exit_code == 0
    assert left(waiting) == 0


@pytest.mark.parametrize("name", ["pause", "resume", "stop"])
def test_nobody_to_ask(sqlite_project: Project, name: str) -> None:
    """Where nobody is at work the answer says so, and nothing is written."""
    result = sqlite_project.emc(name)
    assert (result.exit_code, "No emc migrate or emc undo is at work on this database." in result.output) == (
        2,
        True,
    )
    assert sqlite_project.ask("SELECT count(*) FROM sqlite_master WHERE name LIKE 'emc%'") == 0


def test_throttled_for_too_long(project: Project) -> None:
    """A reason of the application holds up the run, is shown, and ends it with exit code 5 when patience is over."""
    text = (project.directory / "app.py").read_text()
    project.write("app.py", text + 'upgrade.throttle("SELECT \'the sale is on\'", name="sale")\n')
    assert project.emc("expand").exit_code == 0
    result = project.emc("migrate", "--patience", "0")
    assert result.exit_code == 5, result.output
    assert "throttled: throttle sale: the sale is on" in result.output
    assert "paused" in result.output
    assert project.emc("migrate", "--no-throttle").exit_code == 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("replica-lag = true", "replica-lag in [tool.emc.throttle]"),
        ('wal-backlog = "many"', "is no number: 'many'"),
        ('patience = "long"', "is no length of time: 'long'"),
        ("lag = 3", "a key 'lag'"),
        ('replicas = "env:X"', "is no list of URLs"),
        ('replicas = ["env:NOT_SET"]', "NOT_SET is not set"),
    ],
)
def test_limits_that_are_none(sqlite_project: Project, lines: str, said: str) -> None:
    """What is wrong with the configuration is said before anything is done."""
    path = sqlite_project.directory / "pyproject.toml"
    path.write_text(f"{path.read_text()}\n[tool.emc.throttle]\n{lines}\n")
    assert sqlite_project.emc("expand").exit_code == 0
    result = sqlite_project.emc("migrate")
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_limits(sqlite_project: Project) -> None:
    """Limits, lengths of time and replicas are read; ``false`` switches a signal off."""
    from emc.cli.throttling import throttle_policy

    path = sqlite_project.directory / "pyproject.toml"
    lines = [
        'replica-lag = "2m"',
        "wal-backlog = false",
        "threads-running = 40",
        "poll = 1.5",
        'patience = "2h"',
        'replicas = ["env:REPLICA", "postgresql+psycopg://u:secret@two/db"]',
    ]
    path.write_text("\n".join([path.read_text(), "[tool.emc.throttle]", *lines, ""]))
    environment = {"REPLICA": "mariadb+pymysql://u:secret@one:3307/db"}
    policy = throttle_policy(sqlite_project.directory, environment)
    assert dict(policy.limits) == {"replica-lag": 120.0, "wal-backlog": None, "threads-running": 40.0}
    assert (policy.poll, policy.patience, policy.back_off) == (1.5, 7200.0, 30.0)
    assert [engine.url.host for engine in policy.replicas] == ["one", "two"]
