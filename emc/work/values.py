"""What is one piece of data work, as a value?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Executable, Table
from sqlalchemy.sql.elements import False_

from emc.names import TableKey
from emc.upgrade import OnError
from emc.work.references import Reference
from emc.work.rivalry import Rivalry
from emc.work.rows import CallFunction, Merge

BACK = "undo"
"""The kind of work that takes a data migration back."""
UNDO = "emc undo --new-code-gone"
"""The command to paste that takes an upgrade back."""


@dataclass(frozen=True, eq=False)
class SetValues:
    """One UPDATE for all rows of a batch."""

    values: Mapping[str, Any]
    """Column name to SQL expression on the live table, or constant."""


@dataclass(frozen=True, eq=False)
class SetElsewhere:
    """Rows of another table that belong to those of a batch are written, or made."""

    statements: Callable[[ColumnElement[bool]], Sequence[Executable]]
    """Given which rows of the work's table, answers what writes over there; for a row that is done it does nothing."""


@dataclass(frozen=True, eq=False)
class DeleteRow:
    """One DELETE for all rows of a batch."""

    merge: Merge | None = None
    """Called for each row before it is deleted, with the row that stays; needs ``rivalries``."""


@dataclass(frozen=True)
class Report:
    """Nothing is written: a person looks after the rows."""


@dataclass(frozen=True, eq=False)
class Work:
    """Rows of one table that have to be written or deleted, and how."""

    name: str
    """``fill:users.tz``, ``deduplicate:users.email``, ``orphans:orders.user_id``, or the data migration's own."""
    kind: str
    """``fill``, ``deduplicate``, ``orphans``, ``data-migration``, or ``undo`` for the way back of one."""
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
    action: SetValues | SetElsewhere | DeleteRow | CallFunction | Report
    place: str
    """``path:line`` of the declaration."""
    description: str
    """One line for a person."""
    after: tuple[str, ...] = ()
    """Names of the work that has to be complete before."""
    walk: tuple[str, ...] = ()
    """Columns of a unique NOT NULL key of the live table, to walk it by and to name its rows; empty: it has none."""
    on_error: OnError = "quarantine"
    """What becomes of a run that finds a row which cannot be migrated."""
    rivalries: tuple[Rivalry, ...] = ()
    """Where rows have to go because others like them stay: which are alike, and which of them stays. To find one of
    them takes a look at the whole table."""
    concerns: tuple[str, ...] = ()
    """Columns whose values say why a row is pending, to be shown to a person."""
    references: tuple[Reference, ...] = ()
    """Where it deletes rows: what refers to them, and what becomes of that."""

    presumed: ColumnElement[bool] | None = None
    """Where ``pending`` holds a person's conversion, which may fail for a row: the rows that it is about at most."""
    fails_apart: bool = False
    """Whether a question that fails has to be kept from ending the transaction that it is asked in."""

    @property
    def sought(self) -> ColumnElement[bool]:
        """What rows are looked for by; it fails for none, and finds all that are pending, and maybe others."""
        return self.pending if self.presumed is None else self.presumed

    @property
    def is_complete(self) -> bool:
        """Whether the catalog alone says that nothing is left, so that no row has to be looked at."""
        return isinstance(self.pending, False_)

    @property
    def consequences(self) -> Mapping[Reference, str]:
        """What becomes of rows that refer to deleted ones, for a person."""
        merges = isinstance(self.action, DeleteRow) and self.action.merge is not None
        unless = ", unless the merge points them elsewhere"
        return {one: f"{one}{unless if merges and one.behind is None else ''}" for one in self.references}

    @property
    def command(self) -> str:
        """The command that does it."""
        return UNDO if self.kind == BACK else "emc migrate"

    @property
    def own_command(self) -> str:
        """The command that does it, and nothing else where that can be asked for."""
        return self.command if self.kind == BACK else f"{self.command} --only {self.name}"

    @property
    def deletes(self) -> bool:
        """Whether rows are deleted in SQL."""
        return isinstance(self.action, DeleteRow)


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
