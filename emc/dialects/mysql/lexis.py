"""What do MariaDB and MySQL take for a comment, a literal or a name?"""

from __future__ import annotations

import re

from sqlalchemy import Connection

from emc.dialects.lexis import Lexis

_EXECUTED = re.compile(r"/\*(M?)!(\d{5,6})?")
_NOT_MARIADBS = range(50_700, 100_000)
"""Versions of MySQL that MariaDB leaves to it: https://mariadb.com/kb/en/comment-syntax/"""


def lexis(connection: Connection) -> Lexis:
    """How the server behind *connection* reads SQL, in the modes of its sessions."""
    modes = set(str(connection.exec_driver_sql("SELECT @@sql_mode").scalar_one()).split(","))
    is_mariadb = bool(connection.dialect.is_mariadb)  # type: ignore[attr-defined]
    major, minor, patch = (*connection.dialect.server_version_info, 0, 0)[:3]  # type: ignore[misc]
    here = int(major) * 10_000 + int(minor) * 100 + int(patch)

    def executes(begun: re.Match[str]) -> bool:
        version = int(begun[2] or 0)
        if is_mariadb:
            return version <= here and (version not in _NOT_MARIADBS or bool(begun[1]))
        return version <= here

    return Lexis(
        hashes=True,
        dashes_need_blank=True,
        backslashes="NO_BACKSLASH_ESCAPES" not in modes,
        quotes_are_literals="ANSI_QUOTES" not in modes,
        backticks=True,
        executed=_EXECUTED if is_mariadb else re.compile(r"/\*()!(\d{5,6})?"),
        executes=executes,
    )
