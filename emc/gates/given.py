"""What have emc itself, and the database for it, put into a column that expand has added?"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    ClauseElement,
    ColumnClause,
    ColumnElement,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    Table,
    cast,
    literal,
)
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from emc.gates.base import Scope
from emc.names import Element
from emc.work import SetValues, Work
from emc.work.tables import rewritten

_LITERAL = re.compile(r"(?:'((?:[^'\\]|'')*)'|(-?\d+(?:\.\d+)?|true|false))(?:::[\w \"().]+)?")
"""A default that is one text, number or truth value for each row."""


def given_to(scope: Scope, element: Element, table: Table) -> list[ColumnElement[Any]]:
    """What emc itself, or the database for it, has put into the column."""
    name = str(element.name)
    column = table.columns[name]
    if isinstance(column.type, JSON):
        return []  # Not every server compares them.
    values: list[ColumnElement[Any]] = []
    for work in scope.plan.all_work.values():
        if isinstance(work, Work) and work.kind == "data-migration" and work.is_complete:
            continue  # It is over for the catalog: what its values name may not be there.
        if isinstance(work, Work) and work.key == element.table and isinstance(work.action, SetValues):
            value = work.action.values.get(name)
            if isinstance(value, ClauseElement):
                values.append(of_table(rewritten(value, work.key, table), table))
            elif value is not None:
                values.append(as_literal(value, column.type))
    live = scope.plan.situation.live.column(element.table, name)
    default = str(live.get("default") or "") if live is not None else ""
    constant = constant_of(default, column.type)
    return values if constant is None else [*values, as_literal(constant, column.type)]


def of_table(expression: ColumnElement[Any], table: Table) -> ColumnElement[Any]:
    """*expression*, in which a bare ``column("name")`` is that of *table*: of any other no guard could speak."""

    def replace(element: Any, **_: Any) -> Any:
        is_bare = isinstance(element, ColumnClause) and element.table is None and not element.is_literal
        return table.columns.get(element.name) if is_bare else None

    found: ColumnElement[Any] = visitors.replacement_traverse(expression, {}, replace)
    return found


def as_literal(value: Any, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """*value* as SQL of *type_*, whatever it is compared with."""
    said = literal(value, type_)
    return cast(said, String()) if isinstance(type_, String) else said


def constant_of(default: str, type_: TypeEngine[Any]) -> str | int | Decimal | None:
    """The value that the server default *default* gives to each row, where that is easily told."""
    found = _LITERAL.fullmatch(default)
    if found is None:
        return None
    said = found[1].replace("''", "'") if found[1] is not None else found[2]
    if isinstance(type_, Boolean):
        return {"0": False, "1": True, "false": False, "true": True}.get(said)
    if isinstance(type_, Integer):
        return int(said) if re.fullmatch(r"-?\d+", said) else None
    if isinstance(type_, Numeric) and not isinstance(type_, Float):
        return Decimal(said) if re.fullmatch(r"-?\d+(\.\d+)?", said) else None
    return said if isinstance(type_, String) and not isinstance(type_, Enum) else None
