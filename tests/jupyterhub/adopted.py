"""How does JupyterHub's own Alembic directory take emc up?

The directory is the one that a release ships in its wheel, with its whole history; three lines of its `env.py` change,
and one of the template of revisions. Alembic runs as JupyterHub runs it, by an `alembic.ini` written from its template.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.jupyterhub.scenario import HERE, Hub, Outcome, run

ENV: Final = {
    "from alembic import context\n": "import emc.alembic\nfrom alembic import context\n",
    "context.configure(": 'emc.alembic.configure(context, "upgrade:chosen", ',
}
"""What changes in `env.py`: the import, and whatever `context.configure` was given goes to emc."""

TEMPLATE: Final = {"import sqlalchemy as sa\n": "import sqlalchemy as sa\nimport jupyterhub.orm\n"}
"""What changes in the template, as for anybody who has column types of their own: revisions name JupyterHub's."""


@dataclass(frozen=True)
class Adopted:
    """A checkout of JupyterHub's, as far as Alembic and emc are concerned.

    Args:
        hub: the database.
        directory: it holds `alembic.ini`, `alembic/` and `upgrade.py`.
    """

    hub: Hub
    directory: Path

    @property
    def versions(self) -> Path:
        """Where the revisions are."""
        return self.directory / "alembic" / "versions"

    def choose(self, upgrade: str) -> None:
        """Let `upgrade.py` be about one of its upgrades from now on, as a person would edit it."""
        source = HERE.joinpath("upgrade.py").read_text()
        self.directory.joinpath("upgrade.py").write_text(f"{source}\n\nchosen = {upgrade}\n")

    def connect(self) -> None:
        """Let `alembic.ini` name the database."""
        template = (self.directory / "alembic.ini.in").read_text()
        written = template.format(
            alembic_dir="alembic\nprepend_sys_path = .", db_url=self.hub.url.replace("%", "%%")
        )
        (self.directory / "alembic.ini").write_text(written)

    def alembic(self, *arguments: str) -> Outcome:
        """Run a command of Alembic's."""
        return run(
            [sys.executable, "-m", "alembic", *arguments], cwd=self.directory, COLUMNS="100", NO_COLOR="1"
        )

    def emc(self, *arguments: str) -> Outcome:
        """Run a command of emc's with the same upgrade."""
        named = ["--upgrade", "upgrade:chosen", "--url", self.hub.url]
        return run([sys.executable, "-m", "emc", arguments[0], *named, *arguments[1:]], cwd=self.directory)

    def revisions(self) -> dict[str, str]:
        """The revisions by the names of their files."""
        return {path.name: path.read_text() for path in sorted(self.versions.glob("*.py"))}


def adopt(hub: Hub, directory: Path, package: Path, upgrade: str) -> Adopted:
    """Copy the Alembic directory of a release, and hook emc in.

    Args:
        hub: the database.
        directory: an empty directory.
        package: where `jupyterhub` of that release is installed.
        upgrade: which upgrade of `upgrade.py`.
    """
    shutil.copytree(package / "alembic", directory / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package / "alembic.ini", directory / "alembic.ini.in")
    _change(directory / "alembic" / "env.py", ENV)
    _change(directory / "alembic" / "script.py.mako", TEMPLATE)
    adopted = Adopted(hub, directory)
    adopted.connect()
    adopted.choose(upgrade)
    return adopted


def _change(path: Path, changes: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
