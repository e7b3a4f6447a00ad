"""What do all commands take, and what do they have in hand when they begin?"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import click
from sqlalchemy import URL, Engine

from emc.cli.config import Settings, engine_of, settings, url_of
from emc.cli.failing import show_exception
from emc.cli.loading import upgrade_of
from emc.cli.terminal import Terminal
from emc.cli.throttling import throttle_policy
from emc.data import ThrottlePolicy
from emc.errors import ExitCode
from emc.upgrade import Upgrade


class Session:
    """One run of a command: where it speaks, and what it works on."""

    def __init__(self, terminal: Terminal, upgrade: str | None, url: str | None) -> None:
        self.terminal = terminal
        self.secrets: list[str] = []
        """What must not be shown: the password, as it is and as a URL spells it."""
        self._given = (upgrade, url)

    @functools.cached_property
    def settings(self) -> Settings:
        """What was configured."""
        upgrade, url = self._given
        return settings(upgrade, url, environment=os.environ, directory=Path.cwd())

    @functools.cached_property
    def upgrade(self) -> Upgrade:
        """The upgrade, imported."""
        return upgrade_of(self.settings.upgrade, self.settings.directories)

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine; it has not connected yet."""
        url = url_of(self.settings.url, os.environ)
        self._keep_secret(url)
        # As many connections as --workers takes; SQLite, which has one writer, has other kinds of pools.
        options = {} if url.get_backend_name() == "sqlite" else {"max_overflow": -1}
        return engine_of(url, **options)

    @functools.cached_property
    def throttle(self) -> ThrottlePolicy:
        """What was configured to hold up migrate."""
        policy = throttle_policy(Path.cwd(), os.environ)
        for replica in policy.replicas:
            self._keep_secret(replica.url)
        return policy

    def _keep_secret(self, url: URL) -> None:
        if url.password:
            word = str(url.password)
            spelt = url.render_as_string(hide_password=False).partition("://")[2].rpartition("@")[0]
            self.secrets += dict.fromkeys(
                [word, quote(word, safe=""), quote_plus(word), spelt.partition(":")[2]]
            )


def command(name: str, short_help: str) -> Callable[[Callable[..., ExitCode]], click.Command]:
    """Make a command of a function that takes a :class:`Session` and its own options, and answers its exit code."""

    def decorate(function: Callable[..., ExitCode]) -> click.Command:
        @click.option("--upgrade", metavar="MODULE:ATTRIBUTE", help="The emc.Upgrade. [EMC_UPGRADE]")
        @click.option("--url", metavar="URL", help="The database; env:NAME names a variable. [EMC_URL]")
        @click.option(
            "--format", "form", type=click.Choice(["table", "json"]), default="table", help="How to answer."
        )
        @click.option("--traceback", "wants_traceback", is_flag=True, help="Show where an error comes from.")
        @functools.wraps(function)
        def run(
            *, upgrade: str | None, url: str | None, form: str, wants_traceback: bool, **options: Any
        ) -> ExitCode:
            as_json = form == "json"
            session = Session(Terminal(as_json=as_json), upgrade, url)
            try:
                return function(session, **options)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:  # noqa: BLE001 - the last place where an error can become a message
                return show_exception(
                    error, as_json=as_json, wants_traceback=wants_traceback, secrets=session.secrets
                )
            finally:
                if "engine" in vars(session):
                    session.engine.dispose()

        return click.command(name, short_help=short_help)(run)

    return decorate
