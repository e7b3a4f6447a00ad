"""What takes back an operation of expand?

An operation that only adds is taken back by dropping what it added. One that changes or drops something takes the
definition that was there before: :mod:`emc.changes.remembering` finds it before the operation runs, the ledger keeps
it, and :func:`reversed_operation` makes the way back of it and of the live schema. It answers nothing where the live
schema is as it was: an expand that was killed before it took effect, an undo that is run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from alembic.operations import ops
from sqlalchemy import DefaultClause, TextClause, text

from emc.changes.remembering import GAP, named_elements
from emc.changes.typefacts import read, written
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, Operation, ReplaceOp
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable


class NoWayBackError(Exception):
    """What is remembered does not suffice to take an operation back; says why, as a clause."""


def reversed_operation(
    operation_id: str, kind: str, facts: Mapping[str, Any], live: LiveSchema
) -> Operation | None:
    """The operation that takes *operation_id* back; ``None`` where there is nothing to take back.

    :param kind: of the operation of expand.
    :param facts: what was remembered before it ran, from the ledger.
    :raises NoWayBackError: there is none.
    """
    if not facts:
        raise NoWayBackError(
            "the ledger does not say how things were before: an emc that did not know undo yet did it"
        )
    if GAP in facts:
        raise NoWayBackError(str(facts[GAP]))
    element = Element(ElementKind(facts["element"]), TableKey(facts["schema"], facts["table"]), facts["name"])
    reverse = _REVERSE.get(kind)
    if reverse is None:
        raise NoWayBackError(f"emc does not know how to take {kind} back")
    found = reverse(element, facts, live)
    return None if found is None else dataclasses.replace(found, undoes=operation_id)


# -- what takes it back -----------------------------------------------------------------------------------------------


def _back(directive: ops.MigrateOperation, kind: str, element: Element, description: str) -> Operation:
    return Operation(directive, kind, element, Phase.UNDO, description)


def _no_table(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    key = element.table
    if key not in live.tables:
        return None
    return _back(
        ops.DropTableOp(key.name, schema=key.schema),
        Kind.DROP_TABLE,
        element,
        f"drop table {key}, which expand created",
    )


def _no_column(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    key, name = element.table, str(element.name)
    if live.column(key, name) is None:
        return None
    return _back(
        ops.DropColumnOp(key.name, name, schema=key.schema),
        Kind.DROP_COLUMN,
        element,
        f"drop column {element}, which expand added",
    )


def _no_index(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    key, name = element.table, str(element.name)
    table = live.table(key)
    if table is None or not _has(table, name, table.indexes):
        return None
    return _back(
        ops.DropIndexOp(name, key.name, schema=key.schema),
        Kind.DROP_INDEX,
        element,
        f"drop index {name} of {key}, which expand created",
    )


def _has(table: LiveTable, name: str, among: Any) -> bool:
    """Whether *table* has an element called *name*, be it half made."""
    return name in table.unfinished or any(one["name"] == name for one in among)


_DROPS = {
    ElementKind.UNIQUE: (Kind.DROP_UNIQUE, "unique"),
    ElementKind.CHECK: (Kind.DROP_CHECK, "check"),
    ElementKind.FOREIGN_KEY: (Kind.DROP_FOREIGN_KEY, "foreignkey"),
    ElementKind.EXCLUSION: (Kind.DROP_EXCLUSION, None),
}


def _no_constraint(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    key, name = element.table, str(element.name)
    table = live.table(key)
    if table is None or name.startswith("("):
        return None  # One without a name goes with its columns, which are new.
    stands = (element.kind, name) in table.definitions or _has(
        table, name, named_elements(table, element.kind)
    )
    if not stands:
        return None
    kind, type_ = _DROPS[element.kind]
    return _back(
        ops.DropConstraintOp(name, key.name, type_, schema=key.schema),
        kind,
        element,
        f"drop {element.kind.value.replace('-', ' ')} {name} of {key}, which expand added",
    )


def _constraint_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    table = live.table(element.table)
    if table is None:
        return None
    if any(one["name"] == element.name for one in named_elements(table, element.kind)):
        return None
    kind = Kind.ADD_CHECK if element.kind is ElementKind.CHECK else Kind.ADD_FOREIGN_KEY
    return _back(
        _added(element, facts),
        kind,
        element,
        f"put {element.kind.value.replace('-', ' ')} {element.name} of {element.table} back, which expand dropped",
    )


def _added(element: Element, facts: Mapping[str, Any]) -> Any:
    """The directive that adds a constraint as it was."""
    key, name, was = element.table, str(element.name), facts["definition"]
    if element.kind is ElementKind.CHECK:
        options = {
            f"postgresql_{option}" if option == "not_valid" else option: value
            for option, value in (was.get("dialect_options") or {}).items()
        }
        return ops.CreateCheckConstraintOp(
            name, key.name, verbatim(was["sqltext"]), schema=key.schema, **options
        )
    if element.kind is ElementKind.FOREIGN_KEY:
        options = dict(was.get("options") or {})
        return ops.CreateForeignKeyOp(
            name,
            key.name,
            was["referred_table"],
            list(was["constrained_columns"]),
            list(was["referred_columns"]),
            source_schema=key.schema,
            referent_schema=was["referred_schema"],
            **options,
        )
    if element.kind is ElementKind.UNIQUE:
        return ops.CreateUniqueConstraintOp(name, key.name, list(was["column_names"]), schema=key.schema)
    raise NoWayBackError(f"emc does not know how to define {element.kind} {element} again")


def _constraint_as_before(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    key, name = element.table, str(element.name)
    table = live.table(key)
    if table is None:
        return None
    shown = table.definitions.get((element.kind, name))
    if shown is not None and shown == facts.get("shown"):
        return None
    now = next((one for one in named_elements(table, element.kind) if one["name"] == name), None)
    was = facts["definition"]
    if now is not None and shown is None and all(now.get(fact) == value for fact, value in was.items()):
        return None
    added = _added(element, facts)
    if now is None:
        return _back(
            added, Kind.ADD_FOREIGN_KEY, element, f"put {element.kind} {name} of {key} back as it was"
        )
    drop = ops.DropConstraintOp(name, key.name, _DROPS[element.kind][1], schema=key.schema)
    return _back(
        ReplaceOp(drop, added),
        Kind.REPLACE_CONSTRAINT,
        element,
        f"give {element.kind.value.replace('-', ' ')} {name} of {key} the definition back that it had before expand",
    )


def verbatim(sql: str) -> TextClause:
    """*sql* as it is: what looks like a parameter (``'12:30'``) is none."""
    return text(sql.replace(":", "\\:"))


def _alter(element: Element, live: LiveSchema, **modified: Any) -> ops.AlterColumnOp:
    key, name = element.table, str(element.name)
    column = live.column(key, name)
    assert column is not None
    default = column.get("default")
    return ops.AlterColumnOp(
        key.name,
        name,
        schema=key.schema,
        existing_type=column["type"],
        existing_nullable=column["nullable"],
        existing_server_default=DefaultClause(verbatim(default)) if default else None,
        existing_comment=column.get("comment"),
        **modified,
    )


def _not_null_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    column = live.column(element.table, str(element.name))
    if column is None or not column["nullable"]:
        return None
    return _back(
        _alter(element, live, modify_nullable=False),
        Kind.SET_NOT_NULL,
        element,
        f"make {element} NOT NULL again",
    )


def _default_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    column, before = live.column(element.table, str(element.name)), facts["default"]
    if column is None or column.get("default") == before:
        return None
    if before is None:
        directive = _alter(element, live, modify_server_default=None)
        return _back(
            directive, Kind.DROP_DEFAULT, element, f"take the server default of {element} away again"
        )
    directive = _alter(element, live, modify_server_default=DefaultClause(verbatim(before)))
    return _back(
        directive,
        Kind.SET_DEFAULT,
        element,
        f"give {element} the server default back that it had before expand",
    )


def _comment_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    before = facts["comment"]
    described = f"give {element} the comment back that it had before expand"
    if element.kind is ElementKind.COLUMN:
        column = live.column(element.table, str(element.name))
        if column is None or column.get("comment") == before:
            return None
        return _back(_alter(element, live, modify_comment=before), Kind.SET_COMMENT, element, described)
    table = live.table(element.table)
    if table is None or table.comment == before:
        return None
    key = element.table
    directive: ops.MigrateOperation = ops.DropTableCommentOp(key.name, schema=key.schema)
    if before is not None:
        directive = ops.CreateTableCommentOp(key.name, before, schema=key.schema)
    return _back(directive, Kind.SET_COMMENT, element, described)


def _type_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    column = live.column(element.table, str(element.name))
    if column is None or written(column["type"]) == facts["type"]:
        return None
    before = read(facts["type"])
    return _back(
        _alter(element, live, modify_type=before),
        Kind.ALTER_TYPE,
        element,
        f"change the type of {element} back from {column['type']!r} to {before!r}",
    )


def _no_enum(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    labels = live.enums.get(element.table)
    if labels is None:
        return None
    directive = AlterEnumOp(element.table.name, element.table.schema, tuple(labels), (), ())
    return _back(directive, Kind.DROP_ENUM, element, f"drop enumerated type {element}, which expand created")


def _labels_again(element: Element, facts: Mapping[str, Any], live: LiveSchema) -> Operation | None:
    labels, before = live.enums.get(element.table), tuple(facts["labels"])
    if labels is None or not set(labels) - set(before):
        return None
    columns = tuple((TableKey(schema, table), column) for schema, table, column in facts["columns"])
    directive = AlterEnumOp(element.table.name, element.table.schema, tuple(labels), before, columns)
    listed = ", ".join(map(repr, directive.removed))
    return _back(
        directive, Kind.REMOVE_ENUM_VALUE, element, f"remove {listed} from enumerated type {element} again"
    )


_REVERSE: Mapping[str, Callable[[Element, Mapping[str, Any], LiveSchema], Operation | None]] = {
    Kind.CREATE_TABLE: _no_table,
    Kind.ADD_COLUMN: _no_column,
    Kind.CREATE_INDEX: _no_index,
    Kind.ADD_UNIQUE: _no_constraint,
    Kind.ADD_CHECK: _no_constraint,
    Kind.ADD_FOREIGN_KEY: _no_constraint,
    Kind.ADD_EXCLUSION: _no_constraint,
    Kind.DROP_CHECK: _constraint_again,
    Kind.DROP_FOREIGN_KEY: _constraint_again,
    Kind.REPLACE_CONSTRAINT: _constraint_as_before,
    Kind.DROP_NOT_NULL: _not_null_again,
    Kind.SET_DEFAULT: _default_again,
    Kind.SET_COMMENT: _comment_again,
    Kind.ALTER_TYPE: _type_again,
    Kind.CREATE_ENUM: _no_enum,
    Kind.ADD_ENUM_VALUE: _labels_again,
}
