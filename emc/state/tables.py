"""Where does emc keep what it did, what it saw and how far it got?

In tables of its own, ``emc_…``, in the default schema of the connection, made when something is first
written. Their types are the least that every database has: integers, text, and points in time, stored as
UTC without a zone.

There is no version of these tables. A later emc that needs a column adds it as nullable, reads NULL as "an
earlier emc wrote this", and lets :func:`ensure` add it where a look at the columns shows that it is
missing; so two versions of emc can work on one database.
"""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from typing import Any

from alembic.ddl.impl import DefaultImpl
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeDecorator

__all__ = [
    "CONTROL",
    "FAILURES",
    "LEASE",
    "LEDGER",
    "METADATA",
    "OBSERVATIONS",
    "PROGRESS",
    "RANGES",
    "ensure",
    "exists",
    "utc_now",
]


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A point in time: UTC without a zone in the database, aware in Python.

    Without a zone, since only PostgreSQL has a type that keeps one, and a session's TimeZone must not matter.
    """

    # The variants here and below: MySQL and MariaDB cut a DATETIME down to seconds, a TEXT at 64 KiB, and
    # compare names without regard to case and accents unless told otherwise.
    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """What the database stores."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone, so it is not a point in time")
        return value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """What was stored."""
        return None if value is None else value.replace(tzinfo=dt.UTC)


_TIME = UtcDateTime()
_TEXT = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")
_NAME = String(512).with_variant(
    mysql.VARCHAR(512, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)

# Whatever a server's defaults are: a cursor that a batch cannot roll back, or an index too narrow for a name, is none.
_STORED: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"))
}

METADATA = MetaData()
"""Every table of emc's own. Add one here, and :func:`ensure` makes it."""

LEDGER = Table(
    "emc_ledger",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", _TIME, nullable=False),
    Column("release", _NAME),
    Column("phase", _NAME),
    Column("operation", _NAME),
    Column("event", _NAME, nullable=False),
    Column("details", _TEXT, nullable=False),
    Column("server", _NAME),
    Column("runner", _NAME),
    Index("emc_ledger_operation", "operation"),
    **_STORED,
)

OBSERVATIONS = Table(
    "emc_observations",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("first_seen", _TIME, nullable=False),
    Column("facts", _TEXT, nullable=False),
    **_STORED,
)

PROGRESS = Table(
    "emc_progress",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("cursor", _TEXT),
    Column("rows_done", BigInteger, nullable=False),
    Column("pass_number", Integer, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("finished", Integer, nullable=False),
    **_STORED,
)

RANGES = Table(
    "emc_ranges",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # Key of the last row that was seen, at first that of the last row before the range; and that of its own last row.
    Column("cursor", _TEXT),
    Column("upper", _TEXT, nullable=False),
    Column("rows_done", BigInteger, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("finished", Integer, nullable=False),
    **_STORED,
)

FAILURES = Table(
    "emc_failures",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("migration", _NAME, nullable=False),
    Column("row_key", _TEXT, nullable=False),
    Column("error", _TEXT, nullable=False),
    Column("at", _TIME, nullable=False),
    Index("emc_failures_migration", "migration"),
    **_STORED,
)

LEASE = Table(
    "emc_lease",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("token", Integer, nullable=False),
    # The holder; all NULL while the lease is free.
    Column("host", _NAME),
    Column("pid", Integer),
    Column("process", _NAME),
    Column("os_user", _NAME),
    Column("command", _NAME),
    Column("acquired_at", _TIME),
    Column("renewed_at", _TIME),
    Column("expires_at", _TIME),
    **_STORED,
)

CONTROL = Table(
    "emc_control",
    METADATA,
    # What a run is asked for, and how it stands: two rows, each with one writer.
    Column("name", _NAME, primary_key=True),
    Column("token", Integer, nullable=False),
    Column("word", _NAME, nullable=False),
    Column("details", _TEXT, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("at", _TIME, nullable=False),
    **_STORED,
)


def utc_now() -> dt.datetime:
    """This host's clock, in UTC."""
    return dt.datetime.now(dt.UTC)


def exists(connection: Connection, table: Table) -> bool:
    """Whether *table* is there.

    A look before the leap: on PostgreSQL a SELECT from a table that is not there costs the transaction.
    """
    return inspect(connection).has_table(table.name)


def ensure(connection: Connection, *tables: Table) -> None:
    """Make those of emc's own *tables* (none: all of them) that are not there.

    Safe with two runners at once: whoever comes second finds the table made by the other. Where DDL is
    transactional the tables are there for good when the caller commits.
    """
    if len(tables) == 1:
        missing = [table for table in tables if not exists(connection, table)]
    else:
        present = set(inspect(connection).get_table_names())
        missing = [table for table in tables or METADATA.sorted_tables if table.name not in present]
    for table in missing:
        _create(connection, table)


def _create(connection: Connection, table: Table) -> None:
    # CREATE TABLE IF NOT EXISTS is no cure on PostgreSQL: two at once, and the second fails with a
    # duplicate key of the catalog (seen on 15.18), which without a savepoint would cost the caller's
    # transaction. Elsewhere a savepoint does not survive DDL.
    impl: Any = DefaultImpl.get_by_dialect(connection.dialect)
    try:
        with connection.begin_nested() if impl.transactional_ddl else nullcontext():
            table.create(connection, checkfirst=False)
    except DBAPIError as error:
        if error.connection_invalidated or not exists(connection, table):
            raise
