"""Where does a test get a fresh database on a server that runs?"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from emc.cli.config import engine_of
from emc.commands.session import reach
from emc.errors import EmcError
from emc.testing.failures import missing

__tracebackhide__ = True  # Here URLs are arguments, which pytest shows, and a URL may hold a password.

DRIVERS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2"), ("pg8000", "pg8000")),
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
}
"""By database: drivers as SQLAlchemy calls them, and what is imported of each; the first that is installed counts."""


class ServerError(Exception):
    """A test server did not start, or does not do what it is asked."""


class Server(Protocol):
    """What fixtures ask of a server."""

    def database(self) -> AbstractContextManager[str]:
        """A fresh, empty database while the context lasts; its SQLAlchemy URL."""


def driver(backend: str) -> str:
    """What the URL of a database begins with, by the driver that is installed: ``postgresql+psycopg``.

    Where none is the test is skipped on a laptop and fails where ``CI=true``.
    """
    installed = [name for name, module in DRIVERS[backend] if importlib.util.find_spec(module) is not None]
    if not installed:
        missing(f"No driver for {backend} is installed", remedy=f"pip install {DRIVERS[backend][0][0]}")
    return f"{backend}+{installed[0]}"


class ExistingServer:
    """A server that runs already. Has the attributes that pytest-postgresql's factories ask of ``depends_on``.

    :param url: SQLAlchemy URL of the server, as a user who may create databases. The databases of tests are made
        beside the one that it names, which is left alone.
    """

    template_dbname: Final = None

    def __init__(self, url: str | URL) -> None:
        self._url = make_url(url)
        self.host = self._url.host or self._url.query.get("host")
        self.port = self._url.port
        self.user = self._url.username
        self.password = self._url.password
        self.options = self._url.query.get("options", "")
        self.maintenance_dbname = self._url.database or "postgres"

    def database(self) -> AbstractContextManager[str]:
        """A fresh, empty database while the context lasts; its SQLAlchemy URL."""
        return made(self._url.render_as_string(hide_password=False), f"emc_test_{uuid.uuid4().hex[:12]}")


def server_of(given: Any) -> Server:
    """The server that a fixture answers.

    :param given: one of emc's, or whatever :func:`url_of` takes, of which the server counts.
    :raises TypeError: as :func:`url_of`.
    """
    if callable(getattr(given, "database", None)):
        server: Server = given
        return server
    return ExistingServer(url_of(given))


def url_of(given: Any) -> str:
    """The SQLAlchemy URL of what a fixture answers.

    :param given: a URL; an engine or connection of SQLAlchemy; of pytest-postgresql ``postgresql_proc`` or
        ``postgresql_noproc``, for which it is the maintenance database, or ``postgresql``, a connection; a ``Mysqld``
        of testing.mysqld.
    :raises TypeError: it is none of these.
    """
    if isinstance(given, str | URL):
        url = make_url(given)
    elif isinstance(given, Engine | Connection):
        url = given.engine.url
    elif hasattr(given, "dsn") and hasattr(given, "my_cnf"):
        said = given.dsn()
        query = {"unix_socket": said["unix_socket"]} if "unix_socket" in said else {}
        url = URL.create(
            driver("mariadb").replace("mariadb", "mysql"),  # It may start either.
            said["user"],
            said.get("passwd"),
            said.get("host", "localhost"),
            said.get("port"),
            said["db"],
            query,
        )
    elif hasattr(getattr(given, "info", None), "dbname"):
        info = given.info
        url = _postgresql_url(info.host, info.port, info.user, info.password, info.dbname, "")
    elif hasattr(given, "host") and hasattr(given, "user"):
        home = getattr(given, "maintenance_dbname", "postgres")
        url = _postgresql_url(given.host, given.port, given.user, given.password, home, given.options)
    else:
        raise TypeError(
            f"{type(given).__name__} names no database; let the fixture answer a URL, an engine, or what a fixture of "
            "pytest-postgresql or testing.mysqld answers"
        )
    return url.render_as_string(hide_password=False)


def _postgresql_url(
    host: str, port: int, user: str, password: str | None, database: str, options: str | None
) -> URL:
    query = {"options": options} if options else {}
    if host.startswith("/"):  # The directory of a socket.
        host, query = "", {**query, "host": host}
    return URL.create(driver("postgresql"), user, password or None, host or None, int(port), database, query)


@contextmanager
def made(url: str, name: str, *, own: bool = False) -> Iterator[str]:
    """A database called *name* beside that at *url*, while the context lasts.

    Whoever is connected at its end is thrown out.

    :param url: SQLAlchemy URL of the server, as a user who may create databases.
    :param own: whether the server is there for these tests alone, so that anybody else who stands in the way may be
        thrown out too.
    :raises EmcError: as :func:`admin`.
    """
    address = make_url(url)
    backend = address.get_backend_name()
    engine = admin(address)
    with engine.connect() as connection:
        connection.exec_driver_sql(_CREATE[backend].format(name))
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        drop(engine, name, own=own)


def admin(url: URL) -> Engine:
    """An engine for statements about databases; it keeps no connection.

    :raises EmcError: the driver is missing or asynchronous, or the server cannot be reached.
    """
    home = url.database or _HOME.get(url.get_backend_name())
    engine = engine_of(url.set(database=home), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        reach(engine)
    except EmcError as error:
        raise error from None  # What the driver was called with is not to be seen.
    return engine


def drop(engine: Engine, name: str, *, own: bool = False) -> None:
    """Drop the database *name*, and throw out whoever is connected to it; *own* as for :func:`made`."""
    _DROP[engine.url.get_backend_name()](engine, name, own)


def _drop_postgresql(engine: Engine, name: str, own: bool) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _drop_mariadb(engine: Engine, name: str, own: bool) -> None:
    """Kill first who is connected to it, then, on a server of our own, whoever else holds a lock in it."""
    sessions = (
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user <> 'system user'"
    )
    with engine.connect() as connection:
        rounds = ((f" AND db = '{name}'", 3), ("" if own else f" AND db = '{name}'", 60))
        for whose, patience in rounds:
            for [session] in connection.exec_driver_sql(sessions + whose).all():
                with suppress(OperationalError):  # 1094: it has gone by itself.
                    connection.exec_driver_sql(f"KILL {session}")
            connection.exec_driver_sql(f"SET lock_wait_timeout = {patience}")
            try:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            except OperationalError as error:
                if error.orig is None or error.orig.args[0] != 1205:  # ER_LOCK_WAIT_TIMEOUT
                    raise
            else:
                return
    raise ServerError(f"The database {name} cannot be dropped: someone holds a lock on a table of it.")


_HOME: Final = {"postgresql": "postgres", "mysql": "information_schema", "mariadb": "information_schema"}
"""A database that every server has."""
_CREATE: Final = {
    "postgresql": "CREATE DATABASE {}",
    "mysql": "CREATE DATABASE {} CHARACTER SET utf8mb4",
    "mariadb": "CREATE DATABASE {} CHARACTER SET utf8mb4",
}
_DROP: Final[Mapping[str, Callable[[Engine, str, bool], None]]] = {
    "postgresql": _drop_postgresql,
    "mysql": _drop_mariadb,
    "mariadb": _drop_mariadb,
}
