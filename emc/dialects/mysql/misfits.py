"""Which rows have a value that a narrower MariaDB or MySQL type would refuse, or change without a word?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, cast, false, func, or_
from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from emc.dialects.mysql.fits import integer_range, labels, text_bytes


def misfits(
    column: ColumnElement[Any], old: TypeEngine[Any], new: TypeEngine[Any]
) -> ColumnElement[bool] | None:
    """The rows whose value of *column*, of type *old*, does not fit into *new*; ``None`` where that cannot be told."""
    members = labels(new)
    if members is not None:
        return _unlisted(column, old, new, members)
    if (limits := integer_range(new)) is not None:
        return _outside(column, old, *limits)
    if isinstance(new, sa.Numeric) and not isinstance(new, sa.Float):
        return _too_long(column, new)
    if (too_much := _room(column, new)) is not None:
        return too_much
    if isinstance(new, sa.DateTime | sa.Time):
        # What is behind the last digit is cut off without a word (10.11.19).
        unit = 10 ** (6 - (getattr(new, "fsp", None) or 0))
        cut_off: ColumnElement[bool] = func.microsecond(column) % unit != 0
        return cut_off
    return None


def _unlisted(
    column: ColumnElement[Any], old: TypeEngine[Any], new: TypeEngine[Any], members: tuple[str, ...]
) -> ColumnElement[bool] | None:
    text: ColumnElement[Any] = cast(column, Text)
    if not isinstance(new, mysql.SET):
        return text.not_in(members)
    before = labels(old)
    if before is None:
        return None
    gone = [member for member in before if member not in members]
    return or_(false(), *(func.find_in_set(member, text) > 0 for member in gone))


def _room(column: ColumnElement[Any], new: TypeEngine[Any]) -> ColumnElement[bool] | None:
    """The rows with more text or bytes than *new* takes; ``None`` where it is neither, or takes any number."""
    length = text_bytes(new)
    size: ColumnElement[int] = func.octet_length(column)
    if length is None:
        length = getattr(new, "length", None)
        if isinstance(new, sa.String):
            size = func.char_length(column)
        elif not isinstance(new, sa.VARBINARY | sa.BINARY):
            return None
    return None if length is None else size > length


def _outside(
    column: ColumnElement[Any], old: TypeEngine[Any], least: int, greatest: int
) -> ColumnElement[bool]:
    outside = or_(column < least, column > greatest)
    # A fraction is rounded, with a note at most (10.11.19).
    return outside if integer_range(old) is not None else or_(outside, func.round(column) != column)


def _too_long(column: ColumnElement[Any], new: Any) -> ColumnElement[bool]:
    precision, scale = 10 if new.precision is None else new.precision, new.scale or 0
    too_long = or_(func.abs(column) >= 10 ** (precision - scale), func.round(column, scale) != column)
    return or_(too_long, column < 0) if getattr(new, "unsigned", False) else too_long
