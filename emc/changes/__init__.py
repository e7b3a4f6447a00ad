"""Which phase does each difference belong to?

The open set of changes: one class per kind of difference. :func:`classify` turns the directives of a diff into the
operations of every phase, by content, and lists what it must not touch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Enum, ForeignKeyConstraint, Table
from sqlalchemy.schema import sort_tables_and_constraints
from sqlalchemy.types import TypeEngine

from emc.changes.base import Change, Past, RefusedError, Situation, Unmanaged, column_element
from emc.changes.columns import ColumnAdded, ColumnRetired, CommentChanged, DefaultChanged, NotNullChanged
from emc.changes.constraints import (
    ConstraintAdded,
    ConstraintRedefined,
    ConstraintRetired,
    constraint_element,
)
from emc.changes.enums import EnumChanged
from emc.changes.implied import becoming_foreign_keys, left_behind, orphaned
from emc.changes.indexes import IndexAdded, IndexRedefined, IndexRetired, index_element
from emc.changes.removals import dropped_element, misspelt, resolve, unmanaged_elements
from emc.changes.syncs import Synced, active_syncs, says_no_way_back
from emc.changes.tables import TableAdded, TableRetired, Unsupported
from emc.changes.twins import without_twins
from emc.changes.types import TypeChanged
from emc.errors import DeclarationError, Refusal
from emc.fit import Fit, fit
from emc.names import Element, ElementKind, TableKey, attribute, dotted
from emc.operations import AlterEnumOp, Kind, Operation, UnsupportedDifferenceOp, table_key
from emc.schema import LiveSchema, inserts_must_name
from emc.sync import Sync
from emc.upgrade import Upgrade

__all__ = ["Classified", "Hint", "Past", "Situation", "Unmanaged", "classify"]


@dataclass(frozen=True)
class Hint:
    """Something that a person should look at, and that stops nothing."""

    kind: str
    target: str
    text: str


@dataclass(frozen=True, eq=False)
class Classified:
    """The differences, sorted by what becomes of them."""

    situation: Situation
    operations: tuple[Operation, ...]
    unmanaged: tuple[Unmanaged, ...]
    refusals: tuple[Refusal, ...]
    hints: tuple[Hint, ...]


def classify(
    directives: Sequence[ops.MigrateOperation],
    upgrade: Upgrade,
    live: LiveSchema,
    models: Mapping[TableKey, Table],
    past: Past | None = None,
    fit: Callable[[TypeEngine[Any], TypeEngine[Any]], Fit] = fit,
    stands: Callable[[Sync], bool] = lambda _: False,
) -> Classified:
    """Sort *directives* (live schema → models) into the operations of every phase.

    :param models: the tables of the models that the filters let through.
    :param past: what emc did to the database before; ``None``: nothing that is known.
    :param fit: how the values of one type fit into another in the database.
    :param stands: whether the database has what keeps columns in step, as it should be.
    :raises DeclarationError: a declaration is ambiguous, contradicts the models, or names a migration that is not
        there.
    """
    _known_migrations(upgrade)
    directives, twins = without_twins(directives, live)
    pairs, singles = _redefinitions(directives)
    droppable = [element for element in map(dropped_element, singles) if element is not None]
    removals = resolve(upgrade.removals, droppable, models, live)
    past = past or Past()
    syncs = active_syncs(upgrade, live, models, past.dropped, past.added)
    situation = Situation(upgrade, live, models, removals, past, fit, syncs)
    keyless = orphaned(droppable, situation)
    named = removals.keys() | (keyless - becoming_foreign_keys(singles))
    changes: list[Change] = [_redefined(drop, create) for drop, create in pairs]
    for directive in _without_cycles(singles, models):
        element = dropped_element(directive)
        if element is not None and (element not in named or _goes_with_its_table(element, removals)):
            continue
        changes.append(_change(directive))
    changes += [Synced(sync, stands) for sync in syncs.values()]
    operations: dict[str, Operation] = {}

    def collect(found: Iterable[Operation]) -> None:
        for operation in found:
            # Two changes may ask for the same: a retired table and a retired column both release a foreign key.
            operations.setdefault(f"{operation.phase}:{operation.id}", operation)

    refusals: list[Refusal] = []
    for change in changes:
        try:
            collect(change.operations(situation))
        except RefusedError as refused:
            refusals.append(refused.refusal)
    collect(left_behind(tuple(operations.values()), situation))
    # A foreign key to a retired table goes although nobody has named it.
    going = {one.element for one in operations.values() if one.kind == Kind.DROP_FOREIGN_KEY}
    accounted_for = named | going | keyless | _becoming_constraints(singles)
    unmanaged = [
        one
        for one in unmanaged_elements(droppable, removals, live, models)
        if one.element not in accounted_for
    ]
    refusals += _sure_to_break(unmanaged, situation)
    hints = [Hint("not-convergent", target, text) for target, text in twins]
    hints += [*_idle_declarations(situation, unmanaged), *_renames(singles, unmanaged, situation)]
    one_way = ((sync.name, says_no_way_back(sync)) for sync in syncs.values())
    hints += [Hint("no-way-back", name, text) for name, text in one_way if text is not None]
    return Classified(situation, tuple(operations.values()), tuple(unmanaged), tuple(refusals), tuple(hints))


_ALTERATIONS: tuple[tuple[Callable[[ops.AlterColumnOp], bool], Callable[[Any], Change]], ...] = (
    (lambda directive: directive.modify_type is not None, TypeChanged),
    (lambda directive: directive.modify_nullable is not None, NotNullChanged),
    (lambda directive: directive.modify_server_default is not False, DefaultChanged),
    (lambda directive: directive.modify_comment is not False, CommentChanged),
)


def _altered(directive: ops.AlterColumnOp) -> Change:
    for applies, change in _ALTERATIONS:
        if applies(directive):
            return change(directive)
    raise LookupError(f"an AlterColumnOp of {directive.table_name}.{directive.column_name} without a change")


_CHANGES: Mapping[type[ops.MigrateOperation], Callable[[Any], Change]] = {
    ops.CreateTableOp: TableAdded,
    ops.DropTableOp: TableRetired,
    ops.AddColumnOp: ColumnAdded,
    ops.DropColumnOp: ColumnRetired,
    ops.AlterColumnOp: _altered,
    ops.CreateTableCommentOp: CommentChanged,
    ops.DropTableCommentOp: CommentChanged,
    ops.CreateIndexOp: IndexAdded,
    ops.DropIndexOp: IndexRetired,
    ops.AddConstraintOp: ConstraintAdded,
    ops.DropConstraintOp: ConstraintRetired,
    AlterEnumOp: EnumChanged,
    UnsupportedDifferenceOp: Unsupported,
}


def _change(directive: ops.MigrateOperation) -> Change:
    for kind in type(directive).__mro__:
        if kind in _CHANGES:
            return _CHANGES[kind](directive)
    raise LookupError(f"no change for {type(directive).__name__}")


# -- redefinitions --------------------------------------------------------------------------------------------------


def _redefinitions(
    directives: Sequence[ops.MigrateOperation],
) -> tuple[list[tuple[Any, Any]], list[ops.MigrateOperation]]:
    """Pairs of a drop and an add of one element, and the directives that remain."""
    added: dict[Element, ops.MigrateOperation] = {}
    for directive in directives:
        if isinstance(directive, ops.CreateIndexOp):
            added[index_element(directive)] = directive
        elif isinstance(directive, ops.AddConstraintOp):
            added[constraint_element(directive)] = directive
    pairs = []
    paired: set[int] = set()
    for directive in directives:
        if isinstance(directive, ops.DropIndexOp | ops.DropConstraintOp):
            element = dropped_element(directive)
            other = added.get(element) if element is not None else None
            if other is not None:
                pairs.append((directive, other))
                paired |= {id(directive), id(other)}
    return pairs, [directive for directive in directives if id(directive) not in paired]


def _redefined(drop: Any, create: Any) -> Change:
    if isinstance(drop, ops.DropIndexOp):
        return IndexRedefined(drop, create)
    return ConstraintRedefined(drop, create)


# -- cycles ---------------------------------------------------------------------------------------------------------


def _without_cycles(
    directives: Iterable[ops.MigrateOperation], models: Mapping[TableKey, Table]
) -> Iterable[ops.MigrateOperation]:
    """New tables in the order of their foreign keys; a foreign key that closes a cycle comes after the tables."""
    creations = {table_key(one): one for one in directives if isinstance(one, ops.CreateTableOp)}
    ordered = sort_tables_and_constraints([models[key] for key in creations])  # type: ignore[no-untyped-call]
    later: list[ForeignKeyConstraint] = []
    for table, constraints in ordered:
        if table is None:
            later = sorted(constraints, key=lambda one: (one.table.name, str(one.name), *one.column_keys))
    for table, _ in ordered:
        if table is not None:
            key = TableKey(table.schema, table.name)
            split = [constraint for constraint in later if constraint.table is table]
            yield _create_without(creations[key], split) if split else creations[key]
    yield from (ops.AddConstraintOp.from_constraint(constraint) for constraint in later)
    yield from (one for one in directives if not isinstance(one, ops.CreateTableOp))


def _create_without(directive: ops.CreateTableOp, split: Sequence[ForeignKeyConstraint]) -> ops.CreateTableOp:
    gone = {tuple(constraint.column_keys) for constraint in split}
    kept = [
        item
        for item in directive.columns
        if not (isinstance(item, ForeignKeyConstraint) and tuple(item.column_keys) in gone)
    ]
    create = copy.copy(directive)
    create.columns = kept
    return create


def _becoming_constraints(directives: Iterable[ops.MigrateOperation]) -> set[Element]:
    """Indexes under the name of a unique constraint to be added: it is made of one, and a run may end in between."""
    return {
        Element(ElementKind.INDEX, element.table, element.name)
        for element in map(
            constraint_element, (one for one in directives if isinstance(one, ops.AddConstraintOp))
        )
        if element.kind is ElementKind.UNIQUE
    }


# -- what nobody has named --------------------------------------------------------------------------------------------


def _goes_with_its_table(element: Element, removals: Mapping[Element, Any]) -> bool:
    return element.kind is not ElementKind.TABLE and Element(ElementKind.TABLE, element.table) in removals


def _sure_to_break(unmanaged: Iterable[Unmanaged], situation: Situation) -> Iterable[Refusal]:
    for one in unmanaged:
        if one.element.kind is not ElementKind.COLUMN or one.element.table not in situation.models:
            continue
        column = situation.live.column(one.element.table, str(one.element.name))
        if column is not None and inserts_must_name(column) and not _takes_first_label(column):
            yield Refusal(
                str(one.element),
                "the models do not have this column, it is NOT NULL and has no default, so every insert of the new "
                f"release into {one.element.table} would fail",
                one.declare,
            )


def _takes_first_label(column: Mapping[str, Any]) -> bool:
    """Whether a column that is left out gets the first label of its enumeration: MySQL's, which is part of its column.

    Even in strict mode (MySQL 8.4 manual, "The ENUM Type"; seen with MariaDB 10.11.19).
    """
    return isinstance(column["type"], Enum) and column["type"].name is None


def _renames(
    directives: Iterable[ops.MigrateOperation], unmanaged: Iterable[Unmanaged], situation: Situation
) -> Iterable[Hint]:
    """A table that loses one column and gains one like it."""
    gained: dict[TableKey, list[Any]] = {}
    for directive in directives:
        if isinstance(directive, ops.AddColumnOp):
            gained.setdefault(table_key(directive), []).append(directive.column)
    lost: dict[TableKey, list[str]] = {}
    for one in unmanaged:
        if one.element.kind is ElementKind.COLUMN:
            lost.setdefault(one.element.table, []).append(str(one.element.name))
    for key in sorted(gained.keys() & lost.keys(), key=lambda one: one.sort_key):
        if len(gained[key]) != 1 or len(lost[key]) != 1:
            continue
        new, old = gained[key][0], lost[key][0]
        column = situation.live.column(key, old)
        if column is not None and situation.fit(column["type"], new.type) is not Fit.DIFFERENT:
            source = column_element(key, old)
            # Either side is written to the other: where one is wider, the new release may write what the old column
            # does not take.
            is_same = situation.fit(new.type, column["type"]) is Fit.WIDER
            line = f'upgrade.rename("{source}", to={attribute(key, new.name)})'
            if not is_same or situation.fit(column["type"], new.type) is not Fit.WIDER:
                line = (
                    f'upgrade.convert("{source}", to={attribute(key, new.name)}, up=lambda old: old, '
                    "down=lambda new: new)"
                )
            yield Hint(
                "looks-like-rename",
                str(source),
                f"looks as if it was renamed to {new.name}. If so, say it, and both are kept in step while both "
                f"releases run:\n{line}",
            )


def _idle_declarations(situation: Situation, unmanaged: Sequence[Unmanaged]) -> Iterable[Hint]:
    """Removals that name nothing: done, or never there. One that looks misspelt is an error."""
    found = set(situation.removals.values())
    for removal in situation.upgrade.removals:
        if removal in found:
            continue
        meant = misspelt(removal, unmanaged)
        if meant is not None and dotted(*removal.parts) not in situation.past.dropped:
            raise DeclarationError(
                f"{removal.target} is named by {removal.verb}, but neither the models nor the database have it.",
                places=[removal.place],
                remedy=f'Did you mean upgrade.{removal.verb}("{meant}")?',
            )
        yield Hint(
            "nothing-left",
            removal.target,
            f"{removal.verb} at {removal.place} has nothing left to do in this database: what it names is gone, or "
            "was never here.",
        )


def _known_migrations(upgrade: Upgrade) -> None:
    known = {migration.name for migration in upgrade.data_migrations}
    known |= {fill.name for fill in upgrade.fills} | {one.name for one in upgrade.parallels}
    known |= {one.name for one in upgrade.deduplications} | {one.name for one in upgrade.orphan_rules}
    for declaration in upgrade.declarations:
        for name in getattr(declaration, "after", ()):
            if name not in known:
                raise DeclarationError(
                    f"after={name!r} names no data migration of this upgrade.",
                    places=[declaration.place],
                    remedy=f"Declare it, or name one of: {', '.join(sorted(known)) or 'there are none yet'}.",
                )
