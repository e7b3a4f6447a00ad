"""What does a recipe know about the tables that its operation meets?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emc.names import ElementKind, TableKey
from emc.operations import Kind, Operation, table_key
from emc.schema import LiveSchema, LiveTable
from emc.steps import Hazard, LockPolicy, Probe, Step, Transaction

SMALL = 8 * 1024 * 1024
"""Bytes of a table that is scanned or rewritten within a short wait for a lock."""


class Patient(str):
    """A statement that takes long under a lock that stalls nobody: a timeout would only lose its work."""

    __slots__ = ()


def is_big(table: LiveTable | None) -> bool:
    """Whether reading or writing every row of *table* could take long; an unknown size is a big one."""
    return table is not None and (table.size_bytes is None or table.size_bytes > SMALL)


@dataclass(frozen=True)
class Ground:
    """One operation, the others of its phase, and the live schema."""

    operation: Operation
    live: LiveSchema
    operations: Sequence[Operation] = ()

    @property
    def directive(self) -> Any:
        """What the operation carries."""
        return self.operation.directive

    @property
    def key(self) -> TableKey:
        """The table that the operation concerns."""
        return self.operation.element.table

    @property
    def table(self) -> LiveTable | None:
        """That table as it is."""
        return self.live.table(self.key)

    @property
    def is_new(self) -> bool:
        """Whether the table is created by the same operations: nobody uses it yet."""
        return self.table is None and any(
            one.kind == Kind.CREATE_TABLE and table_key(one.directive) == self.key for one in self.operations
        )

    @property
    def is_partitioned(self) -> bool:
        """Whether the table is the parent of partitions, which few of the ways around a lock are open to."""
        return self.table is not None and (ElementKind.TABLE, self.key.name) in self.table.definitions

    @property
    def is_big(self) -> bool:
        """Whether reading or writing every row could take long."""
        return is_big(self.table)

    @property
    def is_at_once(self) -> bool:
        """Whether writers are kept out for a moment rather than let write beside."""
        operation = self.operation
        return (
            operation.at_once
            and not self.is_partitioned
            and (not self.is_big or operation.allowed is not None)
        )

    def is_unfinished(self, name: str) -> bool:
        """Whether the table has an INVALID index or a NOT VALID constraint of that name."""
        return self.table is not None and name in self.table.unfinished

    def definition(self, kind: ElementKind, name: str) -> str | None:
        """The server's text of an element that the table has, finished or not."""
        return self.table.definitions.get((kind, name)) if self.table is not None else None

    def step(
        self,
        statements: Sequence[str],
        postcondition: Probe,
        *hazards: Hazard,
        transaction: Transaction = Transaction.TOGETHER,
        locks: LockPolicy = LockPolicy.SHORT,
    ) -> Step:
        """The finished step; what happens to a new table is no hazard to anybody.

        With autocommit each statement gets the policy that it needs, *locks* being that of the step as a whole.
        """
        policies: tuple[LockPolicy, ...] = ()
        brief = LockPolicy.SHORT if self.operation.allowed is None else LockPolicy.LONG
        locks = brief if locks is LockPolicy.SHORT else locks
        if transaction is Transaction.AUTOCOMMIT:
            policies = tuple(LockPolicy.WEAK if isinstance(one, Patient) else brief for one in statements)
        return Step(
            operation=self.operation,
            statements=tuple(str(one) for one in statements),
            postcondition=postcondition,
            transaction=transaction,
            locks=locks,
            hazards=() if self.is_new else hazards,
            unit=self.operation.together or self.operation.id,
            statement_locks=policies,
        )
