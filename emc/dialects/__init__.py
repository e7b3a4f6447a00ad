"""Which databases does emc know?"""

from __future__ import annotations

from sqlalchemy import Engine

from emc.dialects.base import Dialect
from emc.dialects.mysql import MariaDB, MySQL
from emc.dialects.postgresql import PostgreSQL
from emc.dialects.sqlite import SQLite
from emc.errors import UnsupportedDatabaseError

__all__ = ["DIALECTS", "Dialect", "dialect_of"]

DIALECTS: tuple[Dialect, ...] = (PostgreSQL(), MariaDB(), MySQL(), SQLite())


def dialect_of(engine: Engine) -> Dialect:
    """The dialect of *engine*; of one that has connected, where two servers share a kind of URL.

    :raises UnsupportedDatabaseError: emc does not know the database.
    """
    for dialect in DIALECTS:
        if dialect.serves(engine):
            return dialect
    known = ", ".join(dialect.name for dialect in DIALECTS)
    raise UnsupportedDatabaseError(
        f"emc does not know how to change a {engine.dialect.name} database online.",
        remedy=f"It knows {known}.",
    )
