"""How are values of MariaDB and MySQL compared without being taken for equal, or for sorted, when they are not?"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Enum,
    Float,
    Index,
    LargeBinary,
    UniqueConstraint,
    cast,
    func,
    literal_column,
    type_coerce,
)
from sqlalchemy.dialects.mysql import SET
from sqlalchemy.types import NullType

from emc.work.uniqueness import Uniqueness, uniqueness


def ordered(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """*column* of a key, such that ORDER BY and ``<`` agree.

    ENUM and SET are sorted by their number, and compared with a text as texts (seen with MariaDB 10.11.19: of
    ENUM('z', 'b', 'a') 'z' is the first, and the only one ``> 'b'``), so batches would pass rows over.
    """
    return func.concat(column) if isinstance(column.type, (Enum, SET)) else column


def exact(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """*column* as bytes, which no collation finds equal if they are not."""
    if isinstance(column.type, Float):
        # FLOAT as text has six digits; as DOUBLE it has all of them.
        column = type_coerce(column, NullType()) + literal_column("0e0")
    return cast(column, LargeBinary())


def demands(element: Index | UniqueConstraint) -> Uniqueness:
    """What *element* demands: of a column with a prefix length, that no two rows begin alike."""
    demanded = uniqueness(element, {})
    lengths = element.kwargs.get("mariadb_length") or element.kwargs.get("mysql_length")
    if not lengths:
        return demanded
    expressions = tuple(_beginning(expression, lengths) for expression in demanded.expressions)
    return dataclasses.replace(
        demanded, expressions=expressions, is_plain=expressions == demanded.expressions
    )


def _beginning(expression: Any, lengths: Any) -> Any:
    named = (
        lengths.get(expression.name) if isinstance(lengths, dict) and isinstance(expression, Column) else None
    )
    length = named if isinstance(lengths, dict) else lengths
    return expression if length is None else func.left(expression, length)
