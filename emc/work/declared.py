"""Which work does each declaration stand for, on this database?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnClause, Table, TableClause, TextClause, false, true
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from emc.errors import DeclarationError
from emc.names import ElementKind, TableKey, dotted
from emc.schema import LiveSchema, LiveTable
from emc.upgrade import DataMigration, Fill, Retire, Upgrade
from emc.work.constraints import deduplication, orphans
from emc.work.copying import Keeper, copies
from emc.work.deleting import parents_first
from emc.work.rows import CallFunction
from emc.work.tables import live_table, missing_columns, rewritten, walking_key
from emc.work.uniqueness import Demands
from emc.work.values import NotReady, SetValues, Work

EXPAND = "run emc expand"


def all_work(
    upgrade: Upgrade,
    live: LiveSchema,
    demands: Demands,
    keeper: Keeper | None = None,
    contracted: Collection[str] | None = frozenset(),
) -> tuple[Work | NotReady, ...]:
    """The data work of every declaration, as it stands on the database that *live* shows.

    The order is that of the declarations, except that nothing comes before what it has to wait for.

    :param demands: the dialect's reading of unique constraints and indexes.
    :param keeper: what the dialect knows of columns that are kept in step, where any are declared.
    :param contracted: the columns and tables that contract was ever about to drop, as the ledger has them; ``None``:
        nobody can ask it, and what is not there is taken to have been dropped. Only for who writes to no row on his own
        account, and proves nothing.
    :raises DeclarationError: a declaration cannot be followed; work waits for something that is not
    declared, or
        for itself.
    """
    models = tuple(upgrade.tables.values())
    every = [
        *(_fill(declared, live) for declared in upgrade.fills),
        *(orphans(declared, live, models) for declared in upgrade.orphan_rules),
        *(deduplication(declared, live, demands, models) for declared in upgrade.deduplications),
        *(_data_migration(declared, upgrade, live, contracted) for declared in upgrade.data_migrations),
        *copies(upgrade.parallels, live, keeper),
    ]
    names = {work.name for work in every}
    for work in every:
        for name in work.after:
            if name not in names:
                raise DeclarationError(
                    f"{work.name} has to wait for {name!r}, which is not a data migration of this upgrade.",
                    places=[work.place],
                    remedy=f"The data migrations are {', '.join(sorted(names))}.",
                )
    places = {declared.place: at for at, declared in enumerate(upgrade.declarations)}
    return in_order(parents_first(sorted(every, key=lambda work: places[work.place])))


def in_order(every: Sequence[Work | NotReady]) -> tuple[Work | NotReady, ...]:
    """*every*, each behind what it has to wait for among them, and otherwise as given.

    :raises DeclarationError: work waits for itself.
    """
    by_name = {work.name: work for work in every}
    ordered: dict[str, Work | NotReady] = {}

    def place(work: Work | NotReady, waiting: tuple[str, ...]) -> None:
        if work.name in waiting:
            ring = " waits for ".join((*waiting[waiting.index(work.name) :], work.name))
            raise DeclarationError(
                f"Data migrations wait for each other: {ring}.",
                places=sorted({by_name[name].place for name in waiting}),
                remedy="Take one of them out of after=.",
            )
        if work.name in ordered:
            return
        for name in work.after:
            if name in by_name:
                place(by_name[name], (*waiting, work.name))
        ordered[work.name] = work

    for work in every:
        place(work, ())
    return tuple(ordered.values())


def _fill(declared: Fill, live: LiveSchema) -> Work | NotReady:
    column, model = declared.column, declared.column.table
    assert isinstance(model, Table)
    key = TableKey(model.schema, model.name)
    value = declared.value
    if hasattr(value, "__clause_element__"):
        value = value.__clause_element__()
    there = live.table(key)
    wanting = _wanting(key, [column, value], live)
    if there is None or wanting is not None:
        return NotReady(declared.name, "fill", key, wanting or _absent(key), EXPAND, declared.place)
    table = live_table(there, model)
    action: SetValues | CallFunction
    if callable(value) and not isinstance(value, ClauseElement):
        action = CallFunction.of(value, declared.place, column=column.name)
    else:
        action = SetValues({column.name: rewritten(value, key, table)})
    return Work(
        name=declared.name,
        kind="fill",
        table=table,
        key=key,
        pending=table.c[column.name].is_(None) if there.columns[column.name]["nullable"] else false(),
        action=action,
        place=declared.place,
        description=f"fill {dotted(key.schema, key.name, column.name)} where it is NULL",
        walk=walking_key(there),
    )


def _data_migration(
    declared: DataMigration, upgrade: Upgrade, live: LiveSchema, contracted: Collection[str] | None
) -> Work | NotReady:
    key, there = declared.key, live.table(declared.key)
    values = declared.values or {}
    if there is None:
        if declared.table is None:
            # The models no longer have the table, and neither has the database: all of it is contracted.
            there = LiveTable(key, {})
            return _migration(declared, there, false())
        return NotReady(
            declared.name, "data-migration", key, _absent(key), EXPAND, declared.place, declared.after
        )
    sources = _gone(declared, upgrade, live)
    if any(contracted is None or _was_dropped(one, contracted) for one in sources):
        return _migration(declared, there, false())
    table = live_table(there, declared.table)
    where: Any = declared.where
    if callable(where) and not isinstance(where, ClauseElement) and not hasattr(where, "__clause_element__"):
        try:
            where = where(table)
        except (AttributeError, KeyError) as error:
            name = str(error.args[0]) if error.args else ""
            if _is_removed(upgrade, key, name):
                return _migration(declared, there, false())
            if declared.table is not None and name in declared.table.c:
                reason = f"column {dotted(key.schema, key.name, name)} is not there yet"
                return NotReady(
                    declared.name, "data-migration", key, reason, EXPAND, declared.place, declared.after
                )
            raise DeclarationError(
                f"The condition of {declared.name} failed on table {key}: {type(error).__name__}: {error}.",
                places=[declared.place],
                remedy=f"The table has the columns {', '.join(table.c.keys())}.",
            ) from error
    elif hasattr(where, "__clause_element__"):
        where = where.__clause_element__()
    if any(_names(expression, one, key) for expression in (where, *values.values()) for one in sources):
        return _migration(declared, there, false())
    _check_values(declared, values, there)
    wanting = _wanting(key, [where, *_model_columns(declared, values), *values.values()], live)
    if wanting is not None:
        return NotReady(declared.name, "data-migration", key, wanting, EXPAND, declared.place, declared.after)
    return _migration(declared, there, true() if where is None else rewritten(where, key, table), table)


def _migration(declared: DataMigration, there: LiveTable, pending: Any, table: Table | None = None) -> Work:
    if table is None:
        table = live_table(there, declared.table)
    action: SetValues | CallFunction
    if declared.function is not None:
        action = CallFunction.of(declared.function, declared.place)
    else:
        values = declared.values or {}
        action = SetValues({name: rewritten(value, declared.key, table) for name, value in values.items()})
    return Work(
        name=declared.name,
        kind="data-migration",
        table=table,
        key=declared.key,
        pending=pending,
        action=action,
        place=declared.place,
        description=f"migrate the rows of {declared.key} by {declared.name}",
        after=declared.after,
        walk=walking_key(there),
        on_error=declared.on_error,
    )


def _gone(declared: DataMigration, upgrade: Upgrade, live: LiveSchema) -> list[Retire]:
    """What was to go after this migration and is not there; nothing as long as any of it is.

    The migration is over where contract has dropped one of these, since its gate has seen to it that the migration was
    complete; or where it cannot run without. Rows that the new release has written since are no work then, however they
    look. That something is not there says less: its name may be misspelt, or be that of a constraint, which expand
    drops, or of an index, and none of these held the data.
    """
    sources = [one for one in upgrade.removals if isinstance(one, Retire) and declared.name in one.after]
    holding = [one for one in sources if one.kind in (None, ElementKind.COLUMN, ElementKind.TABLE)]
    return [] if any(_stands(one.parts, live) for one in sources) else holding


def _was_dropped(source: Retire, contracted: Collection[str]) -> bool:
    """Whether *source* is among *contracted*, or the table is that had it."""
    return dotted(*source.parts) in contracted or dotted(*source.parts[:-1]) in contracted


def _stands(parts: tuple[str, ...], live: LiveSchema) -> bool:
    if _as_table(parts) in live.tables:
        return True
    table = live.table(_owner(parts)) if len(parts) > 1 else None
    if table is None:
        return False
    named = [*table.indexes, *table.uniques, *table.checks, *table.foreign_keys]
    return parts[-1] in table.columns or any(one["name"] == parts[-1] for one in named)


def _as_table(parts: tuple[str, ...]) -> TableKey | None:
    """The table that *parts* may name."""
    return None if len(parts) > 2 else TableKey(parts[0] if len(parts) == 2 else None, parts[-1])


def _owner(parts: tuple[str, ...]) -> TableKey:
    """The table of the column that *parts* may name."""
    return TableKey(None, parts[0]) if len(parts) == 2 else TableKey(parts[0], parts[-2])


def _names(expression: Any, source: Retire, key: TableKey) -> bool:
    """Whether *expression* of a data migration of table *key* cannot be asked without *source*, a column or table."""
    if not isinstance(expression, ClauseElement):
        return False
    owner, name = _owner(source.parts) if len(source.parts) > 1 else None, source.parts[-1]
    for part in visitors.iterate(expression):
        if isinstance(part, TextClause) or (isinstance(part, ColumnClause) and part.is_literal):
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(part)):
                return True
        elif isinstance(part, ColumnClause) and part.name == name:
            table: Any = part.table
            if (key if table is None else _key_of(table)) == owner:
                return True
        elif isinstance(part, TableClause) and _key_of(part) == _as_table(source.parts):
            return True
    return False


def _key_of(table: Any) -> TableKey | None:
    return TableKey(table.schema, table.name) if isinstance(table, TableClause) else None


def _is_removed(upgrade: Upgrade, key: TableKey, column: str) -> bool:
    """Whether a person has said that *column* goes: where it is gone already, its data was moved before."""
    names = {(key.name, column), (key.schema, key.name, column)}
    return any(removal.parts in names for removal in upgrade.removals)


def _model_columns(declared: DataMigration, values: Mapping[str, Any]) -> list[Column[Any]]:
    """The columns of the models that *values* names."""
    return (
        [column for column in declared.table.c if column.name in values] if declared.table is not None else []
    )


def _check_values(declared: DataMigration, values: Mapping[str, Any], there: LiveTable) -> None:
    known = {column.name for column in declared.table.c} if declared.table is not None else set()
    for name in values:
        if name not in known and name not in there.columns:
            raise DeclarationError(
                f"values= of {declared.name} names a column {name!r}, which table {declared.key} does not have.",
                places=[declared.place],
                remedy=f"It has {', '.join(sorted(known | set(there.columns)))}.",
            )


def _wanting(key: TableKey, expressions: Sequence[Any], live: LiveSchema) -> str | None:
    for table, column in missing_columns(expressions, live):
        if column is None:
            return _absent(table)
        return f"column {dotted(table.schema, table.name, column)} is not there yet"
    return None


def _absent(key: TableKey) -> str:
    return f"table {key} is not there yet"
