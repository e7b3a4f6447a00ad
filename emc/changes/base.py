"""What is a change, and what does it know when it decides?

A change knows applications: which statements of the old or the new release could start to fail. It knows no database.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Table
from sqlalchemy.types import TypeEngine

from emc.errors import Refusal
from emc.fit import Fit, fit
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable, column_named
from emc.sync import Sync
from emc.upgrade import Discard, Removal, Upgrade


@dataclass(frozen=True)
class Past:
    """What emc did to this database before; the catalog shows what is there, but not since when.

    An expand that was interrupted has to come to the same end: a column that it has added already is as unknown to the
    old release as one that it is yet to add.
    """

    added: frozenset[str] = frozenset()
    """Ids of the tables and columns added for the release of this upgrade, e.g. ``add-column:users.tz``."""
    dropped: frozenset[str] = frozenset()
    """Targets of what was ever dropped, e.g. ``users.name``."""
    contracted: frozenset[str] = frozenset()
    """Those of them that are columns or tables, which contract has dropped once their data was elsewhere."""
    unkeyed: frozenset[str] = frozenset()
    """Targets of the foreign keys that were ever dropped, e.g. ``users.fk_users_group``, where the database leaves an
    index of that name behind."""


@dataclass(frozen=True, eq=False)
class Situation:
    """Everything a change may look at."""

    upgrade: Upgrade
    live: LiveSchema
    models: Mapping[TableKey, Table]
    removals: Mapping[Element, Removal]
    """What a person has named, resolved to elements of the live schema."""
    past: Past = Past()
    fit: Callable[[TypeEngine[Any], TypeEngine[Any]], Fit] = fit
    """How the values of one type fit into another in this database."""
    syncs: Mapping[str, Sync] = field(default_factory=dict)
    """What is kept in step while both releases run, or is yet to be, by name: columns that a person has said to be
    renamed or converted, as long as the old ones are there."""

    def sync_to(self, key: TableKey, name: str) -> Sync | None:
        """What gives the column of the models its values, where that is an old column."""
        for sync in self.syncs.values():
            if sync.target_key == key and name in sync.targets:
                return sync
        return None

    def sync_from(self, key: TableKey, name: str) -> Sync | None:
        """What the old column is kept in step by, until it goes."""
        for sync in self.syncs.values():
            if sync.key == key and name in sync.sources:
                return sync
        return None

    def is_new_table(self, key: TableKey) -> bool:
        """Whether this upgrade creates the table, so that no old statement can name it."""
        return key not in self.live.tables or f"{Kind.CREATE_TABLE}:{key}" in self.past.added

    def is_new_column(self, key: TableKey, name: str) -> bool:
        """Whether this upgrade adds the column, so that no old statement can name it."""
        added = f"{Kind.ADD_COLUMN}:{column_element(key, name)}" in self.past.added
        return added or self.is_new_table(key) or self.live.column(key, name) is None

    def old_code_leaves_null(self, key: TableKey, name: str) -> bool:
        """Whether the column is new, and every row that the old release inserts has NULL in it."""
        if not self.is_new_column(key, name) or self.sync_to(key, name) is not None:
            return False
        if self.is_new_table(key):
            return True
        column = column_named(self.models[key], name)
        if column is None:
            return False
        return column.server_default is None and column.computed is None and column.identity is None


class Change(abc.ABC):
    """One difference between models and live schema, with what it does in each phase."""

    @abc.abstractmethod
    def operations(self, situation: Situation) -> Iterable[Operation]:
        """The operations of the change, each in its phase; the order among them does not matter.

        :raises RefusedError: the change cannot be made without harm, or without a declaration.
        """


class RefusedError(Exception):
    """A change is refused; the conductor collects these, so that a person sees all of them at once."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass(frozen=True)
class Unmanaged:
    """Something in the database that the models do not have and nobody has named: listed, never touched."""

    element: Element
    declare: str
    """The Python line that names it, to paste below the Upgrade object."""


Classifier = Callable[[Any, Situation], Change]
"""Makes the change that a directive stands for."""


def because_old_code(statement: str) -> str:
    """The usual reason for contract."""
    return f"the old release can still {statement}"


def is_discarded(removal: Removal | None) -> bool:
    """Whether the data of the element may be lost, on purpose."""
    return isinstance(removal, Discard)


def live_table(situation: Situation, key: TableKey) -> LiveTable:
    """The live table that a directive speaks of; the diff has seen it."""
    table = situation.live.table(key)
    if table is None:
        raise LookupError(f"the diff speaks of {key}, which the snapshot does not hold")
    return table


def model_column(situation: Situation, key: TableKey, name: str) -> Column[Any]:
    """The column of the models that a directive speaks of by its name in the database."""
    column = column_named(situation.models[key], name)
    if column is None:
        raise LookupError(f"the diff speaks of {key}.{name}, which the models do not have")
    return column


def operation(
    directive: ops.MigrateOperation,
    kind: str,
    element: Element,
    phase: Phase,
    description: str,
    *,
    reversible: bool = True,
    because: str | None = None,
    together: str | None = None,
) -> Operation:
    """An :class:`Operation`, written short."""
    return Operation(directive, kind, element, phase, description, reversible, because, together=together)


def column_element(key: TableKey, name: str) -> Element:
    """The element of a column."""
    return Element(ElementKind.COLUMN, key, name)
