"""In which order do the operations of a phase run?

Additions before what builds on them, drops in reverse; operations of the same rank by name, so that the same inputs
give the same plan.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence

from alembic.operations import ops
from sqlalchemy import Table

from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema

_RANKS: Mapping[Phase, tuple[str, ...]] = {
    Phase.EXPAND: (
        Kind.CREATE_ENUM,
        Kind.ADD_ENUM_VALUE,
        Kind.DROP_FOREIGN_KEY,
        Kind.DROP_CHECK,
        Kind.DROP_NOT_NULL,
        Kind.CREATE_TABLE,
        Kind.ADD_COLUMN,
        Kind.ALTER_TYPE,
        Kind.SET_DEFAULT,
        # Before the indexes: what is written while these are built is in step already.
        Kind.INSTALL_SYNC,
        Kind.CREATE_INDEX,
        Kind.ADD_UNIQUE,
        Kind.REPLACE_CONSTRAINT,
        Kind.ADD_CHECK,
        Kind.ADD_EXCLUSION,
        Kind.ADD_FOREIGN_KEY,
        Kind.SET_COMMENT,
    ),
    Phase.CONTRACT: (
        Kind.ALTER_TYPE,
        Kind.SET_NOT_NULL,
        Kind.SET_DEFAULT,
        Kind.DROP_DEFAULT,
        Kind.CREATE_INDEX,
        Kind.ADD_UNIQUE,
        Kind.ADD_CHECK,
        Kind.ADD_EXCLUSION,
        Kind.ADD_FOREIGN_KEY,
        Kind.REPLACE_INDEX,
        Kind.REPLACE_CONSTRAINT,
        Kind.DROP_FOREIGN_KEY,
        Kind.DROP_CHECK,
        Kind.DROP_UNIQUE,
        Kind.DROP_EXCLUSION,
        Kind.DROP_INDEX,
        Kind.DROP_SYNC,
        Kind.DROP_COLUMN,
        Kind.DROP_TABLE,
        Kind.REMOVE_ENUM_VALUE,
        Kind.DROP_ENUM,
    ),
    # What is built on others goes before them, and what the old release relies on comes back to what is left.
    Phase.UNDO: (
        Kind.DROP_FOREIGN_KEY,
        Kind.DROP_CHECK,
        Kind.DROP_UNIQUE,
        Kind.DROP_EXCLUSION,
        Kind.DROP_INDEX,
        Kind.DROP_SYNC,
        Kind.DROP_COLUMN,
        Kind.DROP_TABLE,
        Kind.ALTER_TYPE,
        Kind.SET_NOT_NULL,
        Kind.SET_DEFAULT,
        Kind.DROP_DEFAULT,
        Kind.REPLACE_CONSTRAINT,
        Kind.ADD_CHECK,
        Kind.ADD_FOREIGN_KEY,
        Kind.REMOVE_ENUM_VALUE,
        Kind.DROP_ENUM,
        Kind.SET_COMMENT,
    ),
}


def in_order(operations: Sequence[Operation], phase: Phase, live: LiveSchema) -> list[Operation]:
    """The operations of *phase*, ordered by what they depend on.

    New tables come in the order in which they were given, which is that of their foreign keys.
    """
    ranks = {kind: rank for rank, kind in enumerate(_RANKS[phase])}
    drops = {key: rank for rank, key in enumerate(_children_first(live))}
    given = {id(operation): position for position, operation in enumerate(operations)}

    def sort_key(operation: Operation) -> tuple[int, int, tuple[str, str, str, str]]:
        within = 0
        if operation.kind == Kind.CREATE_TABLE:
            within = given[id(operation)]
        elif operation.kind == Kind.DROP_COLUMN:
            within = _generated_first(operation, live)
        elif operation.kind == Kind.DROP_TABLE:
            within = drops.get(operation.element.table, 0)
        return (ranks[operation.kind], within, operation.element.sort_key)

    return _side_by_side(sorted((one for one in operations if one.phase is phase), key=sort_key))


_ALONG: Mapping[str, int] = {Kind.DROP_SYNC: 0, Kind.DROP_COLUMN: 1}
"""Which comes first of operations that run together; all others come last."""


def _side_by_side(operations: Sequence[Operation]) -> list[Operation]:
    """*operations*, those that run together where the last column of theirs is dropped.

    So a generated column has gone before the one that it is computed from.
    """
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.together is not None:
            groups.setdefault(operation.together, []).append(operation)
    last = {
        mark: max((one for one in members if one.kind in _ALONG), key=operations.index, default=members[-1])
        for mark, members in groups.items()
    }
    ordered: list[Operation] = []
    for operation in operations:
        if operation.together is None:
            ordered.append(operation)
        elif operation is last[operation.together]:
            ordered += sorted(groups[operation.together], key=lambda one: _ALONG.get(one.kind, 2))
    return ordered


def _generated_first(operation: Operation, live: LiveSchema) -> int:
    """A generated column goes before those that it is computed from, generated ones before it among them."""
    table = live.table(operation.element.table)
    for position, (name, column) in enumerate(table.columns.items() if table is not None else ()):
        if name == operation.element.name and column.get("computed"):
            return -position
    return 0


def _children_first(live: LiveSchema) -> Iterable[TableKey]:
    parents: dict[TableKey, set[TableKey]] = {}
    for table in sorted(live.tables.values(), key=lambda one: one.key.sort_key):
        for foreign_key in table.foreign_keys:
            parent = TableKey(foreign_key["referred_schema"], foreign_key["referred_table"])
            if parent != table.key:
                parents.setdefault(parent, set()).add(table.key)
    while True:
        try:
            return list(graphlib.TopologicalSorter(parents).static_order())
        except graphlib.CycleError as error:
            # A cycle of foreign keys has no order; break it at its first edge and let the rest be ordered.
            child, parent = error.args[1][0], error.args[1][1]
            parents[parent].discard(child)


def after_their_keys(
    operations: Sequence[Operation], live: LiveSchema, models: Mapping[TableKey, Table]
) -> list[Operation]:
    """Move a foreign key to contract where the unique key that it refers to comes only then."""
    pending = {
        (operation.element.table, tuple(sorted(_columns(operation))))
        for operation in operations
        if operation.phase is Phase.CONTRACT and operation.kind in (Kind.ADD_UNIQUE, Kind.CREATE_INDEX)
    }
    moved = []
    for operation in operations:
        directive = operation.directive
        if operation.phase is Phase.EXPAND and isinstance(directive, ops.CreateForeignKeyOp):
            parent = TableKey(directive.kw.get("referent_schema"), directive.referent_table)
            columns = tuple(sorted(directive.remote_cols))
            if (parent, columns) in pending and not _is_key(live, parent, columns):
                reason = f"the unique key of {parent} that it refers to comes in contract"
                moved.append(operation.moved(Phase.CONTRACT, reason))
                continue
        moved.append(operation)
    return moved


def _columns(operation: Operation) -> Iterable[str]:
    columns = getattr(operation.directive, "columns", ())
    return (column if isinstance(column, str) else str(getattr(column, "name", "")) for column in columns)


def _is_key(live: LiveSchema, key: TableKey, columns: tuple[str, ...]) -> bool:
    table = live.table(key)
    if table is None:
        return False
    keys = [unique["column_names"] for unique in table.uniques]
    keys += [[str(name) for name in index["column_names"]] for index in table.indexes if index["unique"]]
    if table.primary_key:
        keys.append(table.primary_key["constrained_columns"])
    return any(tuple(sorted(names)) == columns for names in keys)
