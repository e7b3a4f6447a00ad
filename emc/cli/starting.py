"""How does the quickstart reach the terminal?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from emc.cli.failing import show
from emc.cli.terminal import Terminal
from emc.errors import EmcError, ExitCode
from emc.quickstart import run


@click.command("quickstart", short_help="Watch a small real project being upgraded.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path("emc-quickstart"))
def quickstart(directory: Path) -> ExitCode:
    """Write a small project into DIRECTORY, and upgrade its database before your eyes.

    DIRECTORY is ./emc-quickstart unless given, and must be empty or absent. The project stays there to play with. It
    needs SQLite only, and less than a minute.

    Exit code: 0; 2 if DIRECTORY is not empty, or a command ends otherwise than expected.
    """
    terminal = Terminal()
    try:
        run(directory, terminal.say, live=terminal.is_interactive, python=sys.executable)
    except EmcError as error:
        return show(error, as_json=False)
    return ExitCode.DONE
