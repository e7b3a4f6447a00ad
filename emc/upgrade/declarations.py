"""What can a person declare that models cannot express?

One frozen dataclass per declaration. :class:`emc.Upgrade` makes them; nobody else does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sqlalchemy import ClauseElement, Column, ColumnElement, Table

from emc.names import ElementKind, TableKey, dotted

RowFunction = Callable[..., Any]
"""``f(row)`` or ``f(row, connection)``; answers the values to write, as a dictionary by column."""

OnError = Literal["stop", "quarantine"]
"""What becomes of a run that finds a row which cannot be migrated: it ends there, or it goes on without the row."""

MergeFunction = Callable[..., Any]
"""``f(winner, loser)`` or ``f(winner, loser, connection)``; answers the values to write to the winner, by column."""

Where = ColumnElement[bool] | Callable[[Table], ColumnElement[bool]] | None
"""A condition on a table; a function of the live table where the models no longer have it; ``None`` is every row."""


@dataclass(frozen=True, eq=False)
class Declaration:
    """What all declarations have: the source line that made them."""

    verb: ClassVar[str]
    """The method of :class:`emc.Upgrade` that makes it."""
    place: str
    """``path:line`` of the call."""


@dataclass(frozen=True, eq=False)
class Fill(Declaration):
    """Values for the existing rows of a column that the models demand to be NOT NULL."""

    verb = "fill"
    column: Column[Any]
    value: Any
    """A constant, a SQL expression, or a function of the row."""

    @property
    def is_constant(self) -> bool:
        """Whether every row gets the same value, which a server default can supply to old writers too."""
        is_sql = isinstance(self.value, ClauseElement) or hasattr(self.value, "__clause_element__")
        return not is_sql and not callable(self.value)

    @property
    def name(self) -> str:
        """The name of the data migration."""
        return f"fill:{dotted(self.column.table.schema, self.column.table.name, self.column.name)}"


@dataclass(frozen=True, eq=False)
class Removal(Declaration):
    """An element that used to be in the models, and may be taken away."""

    target: str
    """As written: a dotted name."""
    parts: tuple[str, ...]
    kind: ElementKind | None
    """Where the name alone is ambiguous."""


@dataclass(frozen=True, eq=False)
class Retire(Removal):
    """An element that may go once its data is elsewhere, or once it holds none."""

    verb = "retire"
    after: tuple[str, ...]
    """Names of the data migrations that move the data; empty: the element has to be empty of data."""
    since: str | None
    """The release whose models no longer had the element."""
    soak: dt.timedelta
    """How long its gates have to stay open before it goes."""


@dataclass(frozen=True, eq=False)
class Discard(Removal):
    """An element that may go with the data it holds."""

    verb = "discard"
    reason: str


@dataclass(frozen=True, eq=False)
class Allow(Declaration):
    """An operation that may keep the application waiting for as long as it takes."""

    verb = "allow"
    operation: str
    """Its id, e.g. ``alter-type:orders.price``."""
    reason: str


@dataclass(frozen=True, eq=False)
class Deduplicate(Declaration):
    """Rows that a new unique constraint or index would not allow: all but the first of each group are deleted."""

    verb = "deduplicate"
    columns: tuple[Column[Any], ...]
    keep: tuple[ColumnElement[Any], ...]
    """The order within a group; the first row stays."""
    merge: MergeFunction | None = None
    """Called for each row before it is deleted."""
    after: tuple[str, ...] = ()
    """Names of the data migrations that have to be complete before."""

    @property
    def table(self) -> Table:
        """The table that the columns belong to."""
        return self.columns[0].table

    @property
    def name(self) -> str:
        """The name of the data migration."""
        columns = ",".join(column.name for column in self.columns)
        return f"deduplicate:{dotted(self.table.schema, self.table.name)}.{columns}"


@dataclass(frozen=True, eq=False)
class Orphans(Declaration):
    """Rows that a new foreign key would not allow."""

    verb = "orphans"
    columns: tuple[Column[Any], ...]
    action: Literal["set null", "delete", "report"]
    after: tuple[str, ...] = ()
    """Names of the data migrations that have to be complete before."""

    @property
    def table(self) -> Table:
        """The table that the columns belong to."""
        return self.columns[0].table

    @property
    def name(self) -> str:
        """The name of the data migration."""
        columns = ",".join(column.name for column in self.columns)
        return f"orphans:{dotted(self.table.schema, self.table.name)}.{columns}"


@dataclass(frozen=True, eq=False)
class DataMigration(Declaration):
    """Any other data migration: rows that satisfy ``where`` are the work that remains."""

    verb = "data_migration"
    name: str
    key: TableKey
    table: Table | None
    """The table of the models; ``None`` where they no longer have it."""
    where: Where
    function: RowFunction | None
    """A function of the row; ``None`` where ``values`` says it in SQL."""
    values: Mapping[str, Any] | None
    """Column name to SQL expression or constant: one UPDATE per batch."""
    after: tuple[str, ...]
    on_error: OnError = "quarantine"
    undo: RowFunction | Mapping[str, Any] | None = None
    """What writes the values back when the upgrade is taken back: as ``function`` or ``values``; ``None``: nothing."""
    undo_where: Where = None
    """The rows that are to be taken back; ``None``: those in which ``undo`` would change something."""
