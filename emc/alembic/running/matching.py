"""What does the database have, and the plan ask for, of what a statement asks for?"""

from __future__ import annotations

from collections.abc import Iterable

from emc.alembic.running.requests import Request, same
from emc.changes import Situation
from emc.names import TableKey, split_dotted
from emc.operations import Kind
from emc.schema import LiveSchema, LiveTable
from emc.steps import Step

_MAKING = {Kind.ADD_COLUMN, Kind.DROP_COLUMN, Kind.CREATE_TABLE, Kind.DROP_TABLE}
_CONSTRAINTS = {Kind.ADD_UNIQUE, Kind.ADD_CHECK, Kind.ADD_FOREIGN_KEY, Kind.ADD_EXCLUSION}


def asked_for(request: Request, steps: Iterable[Step], default_schema: str | None) -> Step | None:
    """The step that *request* is, if there is one among *steps*; one that is spelled alike comes first."""
    found = [step for step in steps if request.matches(step.operation, default_schema)]
    alike = (step for step in found if step.operation.element.name == request.name)
    return next(alike, found[0] if found else None)


def is_of_another_time(request: Request, situation: Situation, default_schema: str | None) -> bool:
    """Whether *request* makes a table with other columns than the models of today have."""
    models = (
        table
        for key, table in situation.models.items()
        if request.columns
        and request.table is not None
        and same(key.name, request.table[-1])
        and same(key.schema, request.schema_where(default_schema))
    )
    return any({column.name.casefold() for column in model.columns} != request.columns for model in models)


def is_so(request: Request, situation: Situation, default_schema: str | None) -> bool:
    """Whether the database is already as *request* wants it, as far as that can be told by names.

    What the models have counts only if it is there, and the plan, which compares definitions, has found no difference.
    """
    keys = _keys(request, situation.live, default_schema)
    if request.takes:
        return not any(_stands(request, key, situation.live) for key in keys)
    return any(
        _stands(request, key, situation.live) and _is_modelled(request, key, situation) for key in keys
    )


def is_named(request: Request, ids: Iterable[str]) -> bool:
    """Whether *ids* of operations, where any is of the kind of *request*, hold one for its element."""
    alike = [one for one in ids if one.partition(":")[0] in request.kinds]
    return not request.kinds <= _MAKING or not alike or names(request, alike)


def names(request: Request, ids: Iterable[str]) -> bool:
    """Whether one of *ids* is an operation that *request* may be."""
    path = (*(request.table or ()), *([request.name] if request.name else []))
    for one in ids:
        kind, _, element = one.partition(":")
        # What leaves the schema out is in the one that goes without saying; an index may leave the table out.
        pairs = zip(reversed(path), reversed(split_dotted(element)), strict=False)
        if kind in request.kinds and all(same(ours, theirs) for ours, theirs in pairs):
            return True
    return False


def elsewhere(request: Request, live: LiveSchema, default_schema: str | None) -> TableKey | None:
    """The table with what *request* may mean, in a schema that it does not say; by the search path it may be that."""
    if request.table is not None or request.schema is not None:
        return None
    if any(_stands(request, key, live) for key in _keys(request, live, default_schema)):
        return None
    return next((key for key in live.tables if _stands(request, key, live)), None)


def is_there(request: Request, live: LiveSchema, default_schema: str | None) -> bool:
    """Whether the element that *request* is about exists, be it in another shape."""
    return any(_stands(request, key, live) for key in _keys(request, live, default_schema))


def tightens(request: Request, live: LiveSchema, default_schema: str | None) -> bool:
    """Whether *request* puts a constraint on a table that rows may be in."""
    return bool(request.kinds & _CONSTRAINTS) and any(
        key in live.tables for key in _keys(request, live, default_schema)
    )


def is_seen(request: Request, live: LiveSchema, default_schema: str | None) -> bool:
    """Whether emc looks at the table that *request* is about, so that it can tell what it has."""
    return bool(_keys(request, live, default_schema))


def _keys(request: Request, live: LiveSchema, default_schema: str | None) -> list[TableKey]:
    """The tables or types that *request* may be about.

    Names that differ in case alone are taken for the same: whether they are depends on quotes, and on the server.
    """
    schema = request.schema_where(default_schema)
    if request.table is None:
        return [key for key in live.tables if same(key.schema, schema)]
    keys = (*live.tables, *live.enums)
    return [key for key in keys if same(key.name, request.table[-1]) and same(key.schema, schema)]


def _stands(request: Request, key: TableKey, live: LiveSchema) -> bool:
    """Whether what *request* gives, or takes, is there."""
    if request.kinds & {Kind.CREATE_ENUM, Kind.DROP_ENUM, Kind.ADD_ENUM_VALUE} and request.is_whole_table:
        return key in live.enums
    table = live.table(key)
    if table is None or request.name is None:
        return table is not None
    column = next((one for name, one in table.columns.items() if same(name, request.name)), None)
    if request.kinds == {Kind.SET_NOT_NULL}:
        return column is not None and column["nullable"]
    if Kind.DROP_DEFAULT in request.kinds and request.takes:
        return column is not None and column.get("default") is not None
    if request.kinds == {Kind.SET_DEFAULT}:
        return column is not None and column.get("default") is not None
    if request.kinds & {Kind.ADD_COLUMN, Kind.DROP_COLUMN, Kind.SET_DEFAULT, Kind.ALTER_TYPE}:
        return column is not None
    if request.kinds == {Kind.DROP_NOT_NULL}:
        return column is not None and column["nullable"]
    return any(same(one, request.name) for one in _named(table))


def _named(table: LiveTable) -> set[str | None]:
    """The names of its indexes and constraints, finished or not."""
    everything = (*table.indexes, *table.uniques, *table.checks, *table.foreign_keys)
    return {one["name"] for one in everything} | {name for _, name in table.definitions} | table.unfinished


def _is_modelled(request: Request, key: TableKey, situation: Situation) -> bool:
    """Whether the models have the element."""
    if request.kinds & {Kind.CREATE_ENUM, Kind.ADD_ENUM_VALUE} and request.is_whole_table:
        return True  # A type has no place in the models but its columns, which the plan has compared.
    model = situation.models.get(key)
    if model is None or request.name is None:
        return model is not None
    names = {
        *(one.name for one in model.columns),
        *(one.name for one in model.indexes),
        *(one.name for one in model.constraints),
    }
    return any(same(None if one is None else str(one), request.name) for one in names)
