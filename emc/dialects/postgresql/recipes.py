"""Which statements change tables, columns and enumerated types online on PostgreSQL?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from alembic.ddl.base import AddColumn
from alembic.operations import ops
from sqlalchemy import Sequence as SequenceDefault
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, CreateEnumType
from sqlalchemy.schema import (
    CreateIndex,
    CreateSequence,
    CreateTable,
    DropTable,
    SetColumnComment,
    SetTableComment,
)

from emc.dialects.postgresql import domains, pieces, probes
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.kinship import columns_of_enum, incoming_keys, outgoing_keys
from emc.dialects.postgresql.limits import can_wait_for_its_default, rewrites
from emc.dialects.postgresql.naming import identifier, literal, qualified, shorten
from emc.dialects.postgresql.rendering import (
    alter,
    alter_type,
    atomic,
    bare_column,
    compiled,
    drop_constraint,
    rendered,
    validate,
)
from emc.dialects.postgresql.types import is_kept
from emc.names import EMC_PREFIX, ElementKind, TableKey
from emc.operations import DROPPED_TYPES, bare_table, table_of
from emc.steps import Hazard, Probe, Step, Transaction

# -- tables ---------------------------------------------------------------------------------------------------------


def create_table(ground: Ground) -> Step:
    """The table with its domains, indexes and comments; enumerated types are there, each an operation of its own."""
    table = table_of(ground.directive)
    statements = [*domains.made(ground), *_sequences(table.columns), compiled(CreateTable(table))]
    # Not by way of Alembic, which would fire the events that create types once more.
    statements += [compiled(CreateIndex(index)) for index in sorted(table.indexes, key=lambda i: str(i.name))]
    if table.comment is not None:
        statements.append(compiled(SetTableComment(table)))
    statements += [
        compiled(SetColumnComment(column)) for column in table.columns if column.comment is not None
    ]
    return ground.step(statements, probes.table_exists(ground.key, [column.name for column in table.columns]))


def drop_table(ground: Ground) -> Step:
    """The foreign keys that tie it to tables which stay or go after it, then the table; never CASCADE."""
    keys = [*incoming_keys(ground), *((ground.key, name) for name in outgoing_keys(ground))]
    return _dropped(
        ground,
        keys,
        [compiled(DropTable(bare_table(ground.key)))],
        _with_types_gone(ground, probes.table_gone(ground.key)),
    )


def _dropped(
    ground: Ground, keys: Sequence[tuple[TableKey, str]], statements: Sequence[str], probe: Probe
) -> Step:
    """What goes, and the foreign keys *keys* before it.

    All in the transaction of the gate's proof where the table is small. A big one goes in pieces: each foreign key by
    itself, so that the tables at its ends are not locked together with the drop, and the plain indexes beside whoever
    is still at work. A unique index stays to the last: should the old release come back before the end, it upserts on
    it. (The file of an index costs nobody time under the lock: PostgreSQL removes it when the lock is gone,
    ``smgrDoPendingDeletes`` in ``CommitTransaction``.)
    """
    steps = pieces.beforehand(ground, keys) if ground.is_big else ()
    first = [] if steps else [drop_constraint(key, name) for key, name in keys]
    step = ground.step(
        [*first, *statements, *_types_dropped(ground)], probe, Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA
    )
    return dataclasses.replace(step, beforehand=steps)


def _types_dropped(ground: Ground) -> list[str]:
    """The enumerated types that nothing else uses go along."""
    return [f"DROP TYPE {qualified(key.schema, key.name)}" for key in _own_types(ground)]


def _with_types_gone(ground: Ground, probe: Probe) -> Probe:
    for key in _own_types(ground):
        gone = probes.enum_gone(key.schema, key.name)
        probe = Probe(f"SELECT ({probe.sql}) AND ({gone.sql})", f"{probe.expects}, and {gone.expects}")
    return probe


def _own_types(ground: Ground) -> Sequence[TableKey]:
    # A DropTableOp made by hand has no dictionary there.
    types: Sequence[TableKey] = (ground.directive.info or {}).get(DROPPED_TYPES, ())
    return types


# -- columns --------------------------------------------------------------------------------------------------------


def add_column(ground: Ground) -> Step:
    """The column alone: its constraints and indexes are operations of their own.

    A default that differs from row to row would be written into every row under an exclusive lock: a big table gets
    the column first and its default then, so that only rows to come have it.
    """
    column = bare_column(ground.directive.column, ground.key)
    statements = [*domains.made(ground), *_sequences([column])]
    hazards = [Hazard.EXCLUSIVE_LOCK]
    later: list[str] = []
    if rewrites(column):
        if ground.is_big and can_wait_for_its_default(column):
            set_default = ops.AlterColumnOp(
                ground.key.name,
                column.name,
                schema=ground.key.schema,
                modify_server_default=column.server_default,
            )
            later = list(rendered(set_default))
            column.server_default = None
        else:
            hazards.append(Hazard.REWRITES_TABLE)
    statements.append(compiled(AddColumn(ground.key.name, column, schema=ground.key.schema)))
    statements += later
    if column.comment is not None:
        statements.append(compiled(SetColumnComment(column)))
    nullable = "NOT a.attnotnull" if column.nullable else "a.attnotnull"
    return ground.step(
        statements,
        probes.column(
            ground.key,
            column.name,
            f"exists and {'may' if column.nullable else 'cannot'} be NULL",
            probes.has_type(column.type),
            nullable,
        ),
        *hazards,
    )


def drop_column(ground: Ground) -> Step:
    """Its foreign keys, then the column, with whatever index or constraint is left on it."""
    directive = ground.directive
    name = str(directive.column_name)
    plain = ops.DropColumnOp(ground.key.name, name, schema=ground.key.schema)
    return _dropped(
        ground,
        [(ground.key, one) for one in outgoing_keys(ground, name)],
        rendered(plain),
        _with_types_gone(ground, probes.column_gone(ground.key, name)),
    )


def not_null_check(key: TableKey, column: str) -> str:
    """The name of the CHECK that stands for NOT NULL until every row has been looked at."""
    return shorten(f"{EMC_PREFIX}nn_{key.name}_{column}")


def set_not_null(ground: Ground) -> Step:
    """CHECK NOT VALID, validated while writers go on; with it SET NOT NULL needs no scan of its own (12+)."""
    name = ground.directive.column_name
    check = not_null_check(ground.key, name)
    statements: list[str] = []
    finished = ground.definition(ElementKind.CHECK, check) is not None and not ground.is_unfinished(check)
    if not finished:
        if not ground.is_unfinished(check):
            condition = f"CHECK ({identifier(name)} IS NOT NULL) NOT VALID"
            statements.append(alter(ground.key, f"ADD CONSTRAINT {identifier(check)} {condition}"))
        statements.append(validate(ground.key, check))
    # Together, or a crash would leave a check that no later plan asks for. In one ALTER TABLE the server would not
    # use the check: it is "dropped in the same command".
    statements.append(atomic([*rendered(ground.directive), drop_constraint(ground.key, check)]))
    return ground.step(
        statements,
        probes.column(ground.key, name, "cannot be NULL", "a.attnotnull"),
        Hazard.EXCLUSIVE_LOCK,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )


def drop_not_null(ground: Ground) -> Step:
    """A change of the catalog alone."""
    probe = probes.column(ground.key, ground.directive.column_name, "may be NULL", "NOT a.attnotnull")
    return ground.step(rendered(ground.directive), probe, Hazard.EXCLUSIVE_LOCK)


def alter_column_type(ground: Ground) -> Step:
    """In place; whether that copies every row depends on the two types."""
    directive = ground.directive
    name, type_ = directive.column_name, directive.modify_type
    hazards = [Hazard.EXCLUSIVE_LOCK]
    if not is_kept(ground):
        hazards.append(Hazard.REWRITES_TABLE)
    return ground.step(
        [*domains.made(ground), alter_type(ground.key, name, type_, directive.kw.get("postgresql_using"))],
        probes.column(ground.key, name, "has the type of the models", probes.has_type(type_)),
        *hazards,
    )


def set_default(ground: Ground) -> Step:
    """A change of the catalog alone: it counts for rows to come."""
    directive = ground.directive
    live = ground.live.column(ground.key, directive.column_name)
    before = live.get("default") if live is not None else None
    arg = getattr(directive.modify_server_default, "arg", None)
    sequence = getattr(arg, "sequence", None)
    statements = [compiled(CreateSequence(sequence, if_not_exists=True))] if sequence is not None else []
    return ground.step(
        [*statements, *rendered(directive)],
        probes.column(
            ground.key,
            directive.column_name,
            "has the default of the models",
            # The inspector adds the schema to the sequence of a serial column: not the server's text any more.
            probes.has_default(None if before is None or "nextval" in before else before),
        ),
        Hazard.EXCLUSIVE_LOCK,
    )


def drop_default(ground: Ground) -> Step:
    """A change of the catalog alone."""
    probe = probes.column(ground.key, ground.directive.column_name, "has no default", "NOT a.atthasdef")
    return ground.step(rendered(ground.directive), probe, Hazard.EXCLUSIVE_LOCK)


def set_comment(ground: Ground) -> Step:
    """Of a table or of a column."""
    directive = ground.directive
    if isinstance(directive, ops.AlterColumnOp):
        column: str | None = str(directive.column_name)
        comment = directive.modify_comment
    else:
        column = None
        comment = (
            getattr(directive, "comment", None) if isinstance(directive, ops.CreateTableCommentOp) else None
        )
    # COMMENT ON TABLE and COLUMN lock out other DDL only, but wait like it.
    return ground.step(rendered(directive), probes.comment(ground.key, column, comment or None))


def _sequences(columns: Any) -> Iterator[str]:
    found: dict[str, None] = {}
    for column in columns:
        for default in (column.default, getattr(column.server_default, "arg", None)):
            sequence = getattr(default, "sequence", default)
            if isinstance(sequence, SequenceDefault):
                found[compiled(CreateSequence(sequence, if_not_exists=True))] = None
    yield from found


# -- enumerated types -----------------------------------------------------------------------------------------------


def create_enum(ground: Ground) -> Step:
    """The type with all its labels."""
    directive = ground.directive
    enum = ENUM(*directive.after, name=directive.type_name, schema=directive.schema)
    probe = probes.enum_has(directive.schema, directive.type_name, directive.after, exactly=True)
    return ground.step([compiled(CreateEnumType(enum))], probe)


def add_enum_value(ground: Ground) -> Step:
    """Each label that is not there yet, at its place in the models' order.

    Outside a transaction: a label cannot be used in the transaction that adds it.
    """
    directive = ground.directive
    name = qualified(directive.schema, directive.type_name)
    live = ground.live.enums.get(TableKey(directive.schema, directive.type_name), directive.before)
    there = list(live)
    statements: list[str] = []
    for position, label in enumerate(directive.after):
        if label in there:
            continue
        before = [one for one in directive.after[:position] if one in there]
        after = [one for one in directive.after[position:] if one in there]
        place = ""
        if before:
            place = f" AFTER {literal(before[-1])}"
        elif after:
            place = f" BEFORE {literal(after[0])}"
        statements.append(f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {literal(label)}{place}")
        there.append(label)
    probe = probes.enum_has(directive.schema, directive.type_name, directive.added, exactly=False)
    return ground.step(statements, probe, transaction=Transaction.AUTOCOMMIT)


def remove_enum_value(ground: Ground) -> Step:
    """A new type takes the place of the old one, in every column that has it: PostgreSQL cannot remove a label."""
    directive = ground.directive
    scratch = shorten(f"{EMC_PREFIX}{directive.type_name}")
    old = qualified(directive.schema, directive.type_name)
    new = qualified(directive.schema, scratch)
    statements = [compiled(CreateEnumType(ENUM(*directive.after, name=scratch, schema=directive.schema)))]
    defaults: list[str] = []
    for key, column in columns_of_enum(ground):
        name = identifier(str(column["name"]))
        array = "[]" if isinstance(column["type"], ARRAY) else ""
        if column["default"] is not None:
            statements.append(alter(key, f"ALTER COLUMN {name} DROP DEFAULT"))
            # The text names the type, which has its old name again by then.
            defaults.append(alter(key, f"ALTER COLUMN {name} SET DEFAULT {column['default']}"))
        cast = f"CAST(CAST({name} AS text{array}) AS {new}{array})"
        statements.append(alter(key, f"ALTER COLUMN {name} TYPE {new}{array} USING {cast}"))
    statements.append(f"DROP TYPE {old}")
    statements.append(f"ALTER TYPE {new} RENAME TO {identifier(directive.type_name)}")
    probe = probes.enum_has(directive.schema, directive.type_name, directive.after, exactly=True)
    return ground.step([*statements, *defaults], probe, Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE)


def drop_enum(ground: Ground) -> Step:
    """The type; the server refuses while a column has it."""
    directive = ground.directive
    name = qualified(directive.schema, directive.type_name)
    return ground.step([f"DROP TYPE {name}"], probes.enum_gone(directive.schema, directive.type_name))
