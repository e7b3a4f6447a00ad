"""What does the dialect have to know about live tables that no other database has?

MODIFY repeats the whole definition of a column, and what it leaves out is gone: so each live column is kept in the
pieces of the server's own text. And what SQLAlchemy writes depends on the name in the URL, which is not always that of
the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emc.names import TableKey
from emc.schema import LiveSchema, LiveTable


@dataclass(frozen=True)
class ColumnText:
    """The definition of one live column, in SQL, piece by piece."""

    name: str
    type: str
    """``COLUMN_TYPE``: ``varchar(20)``, ``int(10) unsigned``, ``enum('a','b')``."""
    nullable: bool = True
    charset: str | None = None
    """``CHARACTER_SET_NAME``; ``None`` for what is no text."""
    collation: str | None = None
    """``COLLATION_NAME``; ``None`` for what is no text."""
    default: str | None = None
    """As it stands behind DEFAULT: ``'x'``, ``current_timestamp()``, ``(uuid())``; ``None``: none, or NULL."""
    on_update: str | None = None
    """As it stands behind ON UPDATE: ``current_timestamp(6)``."""
    auto_increment: bool = False
    generated: str | None = None
    """The expression of a generated column, without parentheses around it."""
    stored: bool = False
    """Whether a generated column is stored."""
    comment: str = ""
    check: str | None = None
    """The expression of a CHECK at column level (MariaDB; ``json_valid(...)`` of JSON too), without parentheses."""
    more: str = ""
    """What else has to be repeated, as it stands: ``INVISIBLE``, ``SRID 4326``, ``COMPRESSED``."""


@dataclass(frozen=True)
class MySQLTable(LiveTable):
    """One table, with what MySQL and MariaDB alone know about it."""

    texts: Mapping[str, ColumnText] = field(default_factory=dict)
    """Each column's definition, by name."""
    engine: str = "InnoDB"
    charset: str | None = None
    """The default for columns to come."""
    collation: str | None = None
    """The default for columns to come."""
    row_format: str | None = None
    partitioned: bool = False
    fulltext: bool = False
    """Whether there is a FULLTEXT index: the first one rebuilds the table."""


@dataclass(frozen=True)
class MySQLSchema(LiveSchema):
    """The snapshot, with what the connection knows about the server."""

    dialect_name: str = "mysql"
    """``mysql`` or ``mariadb``, as in the URL: it tells which variants of types SQLAlchemy chooses."""
    version: tuple[int, ...] = ()
    """Of the server, as SQLAlchemy knows it."""
    database: str | None = None
    """The database of the connection, which goes without saying."""
    backslash_escapes: bool = True
    """Whether a backslash in a string literal is special (no ``NO_BACKSLASH_ESCAPES`` in ``sql_mode``)."""

    def text(self, key: TableKey, column: str) -> ColumnText | None:
        """The definition of a column; ``None`` where there is no such column."""
        table = self.tables.get(key)
        if not isinstance(table, MySQLTable):
            return None
        found = table.texts.get(column)
        if found is not None:
            return found
        return next((one for name, one in table.texts.items() if name.lower() == column.lower()), None)
