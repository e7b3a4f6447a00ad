"""What has a person given as an argument of a declaration?"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from sqlalchemy import Column, ColumnElement

from emc.errors import DeclarationError
from emc.names import ElementKind, TableKey, split_dotted

_SOAK = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def key_of(table: Any) -> TableKey:
    """The key of a Table."""
    return TableKey(table.schema, table.name)


def name_of(column: Column[Any]) -> str:
    """The dotted name of a column."""
    return f"{key_of(column.table)}.{column.name}"


def parts_of(target: str, place: str) -> tuple[str, ...]:
    """The parts of a dotted name.

    :raises DeclarationError: it is none, or has too many.
    """
    try:
        parts = split_dotted(target)
    except ValueError as error:
        raise DeclarationError(f"{error}.", places=[place], remedy='Write it like "users.name".') from None
    if len(parts) > 3:
        raise DeclarationError(
            f"{target!r} has more than three parts.",
            places=[place],
            remedy='Write it like "billing.users.name"; a part that holds a dot goes in double quotes.',
        )
    return parts


def element_kind(kind: str | None, place: str) -> ElementKind | None:
    """The kind that a word stands for.

    :raises DeclarationError: there is no such kind.
    """
    if kind is None:
        return None
    try:
        return ElementKind(kind)
    except ValueError:
        raise DeclarationError(
            f"kind={kind!r} is not a kind of element.",
            places=[place],
            remedy=f"Give one of {', '.join(repr(str(one)) for one in ElementKind)}.",
        ) from None


def soak_of(soak: str | dt.timedelta, place: str) -> dt.timedelta:
    """A length of time, such as ``"24h"``.

    :raises DeclarationError: it is none.
    """
    if isinstance(soak, dt.timedelta):
        return soak
    match = _SOAK.fullmatch(soak.strip())
    if match is None:
        raise DeclarationError(
            f"soak={soak!r} is not a length of time.",
            places=[place],
            remedy='Give a number and a unit (s, m, h, d, w), e.g. soak="24h".',
        )
    return dt.timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})


def clause_of(given: Any, place: str) -> ColumnElement[Any]:
    """A column or an order, such as ``User.id.desc()``.

    :raises DeclarationError: it is neither.
    """
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    if not isinstance(element, ColumnElement):
        raise DeclarationError(
            f"keep={given!r} is not an order.",
            places=[place],
            remedy="Give a column or an order such as User.id.desc().",
        )
    return element
