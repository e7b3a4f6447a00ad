"""Databases for the tests, as fixtures: each test gets a fresh, empty one of its own.

``database_url`` and ``engine`` run a test once for each kind of database, see ``--kinds``; ``sqlite_url``,
``postgresql_url``, ``newest_postgresql_url`` and ``mariadb_url`` name one. ``@pytest.mark.pg_version(16)`` picks
``postgresql_url``'s version; ``tests.mariadb_server.spelled`` gives ``mariadb_url`` another driver.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Engine, create_engine

from tests.mariadb_server import MariaDBPool, MariaDBServer
from tests.servers import PostgresServer, ServerPool, installed, require

KINDS: Final = {
    "sqlite": "sqlite_url",
    "postgresql": "postgresql_url",
    "postgresql18": "newest_postgresql_url",
    "mariadb": "mariadb_url",
}
"""The kinds of database, and the fixture of each."""

ALIKE: Final = (
    "alembic",
    "cli",
    "commands",
    "data",
    "orm",
    "planning",
    "state",
    "test_docs_howto.py",
    "testing",
    "lifecycle/test_interruptions.py",
    "lifecycle/test_two_runners.py",
)
"""Tests that ``--all-servers`` leaves out: what they show does not depend on the version of PostgreSQL, and takes long.
``--kinds postgresql18`` runs them there, too."""

USUAL: Final = "sqlite,postgresql,mariadb"
"""What tests that know no kind run on when nothing else is said."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line say which servers to test on."""
    group = parser.getgroup("emc")
    group.addoption(
        "--kinds", type=_kinds, default=USUAL, help=f"of {', '.join(KINDS)}: databases to test [{USUAL}]"
    )
    group.addoption("--all-servers", action="store_true", help="test on PostgreSQL 18 as well")
    group.addoption("--pg-version", type=int, help="PostgreSQL version of the default server [15, or lowest]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever needs `database_url` on each kind of database, unless the test names them itself."""
    by_hand = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "database_url" in metafunc.fixturenames and not any("database_url" in names for names in by_hand):
        kinds = list(metafunc.config.getoption("--kinds"))
        path = metafunc.definition.path.relative_to(Path(__file__).parent)
        alike = any(path.is_relative_to(one) for one in ALIKE)
        if metafunc.config.getoption("--all-servers") and "postgresql18" not in kinds and not alike:
            kinds.append("postgresql18")
        metafunc.parametrize("database_url", kinds, indirect=True)


@pytest.fixture(scope="session")
def pg_versions() -> tuple[int, ...]:
    """The major versions of PostgreSQL that are installed here, lowest first."""
    return tuple(installed())


@pytest.fixture(scope="session")
def pg_pool() -> Iterator[ServerPool]:
    """This process's PostgreSQL servers of any version, started when first asked for."""
    pool = ServerPool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def pg_server(pg_pool: ServerPool, pytestconfig: pytest.Config) -> PostgresServer:
    """The default PostgreSQL server: version 15, or the lowest there is, or `--pg-version`."""
    return pg_pool.get(pytestconfig.getoption("--pg-version"))


@pytest.fixture
def throwaway_pg_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server for this test alone, which may crash it: ``server.restart(immediate=True)``."""
    version, bin_directory = require(_marked_version(request))
    server = PostgresServer(bin_directory, version)
    yield server
    server.stop()


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, pg_pool: ServerPool) -> Iterator[str]:
    """A fresh PostgreSQL database, on the default server or on the version that the test is marked with."""
    version = _marked_version(request)
    server = pg_pool.get(version) if version else request.getfixturevalue("pg_server")
    with server.database() as url:
        yield url


@pytest.fixture
def newest_postgresql_url(pg_pool: ServerPool) -> Iterator[str]:
    """A fresh database on PostgreSQL 18."""
    with pg_pool.get(18).database() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_pool() -> Iterator[MariaDBPool]:
    """This process's MariaDB servers, started when first asked for."""
    pool = MariaDBPool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def mariadb_server(mariadb_pool: MariaDBPool) -> MariaDBServer:
    """The MariaDB server that the tests of this process share."""
    return mariadb_pool.get()


@pytest.fixture
def throwaway_mariadb_server(mariadb_pool: MariaDBPool) -> Iterator[MariaDBServer]:
    """A server for this test alone, which may crash it: ``server.restart(immediate=True)``."""
    server = mariadb_pool.new()
    yield server
    server.stop()


@pytest.fixture
def mariadb_url(mariadb_server: MariaDBServer) -> Iterator[str]:
    """A fresh MariaDB database, by PyMySQL."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def emc_postgresql_server(pg_server: PostgresServer) -> PostgresServer:
    """The fixtures of emc's own plugin share our servers."""
    return pg_server


@pytest.fixture(scope="session")
def emc_mariadb_server(mariadb_server: MariaDBServer) -> MariaDBServer:
    """As above."""
    return mariadb_server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite database, in a file so that several connections see the same."""
    return f"sqlite:///{tmp_path / 'emc.db'}"


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn."""
    url: str = request.getfixturevalue(KINDS[request.param])
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def _marked_version(request: pytest.FixtureRequest) -> int | None:
    marker = request.node.get_closest_marker("pg_version")
    return marker.args[0] if marker else None


def _kinds(value: str) -> list[str]:
    kinds = value.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(KINDS)}")
    return kinds
