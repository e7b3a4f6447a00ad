"""What does a recipe know, and what does it answer?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic.ddl.base import DropColumn
from sqlalchemy.schema import DDLElement, DropConstraint

from emc.dialects.mysql.algorithms import Algorithm, ladder
from emc.dialects.mysql.clauses import AlterTable, DropIndex, RenameIndex
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import ColumnText, MySQLTable
from emc.dialects.mysql.writing import Writer, writer_for
from emc.names import TableKey
from emc.operations import Kind, Operation, table_key
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Probe, Transaction, Way

SMALL = 8 * 1024 * 1024
"""Bytes of a table that is copied while writers wait: half a second (100,000 rows of 70 bytes and two indexes took
0.4 to 0.6 s on two shared cores, MariaDB 10.11.19)."""


_GOING = (DropIndex, RenameIndex, DropColumn, DropConstraint)


@dataclass(frozen=True, eq=False)
class Alteration:
    """One ALTER TABLE, before it is decided how the server is asked for it."""

    key: TableKey
    clauses: tuple[DDLElement, ...]
    expected: Algorithm
    """How the server is expected to do it at best."""
    may_block: bool
    """Whether writers may be kept waiting for it."""
    unchecked: bool = False
    """Whether foreign keys come without a look at the rows."""
    is_big: bool = True
    """Whether the table takes long to be read."""

    @property
    def is_quick(self) -> bool:
        """Whether nothing is built or looked at: an index that goes leaves the rows alone."""
        return self.expected is Algorithm.INSTANT or (
            self.expected is Algorithm.NOCOPY and all(isinstance(one, _GOING) for one in self.clauses)
        )

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """What it does to a running system, if the server does it as expected."""
        if self.is_quick:
            return Algorithm.INSTANT.hazards
        return self.expected.hazards

    def rendered(self, writer: Writer) -> Change:
        """The statements."""
        ways = [
            self._way(algorithm, writer)
            for algorithm in ladder(self.expected, writer.flavour, may_block=self.may_block)
        ]
        before: tuple[str, ...] = ()
        after: tuple[str, ...] = ()
        if self.unchecked and not writer.flavour.sets_for_statement:
            before, after = ("SET SESSION foreign_key_checks=0",), ("SET SESSION foreign_key_checks=1",)
        return Change(ways[0].sql, ways[0].locks, tuple(ways[1:]), before, after)

    def _way(self, algorithm: Algorithm, writer: Writer) -> Way:
        unchecked = self.unchecked and writer.flavour.sets_for_statement
        statement = AlterTable(self.key, self.clauses, algorithm.how(writer.flavour), unchecked=unchecked)
        # What builds for long must not lose its work to the short timeout of a change that takes a moment.
        quick = self.is_quick and algorithm in (Algorithm.INSTANT, Algorithm.NOCOPY)
        weak = algorithm.takes_long and self.is_big and not quick
        return Way(writer.compiled(statement), LockPolicy.WEAK if weak else LockPolicy.SHORT)


@dataclass(frozen=True)
class Change:
    """One statement, with the ways to ask for it."""

    statement: str
    locks: LockPolicy = LockPolicy.SHORT
    instead: tuple[Way, ...] = ()
    """What is sent in its place, one after the other, where the server cannot do it that way."""
    before: tuple[str, ...] = ()
    """What has to be sent right before it, in the same session."""
    after: tuple[str, ...] = ()
    """What has to be sent right behind it."""

    @property
    def statements(self) -> tuple[str, ...]:
        """All that is sent, in order."""
        return (*self.before, self.statement, *self.after)


@dataclass(frozen=True, eq=False)
class Part:
    """What one operation becomes."""

    operation: Operation
    changes: tuple[Alteration | str, ...]
    """What is sent, in order; text is sent as it stands."""
    postcondition: Probe
    hazards: tuple[Hazard, ...] = ()
    """Besides those of the algorithms."""
    doubts_duplicates: bool = False
    transaction: Transaction = Transaction.AUTOCOMMIT
    rides_with: str | None = None
    """The id of the operation whose statement does this one's work too."""


@dataclass(eq=False)
class Scene:
    """The live schema, and what the operations have made of its columns so far."""

    live: LiveSchema
    flavour: Flavour
    operations: Sequence[Operation]
    texts: dict[tuple[TableKey, str], ColumnText] = field(default_factory=dict)
    """Columns as operations that come before leave them."""

    def __post_init__(self) -> None:
        self.writer: Writer = writer_for(self.live, self.flavour)

    def text(self, key: TableKey, column: str) -> ColumnText | None:
        """The definition of a column, as it is when the next operation begins."""
        changed = self.texts.get((key, column.lower()))
        if changed is not None:
            return changed
        table = self.live.table(key)
        texts = table.texts if isinstance(table, MySQLTable) else {}
        if column in texts:
            return texts[column]
        return next((text for name, text in texts.items() if name.lower() == column.lower()), None)

    def now(self, key: TableKey, text: ColumnText) -> ColumnText:
        """Keep what an operation makes of a column; answers it."""
        self.texts[key, text.name.lower()] = text
        return text


@dataclass(frozen=True, eq=False)
class Ground:
    """One operation, and the scene that it meets."""

    operation: Operation
    scene: Scene

    @property
    def directive(self) -> Any:
        """What the operation carries."""
        return self.operation.directive

    @property
    def key(self) -> TableKey:
        """The table that the operation concerns."""
        return self.operation.element.table

    @property
    def live(self) -> LiveSchema:
        """The snapshot."""
        return self.scene.live

    @property
    def writer(self) -> Writer:
        """Writes SQL."""
        return self.scene.writer

    @property
    def flavour(self) -> Flavour:
        """Which server it is."""
        return self.scene.flavour

    @property
    def table(self) -> MySQLTable | None:
        """The table as it is."""
        table = self.live.table(self.key)
        if table is None or isinstance(table, MySQLTable):
            return table
        fields = {one.name: getattr(table, one.name) for one in dataclasses.fields(table)}
        return MySQLTable(**fields)

    @property
    def is_new(self) -> bool:
        """Whether the table is created by the same operations: nobody uses it yet."""
        return self.table is None and any(
            one.kind == Kind.CREATE_TABLE and table_key(one.directive) == self.key
            for one in self.scene.operations
        )

    @property
    def is_big(self) -> bool:
        """Whether reading or writing every row could take long; an unknown size is a big one."""
        if self.table is None:
            return not self.is_new
        return self.table.size_bytes is None or self.table.size_bytes > SMALL

    @property
    def before(self) -> Sequence[Operation]:
        """The operations of the phase that come before this one."""
        ids = [one.id for one in self.scene.operations]
        return self.scene.operations[: ids.index(self.operation.id)] if self.operation.id in ids else ()

    @property
    def after(self) -> Sequence[Operation]:
        """The operations of the phase that come after this one."""
        ids = [one.id for one in self.scene.operations]
        return self.scene.operations[ids.index(self.operation.id) + 1 :] if self.operation.id in ids else ()

    def alter(
        self,
        *clauses: DDLElement,
        expected: Algorithm,
        unchecked: bool = False,
        key: TableKey | None = None,
    ) -> Alteration:
        """One ALTER TABLE of the table of the operation, or of table *key*."""
        return Alteration(
            key or self.key,
            clauses,
            expected,
            may_block=self.is_new or not self.is_big or self.operation.allowed is not None,
            unchecked=unchecked,
            is_big=self.is_big,
        )

    def part(
        self,
        changes: Sequence[Alteration | str],
        postcondition: Probe,
        *hazards: Hazard,
        doubts_duplicates: bool = False,
        transaction: Transaction = Transaction.AUTOCOMMIT,
    ) -> Part:
        """The answer of a recipe."""
        return Part(self.operation, tuple(changes), postcondition, hazards, doubts_duplicates, transaction)
