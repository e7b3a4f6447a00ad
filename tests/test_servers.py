import os
import select
import shutil
import socket
import subprocess
import sys
import unittest
from pathlib import Path

import psycopg
import pytest
from pytest_postgresql import factories
from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from emc.testing import MissingSoftwareError
from tests.servers import EXPECTED, PostgresServer, ServerPool, installed, make_role, require


def create_counter(host: str, port: int, user: str, dbname: str, password: str, autocommit: bool) -> None:
    """Load the template database of the factories' test."""
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname) as connection:
        connection.execute("CREATE TABLE counter AS SELECT 1 AS value")


loaded_template = factories.postgresql_noproc(depends_on="pg_server", dbname="loaded", load=[create_counter])
loaded_database = factories.postgresql("loaded_template")


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement in a transaction of its own, and no connection left behind."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        result = connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.mark.parametrize("version", EXPECTED)
def test_version(pg_pool: ServerPool, version: int) -> None:
    """A server of each expected version can be had, and is of that version."""
    with pg_pool.get(version).database() as url:
        [[number]] = query(url, "SELECT current_setting('server_version_num')::int / 10000")
    assert number == version


def test_default_version(pg_versions: tuple[int, ...]) -> None:
    """The default server is version 15, or else the lowest that is installed."""
    assert require()[0] == (15 if 15 in pg_versions else pg_versions[0])


def test_wheels_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no PostgreSQL, the servers of the wheels are found, and the default is 16."""
    monkeypatch.setattr("emc.testing.postgresql.SYSTEM", tmp_path)
    assert tuple(installed()) == (16, 18)
    assert require()[0] == 16


def test_versions_of_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version from before 10, whose number has a dot, is passed over."""
    for version in ("9.6", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    monkeypatch.setattr("emc.testing.postgresql.SYSTEM", tmp_path)
    monkeypatch.setattr("emc.testing.postgresql.WHEELS", ())
    assert installed() == {17: tmp_path / "17/bin"}


@pytest.mark.pg_version(16)
def test_marked_version(postgresql_url: str, pg_pool: ServerPool) -> None:
    """A test's mark picks the version of its database."""
    assert make_url(postgresql_url).port == pg_pool.get(16).port


@pytest.mark.parametrize("turn", [1, 2])
def test_own_database(engine: Engine, turn: int) -> None:
    """Each test's database is empty, whatever the test before left in its own."""
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (id integer)"))


def test_two_servers(postgresql_url: str, newest_postgresql_url: str) -> None:
    """One test can have databases of two versions."""
    assert make_url(postgresql_url).port != make_url(newest_postgresql_url).port


def test_dropped_despite_connections(pg_server: PostgresServer) -> None:
    """A connection that a test forgets does not keep its database alive."""
    with pg_server.database() as url:
        name = make_url(url).database
        address = {"host": pg_server.host, "port": str(pg_server.port), "user": pg_server.user}
        forgotten = psycopg.connect(**address, dbname=name)  # type: ignore[arg-type]
    forgotten.close()
    assert query(pg_server.url(), f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == []


def test_loaded_template(loaded_database: psycopg.Connection) -> None:
    """pytest-postgresql's factories run on our servers, for tests that want a template loaded once."""
    assert loaded_database.execute("SELECT value FROM counter").fetchall() == [(1,)]


def test_crash(throwaway_pg_server: PostgresServer) -> None:
    """After an immediate restart connections are gone, what was committed is there, and the rest is not."""
    with throwaway_pg_server.database() as url:
        query(url, "CREATE TABLE kept AS SELECT 1 AS value")
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO kept VALUES (2)"))
            throwaway_pg_server.restart(immediate=True)
            with pytest.raises(OperationalError):
                connection.execute(text("SELECT 1"))
            connection.invalidate()
        assert query(url, "SELECT value FROM kept") == [(1,)]
        assert "not properly shut down" in throwaway_pg_server.log()


def test_stop() -> None:
    """A stopped server leaves neither a listener nor a directory, and may be stopped again."""
    version, bin_directory = require()
    server = PostgresServer(bin_directory, version)
    server.stop()
    server.stop()
    assert not listens(server.port)
    assert not server.directory.exists()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child: Linux")
def test_killed_owner() -> None:
    """A server does not outlive the process that started it, even one that is killed."""
    program = """
import sys
from tests.servers import PostgresServer, require
version, bin_directory = require()
server = PostgresServer(bin_directory, version)
print(server._watchdog.pid, server.port, server.directory, flush=True)
sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout
        watchdog, port, directory = owner.stdout.readline().split()
        watched = os.pidfd_open(int(watchdog))
        assert listens(int(port))
        owner.kill()
        ended, _, _ = select.select([watched], [], [], 60)
        os.close(watched)
    assert ended, "the watchdog still runs"
    assert not listens(int(port))
    assert not Path(directory).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another account")
def test_unreadable_software(tmp_path: Path) -> None:
    """Software that the server's account may not read, as below root's home, is copied to where it may."""
    version, bin_directory = next(
        (
            (version, path)
            for version, path in installed().items()
            if path.parent.name.startswith("pginstall")
        ),
        require(18),
    )
    package = bin_directory.parents[1]
    tmp_path.chmod(0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, tmp_path / part.name)
    server = PostgresServer(tmp_path / bin_directory.relative_to(package.parent), version)
    try:
        assert query(server.url(), "SELECT 1") == [(1,)]
    finally:
        server.stop()


def test_owner(postgresql_url: str) -> None:
    """The owner role creates tables and owns them, and is no superuser."""
    url = make_role(postgresql_url, "app_owner", "owner")
    query(url, "CREATE TABLE owned (id integer)")
    assert query(url, "SELECT tableowner FROM pg_tables WHERE tablename = 'owned'") == [("app_owner",)]
    assert query(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]


def test_reader(postgresql_url: str) -> None:
    """The read-only role reads tables made before and after it, and writes none."""
    query(postgresql_url, "CREATE TABLE before AS SELECT 1 AS value")
    url = make_role(postgresql_url, "app_reader", "reader")
    query(postgresql_url, "CREATE TABLE after AS SELECT 2 AS value")
    assert query(url, "SELECT value FROM before UNION SELECT value FROM after ORDER BY 1") == [(1,), (2,)]
    for statement in ("INSERT INTO before VALUES (3)", "CREATE TABLE mine (id integer)"):
        with pytest.raises(DBAPIError, match="permission denied"):
            query(url, statement)


def test_role_used_again(postgresql_url: str) -> None:
    """Asking twice for the same role is no error, since roles outlive databases."""
    assert make_role(postgresql_url, "again", "reader") == make_role(postgresql_url, "again", "reader")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_named_databases(engine: Engine) -> None:
    """A test that names its kinds of database runs on no other."""
    assert engine.dialect.name == "postgresql"


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--kinds", "mariadb,sqlite"], ["mariadb", "sqlite"]),
        (["--kinds", "postgresql", "--all-servers"], ["postgresql", "postgresql18"]),
    ],
)
def test_kinds(options: list[str], kinds: list[str]) -> None:
    """The command line chooses the kinds of database that tests run on."""
    test = "tests/test_servers.py::test_own_database"
    run = collect(*options, test)
    assert [line for line in run.stdout.splitlines() if line.endswith("-1]")] == [
        f"{test}[{kind}-1]" for kind in kinds
    ]


def test_unknown_kind() -> None:
    """A kind that does not exist is refused, and those that do are named."""
    run = collect("--kinds", "sqlite,oracle")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown: oracle; known: sqlite, postgresql" in run.stderr


def test_missing_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is not installed skips the test on a laptop and fails it in CI, saying which."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(MissingSoftwareError, match="PostgreSQL 9 is not installed"):
        require(9)
    monkeypatch.delenv("CI")
    with pytest.raises(unittest.SkipTest, match="PostgreSQL 9 is not installed"):
        require(9)


def collect(*options: str) -> subprocess.CompletedProcess[str]:
    """What pytest would run with `options`."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def listens(port: int) -> bool:
    """Whether anyone accepts connections on a local port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
