"""A project of a user, in a directory of its own, with its database, and ways to run emc in it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, create_engine

from emc.cli import main

APP = '''
"""Release 2 of an application: `nick` has become `name`, and every user has a time zone."""

import os
import signal

from sqlalchemy import String, and_
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from emc import Upgrade


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column(String(50))
    tz: Mapped[str] = mapped_column(String(50))


upgrade = Upgrade(Base.metadata, release="2")
upgrade.fill(User.tz, "UTC")


@upgrade.data_migration(User, where=lambda t: and_(t.c.nick.is_not(None), t.c.name.is_(None)))
def nick_to_name(row):
    for number in os.environ.get("TEST_SIGNALS", "").split():
        if row.id == 1:
            os.kill(os.getpid(), getattr(signal, number))
    if row.nick == "bad":
        raise ValueError("cannot be a name")
    return {"name": row.nick}


upgrade.retire("users.nick", after=[nick_to_name])


def made():
    return upgrade


undeclared = Upgrade(Base.metadata, release="2")
undeclared.fill(User.tz, "UTC")
'''


@dataclass
class Project:
    """A user's project."""

    directory: Path
    url: str

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def configure(self, **settings: str) -> None:
        """Write `[tool.emc]`."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.write("pyproject.toml", "\n".join(["[tool.emc]", *lines, ""]))

    def execute(self, *statements: str) -> None:
        """Change the database by hand."""
        with self.engine() as engine, engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def ask(self, query: str) -> Any:
        """The first column of the first row."""
        with self.engine() as engine, engine.connect() as connection:
            return connection.exec_driver_sql(query).scalar()

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An engine on the database."""
        engine = create_engine(self.url)
        try:
            yield engine
        finally:
            engine.dispose()

    def old_database(self, rows: int = 3) -> None:
        """The database of release 1."""
        self.execute(
            "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, nick VARCHAR(50))",
            *(f"INSERT INTO users VALUES ({n}, 'nick {n}')" for n in range(1, rows + 1)),
        )

    def emc(self, *arguments: str, **environment: str) -> Result:
        """Run emc in this process."""
        return CliRunner().invoke(main, list(arguments), env=environment)

    def json(self, *arguments: str) -> Any:
        """Run emc, and take what it answers."""
        result = self.emc(*arguments, "--format", "json")
        assert result.exit_code in (0, 1, 3), result.output
        return json.loads(result.stdout)

    def process(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run emc in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "emc", *arguments],
            cwd=self.directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def bare_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty directory that emc is run in, and the URL of a database that is not there."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("EMC_UPGRADE", "EMC_URL", "EMC_DEBUG", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (directory / "bare.db").touch()
    yield Project(directory, f"sqlite:///{directory / 'bare.db'}")
    for name in list(sys.modules):
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def project(bare_project: Project, database_url: str) -> Project:
    """A project that is configured, with the database of release 1, on each kind of database."""
    bare_project.url = database_url
    bare_project.write("app.py", APP)
    bare_project.configure(upgrade="app:upgrade", url=database_url)
    bare_project.old_database()
    return bare_project


@pytest.fixture
def sqlite_project(bare_project: Project, sqlite_url: str) -> Project:
    """The same on SQLite alone, for what has nothing to do with the database."""
    bare_project.url = sqlite_url
    bare_project.write("app.py", APP)
    bare_project.configure(upgrade="app:upgrade", url=sqlite_url)
    bare_project.old_database()
    return bare_project
