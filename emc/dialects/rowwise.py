"""Does the answer of a condition depend on its row alone?

Only then can the database keep it true of rows that are written later: not if it depends on other rows or tables, which
may change afterwards, on the clock, or on the session that writes. Whatever is not known to be like that counts as not
being like that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BinaryExpression, Column, ColumnElement, Date, DateTime, Interval, Time
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    Case,
    Cast,
    ClauseList,
    CollationClause,
    ExpressionClauseList,
    Extract,
    False_,
    Grouping,
    Null,
    True_,
    Tuple,
    TypeClause,
    TypeCoerce,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, ScalarSelect, SelectBase

from emc.claims import CannotGuardError, Claim

_PARTS: tuple[type[Any], ...] = (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    Case,
    Cast,
    ClauseList,
    CollationClause,
    Column,
    ExpressionClauseList,
    Extract,
    False_,
    FunctionElement,
    Grouping,
    Null,
    True_,
    Tuple,
    TypeClause,
    TypeCoerce,
    UnaryExpression,
)
"""What a condition may consist of."""
_SAME_IN_ALL_ZONES = (
    operators.is_,
    operators.is_not,
    operators.is_distinct_from,
    operators.is_not_distinct_from,
)


@dataclass(frozen=True)
class Rules:
    """What a database answers the same whenever and by whomever it is asked."""

    functions: Collection[str]
    """Names in lower case."""
    is_zoned: Callable[[Column[Any]], bool]
    """Whether a column reads differently in each session's time zone."""
    fixes_constants: bool
    """Whether a literal that such a column is compared with means one moment, once and for all; else it is read in the
    time zone of whoever asks."""
    own_operators: Collection[str] | None = None
    """Operators that SQLAlchemy has no name for; ``None``: all, since users can define none."""
    converts_moments: bool = True
    """Whether a cast to a date or time, or from one, depends on its value alone."""


class NotRowwiseError(Exception):
    """What an expression answers does not depend on its row alone, or that is not known; says why, as a clause."""


def check(claim: Claim, rules: Rules) -> None:
    """Make sure that the condition of *claim* depends on its row alone.

    :raises CannotGuardError: it does not, or that is not known.
    """
    try:
        check_row(claim.in_the_way, claim.table, rules, "its condition")
    except NotRowwiseError as error:
        raise CannotGuardError(str(error)) from error


def check_row(expression: ColumnElement[Any], row: FromClause, rules: Rules, what: str) -> None:
    """Make sure that the answer of *expression* depends on one *row* alone.

    :param what: what the expression is, for the message: ``its condition``.
    :raises NotRowwiseError: it does not, or that is not known.
    """
    parts = list(visitors.iterate(expression))
    for part in parts:
        _check_part(part, row, rules, what)
    harmless = 0
    for part in parts:
        if isinstance(part, BinaryExpression):
            harmless += _harmless(part, rules)
    zoned = [str(part.name) for part in parts if isinstance(part, Column) and rules.is_zoned(part)]
    if len(zoned) > harmless:
        names = ", ".join(dict.fromkeys(zoned))
        raise NotRowwiseError(
            f"{what} reads column {names}, whose value depends on the time zone of whoever asks"
        )


def columns_of(claim: Claim) -> frozenset[str]:
    """The columns that the condition of *claim* speaks of."""
    return frozenset(part.name for part in visitors.iterate(claim.in_the_way) if isinstance(part, Column))


def _check_part(part: Any, row: FromClause, rules: Rules, what: str) -> None:
    is_function = isinstance(part, FunctionElement)  # Each of which may stand in FROM.
    if isinstance(part, SelectBase | ScalarSelect) or (isinstance(part, FromClause) and not is_function):
        raise NotRowwiseError(f"{what} holds a subquery, whose answer may change without the row")
    if not isinstance(part, _PARTS):
        raise _unknown(what, f"{str(part)[:60]!r} ({type(part).__name__})")
    if isinstance(part, Column) and part.table is not row:
        raise NotRowwiseError(f"{what} speaks of {part}, which is not in table {row}")
    if is_function:
        name, packages = getattr(part, "name", type(part).__name__), getattr(part, "packagenames", ())
        if packages or str(name).lower() not in rules.functions:
            raise NotRowwiseError(
                f"{what} calls {'.'.join([*packages, str(name)])}(), which may answer otherwise at another time"
            )
    if isinstance(part, BindParameter) and (part.callable is not None or part.required):
        raise NotRowwiseError(f"{what} holds a value that is only known when it is asked")
    own: Any = getattr(part, "operator", None)
    if isinstance(own, operators.custom_op) and own.opstring not in (rules.own_operators or (own.opstring,)):
        raise _unknown(what, f"the operator {own.opstring}")
    if isinstance(part, Cast) and not rules.converts_moments and _converts_moment(part):
        raise _unknown(what, f"{str(part)[:60]!r}")


def _unknown(what: str, part: str) -> NotRowwiseError:
    return NotRowwiseError(f"{what} holds {part}, of which emc cannot tell what it depends on")


def _converts_moment(part: Cast[Any]) -> bool:
    """To a date or time, or from one: how they are written is a setting of the session (DateStyle, IntervalStyle)."""
    affinities = (type_._type_affinity for type_ in (part.type, part.clause.type))  # noqa: SLF001 - of all dialects
    return any(one is not None and issubclass(one, Date | DateTime | Time | Interval) for one in affinities)


def _harmless(part: BinaryExpression[Any], rules: Rules) -> int:
    """How many columns that depend on the time zone *part* compares in a way that does not."""

    def is_zoned(side: Any) -> bool:
        return isinstance(side, Column) and rules.is_zoned(side)

    # What SQLAlchemy takes a side for says nothing to the server.
    sides = [side.clause if isinstance(side, TypeCoerce) else side for side in (part.left, part.right)]
    if rules.fixes_constants:
        is_safe = all(is_zoned(side) or isinstance(side, Null | BindParameter) for side in sides)
    else:
        is_safe = part.operator in _SAME_IN_ALL_ZONES and all(
            is_zoned(side) or isinstance(side, Null) for side in sides
        )
    return sum(map(is_zoned, sides)) if is_safe else 0
