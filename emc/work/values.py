"""What is one piece of data work, as a value?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.sql.elements import False_

from emc.names import TableKey
from emc.work.rows import CallFunction


@dataclass(frozen=True, eq=False)
class SetValues:
    """One UPDATE for all rows of a batch."""

    values: Mapping[str, Any]
    """Column name to SQL expression on the live table, or constant."""


@dataclass(frozen=True)
class DeleteRow:
    """One DELETE for all rows of a batch."""


@dataclass(frozen=True, eq=False)
class Work:
    """Rows of one table that have to be written or deleted, and how."""

    name: str
    """``fill:users.tz``, ``deduplicate:users.email``, ``orphans:orders.user_id``, or the data migration's own."""
    kind: str
    """``fill``, ``deduplicate``, ``orphans`` or ``data-migration``."""
    table: Table
    """The columns of the live table, retired ones included, by their names in the database; of the type that the
    models give them where the models have them. It has no defaults, no ``onupdate`` and no events, so what is
    written is what the action says."""
    key: TableKey
    pending: ColumnElement[bool]
    """The rows for which this is TRUE are the work that remains; ``false()`` where the catalog alone says that there
    is none. Meant for a WHERE. Where it is NULL for a row, the row is neither pending nor done: the
    condition does not say. So never negate it to find the rows that are done; see
    :func:`emc.work.anything_undecided`."""
    action: SetValues | DeleteRow | CallFunction
    place: str
    """``path:line`` of the declaration."""
    description: str
    """One line for a person."""
    after: tuple[str, ...] = ()
    """Names of the work that has to be complete before."""
    walk: tuple[str, ...] = ()
    """Columns of a unique NOT NULL key of the live table, to walk it by and to name its rows; empty: it has none."""
    whole_table: bool = False
    """Whether it takes a look at the whole table to say if one row is pending."""

    @property
    def is_complete(self) -> bool:
        """Whether the catalog alone says that nothing is left, so that no row has to be looked at."""
        return isinstance(self.pending, False_)


@dataclass(frozen=True)
class NotReady:
    """Work that cannot be done yet, because the schema is not there."""

    name: str
    kind: str
    key: TableKey
    reason: str
    """As a clause: ``column users.tz is not there yet``."""
    remedy: str
    """What to do first: ``run emc expand``."""
    place: str = ""
    after: tuple[str, ...] = ()
