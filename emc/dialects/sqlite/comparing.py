"""When is a value the same as the one that is stored, and how is SQL written into a trigger of SQLite?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BinaryExpression,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    literal_column,
)
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.sql import operators


def same(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether *column* holds exactly what *value* becomes when it is stored there; NULL is the same as NULL.

    The column's affinity is applied to what it is compared with, its collation (NOCASE, RTRIM) is not.
    """
    if not isinstance(column.type, Integer | Numeric | Float | DateTime | LargeBinary):
        # Not collate(), which SQLAlchemy 2.1 wants for texts only; a number here may meet a text.
        value = BinaryExpression(
            value.self_group(against=operators.collate),
            literal_column("BINARY"),
            operators.collate,
            type_=value.type,
        )
    return column.is_not_distinct_from(value)


class Literally(SQLiteCompiler):
    """Writes values into the SQL."""

    def visit_bindparam(self, bindparam: Any, **kw: Any) -> str:  # type: ignore[override]
        """As a literal."""
        # The compilers of is_distinct_from() forget that literals were asked for (seen with SQLAlchemy 2.1.9).
        compile_one: Any = super().visit_bindparam
        return str(compile_one(bindparam, **{**kw, "literal_binds": True}))
