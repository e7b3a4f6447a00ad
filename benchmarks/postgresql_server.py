"""On which server do the benchmarks of PostgreSQL run?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.servers import PostgresServer, require

_DEFAULTS = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "jit": "on"}
"""What the servers of the tests have otherwise, as PostgreSQL is delivered."""


@contextmanager
def server(version: int | None = None, *, durable: bool = True) -> Iterator[PostgresServer]:
    """A server of our own while the block lasts, with PostgreSQL's default settings.

    :param version: its major version; by default that of the tests.
    :param durable: whether commits wait for the disk (``fsync``).
    """
    found, bin_directory = require(version)
    started = PostgresServer(bin_directory, found)
    settings = {**_DEFAULTS, "fsync": "on" if durable else "off"}
    try:
        with _connected(started) as connection:
            for name, value in settings.items():
                connection.execute(
                    sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                )
        started.restart()
        yield started
    finally:
        started.stop()


def described(server: PostgresServer) -> str:
    """Version and settings, in one line."""
    with _connected(server) as connection:

        def shown(name: str) -> str:
            (value,) = connection.execute("SELECT current_setting(%s)", [name]).fetchone() or ("",)
            return str(value)

        names = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
        return f"PostgreSQL {shown('server_version')}, " + ", ".join(f"{one} {shown(one)}" for one in names)


def _connected(server: PostgresServer) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host=server.host, port=server.port, user=server.user, autocommit=True)
