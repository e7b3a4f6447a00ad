"""What has to be true of every row until an operation has run, and what keeps it so?

Guard, prove, drop: first the database refuses new rows that would break the claim, then every row is looked at, then
the operation runs while both still hold. A scan that comes before the guard can be outrun, and one under an exclusive
lock stalls everyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table

from emc.names import Element, ElementKind, TableKey
from emc.operations import Operation, OwnOp
from emc.phases import Phase
from emc.steps import Step
from emc.sync import Sync

GUARD = "guard"
"""The kind of an operation that puts guards in place. It is no :class:`~emc.operations.Kind`: no plan holds it."""
LIFT_GUARD = "lift-guard"
"""The kind of an operation that takes guards away again."""


@dataclass(frozen=True, eq=False)
class Claim:
    """That no row of a table is in the way of an operation."""

    gate: str
    """The full name of the gate whose answer rests on it."""
    key: TableKey
    table: Table
    """The live table."""
    in_the_way: ColumnElement[bool]
    """The rows for which this is TRUE break the claim; those for which it is NULL do not."""
    rows: str
    """What the rows in the way are, in the plural: ``rows of users with a value in name``."""
    refusal: str
    """What a session is told that writes such a row, as a clause: ``users.name is being dropped``."""
    walk: tuple[str, ...] = ()
    """Columns of a unique NOT NULL key of the table, to walk it by; empty: it has none."""
    overwriting_is_harmless: bool = False
    """Whether no row gets in the way because a foreign key's action puts NULL or another value in the place of a
    value (MySQL: such a write fires no trigger)."""
    kept_by: Sync | None = None
    """What keeps it true already, as long as it stands as it should: no guard is needed besides."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What was seen when every row was looked at, behind the guard."""

    claim: Claim
    rows_seen: int
    rows: int
    """How many of them are in the way."""
    seconds: float
    guards: tuple[str, ...]
    """The names of the guards that stood before the first row was looked at."""
    keys: tuple[str, ...] = ()
    """The first few keys of the rows in the way."""


@dataclass(frozen=True)
class Guard:
    """Something in the database that keeps a claim true."""

    key: TableKey
    name: str
    """Begins with :data:`emc.names.GUARD_PREFIX`, and differs for another definition."""
    definition: str
    """As :meth:`emc.dialects.base.Dialect.guards` shows it while it stands."""


@dataclass(frozen=True, eq=False)
class Guarding:
    """How the operations of one unit are guarded, as the live schema stands."""

    guards: tuple[Guard, ...]
    put: Step
    """Puts them in place, where they are not."""
    drop: tuple[Step, ...]
    """The unit itself. Its statements confirm that the guards are in place, atomically with what they do, and take them
    away."""
    confirming: frozenset[str] = frozenset()
    """Those of the statements of ``drop`` that fail when a guard is not in place."""
    lifting: tuple[str, ...] = ()
    """Those of them that take guards away, where a script has to know."""


class CannotGuardError(Exception):
    """A claim that nothing could keep true; says why, as a clause."""


class GuardOp(OwnOp):
    """Guards of one table are put in place or taken away."""

    def __init__(self, key: TableKey) -> None:
        self.table_name = key.name
        self.schema = key.schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` would print, which never sees it."""
        return (GUARD, self.schema, self.table_name)


def guard_operation(kind: str, element: Element, description: str) -> Operation:
    """The operation that puts the guards of *element* in place, or takes them away."""
    return Operation(GuardOp(element.table), kind, element, Phase.CONTRACT, description)


def table_element(key: TableKey) -> Element:
    """Table *key* itself."""
    return Element(ElementKind.TABLE, key)
