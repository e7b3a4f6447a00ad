"""PostgreSQL servers for the tests: those of `emc.testing`, in every version, and roles on them."""

from typing import Final, Literal

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from emc.testing.failures import missing
from emc.testing.postgresql import Account, PostgresServer, free_port, installed, require
from emc.testing.servers import ServerError

__all__ = [
    "Account",
    "PostgresServer",
    "ServerError",
    "free_port",
    "installed",
    "missing",
    "require",
]

EXPECTED: Final = (15, 16, 18)
"""The major versions that CI must have."""


class ServerPool:
    """The servers of one test process: started when first asked for, stopped together."""

    def __init__(self) -> None:
        self._running: dict[int, PostgresServer] = {}

    def get(self, version: int | None = None) -> PostgresServer:
        """The server of a major version, by default the lowest from 15; skips or fails like `require`."""
        wanted, bin_directory = require(version)
        if wanted not in self._running:
            self._running[wanted] = PostgresServer(bin_directory, wanted)
        return self._running[wanted]

    def stop(self) -> None:
        """Stop all of them."""
        while self._running:
            self._running.popitem()[1].stop()


def make_role(url: str, name: str, kind: Literal["owner", "reader"]) -> str:
    """Give a database a role that is no superuser.

    Roles outlive databases, so a role that is there already is used again.

    Args:
        url: SQLAlchemy URL of the database, as a superuser.
        name: The role's name.
        kind: An ``owner`` owns the database: it may create tables, and owns what it creates.
            A ``reader`` may read every table, now and later, and write none.

    Returns:
        The SQLAlchemy URL of the same database as that role.
    """
    address = make_url(url)
    role = sql.Identifier(name)
    with psycopg.connect(
        host=address.host, port=address.port, user=address.username, dbname=address.database, autocommit=True
    ) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchall():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        if kind == "owner":
            database = sql.Identifier(address.database or "")
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
        else:
            connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(role))
    return address.set(username=name).render_as_string(hide_password=False)
