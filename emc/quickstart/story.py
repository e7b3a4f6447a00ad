"""Which commands are run, in which order, and what is said about them?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emc.errors import EmcError, ExitCode
from emc.quickstart.files import write


class QuickstartError(EmcError):
    """The quickstart cannot go on."""


@dataclass(frozen=True)
class Act:
    """A command, with what is said before and after it."""

    before: str
    command: str
    """As a person types it: ``emc plan``, ``python old_release.py``."""
    code: ExitCode = ExitCode.DONE
    """The exit code that it has to end with."""
    after: str = ""


STORY = (
    Act(
        "A shop runs release 2026.1. First, its database, with rows in it.",
        "python new_database.py",
    ),
    Act(
        "Release 2026.2 has other models; see shop/models_2026_2.py, and shop/upgrade.py for what models cannot\n"
        "say. What would emc do, and when? A plan never writes.",
        "emc plan",
        after="Everything that the running release could trip over is in CONTRACT, behind gates.",
    ),
    Act(
        "EXPAND. Add what the new release needs.",
        "emc expand",
    ),
    Act(
        "The old release does not notice. It reads and writes as before,",
        "python old_release.py",
    ),
    Act(
        "and the new release can be deployed: it runs beside the old one, on the same tables.",
        "python new_release.py",
    ),
    Act(
        "What if somebody is in a hurry, and contracts now?",
        "emc contract",
        ExitCode.GATE_SHUT,
        "Exit code 3: blocked by gates. Nothing was dropped. A gate does not ask whether somebody has run a\n"
        "migration: it counts the rows, and it says which they are and what gets them out of the way.",
    ),
    Act(
        "MIGRATE. Move the data in small batches, while both releases run. Let it stop on the way:",
        "emc migrate --max-count 20000",
        ExitCode.WORK_REMAINS,
        "Exit code 1: rows are left. Had it crashed, nothing would be different.",
    ),
    Act(
        "The same command again goes on where it ended, and picks up what the old release wrote meanwhile.",
        "emc migrate",
    ),
    Act(
        "Where does the upgrade stand?",
        "emc status",
        after="All data is where the new release looks for it. One thing the database cannot tell: whether the old\n"
        "release is still running. It has been stopped now, and you give your word for that.",
    ),
    Act(
        "CONTRACT. Each gate is asked once more, at the moment of the change.",
        "emc contract --old-code-gone",
    ),
    Act(
        "Nothing was lost:",
        "python new_release.py",
    ),
    Act(
        "Models and database agree. A plan is derived afresh every time, so this is no bookkeeping:",
        "emc plan",
    ),
    Act(
        "What was done, and what had been proved when it was done, is in the ledger.",
        "emc history",
    ),
)

_FAREWELL = """\
That was an upgrade. The project is yours:

  cd {directory}
  python new_database.py     # back to release 2026.1, to do it all yourself

README.md there has things to try: crash it, let the old release write at the worst moment, forget a
declaration, break a row."""


def run(directory: Path, say: Callable[..., None], *, live: bool, python: str) -> None:
    """Write the project into *directory*, and upgrade its database.

    :param say: writes one text, in a style if one is given.
    :param live: whether the commands share this process's terminal; else their output goes through *say*.
    :param python: the interpreter to run the commands with.
    :raises QuickstartError: *directory* is not empty or cannot be made, or a command ended otherwise than expected.
    """
    _make(directory)
    say(f"A small project is in {directory}: a shop, between its releases 2026.1 and 2026.2.")
    for number, act in enumerate(STORY, start=1):
        say()
        say(f"{number}. {act.before}", "bold")
        say(f"$ {act.command}", "cyan")
        code = _run(act.command, directory, say, live=live, python=python)
        if code != act.code:
            raise QuickstartError(
                f"`{act.command}` ended with exit code {code}, not {int(act.code)}. The quickstart stops here.",
                remedy=f"The project is in {directory}; run the command there to look into it. Please report it.",
            )
        if act.after:
            say(act.after, "dim")
    say()
    say(_FAREWELL.format(directory=directory))


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise QuickstartError(
                f"{directory} is not empty, so the quickstart leaves it alone.",
                remedy="Name another directory: emc quickstart DIRECTORY",
            )
        write(directory)
    except OSError as error:
        raise QuickstartError(
            f"The project cannot be written: {error}.",
            remedy="Name another directory: emc quickstart DIRECTORY",
        ) from error


def _run(command: str, directory: Path, say: Callable[..., None], *, live: bool, python: str) -> int:
    program, *arguments = command.split()
    words = [python, "-m", "emc", *arguments] if program == "emc" else [python, *arguments]
    # The project has its own configuration; that of whoever watches is not meant.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMC_")}
    environment["PYTHONIOENCODING"] = "utf-8"
    if live:
        return subprocess.run(words, cwd=directory, env=environment, check=False).returncode  # noqa: S603 - our own
    with subprocess.Popen(  # noqa: S603 - our own
        words,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line.rstrip("\n"))
    return process.returncode
