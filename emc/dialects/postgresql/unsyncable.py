"""Which columns can triggers of PostgreSQL not keep in step?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Cast, ColumnElement, DateTime
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors

from emc.dialects.postgresql.naming import identifier
from emc.dialects.postgresql.syncs import triggers_of
from emc.errors import Refusal
from emc.names import Element, ElementKind
from emc.schema import LiveSchema
from emc.sync import Sync


def refuse(sync: Sync, live: LiveSchema) -> Refusal | None:
    """Why triggers could not keep *sync*; ``None`` when they can."""
    why = _problem(sync, live)
    if why is None:
        return None
    reason, remedy = why
    return Refusal(sync.name, f"its columns cannot be kept in step: {reason}", remedy)


def _problem(sync: Sync, live: LiveSchema) -> tuple[str, str] | None:
    table = live.tables[sync.key]
    both = sync.sources if sync.elsewhere is not None else (*sync.sources, *sync.targets)
    computed = [name for name in both if name in table.columns and table.columns[name].get("computed")]
    if computed:
        return f"{', '.join(computed)} is computed by the database, so no trigger can write it", _BY_HAND
    partitioning = table.definitions.get((ElementKind.TABLE, sync.key.name), "")
    moving = [name for name in both if identifier(name) in partitioning]
    if moving and sync.elsewhere is None:
        return (
            f"{', '.join(moving)} decides in which partition a row is, which PostgreSQL lets no BEFORE trigger change",
            _BY_HAND,
        )
    for one in live.hanging.get(Element(ElementKind.TABLE, sync.key), ()):
        if one.what.endswith("which inherits from it"):
            return f"{one.what}, would not have the triggers, which are not inherited", _BY_HAND
    for expression in (*sync.up.values(), *sync.down.values()):
        zoned = _reads_the_zone(expression)
        if zoned is not None:
            return f"{zoned} depends on the time zone of whoever writes", (
                "Say the zone: func.timezone('UTC', column); and convert what that answers."
            )
    try:
        triggers_of(sync, live)
    except (CompileError, NotImplementedError) as error:
        return (
            f"an expression cannot be written as plain SQL ({error})",
            "Write its constants as sqlalchemy.text().",
        )
    return None


_BY_HAND = (
    "Add the new column without rename or convert, and move the data with @upgrade.data_migration(...) while the new "
    "release writes both."
)


def _reads_the_zone(expression: ColumnElement[Any]) -> str | None:
    for part in visitors.iterate(expression):
        if isinstance(part, Cast):
            zoned = [
                isinstance(one, DateTime) and bool(one.timezone) for one in (part.type, part.clause.type)
            ]
            if any(zoned) and not all(zoned):
                return f"CAST({part.clause} AS {part.type})"
    return None
