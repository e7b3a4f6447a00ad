"""Of which rows is it certain, by what is loaded of them, that they are not pending?

Only the database says that a row is pending: comparisons depend on collations, time zones and types. But most
conditions name a column that a converted row has and an old one has not, and whether a value is NULL is the same
everywhere. So that converted rows cost no query, those parts of a condition are looked at in Python that mean the same
there: whether a value is NULL, truth values, and comparisons of integers. Whatever else it says may be true, false or
NULL.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import JSON, BindParameter, Boolean, Column, Integer, PickleType
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    AsBoolean,
    BinaryExpression,
    BooleanClauseList,
    False_,
    Grouping,
    Null,
    True_,
    UnaryExpression,
)
from sqlalchemy.types import TypeEngine

TRUE: Final = 1
FALSE: Final = 2
NULL: Final = 4
ANY: Final = TRUE | FALSE | NULL
"""What a condition may be of a row; several together where that is not known."""

Values = Mapping[str, Any]
"""What is known of a row, by the attributes of its object. What is not in it may be anything."""
Judge = Callable[[Values], int]
"""What a condition may be of a row."""

_UNKNOWN: Final = object()
_COMPARISONS: Final[Mapping[Any, Callable[[Any, Any], bool]]] = {
    operators.eq: operator.eq,
    operators.ne: operator.ne,
    operators.lt: operator.lt,
    operators.le: operator.le,
    operators.gt: operator.gt,
    operators.ge: operator.ge,
}


def judge_of(condition: Any, attributes: Mapping[str, str]) -> Judge:
    """What *condition*, on the columns of one table, may be of a row.

    :param attributes: the attribute of each column that is mapped, by the name of the column.
    """
    if isinstance(condition, Grouping):
        return judge_of(condition.element, attributes)
    if isinstance(condition, True_):
        return lambda _: TRUE
    if isinstance(condition, False_):
        return lambda _: FALSE
    if isinstance(condition, BooleanClauseList):
        parts = [judge_of(part, attributes) for part in condition.clauses]
        return _all(parts) if condition.operator is operators.and_ else _any(parts)
    if isinstance(condition, AsBoolean) and isinstance(condition.element, Column):
        return _truth(condition.element, attributes, asked=condition.operator is operators.is_true)
    if isinstance(condition, UnaryExpression) and condition.operator in (operators.inv, operators.is_false):
        inner = judge_of(condition.element, attributes)
        return lambda values: _not(inner(values))
    if isinstance(condition, Column) and isinstance(condition.type, Boolean):
        return _truth(condition, attributes, asked=True)
    if isinstance(condition, BinaryExpression) and isinstance(condition.left, Column):
        return _leaf(condition.left, attributes, condition.operator, condition.right)
    return _anything


def _anything(values: Values) -> int:
    return ANY


def _not(may: int) -> int:
    return (may & NULL) | (FALSE if may & TRUE else 0) | (TRUE if may & FALSE else 0)


def _and(one: int, other: int) -> int:
    true = one & other & TRUE
    false = (one | other) & FALSE
    null = (one | other) & NULL if one & (TRUE | NULL) and other & (TRUE | NULL) else 0
    return true | false | null


def _all(parts: Sequence[Judge]) -> Judge:
    def judge(values: Values) -> int:
        may = TRUE
        for part in parts:
            may = _and(may, part(values))
            if may == FALSE:
                break
        return may

    return judge


def _any(parts: Sequence[Judge]) -> Judge:
    def judge(values: Values) -> int:
        may_not = TRUE
        for part in parts:
            may_not = _and(may_not, _not(part(values)))
            if may_not == FALSE:
                break
        return _not(may_not)

    return judge


def _leaf(column: Column[Any], attributes: Mapping[str, str], compared: Any, with_: Any) -> Judge:
    if not _is_plain(column.type) or column.name not in attributes:
        return _anything
    if isinstance(with_, Null) and compared in (operators.is_, operators.is_not):
        is_null = _null(column, attributes[column.name])
        return is_null if compared is operators.is_ else lambda values: _not(is_null(values))
    if isinstance(with_, True_ | False_) and isinstance(column.type, Boolean):
        truth = _truth(column, attributes, asked=isinstance(with_, True_))
        if compared in (operators.eq, operators.is_):
            return truth
        if compared in (operators.ne, operators.is_not):
            return lambda values: _not(truth(values))
    if isinstance(with_, BindParameter) and isinstance(column.type, Integer) and compared in _COMPARISONS:
        return _integer(attributes[column.name], _COMPARISONS[compared], with_)
    return _anything


def _is_plain(kind: TypeEngine[Any]) -> bool:
    """Whether NULL becomes ``None``, and little else does: a type of a user's may make anything of anything."""
    return type(kind).__module__.startswith("sqlalchemy.")


def _null(column: Column[Any], name: str) -> Judge:
    # JSON has a null of its own, and None can be pickled.
    if_none = TRUE | FALSE if isinstance(column.type, JSON | PickleType) else TRUE

    def judge(values: Values) -> int:
        value = values.get(name, _UNKNOWN)
        if value is _UNKNOWN:
            return TRUE | FALSE
        return if_none if value is None else FALSE

    return judge


def _truth(column: Column[Any], attributes: Mapping[str, str], *, asked: bool) -> Judge:
    if not _is_plain(column.type) or column.name not in attributes:
        return _anything
    name = attributes[column.name]

    def judge(values: Values) -> int:
        value = values.get(name)
        if not isinstance(value, bool):
            return ANY
        if value is not asked:
            return FALSE
        # Where there is no type for truth values, any number but zero becomes True, and only 1 equals TRUE.
        return TRUE | FALSE if asked else TRUE

    return judge


def _integer(name: str, compare: Callable[[Any, Any], bool], bound: BindParameter[Any]) -> Judge:
    wanted = bound.value
    if bound.callable is not None or not isinstance(wanted, int):
        return _anything

    def judge(values: Values) -> int:
        value = values.get(name)
        if not isinstance(value, int):
            return ANY
        return TRUE if compare(value, wanted) else FALSE

    return judge
