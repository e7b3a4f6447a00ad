"""In which form and order do the differences leave the comparison?

One change per operation, constraints under the name that the server gives them, redefinitions side by side, and an
order that does not depend on hashes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alembic.operations import ops

from emc.diff import facts
from emc.diff.pairs import Comparison, Pair, final_name, find
from emc.names import ElementKind, TableKey
from emc.operations import (
    SPELLED_DEFINITION,
    SPELLED_TYPE,
    UnsupportedDifferenceOp,
    constraint_kind,
    table_key,
)
from emc.schema import LiveTable

Directive = ops.MigrateOperation

_COLUMN_RANKS: tuple[tuple[type[Any], int], ...] = (
    (UnsupportedDifferenceOp, 0),
    (ops.AddColumnOp, 1),
    (ops.AlterColumnOp, 2),
    (ops.CreateTableCommentOp, 3),
    (ops.DropTableCommentOp, 3),
    (ops.DropColumnOp, 5),
)
_INDEXES_AND_CONSTRAINTS = 4


def arranged(found: Iterable[Directive], comparison: Comparison) -> tuple[Directive, ...]:
    """*found* without noise, split, named and in order."""
    found = [_named_finally(operation, comparison) for operation in found]
    kept = [operation for operation in found if not _is_noise(operation, comparison)]
    kept = [
        operation
        for operation in kept
        # A table takes its indexes with it.
        if not (isinstance(operation, ops.DropIndexOp) and table_key(operation) in comparison.removed)
    ]
    split = [part for operation in kept for part in _split(operation, comparison.pairs)]
    _name_the_unnamed(split, comparison.pairs)
    for operation in split:
        _define(operation, comparison.pairs)
    creation = {key: position for position, key in enumerate(comparison.added)}
    return tuple(sorted(split, key=lambda operation: _order(operation, creation, comparison)))


# -- noise ---------------------------------------------------------------------------------------------------


def _is_noise(operation: Directive, comparison: Comparison) -> bool:
    """Whether a database just made from the models would not have what *operation* makes either, or differ in it."""
    if isinstance(operation, UnsupportedDifferenceOp):
        return False
    pair = comparison.pairs.get(table_key(operation))
    if pair is None:
        return False
    if isinstance(operation, ops.AlterColumnOp):
        return _nullable_noise(operation, pair)
    what = _elsewhere(operation, pair) or (_vain(operation, pair) if pair.spelled is not None else None)
    if what is not None:
        kind, name = what
        pair.notes.not_convergent(pair.element(kind, name), f"the {kind.value} {name}")
    return what is not None


def _nullable_noise(operation: ops.AlterColumnOp, pair: Pair) -> bool:
    """Take a vain change of nullability out of *operation*; tell whether anything is left."""
    name = str(operation.column_name)
    if operation.modify_nullable is not None:
        live = facts.nullable(pair.live, name, pair.dialect)
        if live is operation.modify_nullable:
            operation.modify_nullable = None
        elif pair.spelled is not None and facts.nullable(pair.spelled, name, pair.dialect) is live:
            nullable = "NULL" if operation.modify_nullable else "NOT NULL"
            pair.notes.not_convergent(pair.element(ElementKind.COLUMN, name), nullable)
            operation.modify_nullable = None
    return not operation.has_changes()


def _vain(operation: Directive, pair: Pair) -> tuple[ElementKind, str] | None:
    """The index or unique constraint that *operation* would create or drop in vain."""
    assert pair.spelled is not None
    if isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp):
        kind, name = ElementKind.INDEX, str(operation.index_name)
        spelled, live = facts.indexes(pair.spelled).get(name), facts.indexes(pair.live).get(name)
    elif isinstance(operation, ops.CreateUniqueConstraintOp) or (
        isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "unique"
    ):
        if operation.constraint_name is None:
            return None
        kind, name = ElementKind.UNIQUE, str(operation.constraint_name)
        spelled, live = _unique(pair.spelled, name), _unique(pair.live, name)
    else:
        return None
    if spelled is not None:
        return (kind, name) if spelled == live else None
    if isinstance(operation, ops.CreateUniqueConstraintOp):
        # One that takes the place of another has its name, and not the one that the server would have given it.
        columns = [str(column) for column in operation.columns]
        return None if any(one["column_names"] == columns for one in pair.spelled.uniques) else (kind, name)
    return (kind, name) if isinstance(operation, ops.CreateIndexOp) else None


def _elsewhere(operation: Directive, pair: Pair) -> tuple[ElementKind, str] | None:
    """The foreign key that *operation* would lead to another schema in vain: DDL cannot say that it is another one."""
    if not pair.database.parents_are_siblings or pair.key.schema is None:
        return None
    for constraint in pair.model.foreign_key_constraints:
        parent = constraint.elements[0].column.table
        columns = [column.name for column in constraint.columns]
        for reflected in pair.live.foreign_keys:
            if (
                parent.schema is not None
                or reflected["referred_schema"] != pair.key.schema
                or reflected["referred_table"] != parent.name
                or list(reflected["constrained_columns"]) != columns
            ):
                continue
            name = str(reflected["name"])
            adds = isinstance(operation, ops.CreateForeignKeyOp) and list(operation.local_cols) == columns
            drops = isinstance(operation, ops.DropConstraintOp) and operation.constraint_name == name
            if adds or drops:
                return ElementKind.FOREIGN_KEY, name
    return None


def _unique(table: LiveTable, name: str) -> object:
    reflected = find(table.uniques, name)
    return None if reflected is None else facts.unique(table, reflected)


# -- form ----------------------------------------------------------------------------------------------------


def _named_finally(operation: Directive, comparison: Comparison) -> Directive:
    """*operation* with the name that DDL gives to what it makes: SQLAlchemy cuts those that it has made up itself.

    An index that ``index=True`` asks for is called after its column, which may itself be as long as a name can be.
    """
    if isinstance(operation, ops.CreateIndexOp):
        pair = comparison.pairs.get(table_key(operation))
        name = final_name(operation.to_index(), pair.dialect) if pair is not None else None
        if name is not None and name != operation.index_name:
            operation.index_name = name
    return operation


def _define(operation: Directive, pairs: Mapping[TableKey, Pair]) -> None:
    """Let what makes an index or constraint say how the server would show it."""
    if isinstance(operation, ops.CreateIndexOp):
        kind, name = ElementKind.INDEX, operation.index_name
    elif isinstance(operation, ops.AddConstraintOp):
        kind, name = constraint_kind(operation), getattr(operation, "constraint_name", None)
    else:
        return
    pair = pairs.get(table_key(operation))
    if pair is not None and pair.spelled is not None:
        text = pair.spelled.definitions.get((kind, str(name)))
        if text is not None:
            operation.info[SPELLED_DEFINITION] = text


def _split(operation: Directive, pairs: Mapping[TableKey, Pair]) -> Iterator[Directive]:
    """One operation per change of a column; that of a type says how the server would show the new one."""
    if not isinstance(operation, ops.AlterColumnOp):
        yield operation
        return
    changes: list[dict[str, Any]] = []
    if operation.modify_type is not None:
        changes.append({"modify_type": operation.modify_type})
    if operation.modify_nullable is not None:
        changes.append({"modify_nullable": operation.modify_nullable})
    if operation.modify_server_default is not False:
        changes.append({"modify_server_default": operation.modify_server_default})
    if operation.modify_comment is not False:
        changes.append({"modify_comment": operation.modify_comment})
    for change in changes:
        part = ops.AlterColumnOp(
            operation.table_name,
            operation.column_name,
            schema=operation.schema,
            existing_type=operation.existing_type,
            existing_server_default=operation.existing_server_default,
            existing_nullable=operation.existing_nullable,
            existing_comment=operation.existing_comment,
            **change,
            **operation.kw,
        )
        spelled = pairs[table_key(operation)].spelled
        if "modify_type" in change and spelled is not None:
            part.info[SPELLED_TYPE] = spelled.columns[str(operation.column_name)]["type"]
        yield part


def _name_the_unnamed(operations: Sequence[Directive], pairs: Mapping[TableKey, Pair]) -> None:
    """Give constraints that the models leave unnamed the name they will have, where that is known.

    One that takes the place of another gets its name; else it is the name that the server gave it in its spelling.
    """
    drops = [
        one for one in operations if isinstance(one, ops.DropConstraintOp) and one.constraint_name is not None
    ]
    for operation in operations:
        if (
            not isinstance(operation, ops.CreateUniqueConstraintOp | ops.CreateForeignKeyOp)
            or operation.constraint_name is not None
        ):
            continue
        key = table_key(operation)
        pair = pairs.get(key)
        if pair is None:
            continue
        if isinstance(operation, ops.CreateForeignKeyOp):
            columns, side, field = list(operation.local_cols), "foreign_keys", "constrained_columns"
        else:
            columns, side, field = [str(one) for one in operation.columns], "uniques", "column_names"
        dropped = {one.constraint_name for one in drops if table_key(one) == key}
        replaced = next(
            (
                one["name"]
                for one in getattr(pair.live, side)
                if one[field] == columns and one["name"] in dropped
            ),
            None,
        )
        spelled = next(
            (
                one["name"] and _free(one["name"], columns, pair.live)  # SQLite leaves it without one.
                for one in getattr(pair.spelled, side, ())
                if one[field] == columns and find(getattr(pair.live, side), one["name"]) is None
            ),
            None,
        )
        operation.constraint_name = replaced or spelled


def _free(name: str, columns: list[str], live: LiveTable) -> str:
    """*name*, with the number that the server would give it beside an index that is called the same.

    A unique index of the same columns is the beginning of the constraint: a run was killed between the two.
    """
    begun = [one for one in live.indexes if one["unique"] and one["column_names"] == columns]
    indexes = [one for one in live.indexes if one not in begun]
    taken = {one["name"] for one in (*indexes, *live.implied.values(), *live.uniques)}
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return name if name not in taken else next(one for one in numbered if one not in taken)


# -- order ---------------------------------------------------------------------------------------------------


def _order(operation: Directive, creation: Mapping[TableKey, int], comparison: Comparison) -> tuple[Any, ...]:
    """New tables with their indexes, then changed tables, then tables that go."""
    key = operation.element.table if isinstance(operation, UnsupportedDifferenceOp) else table_key(operation)
    if key in creation:
        is_index = isinstance(operation, ops.CreateIndexOp)
        return (0, creation[key], is_index, str(operation.index_name) if is_index else "")  # type: ignore[attr-defined]
    if isinstance(operation, ops.DropTableOp):
        return (2, key.sort_key)
    return (1, key.sort_key, *_within_table(operation, comparison.pairs[key]))


def _within_table(operation: Directive, pair: Pair) -> tuple[Any, ...]:
    for kind, rank in _COLUMN_RANKS:
        if isinstance(operation, kind):
            return (rank, *_column_order(operation, pair))
    drops = isinstance(operation, ops.DropIndexOp | ops.DropConstraintOp)
    if isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp):
        return (_INDEXES_AND_CONSTRAINTS, "index", str(operation.index_name), "", not drops)
    name = getattr(operation, "constraint_name", None)
    columns = getattr(operation, "local_cols", None) or getattr(operation, "columns", None) or ()
    condition = getattr(operation, "condition", "")
    return (
        _INDEXES_AND_CONSTRAINTS,
        f"constraint {getattr(operation, 'constraint_type', None) or ''}",
        str(name or ""),
        f"{', '.join(str(getattr(column, 'name', column)) for column in columns)} {condition}",
        not drops,
    )


def _column_order(operation: Directive, pair: Pair) -> tuple[Any, ...]:
    """The order of the models, then names; differences of one column in a fixed order."""
    if isinstance(operation, UnsupportedDifferenceOp):
        return (str(operation.element), operation.what)
    if isinstance(operation, ops.AddColumnOp):
        name = str(operation.column.name)
    elif isinstance(operation, ops.AlterColumnOp | ops.DropColumnOp):
        name = str(operation.column_name)
    else:
        return ()
    order = [column.name for column in pair.model.columns]
    position = order.index(name) if name in order else len(order)
    return (position, name)
