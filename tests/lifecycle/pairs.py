"""What is a pair of models, and what does the lifecycle test have to know about it?

A pair stands for one row of the phase table in the design: the models of the release that still runs, those of the
release to come, and what each of them says to the database meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Executable, Integer, MetaData, Table

from emc.steps import Hazard
from emc.upgrade import Upgrade

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
MARIADB = "mariadb"
ALL = (SQLITE, POSTGRESQL, MARIADB)

Ids = Sequence[str] | Mapping[str, Sequence[str]]
"""Ids of operations in the order of the plan; by database where they differ."""

Row = Mapping[str, Any]


class Tables:
    """The tables of one release, as attributes or, for names that are no identifiers, as items.

    Args:
        metadata: where they are.
    """

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata

    def __getitem__(self, name: str) -> Table:
        return self.metadata.tables[name]

    def __getattr__(self, name: str) -> Table:
        try:
            return self.metadata.tables[name]
        except KeyError:
            raise AttributeError(name) from None


Statements = Callable[[Any, int], Sequence[Executable]]
"""``f(tables, n)``: what a release sends, with keys from *n* on that nobody else uses."""


def nothing(*_: Any) -> Sequence[Executable]:
    """No statement, no declaration."""
    return ()


@dataclass(frozen=True, eq=False)
class Pair:
    """Two releases of a service, and what is expected of the upgrade from one to the other."""

    name: str
    promise: str
    """What the pair shows, in one sentence."""
    old: Callable[[MetaData], object]
    """Adds the tables of the old release to a MetaData."""
    new: Callable[[MetaData], object]
    """Adds the tables of the new release to a MetaData."""
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """What the old release has stored, by table. Keys are below 1000."""
    declare: Callable[[Upgrade, Any], object] = nothing
    """What a person says: ``f(upgrade, tables of the new release)``."""
    decide: Callable[[Upgrade, Any], object] | None = None
    """What the person says instead once the gates in ``shut`` have been seen; ``None``: nothing new."""
    old_work: Statements = nothing
    """What the old release sends, at any moment before contract. It reads every table besides."""
    new_work: Statements = nothing
    """What the new release sends, at any moment after expand. It reads every table besides."""
    expand: Ids = ()
    migrate: Ids = ()
    contract: Ids = ()
    hazards: Mapping[str, Sequence[Hazard] | Mapping[str, Sequence[Hazard]]] = field(default_factory=dict)
    """What some steps do to a running system, by id, and by database where they differ."""
    shut: Mapping[str, int | None] = field(default_factory=dict)
    """Gates that are shut before migrate although the old release is gone, with the rows that keep them shut."""
    unmanaged: Sequence[str] | Mapping[str, Sequence[str]] = ()
    """The declarations to paste for what is left alone."""
    notes: Sequence[str] = ()
    """The kinds of the notes on the plan."""
    lost: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Ids of stored rows that a declaration says to delete, by table."""
    rewritten: Sequence[str] = ()
    """Kept columns that a declaration says to change, as ``table.column``."""
    prepare: Mapping[str, Sequence[str]] | Sequence[str] = ()
    """SQL that the old database has seen besides ``create_all``; by database where it differs."""
    schemas: Sequence[str] = ()
    """Schemas to make, besides the default one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for :class:`emc.Upgrade`."""
    unreadable: bool = False
    """Whether the new models cannot read what is not migrated yet (a label that their enumeration lacks)."""
    untold: Sequence[str] = ()
    """Gates of undo that cannot tell, and so stay shut until a person says: a default may count as written."""
    databases: Sequence[str] = ALL

    def on(self, database: str, values: Any) -> Any:
        """*values*, or what they are on *database*."""
        return values.get(database, ()) if isinstance(values, Mapping) else values


def key() -> Column[int]:
    """A plain primary key."""
    return Column("id", Integer, primary_key=True)


def add(table: Table, *rows: Row, **row: Any) -> Executable:
    """An INSERT of one row, or of several."""
    return table.insert().values([*map(dict, rows)] if rows else row)


def change(table: Table, id_: int, **values: Any) -> Executable:
    """An UPDATE of one row."""
    return table.update().where(table.c.id == id_).values(**values)


def remove(table: Table, id_: int) -> Executable:
    """A DELETE of one row."""
    return table.delete().where(table.c.id == id_)


Declare = Callable[[Upgrade, Any], object]


def retiring(*targets: str) -> Declare:
    """A person who retires *targets*."""

    def declare(upgrade: Upgrade, _: Any) -> None:
        for target in targets:
            upgrade.retire(target)

    return declare


def discarding(*targets: str, reason: str) -> Declare:
    """A person who discards *targets*."""

    def declare(upgrade: Upgrade, _: Any) -> None:
        for target in targets:
            upgrade.discard(target, reason=reason)

    return declare
