"""What do generated revisions say that Alembic has no operation for?

Each is one line of a revision: ``op.emc_gate(...)``. Online it asks what :func:`emc.alembic.configure` has put into the
context, which runs revisions; offline it is a statement of the script, see :mod:`emc.alembic.offline`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from alembic.operations import Operations
from alembic.util import CommandError

from emc.alembic import offline
from emc.operations import OwnOp

ONLINE = "emc_online"
"""Under which name in the options of a migration context that is found which runs revisions."""
RECORDED = "emc_recorded"
"""Under which name there, in a dry run, the operations are gathered that lines name."""


class Online(Protocol):
    """What runs revisions on a database."""

    def step(self, *operations: str) -> AbstractContextManager[None]:
        """Carry *operations* of the plan out; what is sent within the block is their statements, and is done."""

    def gate(self, operation: str, gate: str) -> None:
        """Ask *gate* of *operation*; it is asked again, whether there is such a line or not, when that runs."""

    def migrated(self, work: str) -> None:
        """Refuse to go on while data migration *work* has rows left."""

    def undo(self, operation: str) -> None:
        """Take *operation* of expand back."""

    def contracted(self) -> None:
        """Refuse to take contract back."""


class _Line(OwnOp):
    """A line of a revision."""

    def __init__(self, subject: str = "") -> None:
        self.subject = subject

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` would print, which finds no lines of revisions."""
        return (type(self).__name__.lower(), self.subject)


@Operations.register_operation("emc_step")
class Step(_Line):
    """What a block holds is operations of the plan, in words that would not tell which."""

    def __init__(self, *operations: str) -> None:
        super().__init__(", ".join(operations))
        self.operations = operations

    @classmethod
    def emc_step(cls, operations: Operations, *named: str) -> AbstractContextManager[None]:
        """Say which operations of the plan the statements of the block are: ``with op.emc_step("..."):``.

        :param named: their ids, e.g. ``"install-sync:users.full_name"``.
        """
        block: AbstractContextManager[None] = operations.invoke(cls(*named))
        return block


@Operations.register_operation("emc_gate")
class Gate(_Line):
    """A gate of the operation that follows."""

    def __init__(
        self,
        operation: str,
        gate: str,
        *,
        nobody: str | None = None,
        table: str | None = None,
        because: str | None = None,
    ) -> None:
        super().__init__(operation)
        self.gate = gate
        self.nobody = nobody
        self.table = table
        self.because = because

    @classmethod
    def emc_gate(
        cls,
        operations: Operations,
        operation: str,
        gate: str,
        *,
        nobody: str | None = None,
        table: str | None = None,
        because: str | None = None,
    ) -> None:
        """Let the operation that follows run only while a gate is open.

        :param operation: the id of the operation, e.g. ``"drop-column:users.name"``.
        :param gate: the full name of the gate, e.g. ``"data-elsewhere:users.name"``.
        :param nobody: a query that finds the rows in the way; the gate is open when there are none.
        :param table: the dotted name of the table that a script keeps everybody out of, from this proof to the drop.
        :param because: why a script need not ask.
        """
        operations.invoke(cls(operation, gate, nobody=nobody, table=table, because=because))


@Operations.register_operation("emc_migrated")
class Migrated(_Line):
    """The marker of a data migration: contract goes on when it has nothing left. It is run by ``emc migrate``."""

    def __init__(self, work: str, *, nobody: str | None = None) -> None:
        super().__init__(work)
        self.nobody = nobody

    @classmethod
    def emc_migrated(cls, operations: Operations, work: str, *, nobody: str | None = None) -> None:
        """Go on only once a data migration is complete, which ``emc migrate`` runs.

        :param work: its name, e.g. ``"fill:users.tz"``.
        :param nobody: a query that finds the rows that are left.
        """
        operations.invoke(cls(work, nobody=nobody))


@Operations.register_operation("emc_undo")
class Undo(_Line):
    """The way back of one operation of expand, with its gates."""

    @classmethod
    def emc_undo(cls, operations: Operations, operation: str) -> None:
        """Take an operation of expand back, as ``emc undo`` does.

        :param operation: its id, e.g. ``"add-column:users.full_name"``.
        """
        operations.invoke(cls(operation))


@Operations.register_operation("emc_contracted")
class Contracted(_Line):
    """The way back of contract: there is none."""

    @classmethod
    def emc_contracted(cls, operations: Operations) -> None:
        """Refuse: what contract took away does not come back."""
        operations.invoke(cls())


def _is_recorded(operations: Operations, line: _Line) -> bool:
    """Whether this is a dry run, which only wants to know what *line* is about."""
    found: set[str] | None = operations.migration_context.opts.get(RECORDED)
    if found is not None:
        found.update(line.operations if isinstance(line, Step) else [line.subject])
    return found is not None


def _online(operations: Operations) -> Online:
    online: Online | None = operations.migration_context.opts.get(ONLINE)
    if online is None:
        raise CommandError(
            "This revision has gates, and its env.py does not ask emc about them.\n"
            "In env.py: import emc.alembic, and call emc.alembic.configure(context, upgrade, ...) in the place of "
            "context.configure(...)."
        )
    return online


@Operations.implementation_for(Step)
def _step(operations: Operations, line: Step) -> AbstractContextManager[None]:
    if _is_recorded(operations, line):
        return nullcontext()
    if operations.migration_context.as_sql:
        return offline.step(operations, line.operations)
    return _online(operations).step(*line.operations)


@Operations.implementation_for(Gate)
def _gate(operations: Operations, line: Gate) -> None:
    if _is_recorded(operations, line):
        return
    if operations.migration_context.as_sql:
        offline.gate(operations, line.subject, line.gate, line.nobody, line.table, line.because)
    else:
        _online(operations).gate(line.subject, line.gate)


@Operations.implementation_for(Migrated)
def _migrated(operations: Operations, line: Migrated) -> None:
    if _is_recorded(operations, line):
        return
    if operations.migration_context.as_sql:
        offline.migrated(operations, line.subject, line.nobody)
    else:
        _online(operations).migrated(line.subject)


@Operations.implementation_for(Undo)
def _undo(operations: Operations, line: Undo) -> None:
    if operations.migration_context.as_sql:
        raise CommandError(
            f"A script cannot take {line.subject} back: what that takes depends on what was written since.\n"
            "emc undo --new-code-gone"
        )
    _online(operations).undo(line.subject)


@Operations.implementation_for(Contracted)
def _contracted(operations: Operations, line: Contracted) -> None:
    if operations.migration_context.as_sql:
        raise CommandError(NO_WAY_BACK)
    _online(operations).contracted()


NO_WAY_BACK = (
    "What contract took away does not come back, so there is no way down from here.\n"
    "Restore a backup, or go on upwards with a new revision."
)
