"""What does one unique constraint or index of the models demand of the rows?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Index, UniqueConstraint, literal_column
from sqlalchemy.sql.elements import Label, TextClause, UnaryExpression


@dataclass(frozen=True, eq=False)
class Uniqueness:
    """What has to be unique together, and for which rows."""

    expressions: tuple[Any, ...]
    """As the models say it."""
    is_plain: bool
    """Whether these are columns, and nothing but columns."""
    where: Any = None
    """The rows that it concerns, where it is partial."""
    nulls_alike: bool = False
    """Whether NULL equals NULL."""


Demands = Callable[[Index | UniqueConstraint], Uniqueness]
"""A dialect's reading of a constraint or index: its options differ by database."""


def uniqueness(element: Index | UniqueConstraint, options: Mapping[str, Any]) -> Uniqueness:
    """What *element* demands.

    :param options: those of one database, without its name: ``where``, ``nulls_not_distinct``.
    """
    if isinstance(element, UniqueConstraint):
        expressions = tuple(element.columns)
        plain = True
    else:
        expressions = tuple(_bare(expression) for expression in element.expressions)
        plain = all(expression in set(element.columns) for expression in expressions)
    return Uniqueness(expressions, plain, options.get("where"), bool(options.get("nulls_not_distinct")))


def as_sql(expression: Any) -> Any:
    """*expression*, where it may be text."""
    text = expression.text if isinstance(expression, TextClause) else expression
    return literal_column(f"({text})") if isinstance(text, str) else expression


def _bare(expression: Any) -> Any:
    """*expression* of an index without its order and operator class."""
    while isinstance(expression, Label) or (
        isinstance(expression, UnaryExpression) and expression.modifier is not None
    ):
        expression = expression.element
    return as_sql(expression)
