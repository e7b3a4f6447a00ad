"""In which case are names known, where case does not count?

Columns, indexes and constraints of MySQL and MariaDB are the same whatever their case, and tables too where
``lower_case_table_names`` says so. A snapshot has them as they were made once; here they get the case that the models
have for them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Table
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from emc.diff.pairs import final_name
from emc.names import ElementKind, TableKey
from emc.schema import LiveSchema, LiveTable

_QUOTED = re.compile(r"'(?:[^'\\]|''|\\.)*'|`((?:[^`]|``)+)`", re.DOTALL)
"""A literal, or a name in quotes."""
_S = TypeVar("_S", bound=LiveSchema)
_Names = Mapping[str, str]


def in_models_case(live: _S, models: Mapping[TableKey, Table], dialect: SQLAlchemyDialect) -> _S:
    """*live* with the case of *models*, as far as case does not count."""
    keys = _keys(live, models) if live.folds_tables else {}
    columns: dict[TableKey, _Names] = {}
    if live.folds_names:
        for live_key, table in live.tables.items():
            model = models.get(keys.get(live_key, live_key))
            if model is not None:
                columns[live_key] = _others(table.columns, (column.name for column in model.columns))
    tables: dict[TableKey, LiveTable] = {}
    for live_key, table in live.tables.items():
        key = keys.get(live_key, live_key)
        found = _renamed(table, key, keys, columns) if keys or any(columns.values()) else table
        if live.folds_names and key in models:
            found = _with_names(found, models[key], dialect)
        tables[key] = found
    if all(tables.get(key) is table for key, table in live.tables.items()):
        return live
    return dataclasses.replace(
        live,
        tables=dict(sorted(tables.items(), key=lambda item: item[0].sort_key)),
        names_taken={keys.get(key, key): what for key, what in live.names_taken.items()},
        dependents={
            (keys.get(key, key), columns.get(key, {}).get(column or "", column)): what
            for (key, column), what in live.dependents.items()
        },
    )


def _keys(live: LiveSchema, models: Iterable[TableKey]) -> dict[TableKey, TableKey]:
    """The keys of the models for those live keys that have another case."""
    wanted = {_folded(key): key for key in models}
    return {
        key: wanted[_folded(key)]
        for key in (*live.tables, *live.names_taken)
        if _folded(key) in wanted and wanted[_folded(key)] != key
    }


def _folded(key: TableKey) -> TableKey:
    return TableKey(key.schema and key.schema.lower(), key.name.lower())


def _others(live: Iterable[str], models: Iterable[str]) -> _Names:
    """The names of the models for those live names that have another case."""
    wanted = {name.lower(): name for name in models}
    return {name: wanted[name.lower()] for name in live if wanted.get(name.lower(), name) != name}


def _renamed(
    table: LiveTable,
    key: TableKey,
    keys: Mapping[TableKey, TableKey],
    columns: Mapping[TableKey, _Names],
) -> LiveTable:
    """*table* under *key*, with the names of tables and columns replaced."""
    own = columns.get(table.key, {})

    def listed(names: Iterable[str | None], by: _Names = own) -> list[Any]:
        return [by.get(name, name) if name is not None else None for name in names]

    def text(sql: str) -> str:
        return _QUOTED.sub(lambda match: f"`{own.get(match[1], match[1])}`" if match[1] else match[0], sql)

    foreign_keys: list[Any] = []
    for one in table.foreign_keys:
        parent = TableKey(one["referred_schema"], one["referred_table"])
        called = keys.get(parent, parent)
        foreign_keys.append(
            {
                **one,
                "constrained_columns": listed(one["constrained_columns"]),
                "referred_schema": called.schema,
                "referred_table": called.name,
                "referred_columns": listed(one["referred_columns"], columns.get(parent, {})),
            }
        )
    reflected: dict[str, Any] = {}
    for name, column in table.columns.items():
        reflected[own.get(name, name)] = called_column = {**column, "name": own.get(name, name)}
        if computed := column.get("computed"):
            called_column["computed"] = {**computed, "sqltext": text(computed["sqltext"])}
    checks: list[Any] = [{**check, "sqltext": text(check["sqltext"])} for check in table.checks]
    primary_key: Any = table.primary_key and {
        **table.primary_key,
        "constrained_columns": listed(table.primary_key["constrained_columns"]),
    }

    def keyed(one: Any) -> Any:
        found = {**one, "column_names": listed(one["column_names"])}
        if sorting := one.get("column_sorting"):
            found["column_sorting"] = {own.get(name, name): order for name, order in sorting.items()}
        if options := one.get("dialect_options"):
            found["dialect_options"] = {
                option: {own.get(name, name): size for name, size in value.items()}
                if isinstance(value, dict)
                else value
                for option, value in options.items()
            }
        return found

    return dataclasses.replace(
        table,
        key=key,
        columns=reflected,
        primary_key=primary_key,
        foreign_keys=tuple(foreign_keys),
        indexes=tuple(map(keyed, table.indexes)),
        uniques=tuple(map(keyed, table.uniques)),
        checks=tuple(checks),
        definitions={
            (kind, own.get(name, name) if kind is ElementKind.COLUMN else name): text(definition)
            for (kind, name), definition in table.definitions.items()
        },
        implied={name: keyed(one) for name, one in table.implied.items()},
    )


def _with_names(table: LiveTable, model: Table, dialect: SQLAlchemyDialect) -> LiveTable:
    """*table* with the names of its indexes and constraints as *model* has them."""
    elements: list[Any] = [*model.indexes, *model.constraints]
    wanted = {name.lower(): name for one in elements if (name := final_name(one, dialect)) is not None}

    def named(name: Any) -> Any:
        return wanted.get(name.lower(), name) if isinstance(name, str) else name

    sides: tuple[tuple[str, Callable[[LiveTable], Any]], ...] = (
        ("indexes", lambda one: one.indexes),
        ("uniques", lambda one: one.uniques),
        ("checks", lambda one: one.checks),
        ("foreign_keys", lambda one: one.foreign_keys),
    )
    changed: dict[str, Any] = {
        side: tuple({**one, "name": named(one["name"])} for one in of(table))
        for side, of in sides
        if any(named(one["name"]) != one["name"] for one in of(table))
    }
    if not changed:
        return table
    return dataclasses.replace(
        table,
        **changed,
        definitions={(kind, named(name)): text for (kind, name), text in table.definitions.items()},
        implied={named(name): one for name, one in table.implied.items()},
    )
