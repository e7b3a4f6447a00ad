"""What does an operation not get past, because something that nobody has named hangs on what it changes?

Never CASCADE: what hangs there is named, with the statement that takes it away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.kinship import columns_of_enum
from emc.errors import Refusal
from emc.names import Element, ElementKind, TableKey
from emc.operations import DROPPED_TYPES, Kind
from emc.schema import Dependent

_DROPS = frozenset(
    {
        Kind.DROP_TABLE,
        Kind.DROP_COLUMN,
        Kind.DROP_INDEX,
        Kind.DROP_UNIQUE,
        Kind.DROP_EXCLUSION,
        Kind.DROP_ENUM,
        Kind.REPLACE_INDEX,
        Kind.REPLACE_CONSTRAINT,
    }
)
_TAKING_AWAY = frozenset(
    {Kind.DROP_TABLE, Kind.DROP_COLUMN, Kind.DROP_INDEX, Kind.DROP_UNIQUE, Kind.DROP_FOREIGN_KEY}
)


def in_the_way(ground: Ground) -> Sequence[Dependent]:
    """What stands in the way of a drop, or would break, and does not go by itself or with the same plan."""
    kind, element = ground.operation.kind, ground.operation.element
    found: list[Dependent] = []
    if kind in _DROPS:
        found += ground.live.hanging.get(element, ())
        types: Sequence[TableKey] = (getattr(ground.directive, "info", None) or {}).get(DROPPED_TYPES, ())
        for key in types:
            found += ground.live.hanging.get(Element(ElementKind.ENUM, key), ())
    elif kind == Kind.REMOVE_ENUM_VALUE:
        found += _on_the_labels(ground)
    going = frozenset(one.element for one in ground.operations if one.kind in _TAKING_AWAY) | {element}
    return tuple(dict.fromkeys(one for one in found if not _goes(one, going)))


def _on_the_labels(ground: Ground) -> Iterator[Dependent]:
    """Every column of the type gets a new one, and then the old type goes."""
    columns = {
        Element(ElementKind.COLUMN, key, str(column["name"])) for key, column in columns_of_enum(ground)
    }
    for column in sorted(columns, key=lambda one: one.sort_key):
        yield from (one for one in ground.live.hanging.get(column, ()) if not one.only_drops)
    for one in ground.live.hanging.get(ground.operation.element, ()):
        if one.place not in columns:
            yield one


def _goes(dependent: Dependent, going: frozenset[Element]) -> bool:
    place = dependent.place
    return place is not None and (place in going or Element(ElementKind.TABLE, place.table) in going)


def refuse_type(ground: Ground) -> Refusal | None:
    """Views and their like, which a change of type does not get past, and that no gate of expand could wait for."""
    on_it = ground.live.hanging.get(ground.operation.element, ())
    found = [one for one in on_it if not one.only_drops]
    if not found:
        return None
    names = ", ".join(one.what for one in found)
    return Refusal(
        target=str(ground.operation.element),
        reason=f"{names} would stop PostgreSQL from doing it, and emc never drops what nobody named",
        remedy=f"Once nobody needs it: {' '.join(one.remedy for one in found)}",
    )
