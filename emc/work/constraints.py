"""Which rows would a new unique constraint or foreign key not allow, and what becomes of them?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    FromClause,
    Index,
    Table,
    UniqueConstraint,
    and_,
    exists,
    false,
    or_,
    select,
    true,
    tuple_,
)

from emc.errors import DeclarationError
from emc.names import TableKey, dotted
from emc.schema import LiveSchema, LiveTable
from emc.upgrade import Deduplicate, Orphans
from emc.work.orphanhood import parentless
from emc.work.references import references_to
from emc.work.rivalry import Rivalry
from emc.work.rows import Merge
from emc.work.tables import live_table, missing_columns, rewritten, walking_key
from emc.work.uniqueness import Demands, Uniqueness, as_sql
from emc.work.values import DeleteRow, NotReady, Report, SetValues, Work

# -- unique ----------------------------------------------------------------------------------------------


def deduplication(
    declared: Deduplicate, live: LiveSchema, demands: Demands, models: Collection[Table] = ()
) -> Work | NotReady:
    """The rows that a unique constraint or index of the models on the declared columns would not allow.

    :param demands: the dialect's reading of such a constraint.
    :param models: the tables of the models, some of which may refer to the one concerned.
    :raises DeclarationError: the models have no such constraint, so no row would be in anybody's way.
    """
    model = declared.table
    key = TableKey(model.schema, model.name)
    names = {column.name for column in declared.columns}
    demanded = _demanded(model, names, demands)
    if not demanded:
        raise DeclarationError(
            f"The models have no unique constraint or index on {key} ({', '.join(sorted(names))}), so no row has "
            "to go.",
            places=[declared.place],
            remedy="Add the constraint to the model, or take the declaration out.",
        )
    there = live.table(key)
    if there is None:
        return _not_ready(declared, "deduplicate", key, f"table {key} is not there yet")
    expressions = [*declared.columns, *declared.keep, *(e for one in demanded for e in one.expressions)]
    for table, column in missing_columns(expressions, live):
        reason = f"{dotted(table.schema, table.name, column)} is not there yet"
        return _not_ready(declared, "deduplicate", key, reason)
    walk = walking_key(there)
    open_ones = [one for one in demanded if not _is_enforced(one, names, there)]
    if open_ones and not walk:
        return NotReady(
            declared.name,
            "deduplicate",
            key,
            f"table {key} has no primary key, so rows that are alike cannot be told apart",
            "add a primary key or a unique NOT NULL constraint",
            declared.place,
            declared.after,
        )
    table_now = live_table(there, model)
    rivalries = tuple(_rivalry(one, declared.keep, table_now, key, walk) for one in open_ones)
    losers = [_loses(one, table_now, walk) for one in rivalries]
    merge = None if declared.merge is None else Merge.of(declared.merge, declared.place)
    verb = "delete" if merge is None else "merge and delete"
    return Work(
        name=declared.name,
        kind="deduplicate",
        table=table_now,
        key=key,
        pending=or_(*losers) if losers else false(),
        action=DeleteRow(merge),
        place=declared.place,
        description=f"{verb} all but one of the rows of {key} that are alike in {', '.join(sorted(names))}",
        after=declared.after,
        walk=walk,
        rivalries=rivalries,
        concerns=tuple(column.name for column in declared.columns),
        references=references_to(key, live, models),
    )


def _demanded(model: Table, names: set[str], demands: Demands) -> list[Uniqueness]:
    found: list[UniqueConstraint | Index] = [
        constraint
        for constraint in model.constraints
        if isinstance(constraint, UniqueConstraint) and {c.name for c in constraint.columns} == names
    ]
    found += [
        index
        for index in model.indexes
        if index.unique and {column.name for column in index.columns} == names
    ]
    return [demands(one) for one in sorted(found, key=lambda one: str(one.name))]


def _is_enforced(demanded: Uniqueness, names: set[str], there: LiveTable) -> bool:
    """Whether the live table has a constraint that allows no more than *demanded*.

    If in doubt it has not, and the data is looked at.
    """
    if not demanded.is_plain:
        return False
    primary = there.primary_key["constrained_columns"] if there.primary_key else []
    if set(primary) == names:
        return True
    found: list[tuple[Iterable[str | None], Mapping[str, Any] | None]] = [
        *((unique["column_names"], unique.get("dialect_options")) for unique in there.uniques),
        *(
            (index["column_names"], index.get("dialect_options"))
            for index in there.indexes
            if index["unique"]
        ),
    ]
    for columns, given in found:
        options = given or {}
        is_partial = any(option.endswith("_where") and value is not None for option, value in options.items())
        nulls_alike = any(
            option.endswith("_nulls_not_distinct") and value for option, value in options.items()
        )
        is_enough = nulls_alike or not demanded.nulls_alike
        if set(columns) == names and is_enough and not is_partial:
            return True
    return False


def _rivalry(
    demanded: Uniqueness, keep: Collection[Any], table: Table, key: TableKey, walk: tuple[str, ...]
) -> Rivalry:
    one = table.alias()
    group = tuple(rewritten(expression, key, one) for expression in demanded.expressions)
    return Rivalry(
        source=one,
        group=group,
        concerned=_concerned(demanded, group, key, one),
        order=(*(rewritten(order, key, one) for order in keep), *(one.c[name] for name in walk)),
    )


def _loses(rivalry: Rivalry, table: Table, walk: tuple[str, ...]) -> ColumnElement[bool]:
    ranked = rivalry.losers([rivalry.source.c[name] for name in walk]).subquery()
    losers = select(*(ranked.c[f"emc_key_{at}"] for at, _ in enumerate(walk)))
    own = [table.c[name] for name in walk]
    loses = own[0].in_(losers) if len(own) == 1 else tuple_(*own).in_(losers)
    nullable = [column for column in own if column.nullable]
    if not nullable:
        return loses
    # SQLite allows NULL in a primary key, and IN does not find it. The run refuses such rows; it has to hear of them.
    is_it = and_(*(ranked.c[f"emc_key_{at}"].is_not_distinct_from(one) for at, one in enumerate(own)))
    is_keyless = or_(*(column.is_(None) for column in nullable))
    return or_(loses, and_(is_keyless, exists(select(1).select_from(ranked).where(is_it))))


def _concerned(
    demanded: Uniqueness, group: Collection[Any], key: TableKey, source: FromClause
) -> ColumnElement[bool]:
    """The rows of *source* that can violate *demanded*."""
    no_null = [] if demanded.nulls_alike else [expression.is_not(None) for expression in group]
    where = [] if demanded.where is None else [rewritten(as_sql(demanded.where), key, source)]
    return and_(true(), *no_null, *where)


# -- foreign keys ----------------------------------------------------------------------------------------


def orphans(declared: Orphans, live: LiveSchema, models: Collection[Table] = ()) -> Work | NotReady:
    """The rows that a foreign key of the models on the declared columns would not allow.

    :param models: the tables of the models, some of which may refer to the one concerned.
    :raises DeclarationError: the models have no such foreign key.
    """
    model = declared.table
    key = TableKey(model.schema, model.name)
    names = {column.name for column in declared.columns}
    found = [fk for fk in model.foreign_key_constraints if {column.name for column in fk.columns} == names]
    if not found:
        raise DeclarationError(
            f"The models have no foreign key on {key} ({', '.join(sorted(names))}), so no row is an orphan.",
            places=[declared.place],
            remedy="Name exactly the columns of a foreign key of the model, or take the declaration out.",
        )
    there = live.table(key)
    if there is None:
        return _not_ready(declared, "orphans", key, f"table {key} is not there yet")
    referred = [element.column for fk in found for element in fk.elements]
    for table, column in missing_columns([*declared.columns, *referred], live):
        reason = f"{dotted(table.schema, table.name, column)} is not there yet"
        return _not_ready(declared, "orphans", key, reason)
    open_ones = [fk for fk in found if not _is_there(fk, there)]
    action: SetValues | DeleteRow | Report = Report() if declared.action == "report" else DeleteRow()
    if declared.action == "set null":
        nullable = [c.name for c in declared.columns if c.nullable and there.columns[c.name]["nullable"]]
        if open_ones and not nullable:
            reason = f"{dotted(key.schema, key.name, declared.columns[0].name)} is still NOT NULL"
            return _not_ready(declared, "orphans", key, reason)
        action = SetValues(dict.fromkeys(nullable))
    table_now = live_table(there, model)
    lost = [_parentless(fk, table_now, live) for fk in open_ones]
    columns = ", ".join(sorted(names))
    what = {
        "set null": f"set {columns} to NULL in the rows of {key} that have no parent by it",
        "delete": f"delete the rows of {key} whose {columns} has no parent",
        "report": f"report the rows of {key} whose {columns} has no parent; they are left to a person",
    }
    return Work(
        name=declared.name,
        kind="orphans",
        table=table_now,
        key=key,
        pending=or_(*lost) if lost else false(),
        action=action,
        place=declared.place,
        description=what[declared.action],
        after=declared.after,
        walk=walking_key(there),
        concerns=tuple(column.name for column in declared.columns),
        references=references_to(key, live, models) if isinstance(action, DeleteRow) else (),
    )


def _is_there(fk: ForeignKeyConstraint, there: LiveTable) -> bool:
    wanted = {(element.parent.name, element.column.name) for element in fk.elements}
    parent = fk.elements[0].column.table
    return any(
        set(zip(live["constrained_columns"], live["referred_columns"], strict=True)) == wanted
        and TableKey(live["referred_schema"], live["referred_table"]) == TableKey(parent.schema, parent.name)
        for live in there.foreign_keys
    )


def _parentless(fk: ForeignKeyConstraint, table: Table, live: LiveSchema) -> ColumnElement[bool]:
    model = fk.elements[0].column.table
    parent = live_table(live.tables[TableKey(model.schema, model.name)], model).alias()
    pairs = [(table.c[element.parent.name], parent.c[element.column.name]) for element in fk.elements]
    return parentless(pairs, parent, fk.match)


def _not_ready(declared: Deduplicate | Orphans, kind: str, key: TableKey, reason: str) -> NotReady:
    return NotReady(declared.name, kind, key, reason, "run emc expand", declared.place, declared.after)
