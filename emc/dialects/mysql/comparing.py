"""How are values of MariaDB and MySQL compared without being taken for equal, or for sorted, when they are not?"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnClause,
    ColumnElement,
    Enum,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    cast,
    func,
    literal_column,
    type_coerce,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql import SET
from sqlalchemy.exc import CompileError
from sqlalchemy.types import NullType, TypeEngine

from emc.dialects.mysql.algorithms import Parsed, parsed
from emc.dialects.mysql.flavour import Flavour
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


def same(column: ColumnElement[Any], value: ColumnElement[Any], flavour: Flavour) -> ColumnElement[bool]:
    """Whether *column* holds exactly what *value* becomes when it is stored there; NULL is the same as NULL.

    What a column rounds (DECIMAL, integers, FLOAT, fractions of seconds) is rounded by a cast to its type, and texts
    are compared byte by byte in one character set: a collation takes ``Bob`` for ``bob``, and most of them ``a`` for
    ``a`` with a space behind it.
    """
    kind = kind_of(column.type, flavour)
    if kind.name in _TEXTS or (kind.name == "json" and flavour.is_mariadb):
        one, other = _as_stored_text(column, kind.name), _as_stored_text(value, kind.name)
        return cast(one, LargeBinary()).is_not_distinct_from(cast(other, LargeBinary()))
    if not (isinstance(value, ColumnClause) and kind_of(value.type, flavour) == kind):
        value = _rounded(value, column.type, kind)
    # As of no type: SQLAlchemy 2.1 warns of those that do not say what operators they have (BIT).
    return type_coerce(column, NullType()).is_not_distinct_from(value)


_TEXTS = frozenset(
    {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "nchar", "nvarchar", "national"}
)
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "integer", "bigint", "bool", "year"})


def kind_of(type_: TypeEngine[Any], flavour: Flavour) -> Parsed:
    """*type_* as DDL spells it; one that only a server can spell is taken for text."""
    try:
        return parsed(str(type_.compile(dialect=mysql.dialect(is_mariadb=flavour.is_mariadb))))
    except CompileError:  # VARCHAR requires a length
        return parsed("text" if isinstance(type_, String) else "null")


def _as_stored_text(value: ColumnElement[Any], kind: str) -> ColumnElement[Any]:
    # CHAR forgets the spaces at the end.
    value = func.rtrim(value) if kind in ("char", "nchar") else value
    # Not CONVERT(… USING …), of which a guard cannot tell that it depends on its value alone.
    return cast(type_coerce(value, NullType()), mysql.CHAR(charset="utf8mb4"))


def _rounded(value: ColumnElement[Any], type_: TypeEngine[Any], kind: Parsed) -> ColumnElement[Any]:
    """*value* as a column of *type_* has it."""
    if kind.name in _INTEGERS:
        # SIGNED would take '1.5' for 1, where the column makes a 2 of it.
        exact_already = isinstance(value.type, Integer | Boolean)
        return value if exact_already else cast(value, mysql.DECIMAL(65, 0))
    if kind.name in ("float", "double", "real"):
        # FLOAT(53) is a DOUBLE, too.
        return cast(value, mysql.FLOAT() if kind.name == "float" and kind.length <= 24 else mysql.DOUBLE())
    if kind.name in ("decimal", "numeric", "date", "time", "datetime"):
        return cast(value, type_)
    return value


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
