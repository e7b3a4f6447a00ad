"""How are the two releases and emc run, each by its own interpreter?

The new release, 6.1.1, is installed beside emc, in the environment that runs this. The old one, 1.5.1, gets a
virtual environment of its own, made once and kept under ``.nox/.cache`` or ``$EMC_JUPYTERHUB_CACHE``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent

OLD_RELEASE: Final = "1.5.1"
NEW_RELEASE: Final = "6.1.1"
OLD_REQUIREMENTS: Final = (f"jupyterhub=={OLD_RELEASE}", "sqlalchemy==1.4.*", "psycopg2-binary", "pymysql")


def new_release_installed() -> bool:
    """Whether the environment that runs this has the new release."""
    try:
        return importlib.metadata.version("jupyterhub") == NEW_RELEASE
    except importlib.metadata.PackageNotFoundError:
        return False


def old_python() -> Path:
    """The interpreter of the old release's environment, which is made if there is none yet.

    Raises:
        subprocess.CalledProcessError: pip could not install the release.
    """
    cache = Path(os.environ.get("EMC_JUPYTERHUB_CACHE") or ROOT / ".nox" / ".cache" / "jupyterhub").absolute()
    key = hashlib.sha256(" ".join([sys.version, *OLD_REQUIREMENTS]).encode()).hexdigest()[:12]
    environment = cache / f"{OLD_RELEASE}-{key}"
    python = Path("Scripts" if os.name == "nt" else "bin", "python")
    if not environment.exists():
        # Made aside and moved: an environment is complete or absent, even if two processes make it.
        draft = environment.with_name(f"{environment.name}.{os.getpid()}")
        try:
            venv.create(draft, with_pip=True)
            pip = [str(draft / python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *OLD_REQUIREMENTS], check=True)
            draft.rename(environment)
        except OSError:
            if not environment.exists():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return environment / python


@dataclass(frozen=True)
class Outcome:
    """What a command answered: its exit code, and what it printed."""

    code: int
    output: str
    errors: str

    @property
    def document(self) -> Any:
        """Standard output, read as JSON."""
        return json.loads(self.output)

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


@dataclass(frozen=True)
class Hub:
    """A database of JupyterHub's, the two releases that use it, and emc.

    Args:
        url: the database, as emc and the new release connect to it.
        old: the interpreter of the old release.
    """

    url: str
    old: Path

    @property
    def old_url(self) -> str:
        """The same database by the driver that SQLAlchemy 1.4 knows."""
        return self.url.replace("+psycopg:", "+psycopg2:")

    def old_release(self, command: str, *options: str) -> Any:
        """Let the old release do something (see `old_release.py`); answer what it printed, read as JSON."""
        arguments = ["-m", "tests.jupyterhub.old_release", command, self.old_url, *options]
        return _done(run([str(self.old), *arguments], SQLALCHEMY_SILENCE_UBER_WARNING="1"))

    def new_release(self, command: str, *options: str) -> Any:
        """Let the new release do something (see `new_release.py`); answer what it printed, read as JSON."""
        arguments = ["-m", "tests.jupyterhub.new_release", command, self.url, *options]
        return _done(run([sys.executable, *arguments]))

    def emc(self, command: str, upgrade: str, *options: str) -> Outcome:
        """Run a command of emc's with one of the upgrades of `upgrade.py`."""
        named = ["--upgrade", f"tests.jupyterhub.upgrade:{upgrade}", "--url", self.url]
        return run([sys.executable, "-m", "emc", command, *named, *options])

    def tables(self) -> dict[str, int]:
        """How many rows each live table holds, asked of the database itself."""
        engine = sqlalchemy.create_engine(self.url)
        try:
            with engine.connect() as connection:
                names = sqlalchemy.inspect(connection).get_table_names()
                count = sqlalchemy.select(sqlalchemy.func.count())
                return {
                    name: connection.execute(count.select_from(sqlalchemy.table(name))).scalar_one()
                    for name in names
                }
        finally:
            engine.dispose()


def hub_at(url: str) -> Hub:
    """The hub of a database, by the URL that its configuration has: both releases know MariaDB as `mysql` only."""
    return Hub(url.replace("mariadb+", "mysql+", 1), old_python())


def run(command: list[str], *, cwd: Path = ROOT, **environment: str) -> Outcome:
    """Run a command to its end."""
    inherited: Mapping[str, str] = os.environ
    process = subprocess.run(
        command, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    return Outcome(process.returncode, process.stdout, process.stderr)


def _done(outcome: Outcome) -> Any:
    assert outcome.code == 0, str(outcome)
    return outcome.document if outcome.output else None
