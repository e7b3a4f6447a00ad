"""MariaDB servers for the tests: those of `emc.testing`, accounts on them, and every way to write their URL."""

import importlib.util
from contextlib import closing
from typing import Any, Final, Literal

import pymysql
from sqlalchemy import make_url

from emc.testing.failures import missing
from emc.testing.mariadb import CONFIGURATION, PLACES, MariaDBPool, MariaDBServer, require

__all__ = ["CONFIGURATION", "PLACES", "MariaDBPool", "MariaDBServer", "require"]

OLDEST: Final = (10, 11)
"""The oldest version that emc promises to work with."""

SPELLINGS: Final = ("mariadb+pymysql", "mysql+pymysql", "mariadb+mysqldb", "mysql+mysqldb")
"""What the URL of a MariaDB database may begin with: SQLAlchemy's two names, and two drivers for each."""


def spelled(url: str, drivername: str) -> str:
    """The URL of the same database under another name or with another driver.

    Where the driver is missing the test is skipped on a laptop and fails where ``CI=true``.

    Args:
        url: SQLAlchemy URL of a database.
        drivername: One of `SPELLINGS`.
    """
    if drivername.endswith("+mysqldb") and importlib.util.find_spec("MySQLdb") is None:
        missing("mysqlclient is not installed: building it takes MariaDB's C headers")
    return make_url(url).set(drivername=drivername).render_as_string(hide_password=False)


def make_account(
    url: str, name: str, kind: Literal["owner", "reader"], *more: str, password: str | None = None
) -> str:
    """Give a database an account that has no global privilege.

    Accounts outlive databases, so one that is there already is used again.

    Args:
        url: SQLAlchemy URL of the database, as root.
        name: The account's name.
        kind: An ``owner`` may do anything in the database, and nothing outside. A ``reader`` may read its tables.
        more: Further privileges on the database.
        password: What it logs in with; without one, by its name alone.

    Returns:
        The SQLAlchemy URL of the same database as that account.
    """
    address = make_url(url)
    database = (address.database or "").replace("_", r"\_")  # A pattern, in grants.
    privileges = ", ".join([{"owner": "ALL PRIVILEGES", "reader": "SELECT"}[kind], *more])
    execute(
        url,
        f"CREATE USER IF NOT EXISTS {name}" + (f" IDENTIFIED BY '{password}'" if password else ""),
        f"GRANT {privileges} ON `{database}`.* TO {name}",
    )
    return address.set(username=name, password=password).render_as_string(hide_password=False)


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of its own; the rows of the last one."""
    address = make_url(url)
    connection = pymysql.connect(
        host=address.host,
        port=address.port or 0,
        user=address.username,
        password=address.password or "",
        database=address.database,
        autocommit=True,
    )
    with closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())
