"""How does SQL written on the models become SQL on the live table?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, FetchedValue, FromClause, MetaData, SelectBase, Table
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import SchemaType, TypeEngine

from emc.names import TableKey
from emc.schema import LiveSchema, LiveTable, set_by_updates


def live_table(live: LiveTable, model: Table | None) -> Table:
    """A Table with the columns of *live*, typed by *model* where it has the column."""
    by_name = {column.name: column for column in model.columns} if model is not None else {}
    primary = set((live.primary_key or {"constrained_columns": []})["constrained_columns"])
    return Table(
        live.key.name,
        MetaData(),
        *(
            Column(
                name,
                own_type(by_name[name].type if name in by_name else reflected["type"]),
                primary_key=name in primary,
                nullable=reflected["nullable"],
                autoincrement=False,
                server_onupdate=FetchedValue() if set_by_updates(reflected["default"]) else None,
            )
            for name, reflected in live.columns.items()
        ),
        schema=live.key.schema,
        # How the table is stored (partitioned, without rowid) decides whether its rows have addresses.
        **(dict(model.kwargs) if model is not None else {}),
    )


def own_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """*kind*, to be given to one table more."""
    # An Enum or Boolean listens to the events of the table it is given to.
    return kind.copy() if isinstance(kind, SchemaType) else kind


def rewritten(expression: Any, key: TableKey, source: FromClause) -> Any:
    """*expression* with the columns of table *key* replaced by those of *source*, by name.

    Aliases of the table are left alone: they are read, not walked over. So is what is no SQL at all.
    """
    if not isinstance(expression, ClauseElement):
        return expression

    def replace(element: Any, **_: Any) -> Any:
        return source.c[element.name] if _is_column_of(element, key) else None

    return visitors.replacement_traverse(expression, {}, replace)


def missing_columns(expressions: Sequence[Any], live: LiveSchema) -> Iterator[tuple[TableKey, str | None]]:
    """What *expressions* refer to that *live* does not have: columns, or whole tables (``None``)."""
    for expression in expressions:
        if not isinstance(expression, ClauseElement):
            continue
        for element in visitors.iterate(expression):
            if not isinstance(element, Column) or not isinstance(element.table, Table):
                continue
            key = TableKey(element.table.schema, element.table.name)
            if key in live.names_taken:  # A view, for instance; nothing is known of its columns.
                continue
            if key not in live.tables:
                yield key, None
            elif element.name not in live.tables[key].columns:
                yield key, element.name


def reads(expression: Any, key: TableKey) -> bool:
    """Whether a subquery of *expression* may look into table *key*."""
    return isinstance(expression, ClauseElement) and any(
        isinstance(element, Table) and TableKey(element.schema, element.name) == key
        for element in visitors.iterate(expression)
    )


def has_subquery(expression: Any) -> bool:
    """Whether *expression* looks at other rows than its own."""
    return isinstance(expression, ClauseElement) and any(
        isinstance(element, SelectBase) for element in visitors.iterate(expression)
    )


def _is_column_of(element: Any, key: TableKey) -> bool:
    if not isinstance(element, Column):
        return False
    table: Any = element.table  # An alias of a table for a column of the alias.
    return isinstance(table, Table) and TableKey(table.schema, table.name) == key


def unique_keys(live: LiveTable) -> list[tuple[str, ...]]:
    """The columns of each key that no two rows of *live* share, NULLs aside.

    The primary key comes first, then the short ones. Partial indexes and those on expressions are no
    such keys.
    """
    primary = tuple(live.primary_key["constrained_columns"]) if live.primary_key else ()
    others = [tuple(unique["column_names"]) for unique in live.uniques]
    for index in live.indexes:
        names = index["column_names"]
        options = index.get("dialect_options") or {}
        is_partial = any(option.endswith("_where") and value is not None for option, value in options.items())
        if index["unique"] and not is_partial:
            others.append(tuple(name for name in names if name is not None) if None not in names else ())
    others = [key for key in others if key and key != primary]
    return [*([primary] if primary else []), *sorted(dict.fromkeys(others), key=lambda key: (len(key), key))]


def walking_key(live: LiveTable) -> tuple[str, ...]:
    """The columns to walk *live* by: its primary key, else the shortest unique key without NULLs, else none."""
    primary = tuple(live.primary_key["constrained_columns"]) if live.primary_key else ()
    for key in unique_keys(live):
        # SQLite shows the columns of a primary key as nullable unless NOT NULL was written out.
        if key == primary or all(not live.columns[name]["nullable"] for name in key):
            return key
    return ()
