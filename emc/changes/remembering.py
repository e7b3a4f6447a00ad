"""What has to be remembered before an operation of expand runs, so that it can be taken back?

Plain values, for the ledger: the definition that is there now, as the snapshot has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emc.changes.typefacts import written
from emc.names import ElementKind
from emc.operations import AlterEnumOp, Kind, Operation
from emc.schema import LiveSchema, LiveTable

GAP = "gap"
"""Of what is remembered: why the way back cannot be had, as a clause."""


def remembered(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    """How the element of *operation*, one of expand, is before it runs: plain values, for the ledger."""
    element = operation.element
    named = {
        "element": str(element.kind),
        "schema": element.table.schema,
        "table": element.table.name,
        "name": element.name,
    }
    remember = _REMEMBER.get(operation.kind)
    return named if remember is None else {**named, **remember(operation, live)}


def _labels(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    directive = operation.directive
    assert isinstance(directive, AlterEnumOp)
    columns = [[key.schema, key.name, column] for key, column in directive.columns]
    return {"labels": list(directive.before), "columns": columns}


def _column(operation: Operation, live: LiveSchema) -> Any:
    found = live.column(operation.element.table, str(operation.element.name))
    if found is None:
        raise LookupError(f"{operation.id} changes a column that the snapshot does not hold")
    return found


def _default(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    return {"default": _column(operation, live).get("default")}


def _comment(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    if operation.element.kind is ElementKind.COLUMN:
        return {"comment": _column(operation, live).get("comment")}
    table = live.table(operation.element.table)
    return {"comment": table.comment if table is not None else None}


def _type(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    before = _column(operation, live)["type"]
    facts = written(before)
    return {GAP: f"its type {before!r} cannot be written down"} if facts is None else {"type": facts}


def _constraint(operation: Operation, live: LiveSchema) -> Mapping[str, Any]:
    element = operation.element
    table = live.table(element.table)
    if table is not None:
        for one in named_elements(table, element.kind):
            if one["name"] == element.name:
                facts = {key: value for key, value in one.items() if _is_plain(value)}
                return {
                    "definition": facts,
                    "shown": table.definitions.get((element.kind, str(element.name))),
                }
    return {GAP: f"the database does not tell how {element.kind} {element} is defined"}


def named_elements(table: LiveTable, kind: ElementKind) -> list[Any]:
    """The elements of one kind that *table* has."""
    found: Mapping[ElementKind, Any] = {
        ElementKind.CHECK: table.checks,
        ElementKind.FOREIGN_KEY: table.foreign_keys,
        ElementKind.UNIQUE: table.uniques,
        ElementKind.INDEX: table.indexes,
    }
    return list(found.get(kind, ()))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | bool)


_REMEMBER: Mapping[str, Callable[[Operation, LiveSchema], Mapping[str, Any]]] = {
    Kind.ADD_ENUM_VALUE: _labels,
    Kind.SET_DEFAULT: _default,
    Kind.SET_COMMENT: _comment,
    Kind.ALTER_TYPE: _type,
    Kind.DROP_CHECK: _constraint,
    Kind.DROP_FOREIGN_KEY: _constraint,
    Kind.REPLACE_CONSTRAINT: _constraint,
}
