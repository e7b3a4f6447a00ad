"""Where does a test of each kind of database get a fresh one, empty or as the old release has it?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.pool import NullPool

from emc.cli.config import Setting, engine_of, settings, url_of
from emc.cli.loading import upgrade_of
from emc.errors import ConfigurationError
from emc.testing.copying import copies
from emc.testing.mariadb import MariaDBPool
from emc.testing.postgresql import PostgresServer
from emc.testing.postgresql import require as require_postgresql
from emc.testing.releases import OldRelease, Rows, release_in_git, release_in_wheel, release_of
from emc.testing.servers import ExistingServer, Server
from emc.upgrade import Upgrade

_Started = tuple[Server, Callable[[], object]]


class Files:
    """SQLite's databases, a file each.

    :param directory: where they are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, empty database while the context lasts; its SQLAlchemy URL."""
        path = self._directory / f"emc_{next(self._numbers)}.db"
        yield f"sqlite:///{path}"
        path.unlink(missing_ok=True)


@contextmanager
def server(kind: str, url: str | None = None) -> Iterator[Server]:
    """A server while the context lasts.

    :param kind: ``postgresql`` or ``mariadb``.
    :param url: of one that runs already, as a user who may create databases, or ``env:NAME``, the variable that holds
        it; ``None``: one is started of what is installed. Where nothing is, the test is skipped, or fails where
        ``CI=true``.
    :raises ConfigurationError: the variable is not set, or what it holds is no URL.
    """
    if url:
        variable = url.removeprefix("env:") if url.startswith("env:") else None
        value = os.environ.get(variable, "") if variable else url
        if not value:
            raise ConfigurationError(
                f"The environment variable {variable} is not set, and emc_{kind}_server asks for it.",
                remedy=f"Set {variable} to the URL of a {kind} server.",
            )
        yield ExistingServer(url_of(Setting(value, variable or f"emc_{kind}_server", Path.cwd()), os.environ))
        return
    started, stop = _START[kind]()
    try:
        yield started
    finally:
        stop()


def _postgresql() -> _Started:
    version, programs = require_postgresql()
    started = PostgresServer(programs, version)
    return started, started.stop


def _mariadb() -> _Started:
    pool = MariaDBPool()
    return pool.get(), pool.stop


_START: Final[Mapping[str, Callable[[], _Started]]] = {"postgresql": _postgresql, "mariadb": _mariadb}


@contextmanager
def old_database(release: OldRelease, server: Server, directory: Path) -> Iterator[Callable[[], str]]:
    """A function that answers the URL of a new copy of a database as the old release has it; one is made for all.

    :param release: the old release.
    :param server: where it is made.
    :param directory: where files may be put.
    """
    with server.database() as url:
        release.build(engine_of(make_url(url), poolclass=NullPool))
        with copies(url, directory) as copy:
            yield copy


def configured_upgrade(name: str | None, directory: Path) -> Upgrade:
    """The project's upgrade.

    :param name: ``module:attribute``; ``None``: what the environment or ``[tool.emc]`` says.
    :param directory: of the project.
    :raises ConfigurationError: none is configured, or it cannot be imported.
    """
    if name:
        return upgrade_of(Setting(name, "emc_upgrade of pytest's configuration", directory), [directory])
    found = settings(None, None, environment=os.environ, directory=directory)
    if found.upgrade is None:
        raise ConfigurationError(
            "No upgrade is configured.",
            remedy='Write upgrade = "myapp.db:upgrade" below [tool.emc] in pyproject.toml, or emc_upgrade = '
            "myapp.db:upgrade in pytest's configuration.",
        )
    return upgrade_of(found.upgrade, found.directories)


def configured_release(
    models: str | None,
    git: str | None,
    wheel: str | None,
    *,
    python: str | None = None,
    rows: Rows | None,
    project: Path,
    directory: Path,
) -> OldRelease:
    """The project's old release.

    :param models: ``module:attribute`` of its MetaData.
    :param git: the revision that it is at.
    :param wheel: the file that it is in, from *project* on.
    :param python: the interpreter of an environment that has what it needs, or ``new``.
    :param rows: writes what it has stored.
    :param project: the directory of the project, whose modules can be imported.
    :param directory: an empty one, to unpack it in.
    :raises ConfigurationError: it is not given, or twice.
    """
    if not models:
        raise ConfigurationError(
            "No old release is configured, so nothing can be said of what it goes on doing.",
            remedy="Write in pytest's configuration where its models are: emc_old_models = myapp.models:Base.metadata, "
            "and emc_old_git = v2026.1 or emc_old_wheel = dist/myapp-2026.1-py3-none-any.whl unless they can be "
            "imported beside the new ones.",
        )
    if git and wheel:
        raise ConfigurationError(
            "emc_old_git and emc_old_wheel both say where the old release is.", remedy="Keep one of the two."
        )
    if git:
        top, _, source = git.partition(":")
        return release_in_git(
            top, models, directory, repository=project, source=source or ".", python=python, rows=rows
        )
    if wheel:
        return release_in_wheel(project / wheel, models, directory, python=python, rows=rows)
    if python:
        raise ConfigurationError(
            "emc_old_python says which Python imports the old release, and nothing says where that is.",
            remedy="Give emc_old_git or emc_old_wheel besides; what is imported beside the new release needs no other.",
        )
    return release_of(models, rows=rows)
