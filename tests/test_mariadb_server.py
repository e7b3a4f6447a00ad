import os
import select
import signal
import subprocess
import sys
import unittest
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from emc.testing import MissingSoftwareError
from tests.mariadb_server import (
    OLDEST,
    PLACES,
    SPELLINGS,
    MariaDBPool,
    MariaDBServer,
    execute,
    make_account,
    require,
    spelled,
)
from tests.test_servers import listens, query


def test_version(mariadb_url: str) -> None:
    """The server is MariaDB, of a version that emc promises to work with."""
    engine = create_engine(mariadb_url, poolclass=NullPool)
    with engine.connect() as connection:
        assert (connection.dialect.server_version_info or ()) >= OLDEST
        assert connection.dialect.is_mariadb  # type: ignore[attr-defined]


def test_settings(mariadb_url: str) -> None:
    """The database holds every character, and what emc has to cope with is as the server has it by itself."""
    [settings] = query(
        mariadb_url,
        "SELECT @@character_set_database, @@lock_wait_timeout, @@innodb_lock_wait_timeout, @@foreign_key_checks, "
        "@@sql_mode LIKE '%STRICT_TRANS_TABLES%'",
    )
    assert settings == ("utf8mb4", 86400, 50, 1, 1)


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_own_database(engine: Engine, turn: int) -> None:
    """Each test's database is empty, whatever the test before left in its own."""
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (id integer)"))


@pytest.mark.parametrize("drivername", SPELLINGS)
def test_spellings(mariadb_url: str, drivername: str) -> None:
    """Under either name and with either driver, the URL leads to the same database."""
    query(mariadb_url, "CREATE TABLE kept AS SELECT 'ß 😀' AS value")
    url = spelled(mariadb_url, drivername)
    assert make_url(url).drivername == drivername
    assert query(url, "SELECT value FROM kept") == [("ß 😀",)]


def test_dropped_despite_connections(mariadb_server: MariaDBServer) -> None:
    """A connection that a test forgets in a transaction does not keep its database alive."""
    with mariadb_server.database() as url:
        address = make_url(url)
        query(url, "CREATE TABLE kept AS SELECT 1 AS value")
        forgotten = pymysql.connect(
            host=mariadb_server.host, port=mariadb_server.port, user=mariadb_server.user
        )
        forgotten.select_db(address.database)
        forgotten.query("SELECT * FROM kept")
    with pytest.raises(pymysql.err.OperationalError):
        forgotten.query("SELECT 1")
    assert (address.database,) not in query(mariadb_server.url(), "SHOW DATABASES")


def test_dropped_despite_locks_from_elsewhere(mariadb_server: MariaDBServer) -> None:
    """Nor does one that is connected to another database and holds locks in this one."""
    with mariadb_server.database() as elsewhere, mariadb_server.database() as url:
        name = make_url(url).database
        query(url, "CREATE TABLE kept AS SELECT 1 AS value")
        forgotten = create_engine(elsewhere, poolclass=NullPool).connect()
        forgotten.execute(text(f"SELECT * FROM {name}.kept"))
    forgotten.invalidate()
    assert (name,) not in query(mariadb_server.url(), "SHOW DATABASES")


@pytest.mark.parametrize("immediate", [True, False])
def test_restart(throwaway_mariadb_server: MariaDBServer, *, immediate: bool) -> None:
    """After a restart or a crash connections are gone, what was committed is there, and the rest is not."""
    with throwaway_mariadb_server.database() as url:
        query(url, "CREATE TABLE kept AS SELECT 1 AS value")
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO kept VALUES (2)"))
            throwaway_mariadb_server.restart(immediate=immediate)
            with pytest.raises(OperationalError):
                connection.execute(text("SELECT 1"))
            connection.invalidate()
        assert query(url, "SELECT value FROM kept") == [(1,)]
        assert ("Starting crash recovery" in throwaway_mariadb_server.log()) == immediate


def test_stop(mariadb_pool: MariaDBPool) -> None:
    """A stopped server leaves neither a listener nor a directory, and may be stopped again."""
    server = mariadb_pool.new()
    server.stop()
    server.stop()
    assert not listens(server.port)
    assert not server.directory.exists()


def test_stopped_pool() -> None:
    """A stopped pool leaves nothing, and the server that it began is stopped with it."""
    pool = MariaDBPool()
    server = pool.get()
    assert pool.get() is server
    pool.stop()
    pool.stop()
    assert not listens(server.port)
    assert not server.directory.exists()


PROGRAM = """
import signal, sys
from tests.mariadb_server import MariaDBServer, require
server = MariaDBServer(require())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # The server has not inherited that.
print(server._watched._watchdog.pid, server.port, server.directory, flush=True)
signal.sigwait([signal.SIGINT])
print("interrupted", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child: Linux")
def test_killed_owner() -> None:
    """A server survives the Ctrl-C of its owner, who stops it, and does not outlive an owner that is killed."""
    require()
    owner = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with owner:
        assert owner.stdout
        watchdog, port, directory = owner.stdout.readline().split()
        watched = os.pidfd_open(int(watchdog))
        os.killpg(owner.pid, signal.SIGINT)
        assert owner.stdout.readline() == "interrupted\n"
        assert query(f"mariadb+pymysql://root@127.0.0.1:{port}", "SELECT 1") == [(1,)]
        owner.kill()
        ended, _, _ = select.select([watched], [], [], 60)
        os.close(watched)
    assert ended, "the watchdog still runs"
    assert not listens(int(port))
    assert not Path(directory).exists()


def test_owner(mariadb_url: str) -> None:
    """The owner may do anything in its database, and nothing outside."""
    url = make_account(mariadb_url, "app_owner", "owner")
    query(url, "CREATE TABLE owned (id integer)")
    query(url, "CREATE TRIGGER always BEFORE INSERT ON owned FOR EACH ROW SET NEW.id = 1")
    for statement in ("CREATE DATABASE app_owner_1", "SELECT * FROM mysql.user", "SET GLOBAL sql_mode = ''"):
        with pytest.raises(DBAPIError, match="denied"):
            query(url, statement)


def test_reader(mariadb_url: str) -> None:
    """The reader reads tables made before and after it, and writes none."""
    query(mariadb_url, "CREATE TABLE earlier AS SELECT 1 AS value")
    url = make_account(mariadb_url, "app_reader", "reader")
    query(mariadb_url, "CREATE TABLE later AS SELECT 2 AS value")
    assert query(url, "SELECT value FROM earlier UNION SELECT value FROM later ORDER BY 1") == [(1,), (2,)]
    for statement in ("INSERT INTO earlier VALUES (3)", "CREATE TABLE mine (id integer)"):
        with pytest.raises(DBAPIError, match="command denied"):
            query(url, statement)


def test_account_of_one_database(mariadb_server: MariaDBServer) -> None:
    """An account that is used again keeps out of databases whose names only look like its own."""
    with mariadb_server.database() as url:
        account = make_account(url, "app_twice", "owner")
        assert make_account(url, "app_twice", "owner") == account
        name = make_url(url).database or ""
        alike = name.replace("_", "x")
        execute(url, f"CREATE DATABASE {alike}")
        try:
            with pytest.raises(DBAPIError, match="denied"):
                query(account, f"CREATE TABLE {alike}.mine (id integer)")
        finally:
            execute(url, f"DROP DATABASE {alike}")


def test_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without MariaDB a test is skipped on a laptop and fails in CI, saying what was not found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("emc.testing.mariadb.PLACES", ())
    monkeypatch.setenv("CI", "true")
    with pytest.raises(MissingSoftwareError, match="mariadbd"):
        require()
    monkeypatch.delenv("CI")
    with pytest.raises(unittest.SkipTest, match="mariadbd"):
        require()


def test_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mysqlclient, likewise."""
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(MissingSoftwareError, match="mysqlclient"):
        spelled("mariadb+pymysql://", "mariadb+mysqldb")
    monkeypatch.delenv("CI")
    with pytest.raises(unittest.SkipTest, match="mysqlclient"):
        spelled("mariadb+pymysql://", "mysql+mysqldb")


def test_found_off_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs for the administrator are found although an ordinary user's PATH does not have them."""
    software = require()
    if str(software.server.parent) not in PLACES:
        pytest.skip(f"mariadbd is in {software.server.parent}")
    monkeypatch.setenv("PATH", str(software.install.parent))
    assert require().server == software.server
