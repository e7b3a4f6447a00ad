"""What does a maintainer of JupyterHub see whose Alembic history goes on with emc?

Prints what is in the documentation: `python -m tests.jupyterhub.walkthrough_alembic > docs/jupyterhub-alembic.txt`, in
the environment of `nox -s jupyterhub`.
"""

from __future__ import annotations

import difflib
import re
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jupyterhub  # type: ignore[import-not-found]

from tests.jupyterhub.adopted import Adopted, adopt
from tests.jupyterhub.scenario import NEW_RELEASE, OLD_RELEASE, Hub, Outcome, hub_at
from tests.servers import ServerPool

_TIME_AND_PLACE: Final = re.compile(r"^\[(\w) [-\d]+ [:.\d]+ ([\w.]+) \w+:\d+\] ")
_NOISE: Final = ("[I alembic.runtime.migration] Context impl", "[I alembic.runtime.migration] Will assume")
_COPY: Final = "[E alembic.util.messaging]"


@dataclass(frozen=True)
class Terminal:
    """A person at a terminal, in a checkout of JupyterHub's.

    Args:
        adopted: the checkout.
        write: receives each line.
    """

    adopted: Adopted
    write: Callable[[str], object]

    def say(self, text: str) -> None:
        """Tell something that the terminal does not show."""
        self.write(f"# {text}")

    def alembic(self, command: str, *, fails: bool = False) -> None:
        """Run a command of Alembic's, and show it with its answer."""
        self._show(f"alembic {command}", self.adopted.alembic(*shlex.split(command)), fails=fails)

    def emc(self, command: str) -> None:
        """Run a command of emc's, and show it with its answer."""
        self._show(f"emc {command}", self.adopted.emc(*shlex.split(command)), fails=False)

    def _show(self, command: str, outcome: Outcome, *, fails: bool) -> None:
        self.write(f"$ {command}")
        copied = False
        for line in (outcome.errors + outcome.output).splitlines():
            shown = _TIME_AND_PLACE.sub(r"[\1 \2] ", line.rstrip())
            # Alembic logs the message of a failure, too.
            copied = shown.startswith(_COPY) or (copied and shown.startswith("    "))
            if shown and not copied and not shown.startswith(_NOISE):
                self.write(shown.replace(f"{self.adopted.directory}/", ""))
        if fails != (outcome.code != 0):
            raise SystemExit(f"{command}: {outcome}")
        if fails:
            self.write(f"[exit code {outcome.code}]")
        self.write("")

    def changed(self, package: Path, name: str) -> None:
        """Show what was changed in a file that the release ships."""
        before, after = (
            path.joinpath(name).read_text().splitlines() for path in (package, self.adopted.directory)
        )
        self.write(f"$ git diff -U0 {name}")
        for line in list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]:
            self.write(line)
        self.write("")

    def upgrade_of(self, revision: str) -> None:
        """Show what the upgrade of a revision does."""
        (name,) = (name for name in self.adopted.revisions() if name.startswith(f"{revision}_"))
        self.write(f"$ sed -n '/^def upgrade/,/^def downgrade/p' alembic/versions/{name}")
        text = self.adopted.revisions()[name]
        for line in text[text.index("def upgrade") : text.index("def downgrade")].rstrip().splitlines():
            self.write(line)
        self.write("")


def upgrade(hub: Hub, directory: Path, write: Callable[[str], object]) -> None:
    """The directory of the old release takes emc up, and goes to the models of the new one.

    Args:
        hub: an empty database.
        directory: an empty directory.
        write: receives each line.
    """
    hub.old_release("create")
    package = Path(hub.old_release("version")["package"])
    adopted = adopt(hub, directory, package, "retiring")
    person = Terminal(adopted, write)
    person.say(
        f"A database of JupyterHub {OLD_RELEASE}, and its own directory of Alembic's. What changes there:"
    )
    person.changed(package, "alembic/env.py")
    person.changed(package, "alembic/script.py.mako")
    person.alembic("current")
    person.say(f"The models are those of {NEW_RELEASE} now.")
    person.alembic('revision --autogenerate -m "to 6.1.1" --rev-id 6_1_1')
    person.alembic("history --rev-range 4dc2d5a8c53c:")
    person.upgrade_of("6_1_1c")
    person.alembic("upgrade expand@head")
    hub.old_release("exercise", "--running", "--round", "expanded")
    person.say(
        f"{OLD_RELEASE}, which is running, still reads and writes every table. {NEW_RELEASE} starts beside it."
    )
    hub.new_release("exercise", "--round", "new")
    person.alembic("upgrade heads", fails=True)
    person.emc("migrate")
    person.alembic("upgrade heads", fails=True)
    person.say(f"The last {OLD_RELEASE} has stopped.")
    person.alembic("-x old-code-gone upgrade heads", fails=True)
    person.say("The OAuth tokens can be lost: upgrade.py discards them, and says why.")
    adopted.choose("discarding")
    person.alembic("-x old-code-gone upgrade heads")
    person.alembic("check")
    hub.new_release("exercise", "--round", "contracted", "--state", "migrated")


def whole_history(hub: Hub, directory: Path, write: Callable[[str], object]) -> None:
    """The directory of the new release, with all its revisions, takes emc up.

    Args:
        hub: an empty database.
        directory: an empty directory.
        write: receives each line.
    """
    hub.old_release("create")
    person = Terminal(adopt(hub, directory, Path(jupyterhub.__file__).parent, "bare"), write)
    person.say(
        f"Another database of {OLD_RELEASE}, and the directory of {NEW_RELEASE}, changed in the same way."
    )
    person.alembic("upgrade heads")
    hub.new_release("create")
    person.say(f"{NEW_RELEASE} has started, and made what it does not leave to revisions.")
    person.alembic("check", fails=True)
    person.alembic("revision --autogenerate -m settle --rev-id 6_1_2")
    person.upgrade_of("6_1_2")
    person.upgrade_of("6_1_2c")
    person.alembic("-x old-code-gone upgrade heads")
    person.alembic("check")


def main() -> None:
    """Print both."""
    pool = ServerPool()
    try:
        for tell in (upgrade, whole_history):
            with tempfile.TemporaryDirectory() as directory, pool.get().database() as url:
                tell(hub_at(url), Path(directory), print)
    finally:
        pool.stop()


if __name__ == "__main__":
    main()
