"""What does a person see who upgrades a JupyterHub with emc?

Runs the upgrade and prints the commands with what they answered, as the documentation shows it:
`python -m tests.jupyterhub.walkthrough > docs/jupyterhub.txt`, in the environment of `nox -s jupyterhub`. With
`--database mariadb --sql` it shows what is in `docs/jupyterhub-mariadb.txt`.
"""

from __future__ import annotations

import argparse
import getpass
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.jupyterhub.records import Dump, lost
from tests.jupyterhub.scenario import HERE, NEW_RELEASE, OLD_RELEASE, Hub, hub_at, run
from tests.mariadb_server import MariaDBPool
from tests.servers import ServerPool

CONFIGURATION: Final = '[tool.emc]\nurl = "env:DATABASE_URL"\n'


@dataclass(frozen=True)
class Walk:
    """A person at a terminal, in a directory that holds `upgrade.py` and a configuration.

    Args:
        hub: the database.
        directory: where emc is run.
        write: receives each line.
    """

    hub: Hub
    directory: Path
    write: Callable[[str], object]

    def say(self, text: str) -> None:
        """Tell something that the terminal does not show."""
        self.write(f"# {text}")

    def emc(self, command: str, *, code: int = 0) -> None:
        """Run a command of emc's, and show it with its answer.

        Args:
            command: what follows `emc`.
            code: the exit code that is expected; one that is not 0 is shown.
        """
        self.write(f"$ emc {command}")
        outcome = run(
            [sys.executable, "-m", "emc", *command.split()],
            cwd=self.directory,
            DATABASE_URL=self.hub.url,
            COLUMNS="100",
            NO_COLOR="1",
        )
        for line in (outcome.output + outcome.errors).splitlines():
            self.write(self._impersonal(line.rstrip()))
        if outcome.code != code:
            raise SystemExit(f"emc {command}: exit code {outcome.code}, not {code}")
        if code:
            self.write(f"[exit code {code}]")
        self.write("")

    def _impersonal(self, line: str) -> str:
        line = line.replace(self.hub.url, "$DATABASE_URL")
        line = line.replace(f"{getpass.getuser()}@{platform.node()}:", "admin@hub:")
        return line.replace(f"{self.directory}/", "").replace(str(self.directory), ".")

    def whole(self) -> None:
        """The upgrade from the first plan to the last one."""
        hub = self.hub
        first: Dump = hub.old_release("dump")
        rows = sum(map(len, first.values()))
        self.say(f"JupyterHub {OLD_RELEASE} made this database: {len(first)} tables, {rows} rows.")
        self.emc("plan --upgrade upgrade:bare")
        self.say("upgrade.py now has the values for old rows, and retires the vanished table.")
        self.emc("plan --upgrade upgrade:retiring")
        self.emc("expand --upgrade upgrade:retiring")
        hub.old_release("exercise", "--round", "expanded")
        self.say(f"{OLD_RELEASE} still reads and writes every table. {NEW_RELEASE} starts beside it.")
        hub.new_release("exercise", "--round", "new")
        self.emc("migrate --upgrade upgrade:retiring")
        hub.old_release("exercise", "--round", "migrated")
        self.say(f"{OLD_RELEASE} goes on writing rows that are not migrated, and then stops for good.")
        last: Dump = hub.old_release("dump")
        self.emc("status --upgrade upgrade:retiring")
        self.emc("migrate --upgrade upgrade:retiring")
        self.emc("contract --upgrade upgrade:retiring --old-code-gone", code=3)
        gone = len(last.pop("oauth_access_tokens"))
        self.say(
            f"The gate counts. Its {gone} OAuth tokens can be lost: upgrade.py discards them, and says why."
        )
        self.emc("contract --upgrade upgrade:discarding --old-code-gone")
        hub.new_release("exercise", "--round", "contracted", "--state", "migrated")
        if found := lost(last, hub.new_release("dump")):
            raise SystemExit("\n".join(found))
        rows = sum(map(len, last.values()))
        self.say(f"{NEW_RELEASE} reads all of the other {rows} rows, and every API token opens it.")
        self.emc("plan --upgrade upgrade:discarding")
        self.emc("history --upgrade upgrade:discarding")


def walk(hub: Hub, directory: Path, write: Callable[[str], object], *, only_sql: bool = False) -> None:
    """Prepare a directory, fill the database, and upgrade it.

    Args:
        hub: an empty database.
        directory: an empty directory.
        write: receives each line.
        only_sql: show the plan as SQL instead, and go no further.
    """
    shutil.copy(HERE / "upgrade.py", directory)
    directory.joinpath("pyproject.toml").write_text(CONFIGURATION)
    hub.old_release("create")
    person = Walk(hub, directory, write)
    if only_sql:
        person.emc("plan --upgrade upgrade:retiring --sql")
    else:
        person.whole()


def main() -> None:
    """Print the walkthrough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "mariadb"], default="postgresql")
    parser.add_argument("--sql", action="store_true", help="the plan as SQL, and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if arguments.database == "sqlite":
            hub = hub_at(f"sqlite:///{directory}/jupyterhub.sqlite")
            walk(hub, Path(directory), print, only_sql=arguments.sql)
            return
        pool = MariaDBPool() if arguments.database == "mariadb" else ServerPool()
        try:
            with pool.get().database() as url:
                walk(hub_at(url), Path(directory), print, only_sql=arguments.sql)
        finally:
            pool.stop()


if __name__ == "__main__":
    main()
