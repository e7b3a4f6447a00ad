"""What does a person declare about columns that say in a new way what others said?

While both releases run the database keeps the two sides in step; :mod:`emc.sync` says by which rules.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement

from emc.names import ElementKind, TableKey, dotted
from emc.upgrade.declarations import Declaration, Retire
from emc.upgrade.given import key_of, name_of

Conversion = Callable[..., Any]
"""``f(column, …)``; answers a SQL expression: for several columns a tuple of them, or a dictionary by column."""


@dataclass(frozen=True, eq=False)
class Superseded(Retire):
    """A column that may go once another says what it said."""

    verb = "convert"
    to: str
    """The dotted name of the column that takes its place; of the first one where there are several."""


@dataclass(frozen=True, eq=False)
class Renamed(Superseded):
    """A column that goes on under another name."""

    verb = "rename"


@dataclass(frozen=True, eq=False)
class Parallel(Declaration):
    """Old columns and new ones, kept in step while both releases run."""

    key: TableKey
    """The table of the old columns."""
    sources: tuple[str, ...]
    targets: tuple[Column[Any], ...]
    up: Conversion
    """The new columns' values, from the old ones."""
    down: Conversion | None
    """The old columns' values, from the new ones; ``None``: there is no way back."""
    superseded: tuple[Superseded, ...]
    """The old columns, each as what it is: named, and going."""
    on: tuple[tuple[str, str], ...] = ()
    """Where the new columns are in another table: pairs of a column of that one and a column of the old table, by
    whose equality rows belong together."""

    @property
    def target(self) -> str:
        """The dotted name of the first of the new columns."""
        return name_of(self.targets[0])

    @property
    def target_key(self) -> TableKey:
        """The table of the new columns."""
        return key_of(self.targets[0].table)

    @property
    def name(self) -> str:
        """The name of the data migration."""
        return copy_name(self.target)


@dataclass(frozen=True, eq=False)
class Rename(Parallel):
    """A column that goes on under another name."""

    verb = "rename"


@dataclass(frozen=True, eq=False)
class Convert(Parallel):
    """Columns that go on in another form."""

    verb = "convert"


def copy_name(target: str) -> str:
    """The name of the data migration that fills the column *target*."""
    return f"copy:{target}"


def superseded(
    kind: type[Superseded],
    parts: tuple[str, ...],
    target: str,
    *,
    place: str,
    since: str | None,
    soak: dt.timedelta,
) -> Superseded:
    """The column that *parts* name, which goes once *target* says what it said."""
    return kind(
        place=place,
        target=dotted(*parts),
        parts=parts,
        kind=ElementKind.COLUMN,
        after=(copy_name(target),),
        since=since,
        soak=soak,
        to=target,
    )


def identity(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What a rename makes of a value: itself."""
    return column
