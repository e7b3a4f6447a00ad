"""Which statements change indexes and constraints online on PostgreSQL?

What a crash leaves behind (an INVALID index, a constraint that is NOT VALID) is part of the snapshot: rendering again
gives what is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.schema import AddConstraint, CheckConstraint, Constraint, CreateIndex, conv
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.types import NullType

from emc.dialects.postgresql import probes
from emc.dialects.postgresql.ground import Ground, Patient
from emc.dialects.postgresql.naming import DIALECT, identifier, qualified, squeezed, without_schema
from emc.dialects.postgresql.rendering import (
    alter,
    atomic,
    compiled,
    constraint_of,
    default_name,
    drop_constraint,
    final_name,
    renamed,
    rendered,
    validate,
)
from emc.names import ElementKind, TableKey
from emc.operations import SPELLED_DEFINITION, beside_name
from emc.steps import Hazard, LockPolicy, Step, Transaction

_BUILT: Mapping[str, Any] = {"transaction": Transaction.AUTOCOMMIT, "locks": LockPolicy.WEAK}
"""Of a step whose work is a concurrent build."""


# -- indexes --------------------------------------------------------------------------------------------------------


def create_index(ground: Ground) -> Step:
    """Concurrently; on a table that nobody uses yet, and on a partitioned one, plainly."""
    index = ground.directive.to_index()
    _complete(index)
    name = str(final_name(index))
    shown = _shown(ground.directive)
    probe = probes.index(ground.key, name, bool(index.unique), _elements(index), shown=shown)
    if ground.is_new or ground.is_partitioned:
        return _plainly(ground, [_create(index, concurrently=False)], probe)
    return ground.step(
        _build(ground, index, name, shown),
        probe,
        Hazard.SCANS_TABLE,
        Hazard.LONG_RUNNING,
        **_BUILT,
    )


def drop_index(ground: Ground) -> Step:
    """Concurrently; that of a partitioned table plainly."""
    name = str(ground.directive.index_name)
    probe = probes.index_gone(ground.key, name)
    if ground.is_partitioned:
        return ground.step([_drop(ground.key, name, concurrently=False)], probe, Hazard.EXCLUSIVE_LOCK)
    return ground.step([_drop(ground.key, name)], probe, **_BUILT)


def replace_index(ground: Ground) -> Step:
    """The new one is built beside the old one; then, in one moment, it takes the other's place and name."""
    directive = ground.directive
    index = directive.create.to_index()
    _complete(index)
    name = str(final_name(index))
    shown = _shown(directive.create)
    was = ground.definition(ElementKind.INDEX, directive.drop.index_name)
    probe = probes.index(ground.key, name, bool(index.unique), _elements(index), was=was, shown=shown)
    if ground.is_partitioned:
        swap = [_drop(ground.key, directive.drop.index_name, concurrently=False)]
        return _plainly(ground, [atomic([*swap, _create(index, concurrently=False)])], probe)
    beside = directive.beside or beside_name(name)
    index.name = conv(beside)
    swap = [
        _drop(ground.key, directive.drop.index_name, concurrently=False),
        f"ALTER INDEX {qualified(ground.key.schema, beside)} RENAME TO {identifier(name)}",
    ]
    return ground.step(
        [*_build(ground, index, beside, shown), atomic(swap)],
        probe,
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        Hazard.LONG_RUNNING,
        **_BUILT,
    )


def _shown(directive: Any) -> str | None:
    """How the server would show what *directive* makes, where that is known."""
    # A directive made by hand has no dictionary there.
    shown: str | None = (directive.info or {}).get(SPELLED_DEFINITION)
    return shown


def _build(ground: Ground, index: Index, name: str, shown: str | None = None) -> list[str]:
    """What is left to do until *index* is there under *name*: nothing, if it is there already.

    :param shown: how the server would show it; ``None``: nobody knows.
    """
    if ground.is_unfinished(name):
        return [_drop(ground.key, name), _create(index, concurrently=True)]
    found = [one for one in (ground.table.indexes if ground.table else ()) if one["name"] == name]
    if not found:
        return [_create(index, concurrently=True)]
    there = ground.definition(ElementKind.INDEX, name)
    if there == shown if shown is not None else is_same_index(index, found[0]):
        return []
    # What stands there under our own name was built for models that have changed since.
    return [_drop(ground.key, name), _create(index, concurrently=True)]


def is_same_index(index: Index, live: Any) -> bool:
    """Whether *live* is provably what *index* asks for; where only the server could tell, it is not."""
    options = live.get("dialect_options", {})
    wanted = index.dialect_options["postgresql"]
    return (
        bool(index.unique) == live["unique"]
        and all(isinstance(one, Column) for one in index.expressions)
        and _elements(index) == live["column_names"]
        and None not in live["column_names"]
        and wanted["where"] is None
        and "postgresql_where" not in options
        and list(wanted["include"] or ()) == list(options.get("postgresql_include", ()))
        and bool(wanted["nulls_not_distinct"]) == bool(options.get("postgresql_nulls_not_distinct"))
        and (wanted["using"] or "btree") == options.get("postgresql_using", "btree")
        and not wanted["ops"]
        and "postgresql_ops" not in options
        and "column_sorting" not in live
    )


def _elements(index: Index) -> list[str | None]:
    """The columns of *index*, those it only includes left out; ``None`` for an expression."""
    return [one.name if isinstance(one, Column) else None for one in map(_unordered, index.expressions)]


def _unordered(expression: Any) -> Any:
    """What an index orders by, without DESC or NULLS FIRST."""
    while isinstance(expression, UnaryExpression) and expression.modifier is not None:
        expression = expression.element
    return expression


def _create(index: Index, *, concurrently: bool) -> str:
    index.dialect_kwargs["postgresql_concurrently"] = concurrently
    statement = compiled(CreateIndex(index))
    return Patient(statement) if concurrently else statement


def _drop(key: TableKey, name: str, *, concurrently: bool = True) -> str:
    directive = ops.DropIndexOp(name, key.name, schema=key.schema, postgresql_concurrently=concurrently)
    (statement,) = rendered(directive)
    return Patient(statement) if concurrently else statement


# -- constraints ----------------------------------------------------------------------------------------------------


def add_unique(ground: Ground) -> Step:
    """A unique index, built concurrently, becomes the constraint."""
    constraint, name = _wanted(ground, ground.directive)
    probe = _probe(ground, constraint, name)
    if ground.is_new or ground.is_partitioned:
        return _plainly(ground, [compiled(AddConstraint(constraint))], probe)
    index = _index_of(constraint, name)
    return ground.step(
        [*_build(ground, index, name), _adopt(ground.key, constraint, name, name)],
        probe,
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        Hazard.LONG_RUNNING,
        **_BUILT,
    )


def add_checked(ground: Ground) -> Step:
    """A CHECK or a foreign key: NOT VALID first, which is a matter of a moment, then validated beside the traffic."""
    constraint, name = _wanted(ground, ground.directive)
    probe = _probe(ground, constraint, name)
    if ground.is_new or _must_scan(ground, constraint):
        return _plainly(ground, [compiled(AddConstraint(constraint))], probe)
    beside, kind = beside_name(name), ground.operation.element.kind
    leftover = ground.definition(kind, beside)
    if leftover is not None and not ground.is_unfinished(beside):
        # A replacement whose predecessor is gone already.
        if _is_same_text(compiled(AddConstraint(renamed(constraint, beside))), leftover, ground.key, beside):
            return ground.step([_rename(ground.key, beside, name)], probe, Hazard.EXCLUSIVE_LOCK)
        renamed(constraint, name)
    statements = [] if leftover is None else [drop_constraint(ground.key, beside)]
    return ground.step(
        [*statements, *_add_and_validate(ground, constraint, name)],
        probe,
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )


def add_exclusion(ground: Ground) -> Step:
    """There is no way around the lock: its index cannot be built beside."""
    constraint, name = _wanted(ground, ground.directive)
    return _plainly(ground, [compiled(AddConstraint(constraint))], _probe(ground, constraint, name))


def drop(ground: Ground) -> Step:
    """A constraint of any kind."""
    name = str(ground.directive.constraint_name)
    return ground.step(
        [drop_constraint(ground.key, name)],
        probes.constraint_gone(ground.key, name),
        Hazard.EXCLUSIVE_LOCK,
    )


def replace_constraint(ground: Ground) -> Step:
    """The new one is completed under another name; then, in one moment, it takes the other's place and name."""
    directive = ground.directive
    old = str(directive.drop.constraint_name)
    constraint, name = _wanted(ground, directive.create)
    was = ground.definition(ground.operation.element.kind, old)
    probe = _probe(ground, constraint, name, was=was)
    goes = drop_constraint(ground.key, old)
    beside = directive.beside or beside_name(name)
    if isinstance(constraint, UniqueConstraint) and not ground.is_partitioned:
        index = _index_of(constraint, beside)
        swap = atomic([goes, _adopt(ground.key, constraint, name, beside)])
        return ground.step(
            [*_build(ground, index, beside), swap],
            probe,
            Hazard.EXCLUSIVE_LOCK,
            Hazard.SCANS_TABLE,
            Hazard.LONG_RUNNING,
            transaction=Transaction.AUTOCOMMIT,
            locks=LockPolicy.WEAK,
        )
    if not isinstance(constraint, (CheckConstraint, ForeignKeyConstraint)) or _must_scan(ground, constraint):
        return _plainly(ground, [atomic([goes, compiled(AddConstraint(constraint))])], probe)
    return ground.step(
        [
            *_add_and_validate(ground, renamed(constraint, beside), beside),
            # Not in one transaction, so that expand can tell what is sent: the new one holds throughout, and after a
            # crash in between it is found by add_checked().
            *([goes] if was is not None else []),
            _rename(ground.key, beside, name),
        ],
        probe,
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )


def _rename(key: TableKey, old: str, new: str) -> str:
    return alter(key, f"RENAME CONSTRAINT {identifier(old)} TO {identifier(new)}")


def _wanted(ground: Ground, directive: Any) -> tuple[Any, str]:
    """The constraint under the name that it will have."""
    constraint = constraint_of(directive)
    _complete(constraint)
    name = final_name(constraint) or default_name(constraint, ground.key)
    return renamed(constraint, name), name


def _complete(element: Any) -> None:
    """Give Alembic's stand-in for the table, which has the key columns only, those that *element* includes."""
    for column in element.dialect_options["postgresql"].get("include") or ():
        if column not in element.table.c:
            element.table.append_column(Column(column, NullType()))


def _probe(ground: Ground, constraint: Constraint, name: str, was: str | None = None) -> Any:
    if isinstance(constraint, ForeignKeyConstraint):
        parent = constraint.elements[0].column.table
        return probes.constraint(
            ground.key,
            name,
            "f",
            [column.name for column in constraint.columns],
            parent=TableKey(parent.schema, parent.name),
            was=was,
        )
    if isinstance(constraint, UniqueConstraint):
        return probes.constraint(
            ground.key, name, "u", [column.name for column in constraint.columns], was=was
        )
    kind = "c" if isinstance(constraint, CheckConstraint) else "x"
    return probes.constraint(ground.key, name, kind, was=was)


def _add_and_validate(ground: Ground, constraint: Any, name: str) -> list[str]:
    """What is left to do until *constraint* is there under *name* and holds for every row."""
    kind = ElementKind.CHECK if isinstance(constraint, CheckConstraint) else ElementKind.FOREIGN_KEY
    found = ground.definition(kind, name)
    same = found is not None and _is_same_text(compiled(AddConstraint(constraint)), found, ground.key, name)
    if same:
        return [validate(ground.key, name)] if ground.is_unfinished(name) else []
    constraint.dialect_kwargs["postgresql_not_valid"] = True
    statements = [] if found is None else [drop_constraint(ground.key, name)]
    return [*statements, compiled(AddConstraint(constraint)), validate(ground.key, name)]


def _is_same_text(statement: str, found: str, key: TableKey, name: str) -> bool:
    """Whether the statement that adds a constraint says what the server shows, but for spaces and quotes.

    A wrong no costs another look at the rows, a wrong yes could cost the constraint: so nothing cleverer than that.
    """
    _, _, wanted = statement.partition(f"ADD CONSTRAINT {identifier(name)} ")
    if key.schema is not None:
        wanted = without_schema(wanted, key.schema)
    return squeezed(wanted) == squeezed(found)


def _must_scan(ground: Ground, constraint: Constraint) -> bool:
    """Whether the server cannot add *constraint* NOT VALID: a foreign key of a partitioned table, before 18."""
    return ground.is_partitioned and isinstance(constraint, ForeignKeyConstraint)


def _index_of(constraint: UniqueConstraint, name: str) -> Index:
    options = constraint.dialect_options["postgresql"]
    return Index(
        conv(name),
        *constraint.columns,
        unique=True,
        postgresql_include=list(options["include"] or ()),
        postgresql_nulls_not_distinct=options["nulls_not_distinct"],
    )


def _adopt(key: TableKey, constraint: UniqueConstraint, name: str, index: str) -> str:
    """Make the unique *index* the constraint; it takes on the constraint's name."""
    compiler = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]
    deferrable = compiler.define_constraint_deferrability(constraint)
    return alter(key, f"ADD CONSTRAINT {identifier(name)} UNIQUE USING INDEX {identifier(index)}{deferrable}")


def _plainly(ground: Ground, statements: Sequence[str], probe: Any) -> Step:
    """The direct way: on a new table nobody notices, on another one writers wait (and it had better be small)."""
    if ground.is_new:
        return ground.step(statements, probe)
    return ground.step(
        statements,
        probe,
        Hazard.BLOCKS_WRITES,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )
