"""How are the elements of a schema named, in one line of text that a person can paste?

A name is dotted: ``users``, ``users.name``, ``billing.users.name``, ``users.ix_users_name``. A part that holds a dot,
a quote or white space is put in double quotes, with quotes inside doubled, as in SQL.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

EMC_PREFIX = "emc_"
"""What emc puts into a user's database bears this prefix, and never appears in a plan."""
GUARD_PREFIX = f"{EMC_PREFIX}guard_"
"""Triggers and constraints that keep a proof true until the drop bear this prefix."""

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".\s]+)')
_PLAIN = re.compile(r'[^".\s]+')


class ElementKind(enum.StrEnum):
    """What an element of a schema can be."""

    TABLE = "table"
    COLUMN = "column"
    INDEX = "index"
    UNIQUE = "unique"
    CHECK = "check"
    FOREIGN_KEY = "foreign-key"
    EXCLUSION = "exclusion"
    PRIMARY_KEY = "primary-key"
    ENUM = "enum"


CONSTRAINT_KINDS = frozenset(
    {ElementKind.UNIQUE, ElementKind.CHECK, ElementKind.FOREIGN_KEY, ElementKind.EXCLUSION}
)


@dataclass(frozen=True)
class TableKey:
    """A table by schema and name; ``schema=None`` is the default schema of the connection."""

    schema: str | None
    name: str

    @property
    def sort_key(self) -> tuple[str, str]:
        """Orders tables of the default schema first."""
        return (self.schema or "", self.name)

    def __str__(self) -> str:
        return dotted(self.schema, self.name)


@dataclass(frozen=True)
class Element:
    """One element of a schema: a table, or something that belongs to a table (``name``)."""

    kind: ElementKind
    table: TableKey
    name: str | None = None

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """A total order that does not depend on hashes."""
        return (*self.table.sort_key, self.kind.value, self.name or "")

    def __str__(self) -> str:
        return dotted(self.table.schema, self.table.name, self.name)


def dotted(*parts: str | None) -> str:
    """Join *parts* into a dotted name, leaving out those that are ``None``."""
    return ".".join(
        part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"'
        for part in parts
        if part is not None
    )


def split_dotted(name: str) -> tuple[str, ...]:
    """Split a dotted name into its parts.

    :raises ValueError: *name* is not a dotted name.
    """
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(name, position)
        if match is None:
            raise ValueError(f"{name!r} is not a dotted name such as users.name or billing.users.name")
        quoted, plain = match.groups()
        parts.append(quoted.replace('""', '"') if quoted is not None else plain)
        position = match.end()
        if position == len(name):
            return tuple(parts)
        if name[position] != ".":
            raise ValueError(f"{name!r} is not a dotted name such as users.name or billing.users.name")
        position += 1


def mapped_class(key: TableKey) -> str:
    """A guess at the mapped class of a table, for lines to paste."""
    return "".join(word.title() for word in key.name.removesuffix("s").split("_"))


def attribute(key: TableKey, column: str) -> str:
    """A guess at the mapped attribute of a column, for lines to paste."""
    return f"{mapped_class(key)}.{dotted(column)}"


def is_own(name: str | None) -> bool:
    """Whether *name* belongs to emc itself."""
    # PostgreSQL's triggers fire in the order of their names: a tilde comes last.
    return name is not None and name.removeprefix("~").startswith(EMC_PREFIX)
