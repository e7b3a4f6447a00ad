"""Which steps do operations become on MariaDB and MySQL?

DDL commits by itself, so each step stands alone; what adds to one table side by side shares one ALTER TABLE where that
keeps the algorithm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlalchemy import Sequence as SequenceDefault
from sqlalchemy.schema import CreateSequence, CreateTable, DropTable

from emc.dialects.mysql import check_recipes as checks
from emc.dialects.mysql import column_recipes as columns
from emc.dialects.mysql import foreign_keys, sync_units, syncs
from emc.dialects.mysql import index_recipes as indexes
from emc.dialects.mysql.algorithms import Algorithm
from emc.dialects.mysql.clauses import AddIndex
from emc.dialects.mysql.costs import cost
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import Change, Ground, Part, Scene
from emc.dialects.mysql.kinship import incoming_keys, is_dropped
from emc.dialects.mysql.live import MySQLTable
from emc.dialects.mysql.options import completed
from emc.dialects.mysql.probes import Catalog
from emc.dialects.mysql.sharing import shared, together
from emc.names import ElementKind
from emc.operations import Kind, Operation, bare_table, table_of
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Step, Way


def steps(operations: Sequence[Operation], live: LiveSchema, flavour: Flavour) -> list[Step]:
    """*operations* of one phase: one step each, in the given order; see :meth:`emc.dialects.base.Dialect.steps`."""
    scene = Scene(live, flavour, operations)
    parts = [part_of(Ground(operation, scene)) for operation in operations]
    found: list[Step] = []
    for goes_with_a_sync, its in sync_units.gathered(parts):
        if goes_with_a_sync:
            found += sync_units.steps(its, scene)
        else:
            found += [step for group in shared(its) for step in _steps(group, scene)]
    return found


def foreseen(
    operations: Sequence[Operation], live: LiveSchema, expected: LiveSchema, flavour: Flavour
) -> LiveSchema:
    """*expected*, with the definitions that *operations* give to columns of *live*."""
    scene = Scene(live, flavour, operations)
    for operation in operations:
        part_of(Ground(operation, scene))
    tables = dict(expected.tables)
    for (key, _), text in scene.texts.items():
        table = tables.get(key)
        if isinstance(table, MySQLTable):
            tables[key] = dataclasses.replace(table, texts={**table.texts, text.name: text})
    return dataclasses.replace(expected, tables=tables)


def part_of(ground: Ground) -> Part:
    """What the operation of *ground* becomes.

    :raises ValueError: an operation that these servers have no use for, which should not have been planned.
    """
    recipe = _RECIPES.get(ground.operation.kind)
    if recipe is None:
        raise ValueError(
            f"{ground.flavour.title} has no {ground.operation.kind}; {ground.operation.id} should not have been planned"
        )
    return recipe(ground)


def _steps(group: Sequence[Part], scene: Scene) -> Iterator[Step]:
    """The steps of one unit; the first carries the statement that they share."""
    unit = group[0].operation.id
    for position, part in enumerate(group):
        changes: list[Change] = []
        if len(group) > 1:
            changes = [together(group).rendered(scene.writer)] if position == 0 else []
        else:
            changes = [
                Change(one) if isinstance(one, str) else one.rendered(scene.writer) for one in part.changes
            ]
        statements = [statement for change in changes for statement in change.statements]
        policies = tuple(change.locks for change in changes for _ in change.statements)
        ground = Ground(part.operation, scene)
        hazards = [hazard for one in part.changes if not isinstance(one, str) for hazard in one.hazards]
        yield Step(
            operation=part.operation,
            statements=tuple(statements),
            postcondition=part.postcondition,
            transaction=part.transaction,
            locks=LockPolicy.WEAK if LockPolicy.WEAK in policies else LockPolicy.SHORT,
            # What happens to a table that nobody uses yet is no hazard to anybody.
            hazards=() if ground.is_new else tuple(dict.fromkeys([*hazards, *part.hazards])),
            unit=unit,
            statement_locks=policies,
            instead=_instead(changes),
            beyond=cost(part.operation, ground.table, scene.flavour),
            doubts_duplicates=part.doubts_duplicates,
        )


def _instead(changes: Sequence[Change]) -> Mapping[str, tuple[Way, ...]]:
    return {change.statement: change.instead for change in changes if change.instead}


# -- tables ------------------------------------------------------------------------------------------------------------


def create_table(ground: Ground) -> Part:
    """The table with its indexes and comments, each in a statement of its own only where it has to be."""
    table = table_of(ground.directive)
    writer = ground.writer
    sequences = [
        sequence
        for column in table.columns
        for default in (column.default, getattr(column.server_default, "arg", None))
        if isinstance(sequence := getattr(default, "sequence", default), SequenceDefault)
    ]
    statements = [writer.compiled(CreateSequence(sequence, if_not_exists=True)) for sequence in sequences]
    if not writer.dialect.supports_sequences:
        statements = []
    statements.append(writer.compiled(CreateTable(table)))
    indexes_of_its_own = [
        # Not CREATE INDEX, for which ALTER alone would not do: it asks for INDEX.
        ground.alter(AddIndex(ground.key, completed(index, writer.dialect)), expected=Algorithm.NOCOPY)
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    names = [column.name for column in table.columns]
    return ground.part([*statements, *indexes_of_its_own], Catalog(writer, ground.key).table_exists(names))


def drop_table(ground: Ground) -> Part:
    """The foreign keys that tie tables to it which go later, then the table; its own go with it."""
    changes = [
        ground.alter(foreign_keys.drop(key, str(one["name"])), expected=Algorithm.INSTANT, key=key)
        for key, one in incoming_keys(ground)
        if key != ground.key
        and not is_dropped(ground.before, key, one)
        and is_dropped(ground.after, key, one)
    ]
    drop = ground.writer.compiled(DropTable(bare_table(ground.key)))
    return ground.part(
        [*changes, drop],
        Catalog(ground.writer, ground.key).table_gone(),
        Hazard.EXCLUSIVE_LOCK,
        Hazard.LOSES_DATA,
    )


def replace_constraint(ground: Ground) -> Part:
    """A constraint of any kind gets a new definition under its name."""
    kind = ground.operation.element.kind
    if kind is ElementKind.FOREIGN_KEY:
        return foreign_keys.replace_foreign_key(ground)
    return indexes.replace_unique(ground) if kind is ElementKind.UNIQUE else checks.replace_check(ground)


_RECIPES: Mapping[str, Callable[[Ground], Part]] = {
    Kind.CREATE_TABLE: create_table,
    Kind.DROP_TABLE: drop_table,
    Kind.ADD_COLUMN: columns.add_column,
    Kind.DROP_COLUMN: columns.drop_column,
    Kind.SET_NOT_NULL: columns.set_not_null,
    Kind.DROP_NOT_NULL: columns.drop_not_null,
    Kind.ALTER_TYPE: columns.alter_type,
    Kind.SET_DEFAULT: columns.set_default,
    Kind.DROP_DEFAULT: columns.drop_default,
    Kind.SET_COMMENT: columns.set_comment,
    Kind.CREATE_INDEX: indexes.create_index,
    Kind.DROP_INDEX: indexes.drop_index,
    Kind.REPLACE_INDEX: indexes.replace_index,
    Kind.ADD_UNIQUE: indexes.add_unique,
    Kind.DROP_UNIQUE: indexes.drop_index,
    Kind.ADD_CHECK: checks.add_check,
    Kind.DROP_CHECK: checks.drop_check,
    Kind.ADD_FOREIGN_KEY: foreign_keys.add_foreign_key,
    Kind.DROP_FOREIGN_KEY: foreign_keys.drop_foreign_key,
    Kind.REPLACE_CONSTRAINT: replace_constraint,
    Kind.INSTALL_SYNC: syncs.install,
    Kind.DROP_SYNC: syncs.drop,
}
"""Enumerations are types of columns here, and come as ``alter-type``; exclusion constraints there are none."""
