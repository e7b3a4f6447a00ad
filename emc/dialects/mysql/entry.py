"""What settles it when a MariaDB or MySQL server does not let emc in?"""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from emc.dialects.mysql.failures import code_of

_LOGIN = (
    "Correct user and password in the URL, with special characters of the password percent-encoded; or let an"
    " administrator create the account for this host."
)
_CROWDED = "Run the command again when other sessions have ended, or let an administrator allow more of them."
_PASSWORD = "Log in with the server's own client and change the password, then correct it in the URL."  # noqa: S105

_REMEDIES = {
    1040: _CROWDED,
    1044: "Let an administrator grant the account what it needs on the database, or correct its name in the URL.",
    1045: _LOGIN,
    1049: "Create the database, CREATE DATABASE … CHARACTER SET utf8mb4, or correct its name in the URL.",
    1129: "Let an administrator send FLUSH HOSTS: the server blocks this host after too many failed connections.",
    1130: "Let an administrator create the account for this host.",
    1203: _CROWDED,
    1226: _CROWDED,
    1698: _LOGIN,  # By unix_socket, as Debian has root log in: a password is of no use.
    1820: _PASSWORD,
    1862: _PASSWORD,
}
"""By the server's error number; both servers use the same."""


def remedy(error: DBAPIError) -> str | None:
    """What would settle that the server answered a connection with *error*; ``None`` where the URL tells no more."""
    return _REMEDIES.get(code_of(error) or 0)


def no_database(connection: Connection) -> str | None:
    """Why *connection* works in no database; ``None`` when it does. Both servers let in who names none."""
    if connection.exec_driver_sql("SELECT DATABASE()").scalar_one() is None:
        return "the URL names no database of the server."
    return None
