"""How does a foreign key keep rows without a parent away before it is known that there are none?

It stands under the name of a guard, added without a look at the rows; once they are proved to have their parents, one
statement puts it under its own name and takes the guard away.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine.interfaces import ReflectedForeignKeyConstraint

from emc.claims import GUARD, Guard, Guarding, guard_operation
from emc.dialects.mysql import foreign_keys
from emc.dialects.mysql.conditions import key_text, text_literal
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import Change, Scene
from emc.dialects.mysql.probes import Catalog
from emc.names import GUARD_PREFIX, Element, ElementKind, TableKey
from emc.operations import Kind, Operation, ReplaceOp
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Probe, Step, Transaction


def is_foreign_key(operation: Operation) -> bool:
    """Whether *operation* puts a foreign key into force."""
    return operation.kind == Kind.ADD_FOREIGN_KEY or (
        operation.kind == Kind.REPLACE_CONSTRAINT and operation.element.kind is ElementKind.FOREIGN_KEY
    )


def refers_as_before(operation: Operation, live: LiveSchema) -> bool:
    """Whether a foreign key takes the place of one of the same columns and parent: proof that no row is an orphan."""
    old, created = _standing(operation, live), _created(operation)
    return old is not None and (
        list(old["constrained_columns"]) == list(created.local_cols)
        and list(old["referred_columns"]) == list(created.remote_cols)
        and (old["referred_schema"], old["referred_table"]) == _parent(created)
    )


def by_key(step: Step, live: LiveSchema, flavour: Flavour) -> Guarding:
    """How the foreign key of *step* is guarded."""
    operation, key = step.operation, step.operation.element.table
    created = _created(operation)
    text = key_text(created.local_cols, TableKey(*_parent(created)), created.remote_cols, created.kw)
    digest = hashlib.sha256(f"{key.name}|{text}".encode()).hexdigest()[:16]
    guard = Guard(key, f"{GUARD_PREFIX}{digest}_f", text)
    there = live.tables[key].guards.get(guard.name)
    missing: list[Change] = []
    if there not in (None, text):
        missing.append(foreign_keys.drop_guard(key, guard.name, live, flavour))
    if there != text:
        missing.append(foreign_keys.add_guard(operation, guard.name, live, flavour))
    catalog = Catalog(Scene(live, flavour, ()).writer, key)
    stands = catalog.foreign_key(
        guard.name,
        created.local_cols,
        TableKey(*_parent(created)),
        created.remote_cols,
        created.kw.get("ondelete"),
        created.kw.get("onupdate"),
    )
    put = guard_step(GUARD, operation.element, (), stands, refusing(operation))
    # The guard is in force while the old one goes and the new one comes: two names cannot be exchanged at once (1826).
    swap = foreign_keys.swap(operation, guard.name, live, flavour)
    changes = [swap]
    if operation.kind == Kind.REPLACE_CONSTRAINT and _standing(operation, live) is not None:
        changes.insert(0, foreign_keys.drop_guard(key, str(operation.element.name), live, flavour))
    confirming = frozenset({swap.statement, *(way.sql for way in swap.instead)})
    return Guarding((guard,), _sending(put, missing), (_sending(step, changes),), confirming)


def lifted(key: TableKey, name: str, live: LiveSchema, flavour: Flavour) -> tuple[str, ...]:
    """What takes the guard *name* away."""
    return foreign_keys.drop_guard(key, name, live, flavour).statements


def gone(key: TableKey, name: str) -> Probe:
    """The guard *name* is not there."""
    schema = "DATABASE()" if key.schema is None else text_literal(key.schema)
    found = (
        "SELECT 1 FROM information_schema.REFERENTIAL_CONSTRAINTS"
        f" WHERE CONSTRAINT_SCHEMA = {schema} AND TABLE_NAME = {text_literal(key.name)}"
        f" AND CONSTRAINT_NAME = {text_literal(name)}"
    )
    return Probe(f"SELECT NOT EXISTS ({found})", f"guard {name} of {key} is gone")


# -- what all guards have in common -----------------------------------------------------------------------------------


def refusing(operation: Operation) -> str:
    """The description of the operation that puts the guards of *operation* in place."""
    return f"refuse rows that would be in the way of {operation.id}"


def guard_step(
    kind: str, element: Element, statements: Sequence[str], postcondition: Probe, description: str
) -> Step:
    """A step that puts guards in place or takes them away."""
    operation = guard_operation(kind, element, description)
    return Step(
        operation,
        tuple(statements),
        postcondition,
        Transaction.AUTOCOMMIT,
        LockPolicy.SHORT,
        (Hazard.EXCLUSIVE_LOCK,),
        unit=operation.id,
    )


def _sending(step: Step, changes: Sequence[Change]) -> Step:
    """*step*, carried out by *changes*."""
    return dataclasses.replace(
        step,
        statements=tuple(sql for change in changes for sql in change.statements),
        statement_locks=tuple(change.locks for change in changes for _ in change.statements),
        instead={change.statement: change.instead for change in changes if change.instead},
        transaction=Transaction.AUTOCOMMIT,
    )


def _created(operation: Operation) -> Any:
    directive = operation.directive
    return directive.create if isinstance(directive, ReplaceOp) else directive


def _parent(created: Any) -> tuple[str | None, str]:
    return created.kw.get("referent_schema"), created.referent_table


def _standing(operation: Operation, live: LiveSchema) -> ReflectedForeignKeyConstraint | None:
    """The foreign key that is replaced, if it is there still."""
    table, name = live.table(operation.element.table), operation.element.name
    return next((one for one in (table.foreign_keys if table else ()) if one["name"] == name), None)
