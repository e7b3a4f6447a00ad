"""Which statements change constraints online on PostgreSQL?

What a crash leaves behind (a constraint that is NOT VALID, an index that is none yet) is part of the snapshot:
rendering again gives what is left to do.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.schema import AddConstraint, CheckConstraint, Constraint, conv

from emc.dialects.postgresql import partitioned, probes
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.indexes import (
    BUILT,
    SWAPS,
    at_once,
    build,
    complete,
    create_statement,
    drop_statement,
    plain_text,
    plainly,
    spelled,
)
from emc.dialects.postgresql.naming import DIALECT, identifier, squeezed, table_name, without_schema
from emc.dialects.postgresql.rendering import (
    alter,
    atomic,
    compiled,
    constraint_of,
    default_name,
    drop_constraint,
    final_name,
    renamed,
    validate,
)
from emc.names import ElementKind, TableKey
from emc.operations import beside_name
from emc.steps import Hazard, Step, Transaction


def add_unique(ground: Ground) -> Step:
    """A unique index, built concurrently, becomes the constraint."""
    constraint, name = _wanted(ground, ground.directive)
    probe = _probe(ground, constraint, name)
    if ground.is_new:
        return plainly(ground, [compiled(AddConstraint(constraint))], probe)
    if ground.is_partitioned:
        built = partitioned.build(
            ground, name, _pieces_of_unique(ground, constraint, name, spelled(ground.directive))
        )
        return ground.step(built.statements, probe, *SWAPS, **BUILT)
    index = _index_of(constraint, name)
    if ground.is_at_once:
        adoption = [_adopt(ground.key, constraint, name, name)]
        return at_once(ground, index, name, None, adoption, probe)
    return ground.step(
        [*build(ground, index, name), _adopt(ground.key, constraint, name, name)], probe, *SWAPS, **BUILT
    )


def _pieces_of_unique(
    ground: Ground, constraint: UniqueConstraint, name: str, shown: str | None
) -> partitioned.Pieces:
    index = _index_of(constraint, name)
    concurrent = create_statement(index, concurrently=True)
    definition = _clause(constraint, ground.key).partition(f"ADD CONSTRAINT {identifier(name)} ")[2]
    return partitioned.Pieces(
        kind=ElementKind.UNIQUE,
        bracket=lambda key, its: alter(key, f"ADD CONSTRAINT {identifier(its)} {definition}", only=True),
        index=lambda key, its: partitioned.elsewhere(concurrent, name, ground.key, its, key),
        adopt=lambda key, its: [_adopt(key, constraint, its, its)],
        drop=drop_constraint,
        drop_index=drop_statement,
        shown=shown or definition,
        index_shown=plain_text(index),
    )


def _clause(constraint: Constraint, key: TableKey) -> str:
    """What follows ALTER TABLE where *constraint* is added."""
    return compiled(AddConstraint(constraint)).removeprefix(f"ALTER TABLE {table_name(key)} ")


def add_checked(ground: Ground) -> Step:
    """A CHECK or a foreign key: NOT VALID first, which is a matter of a moment, then validated beside the traffic."""
    constraint, name = _wanted(ground, ground.directive)
    probe = _probe(ground, constraint, name)
    if ground.is_new:
        return plainly(ground, [compiled(AddConstraint(constraint))], probe)
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
    return plainly(ground, [compiled(AddConstraint(constraint))], _probe(ground, constraint, name))


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
    if isinstance(constraint, UniqueConstraint):
        swap = [goes, _adopt(ground.key, constraint, name, beside)]
        if ground.is_partitioned:
            renamed(constraint, beside)
            pieces = _pieces_of_unique(ground, constraint, beside, spelled(directive.create))
            built = partitioned.build(ground, beside, pieces)
            statements = built.statements
            others = partitioned.final_names(ground, built, beside, name, old)
            swap = [goes, *(_rename(*one) for one in others), _rename(ground.key, beside, name)]
        else:
            statements = build(ground, _index_of(constraint, beside), beside)
        return ground.step([*statements, atomic(swap)], probe, *SWAPS, **BUILT)
    if not isinstance(constraint, (CheckConstraint, ForeignKeyConstraint)):
        return plainly(ground, [atomic([goes, compiled(AddConstraint(constraint))])], probe)
    return ground.step(
        [
            *_add_and_validate(ground, renamed(constraint, beside), beside),
            # Not in one transaction, so that expand can tell what is sent: the new one holds throughout, and after a
            # crash in between it is found by add_checked().
            *([goes] if was is not None else []),
            *_renames(ground, constraint, beside, name),
            _rename(ground.key, beside, name),
        ],
        probe,
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )


def _renames(ground: Ground, constraint: Constraint, old: str, new: str) -> list[str]:
    """Partitions have a foreign key of their own each, under the same name; a CHECK is one and the same."""
    if ground.table is None or not isinstance(constraint, ForeignKeyConstraint):
        return []
    return [_rename(one.key, old, new) for one in ground.table.partitions if not one.is_foreign]


def _rename(key: TableKey, old: str, new: str) -> str:
    return alter(key, f"RENAME CONSTRAINT {identifier(old)} TO {identifier(new)}")


def _wanted(ground: Ground, directive: Any) -> tuple[Any, str]:
    """The constraint under the name that it will have."""
    constraint = constraint_of(directive)
    complete(constraint)
    name = final_name(constraint) or default_name(constraint, ground.key)
    return renamed(constraint, name), name


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
    statements = [] if found is None else [drop_constraint(ground.key, name)]
    if ground.is_partitioned and isinstance(constraint, ForeignKeyConstraint):
        return [*statements, *partitioned.foreign_key(ground, name, _clause(constraint, ground.key))]
    constraint.dialect_kwargs["postgresql_not_valid"] = True
    return [*statements, compiled(AddConstraint(constraint)), validate(ground.key, name)]


def _is_same_text(statement: str, found: str, key: TableKey, name: str) -> bool:
    """Whether the statement that adds a constraint says what the server shows, but for spaces and quotes.

    A wrong no costs another look at the rows, a wrong yes could cost the constraint: so nothing cleverer than that.
    """
    _, _, wanted = statement.partition(f"ADD CONSTRAINT {identifier(name)} ")
    if key.schema is not None:
        wanted = without_schema(wanted, key.schema)
    return squeezed(wanted) == squeezed(found)


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
