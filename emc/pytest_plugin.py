"""Which fixtures does emc bring for pytest?

Nothing happens until a test asks for one: this module is imported in every run of pytest, so it imports pytest alone.
What the fixtures do is in :mod:`emc.testing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Engine

    from emc.testing import OldRelease, Server
    from emc.testing.releases import Rows
    from emc.upgrade import Upgrade

KINDS = ("sqlite", "postgresql", "mariadb")
"""The kinds of database that ``emc_databases`` knows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the settings. There is no option of the command line; ``-o NAME=VALUE`` serves as one."""
    kinds = ", ".join(KINDS)
    parser.addini(
        "emc_databases", f"databases that emc's checks run on, of {kinds} [sqlite]", "args", ["sqlite"]
    )
    for name, what in (
        ("emc_upgrade", "module:attribute of the emc.Upgrade to test [that of [tool.emc]]"),
        ("emc_postgresql_server", "URL of a PostgreSQL server, env:NAME or fixture:NAME [one is started]"),
        ("emc_mariadb_server", "URL of a MariaDB or MySQL server, env:NAME or fixture:NAME [one is started]"),
        ("emc_old_models", "module:attribute of the MetaData of the release before"),
        ("emc_old_git", "git revision of the release before; v1:src if its modules are in src"),
        ("emc_old_wheel", "wheel of the release before"),
        ("emc_old_python", "Python that has what the release before needs, or new [this one]"),
        ("emc_alembic_config", "file of Alembic's configuration [alembic.ini or pyproject.toml]"),
        ("emc_moments", "at how many statements each command is killed, or all [4]"),
    ):
        parser.addini(name, what, "string", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a database of emc's on each kind that is configured, unless the test names them itself."""
    if "emc_database_kind" not in metafunc.fixturenames:
        return
    marks = metafunc.definition.iter_markers("parametrize")
    by_hand = [mark.args[0] if mark.args else mark.kwargs.get("argnames", ()) for mark in marks]
    if any("emc_database_kind" in names for names in by_hand):
        return
    kinds = metafunc.config.getini("emc_databases")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise pytest.UsageError(
            f"emc_databases names {', '.join(unknown) or 'no database'}; it knows {', '.join(KINDS)}"
        )
    metafunc.parametrize("emc_database_kind", kinds, indirect=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Fail with the message of emc's error, and without its traceback."""
    from emc.errors import EmcError

    try:
        yield
    except EmcError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


# -- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def emc_postgresql_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The PostgreSQL server of this process, or whatever of another plugin's stands for one.

    A project may have its own fixture of this name.
    """
    yield from _server("postgresql", request)


@pytest.fixture(scope="session")
def emc_mariadb_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The MariaDB server of this process, as above."""
    yield from _server("mariadb", request)


def _server(kind: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    from emc.testing.databases import server

    said: str = request.config.getini(f"emc_{kind}_server")
    if said.startswith("fixture:"):
        yield request.getfixturevalue(said.removeprefix("fixture:"))
        return
    with _explained():
        context = server(kind, said or None)
        started = context.__enter__()
    yield started
    context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def emc_sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Where SQLite's files are."""
    from emc.testing.databases import Files

    return Files(tmp_path_factory.mktemp("emc"))


@pytest.fixture
def emc_sqlite_url(emc_sqlite_server: Any) -> Iterator[str]:
    """A fresh SQLite database, in a file so that several connections see the same."""
    yield from _database(emc_sqlite_server)


@pytest.fixture
def emc_postgresql_url(emc_postgresql_server: Any) -> Iterator[str]:
    """A fresh PostgreSQL database."""
    yield from _database(emc_postgresql_server)


@pytest.fixture
def emc_mariadb_url(emc_mariadb_server: Any) -> Iterator[str]:
    """A fresh MariaDB database."""
    yield from _database(emc_mariadb_server)


def _database(server: Any) -> Iterator[str]:
    from emc.testing.servers import server_of

    with _explained():
        context = server_of(server).database()
        url = context.__enter__()
    yield url
    context.__exit__(None, None, None)


@pytest.fixture
def emc_database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database that ``emc_databases`` names, in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def emc_database_url(emc_database_kind: str, request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn."""
    from emc.testing.servers import url_of

    # A project's own fixture of that name may answer what another plugin's does.
    return url_of(request.getfixturevalue(f"emc_{emc_database_kind}_url"))


@pytest.fixture
def emc_engine(emc_database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database of each kind in turn."""
    yield from _engine(emc_database_url)


def _engine(url: str) -> Iterator[Engine]:
    from sqlalchemy import make_url

    from emc.cli.config import engine_of

    with _explained():
        engine = engine_of(make_url(url))
    yield engine
    engine.dispose()


# -- the two releases ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def emc_upgrade(pytestconfig: pytest.Config) -> Upgrade:
    """The project's upgrade, by ``emc_upgrade``, or else as the command line finds it."""
    from emc.testing.databases import configured_upgrade

    with _explained():
        return configured_upgrade(pytestconfig.getini("emc_upgrade") or None, _project(pytestconfig))


@pytest.fixture(scope="session")
def emc_rows() -> Rows | None:
    """A function of the connection that writes rows of the old release; ``None``: they are made from its models.

    A project that needs rows of its own has a fixture of this name.
    """
    return None


@pytest.fixture(scope="session")
def emc_old_release(
    pytestconfig: pytest.Config, emc_rows: Rows | None, tmp_path_factory: pytest.TempPathFactory
) -> OldRelease:
    """The release that still runs, by ``emc_old_models`` and the settings beside it."""
    from emc.testing.databases import configured_release

    models, git, wheel, python = (
        pytestconfig.getini(f"emc_old_{name}") for name in ("models", "git", "wheel", "python")
    )
    with _explained():
        return configured_release(
            models,
            git,
            wheel,
            python=python or None,
            rows=emc_rows,
            project=_project(pytestconfig),
            directory=tmp_path_factory.mktemp("emc_old_release"),
        )


# One for each kind, so that each goes before its server does.


@pytest.fixture(scope="session")
def emc_old_sqlite(
    emc_old_release: OldRelease, emc_sqlite_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """What copies a SQLite database as the old release has it; answers the URL."""
    yield from _old(emc_old_release, emc_sqlite_server, tmp_path_factory)


@pytest.fixture(scope="session")
def emc_old_postgresql(
    emc_old_release: OldRelease, emc_postgresql_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """What copies a PostgreSQL database as the old release has it."""
    yield from _old(emc_old_release, emc_postgresql_server, tmp_path_factory)


@pytest.fixture(scope="session")
def emc_old_mariadb(
    emc_old_release: OldRelease, emc_mariadb_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """What copies a MariaDB database as the old release has it."""
    yield from _old(emc_old_release, emc_mariadb_server, tmp_path_factory)


def _old(
    release: OldRelease, server: Any, directories: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    from emc.testing.databases import old_database
    from emc.testing.servers import server_of

    with _explained():
        context = old_database(release, server_of(server), directories.mktemp("emc_copies"))
        copy = context.__enter__()
    yield copy
    context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def emc_moments(pytestconfig: pytest.Config) -> int | None:
    """At how many moments each command is killed, by ``emc_moments``; ``None``: at all of them."""
    said = pytestconfig.getini("emc_moments") or "4"
    if said != "all" and not said.isdecimal():
        pytest.fail(f"emc_moments is {said!r}; write a number, or all", pytrace=False)
    return None if said == "all" else int(said)


@pytest.fixture
def emc_old_engine(emc_database_kind: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on a database as the old release has it, with rows, of each kind in turn."""
    copy: Callable[[], str] = request.getfixturevalue(f"emc_old_{emc_database_kind}")
    yield from _engine(copy())


# -- Alembic ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def emc_alembic_config(pytestconfig: pytest.Config) -> Config | Path:
    """Alembic's configuration, or its file; tests that need it are skipped where there is none."""
    from emc.testing.revisions import alembic_config

    return alembic_config(_project(pytestconfig), pytestconfig.getini("emc_alembic_config") or None)


def _project(config: pytest.Config) -> Path:
    """Where modules are looked for, and relative paths begin."""
    return config.inipath.parent if config.inipath is not None else Path(os.fspath(config.rootpath))
