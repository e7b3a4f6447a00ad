"""Which data work takes the declared data migrations back, once the new release is gone?

What the new release has written since is brought to where the old one reads it: by the way back that a data migration
declares. Work like any other, so it runs in batches, goes on where it ended, and its condition is the gate's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnClause,
    ColumnElement,
    SelectBase,
    Table,
    TextClause,
    and_,
    false,
    literal,
    not_,
    or_,
    true,
    type_coerce,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement, Grouping
from sqlalchemy.types import NullType

from emc.errors import DeclarationError
from emc.schema import LiveSchema
from emc.sync import Same
from emc.upgrade import DataMigration, Upgrade
from emc.work.rows import CallFunction
from emc.work.tables import rewritten
from emc.work.values import BACK, NotReady, SetValues, Work


def name_of_back(name: str) -> str:
    """The name of the work that takes the data migration *name* back."""
    return f"{BACK}:{name}"


def all_work_back(
    upgrade: Upgrade, live: LiveSchema, works: Sequence[Work | NotReady], same: Same
) -> tuple[Work, ...]:
    """What takes the data migrations of *upgrade* back that have a way back, the last one first.

    A migration whose columns are not there has moved nothing. Of one that has nothing left for the catalog alone, the
    condition does not say which rows it has moved, or whether it ever ran: nothing is written for it.

    :param works: the work of the declarations.
    :param same: how values are compared.
    :raises DeclarationError: a way back cannot be followed.
    """
    by_name = {work.name: work for work in works}
    declared = [one for one in upgrade.data_migrations if one.undo is not None]
    found = []
    for one in declared:
        forward = by_name[one.name]
        if isinstance(forward, Work) and not forward.is_complete and forward.key in live.tables:
            later = [name_of_back(other.name) for other in declared if one.name in other.after]
            found.append(_back(one, forward, tuple(later), same))
    return tuple(reversed(found))


def _back(declared: DataMigration, forward: Work, after: tuple[str, ...], same: Same) -> Work:
    table, undo = forward.table, declared.undo
    action: SetValues | CallFunction
    if callable(undo) and not isinstance(undo, ClauseElement):
        action = CallFunction.of(undo, declared.place)
        wrong = None
    else:
        assert undo is not None
        values = {name: rewritten(value, declared.key, table) for name, value in undo.items()}
        unknown = sorted(set(values) - set(table.c.keys()))
        if unknown:
            raise DeclarationError(
                f"undo= of {declared.name} names a column {unknown[0]!r}, which table {declared.key} does not have.",
                places=[declared.place],
                remedy=f"It has {', '.join(table.c.keys())}.",
            )
        action = SetValues(values)
        wrong = or_(*(not_(same(table.c[name], _sql(value, table, name))) for name, value in values.items()))
    if declared.undo_where is not None:
        condition = _condition(declared, table)
    else:
        assert isinstance(action, SetValues)  # The declaration makes sure of it.
        assert wrong is not None
        condition = and_(wrong, not_(_says_nothing(action.values, table)))
    brings = [condition] if isinstance(action, CallFunction) else list(action.values.values())
    return Work(
        name=name_of_back(declared.name),
        kind=BACK,
        table=table,
        key=forward.key,
        pending=and_(_moved(declared, forward), condition),
        action=action,
        place=declared.place,
        description=f"bring back what {declared.name} has moved, and what was written since",
        after=after,
        walk=forward.walk,
        concerns=tuple(sorted(_read(brings, table))),
    )


def _says_nothing(values: Mapping[str, Any], table: Table) -> ColumnElement[bool]:
    """The rows in which *values* would put NULL over a value, and every column that they read is NULL.

    Nothing shows that such a row was ever migrated: the condition of the migration may have left it out on purpose. So
    what the old column holds is all there is.
    """
    computed = {name: value for name, value in values.items() if _depends_on_the_row(value)}
    sources = {one for name, value in computed.items() for one in _read([value], table) - {name}}
    # What always has a value, as a key does, says nothing of whether the new release has written one.
    telling = [table.c[name] for name in sorted(sources) if name in table.c and _may_be_null(table.c[name])]
    erasing = [and_(_is_null(value), table.c[name].is_not(None)) for name, value in computed.items()]
    return and_(or_(false(), *erasing), *(_is_null(one) for one in telling))


def _depends_on_the_row(value: Any) -> bool:
    """Whether *value* is more than a constant, which says by itself that it is meant, NULL too."""
    return isinstance(value, ClauseElement) and any(
        isinstance(part, (ColumnClause, TextClause, SelectBase)) for part in visitors.iterate(value)
    )


def _may_be_null(column: Column[Any]) -> bool:
    return bool(column.nullable) and not column.primary_key


def _is_null(value: Any) -> ColumnElement[bool]:
    # As of no type: SQLAlchemy 2.1 warns of those that do not say what operators they have (MySQL's BIT).
    return type_coerce(Grouping(value), NullType()).is_(None)


def _read(expressions: Sequence[Any], table: Table) -> set[str]:
    """The columns of *table* that *expressions* read for certain: what is written as text, nobody knows."""
    return {
        str(part.name)
        for one in expressions
        if isinstance(one, ClauseElement)
        for part in visitors.iterate(one)
        if isinstance(part, ColumnClause) and part.table in (None, table)
    }


def _moved(declared: DataMigration, forward: Work) -> ColumnElement[bool]:
    """The rows that the migration has done; the others are as the old release left them.

    Where its condition is NULL this is NULL too, so such a row is not written. Undo does not let go of what the new
    release has written there.
    """
    return true() if declared.where is None else not_(forward.pending)


def _condition(declared: DataMigration, table: Table) -> ColumnElement[bool]:
    where: Any = declared.undo_where
    if callable(where) and not isinstance(where, ClauseElement) and not hasattr(where, "__clause_element__"):
        where = where(table)
    elif hasattr(where, "__clause_element__"):
        where = where.__clause_element__()
    found: ColumnElement[bool] = rewritten(where, declared.key, table)
    return found


def _sql(value: Any, table: Table, name: str) -> Any:
    return value if isinstance(value, ClauseElement) else literal(value, table.c[name].type)
