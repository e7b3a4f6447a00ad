"""What goes before a big table or its column, each by itself, on PostgreSQL?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from alembic.operations import ops

from emc.dialects.postgresql import probes
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.indexes import drop_index
from emc.dialects.postgresql.rendering import drop_constraint
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.steps import Hazard, Step, Transaction


def beforehand(ground: Ground, keys: Sequence[tuple[TableKey, str]]) -> tuple[Step, ...]:
    """The foreign keys *keys*, then the plain indexes, as far as they are there."""
    return (
        *(_key(ground, key, name) for key, name in keys),
        *(_index(ground, one) for one in _indexes(ground)),
    )


def _key(ground: Ground, key: TableKey, name: str) -> Step:
    directive = ops.DropConstraintOp(name, key.name, "foreignkey", schema=key.schema)
    element = Element(ElementKind.FOREIGN_KEY, key, name)
    here = _ground(ground, directive, Kind.DROP_FOREIGN_KEY, element, f"foreign key {name} of {key}")
    return here.step(
        [drop_constraint(key, name)],
        probes.constraint_gone(key, name),
        Hazard.EXCLUSIVE_LOCK,
        transaction=Transaction.AUTOCOMMIT,
    )


def _index(ground: Ground, name: str) -> Step:
    directive = ops.DropIndexOp(name, ground.key.name, schema=ground.key.schema)
    element = Element(ElementKind.INDEX, ground.key, name)
    return drop_index(_ground(ground, directive, Kind.DROP_INDEX, element, f"index {name} of {ground.key}"))


def _ground(ground: Ground, directive: Any, kind: str, element: Element, what: str) -> Ground:
    described = f"drop {what}, which goes with {ground.operation.element}"
    operation = Operation(directive, kind, element, ground.operation.phase, described)
    return dataclasses.replace(ground, operation=operation)


def _indexes(ground: Ground) -> Iterator[str]:
    """The indexes that can be dropped beside the traffic, and that no statement depends on."""
    column = ground.operation.element.name if ground.operation.kind == Kind.DROP_COLUMN else None
    if ground.table is None or ground.is_partitioned:
        return
    for index in ground.table.indexes:
        options = index.get("dialect_options") or {}
        columns = [*index["column_names"], *options.get("postgresql_include", ())]
        if not index["unique"] and (column is None or column in columns):
            yield str(index["name"])
