"""When do two values say the same, to the letter, once they are stored in a column of PostgreSQL?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CHAR, JSON, Column, ColumnElement, Enum, Interval, String, Text, TypeDecorator, cast
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, DOMAIN, INTERVAL
from sqlalchemy.types import NullType, TypeEngine

from emc.dialects.postgresql.rendering import type_text


def same(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether *column* holds exactly what *value* becomes when it is stored there; NULL is the same as NULL."""
    type_ = plain(column.type)
    stored = _stored(value, type_)
    if _is_blurred(type_):
        # citext and collations that are not deterministic find texts equal that are not; json has no equality, jsonb
        # finds 1 and 1.0 equal, an interval a month and thirty days. As text they are told apart, bytewise.
        return _letters(column).is_not_distinct_from(_letters(stored))
    return column.is_not_distinct_from(stored)


def plain(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """*type_* as the database knows it."""
    if isinstance(type_, Interval):
        return INTERVAL()  # SQLAlchemy's own is made of a DateTime, for databases that have no such type.
    return plain(type_.impl_instance) if isinstance(type_, TypeDecorator) else type_


def _letters(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(value, Text).collate("C")


def _is_blurred(type_: TypeEngine[Any]) -> bool:
    if isinstance(type_, DOMAIN):
        return _is_blurred(type_.data_type)
    if isinstance(type_, ARRAY):
        return _is_blurred(type_.item_type)
    if isinstance(type_, (CITEXT, JSON, INTERVAL, NullType)):
        return True
    return isinstance(type_, String) and not isinstance(type_, Enum) and bool(type_.collation)


def _stored(value: ColumnElement[Any], type_: TypeEngine[Any]) -> ColumnElement[Any]:
    given = plain(value.type)
    if isinstance(type_, NullType) or (isinstance(value, Column) and type_text(given) == type_text(type_)):
        return value
    is_text = isinstance(type_, String) and not isinstance(type_, (CHAR, CITEXT))
    if is_text and not (isinstance(type_, Enum) and type_.native_enum):
        # Not to its length: a cast cuts off what storing would refuse.
        if isinstance(given, String) and not isinstance(given, (CHAR, CITEXT, Enum)):
            return value
        return cast(value, Text)
    return cast(value, type_)
