"""Which constraints of the models does the database have already, under another name?

A naming convention that is new in the models renames every constraint without changing one. Building each again would
cost an index and a lock for nothing, and a foreign key may depend on the old one (JupyterHub 1.5.1 → 6.1.1 has six).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alembic.operations import ops

from emc.changes.constraints import constraint_columns, constraint_element
from emc.changes.indexes import nulls_not_distinct
from emc.names import ElementKind
from emc.operations import constraint_kind, table_key
from emc.schema import LiveSchema, LiveTable


def without_twins(
    directives: Sequence[ops.MigrateOperation], live: LiveSchema
) -> tuple[list[ops.MigrateOperation], list[tuple[str, str]]]:
    """*directives* without the unique constraints that only have another name in the database.

    :returns: what remains, and a target and text for each pair that was left out.
    """
    dropped = {
        constraint_element(one): one
        for one in directives
        if isinstance(one, ops.DropConstraintOp) and constraint_kind(one) is ElementKind.UNIQUE
    }
    gone: set[int] = set()
    notes = []
    for directive in directives:
        if not isinstance(directive, ops.CreateUniqueConstraintOp) or _has_options(directive.kw):
            continue
        element = constraint_element(directive)
        table = live.table(table_key(directive))
        if table is None or any(unique["name"] == element.name for unique in table.uniques):
            continue
        twin = _twin(table, constraint_columns(directive), {one.name for one in dropped})
        if twin is None:
            continue
        gone.add(id(directive))
        gone |= {id(one) for other, one in dropped.items() if other.table == table.key and other.name == twin}
        called = f"calls {twin}" if twin else "has without a name"
        notes.append((str(element), f"the database {called} the same unique constraint, and keeps it so"))
    return [one for one in directives if id(one) not in gone], notes


def _twin(table: LiveTable, columns: Sequence[str], free: set[str | None]) -> str | None:
    """The name of a unique constraint over *columns* that the models do not claim, ``""`` for one without a name."""
    for unique in table.uniques:
        options = unique.get("dialect_options") or {}
        if list(unique["column_names"]) == list(columns) and not _has_options(options):
            name = unique["name"]
            if not name:
                return ""
            if name in free:
                return str(name)
    return None


def _has_options(options: Mapping[str, object]) -> bool:
    return nulls_not_distinct(options) or bool(options.get("deferrable") or options.get("initially"))
