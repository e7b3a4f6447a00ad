"""How does a person at a terminal use emc?

A face: it finds the configuration, calls :mod:`emc.commands` and shows what they answer. It holds no logic.
"""

from __future__ import annotations

import warnings

import click
from sqlalchemy.exc import SAWarning

from emc import __version__
from emc.cli.controlling import pause, resume, stop
from emc.cli.failing import FailingGroup
from emc.cli.looking import history, plan, status
from emc.cli.migrating import migrate
from emc.cli.running import contract, expand
from emc.cli.starting import quickstart
from emc.cli.undoing import undo

__all__ = ["main"]


@click.group(cls=FailingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="emc %(version)s")
def main() -> None:
    r"""Change a database while the previous release still runs: expand, migrate, contract.

    The upgrade and the database are named by --upgrade and --url, by EMC_UPGRADE and EMC_URL, or in pyproject.toml:

    \b
      [tool.emc]
      upgrade = "myapp.db:upgrade"
      url = "env:DATABASE_URL"

    \b
    Exit codes of all commands:
      0  done, or nothing to do
      1  work remains
      2  error; the message says what to do
      3  blocked by a gate
      4  a lock was not to be had in time; run the command again
      5  stopped on request, or held up for too long; run the command again to go on
    """
    # What SQLAlchemy thinks of the models is for their authors' tests, and would stand between the lines of a report.
    warnings.filterwarnings("ignore", message=".*will not produce a cache key", category=SAWarning)


for _command in (plan, status, expand, migrate, pause, resume, stop, contract, undo, history, quickstart):
    main.add_command(_command)
