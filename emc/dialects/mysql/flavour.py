"""In what do MariaDB and MySQL differ, as far as emc has to know?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavour:
    """One of the two servers. Each field says which of them does what, and where that was read or seen."""

    title: str
    """How people call it."""
    checks_name_tables: bool = True
    """Whether ``CHECK_CONSTRAINTS`` names the table of a CHECK. MySQL's has no such column (its manual)."""
    quotes_defaults: bool = True
    """Whether ``COLUMN_DEFAULT`` is SQL: ``'a'`` for a literal, ``NULL`` for none where NULL is allowed (MariaDB since
    10.2.7, seen with 10.11.19). MySQL shows the bare value, and marks expressions by ``DEFAULT_GENERATED`` in
    ``EXTRA`` (its manual, "The INFORMATION_SCHEMA COLUMNS Table")."""
    indexes_expressions: bool = False
    """Whether an index may be over an expression, told in ``STATISTICS.EXPRESSION``: MySQL since 8.0.13 (its
    manual)."""


MARIADB = Flavour(title="MariaDB")
MYSQL = Flavour(title="MySQL", checks_name_tables=False, quotes_defaults=False, indexes_expressions=True)
