"""In what do MariaDB and MySQL differ, as far as emc has to know?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavour:
    """One of the two servers. Each field says which of them does what, and where that was read or seen."""

    title: str
    """How people call it."""


MARIADB = Flavour(title="MariaDB")
MYSQL = Flavour(title="MySQL")
