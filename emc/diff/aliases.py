"""Under which name are tables of the default schema known, when only some of the models say its name?

A snapshot has all tables of a schema that is named under that name. Models that leave the default schema unsaid beside
others that name it would not find theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from emc.names import Element, TableKey
from emc.schema import Dependent, LiveSchema, LiveTable

_S = TypeVar("_S", bound=LiveSchema)


def as_models_say(live: _S, models: Collection[TableKey], default_schema: str | None) -> _S:
    """*live* with each table of the default schema under the name that *models* have for it.

    :param default_schema: what the connection takes for a schema that is not said.
    """
    renamed: dict[TableKey, TableKey] = {}
    for key in models:
        other = TableKey(default_schema, key.name) if key.schema is None else TableKey(None, key.name)
        if (
            key.schema in (None, default_schema)
            and key not in live.tables
            and other in live.tables
            and other not in models
        ):
            renamed[other] = key
    if not renamed:
        return live
    tables = {renamed.get(key, key): _renamed(table, renamed) for key, table in live.tables.items()}
    return dataclasses.replace(
        live,
        tables=dict(sorted(tables.items(), key=lambda item: item[0].sort_key)),
        dependents={(renamed.get(key, key), name): what for (key, name), what in live.dependents.items()},
        hanging={_moved(one, renamed): _all_moved(what, renamed) for one, what in live.hanging.items()},
    )


def _moved(element: Element, renamed: Mapping[TableKey, TableKey]) -> Element:
    return dataclasses.replace(element, table=renamed.get(element.table, element.table))


def _all_moved(
    dependents: Iterable[Dependent], renamed: Mapping[TableKey, TableKey]
) -> tuple[Dependent, ...]:
    return tuple(
        dataclasses.replace(one, place=_moved(one.place, renamed)) if one.place is not None else one
        for one in dependents
    )


def _renamed(table: LiveTable, renamed: Mapping[TableKey, TableKey]) -> LiveTable:
    foreign_keys: list[Any] = []
    for one in table.foreign_keys:
        parent = TableKey(one["referred_schema"], one["referred_table"])
        schema = renamed.get(parent, parent).schema
        foreign_keys.append({**one, "referred_schema": schema})
    return dataclasses.replace(table, key=renamed.get(table.key, table.key), foreign_keys=tuple(foreign_keys))
