"""Can an operation give the names that it is about to give, or does something else bear them?

Tables, views, sequences and indexes share their names within a schema, constraints within a table, types within a
schema with the tables. Two that have one name and are not the same are shown both, before anything is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.naming import MAX_BYTES
from emc.dialects.postgresql.rendering import constraint_of, final_name, rendered
from emc.errors import Refusal
from emc.names import ElementKind, TableKey
from emc.operations import Kind, ReplaceOp, constraint_kind, table_of

_OF_RELATIONS = (ElementKind.INDEX, ElementKind.UNIQUE, ElementKind.PRIMARY_KEY, ElementKind.EXCLUSION)
_INDEXED = (UniqueConstraint, PrimaryKeyConstraint, ExcludeConstraint)


def refuse(ground: Ground) -> Refusal | None:
    """Why the operation cannot give its names, or whose they are; ``None`` where they are free."""
    for name in _names(ground):
        if len(name.encode()) > MAX_BYTES:
            return Refusal(
                target=str(ground.operation.element),
                reason=f"the name {name} takes {len(name.encode())} bytes, of which PostgreSQL keeps {MAX_BYTES}",
                remedy="Give it a shorter name in the models; a letter that is not ASCII takes two bytes or more.",
            )
    for kind, name in _given(ground):
        found = _bearer(ground, kind, name)
        if found is not None:
            said = (
                next(iter(rendered(ground.directive)), "")
                if ground.operation.kind != Kind.CREATE_TABLE
                else ""
            )
            wanted = f"\n  wanted: {said}" if said else ""
            return Refusal(
                target=str(ground.operation.element),
                reason=f"it needs the name {name}, which {found}{wanted}",
                remedy="Give it another name in the models, or rename or remove by hand what has its name.",
            )
    return None


def _names(ground: Ground) -> Iterator[str]:
    """Every name that the operation gives, be it one that nothing else could have."""
    directive: Any = ground.directive
    if ground.operation.kind in (Kind.CREATE_TABLE, Kind.CREATE_ENUM):
        yield ground.key.name
    if isinstance(directive, ops.CreateTableOp):
        yield from (column.name for column in table_of(directive).columns)
    elif isinstance(directive, ops.AddColumnOp):
        yield directive.column.name
    yield from (name for _, name in _given(ground))


def _given(ground: Ground) -> Iterator[tuple[ElementKind, str]]:
    """The names that the operation gives."""
    directive: Any = ground.directive
    if isinstance(directive, ReplaceOp):
        return  # It takes over the name of what it replaces.
    if isinstance(directive, ops.CreateTableOp):
        table = table_of(directive)
        elements = [*table.indexes, *(one for one in table.constraints if isinstance(one, _INDEXED))]
        for name in sorted(str(final_name(one)) for one in elements if one.name is not None):
            yield ElementKind.INDEX, name
    elif isinstance(directive, ops.CreateIndexOp):
        yield ElementKind.INDEX, str(final_name(directive.to_index()))
    elif isinstance(directive, ops.AddConstraintOp):
        own = final_name(constraint_of(directive))
        if own is not None:
            yield constraint_kind(directive), own


def _bearer(ground: Ground, kind: ElementKind, name: str) -> str | None:
    """What has the name already and is something else, as a clause."""
    key = TableKey(ground.key.schema, name)
    table = ground.table
    if kind in _OF_RELATIONS:
        if key in ground.live.tables:
            return f"table {key} has"
        taken = ground.live.names_taken.get(key)
        mine = table is not None and any((one, name) in table.definitions for one in _OF_RELATIONS)
        if taken is not None and not mine:
            return f"{taken} has"
    if table is None or name in table.unfinished:
        return None
    for other in (ElementKind.UNIQUE, ElementKind.CHECK, ElementKind.FOREIGN_KEY, ElementKind.EXCLUSION):
        if other is not kind and (definition := table.definitions.get((other, name))) is not None:
            return f"{other} {name} of the same table has: {definition}"
    if kind is ElementKind.UNIQUE and (definition := _no_start_of_it(ground, name)) is not None:
        return f"index {name} of the same table has: {definition}"
    return None


def _no_start_of_it(ground: Ground, name: str) -> str | None:
    """The definition of an index that a unique constraint of its name cannot be made of."""
    assert ground.table is not None
    columns = [column.name for column in constraint_of(ground.directive).columns]
    for index in ground.table.indexes:
        if index["name"] == name and not (index["unique"] and index["column_names"] == columns):
            return ground.table.definitions.get((ElementKind.INDEX, name), "")
    return None
