"""What would it cost to do it all the same, and how is that allowed?"""

from __future__ import annotations

from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import MySQLTable
from emc.errors import Refusal
from emc.operations import Kind, Operation

_COPIED_PER_SECOND = 20 * 1024 * 1024
"""Bytes, with their indexes, on a small server; see :data:`emc.dialects.mysql.ground.SMALL`."""

_TWO_MINUTES = 120

_AROUND = {
    Kind.ALTER_TYPE: "Add a column of the new type under a new name, move the values with @upgrade.data_migration, and "
    "retire {target}",
    Kind.ADD_COLUMN: "Let the column be computed when it is read (persisted=False), or make it nullable in this "
    "release, without the default, and fill it with @upgrade.data_migration",
    Kind.ADD_CHECK: "Leave the rule to the application",
    Kind.REPLACE_CONSTRAINT: "Leave the rule to the application",
    Kind.CREATE_INDEX: "Build it in a maintenance window; emc then finds it there",
    Kind.REPLACE_INDEX: "Build it in a maintenance window; emc then finds it there",
    Kind.SET_NOT_NULL: "Let the column be NULL",
    Kind.DROP_NOT_NULL: "Keep the column in the models for another release",
    Kind.DROP_COLUMN: "Drop it in a maintenance window; emc then finds it gone",
}


def cost(operation: Operation, table: MySQLTable | None, flavour: Flavour) -> Refusal:
    """What a person is told when only a way is left that keeps every writer waiting."""
    around = _AROUND.get(operation.kind, "Do it in a maintenance window; emc then finds it done")
    around = around.format(target=operation.element)
    return Refusal(
        target=str(operation.element),
        reason=f"{flavour.title} can do it only while every write to {operation.element.table} waits, "
        f"for {_size(table)}",
        remedy=f'{around}. Or let them wait: upgrade.allow("{operation.id}", reason="who agreed, and when it runs")',
    )


def _size(table: MySQLTable | None) -> str:
    if table is None or table.size_bytes is None:
        return "as long as it takes to copy a table of unknown size"
    rows = f"about {table.row_estimate:,} rows" if table.row_estimate is not None else "its rows"
    seconds = table.size_bytes / _COPIED_PER_SECOND
    length = f"{seconds:.0f} s" if seconds < _TWO_MINUTES else f"{seconds / 60:.0f} min"
    return f"{rows}, {_bytes(table.size_bytes)}: {length} at {_bytes(_COPIED_PER_SECOND)} a second"


def _bytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"
