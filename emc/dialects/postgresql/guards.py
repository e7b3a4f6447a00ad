"""What keeps a claim true of a table that is too big to be looked at under the lock of the drop?

A CHECK that is NOT VALID: rows that are written from then on have to pass it, and nobody looks at the others. It is
added in a moment, once every transaction that has written to the table has ended. The drop takes it away in its own
transaction, under its own lock. A smaller table is looked at in that transaction, and needs none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, DateTime, text
from sqlalchemy.exc import CompileError

from emc.claims import (
    GUARD,
    LIFT_GUARD,
    CannotGuardError,
    Claim,
    Guard,
    Guarding,
    guard_operation,
    table_element,
)
from emc.dialects.postgresql import ground, syncs
from emc.dialects.postgresql.ground import is_big
from emc.dialects.postgresql.naming import DIALECT, identifier, literal, table_name
from emc.dialects.postgresql.rendering import alter, drop_constraint
from emc.dialects.rowwise import Rules, check
from emc.names import GUARD_PREFIX, Element, TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Probe, Step, Transaction
from emc.sync import SyncPart

_FUNCTIONS = frozenset(
    {
        *(
            "abs",
            "btrim",
            "cardinality",
            "ceil",
            "ceiling",
            "char_length",
            "character_length",
            "chr",
            "coalesce",
        ),
        *(
            "floor",
            "greatest",
            "jsonb_array_length",
            "jsonb_typeof",
            "least",
            "left",
            "length",
            "lower",
            "ltrim",
        ),
        *("md5", "mod", "nullif", "octet_length", "power", "repeat", "replace", "reverse", "right", "round"),
        *(
            "rtrim",
            "sign",
            "split_part",
            "sqrt",
            "strpos",
            "substr",
            "substring",
            "translate",
            "trim",
            "trunc",
        ),
        "upper",
    }
)
"""Immutable ones, of which nobody makes another under the same name by mistake. A CHECK with any other is accepted by
the server and not kept (its manual, "CREATE TABLE", on CHECK)."""
_OPERATORS = frozenset({"->", "->>", "#>", "#>>", "@>", "<@", "?", "&&", "||", "~", "~*", "!~", "!~*"})


def guarded(operation: Operation, claim: Claim, live: LiveSchema) -> bool:
    """Whether the rows that *claim* speaks of are too many to be looked at under the lock of *operation*.

    They need not be those of its own table: a small table may go once the rows of a big one are done.
    """
    kinds = (Kind.DROP_COLUMN, Kind.DROP_TABLE, Kind.DROP_SYNC)
    return operation.kind in kinds and is_big(live.table(claim.key))


def outgrown(connection: Connection, key: TableKey, live: LiveSchema) -> int | None:
    """Bytes of table *key*, where the statistics call small what is at least twice as large as a small table may be."""
    if is_big(live.table(key)):
        return None
    size = int(connection.execute(_SIZE, {"table": table_name(key)}).scalar_one() or 0)
    return size if size > 2 * ground.SMALL else None


_SIZE = text(
    "SELECT coalesce((SELECT sum(pg_table_size(relid)) FROM pg_partition_tree(to_regclass(:table))),"
    " pg_table_size(to_regclass(:table)))"
)
"""With long values, which are in a file of their own; and with maps of free space, which live.size_bytes leaves out."""


def cannot_guard(claim: Claim, live: LiveSchema) -> str | None:
    """Why no CHECK could keep *claim* true."""
    if claim.kept_by is not None:
        return None
    try:
        _condition(claim, live)
    except CannotGuardError as error:
        return str(error)
    return None


def guarding(steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema) -> Guarding:
    """How *claims* are kept true until *steps*, which share one unit, have run.

    :raises CannotGuardError: one of them cannot be.
    """
    wanted: dict[tuple[TableKey, str], Claim] = {}
    kept: list[SyncPart] = []
    for claim in claims:
        if claim.kept_by is not None:
            kept += syncs.parts(claim.kept_by, live)
        else:
            wanted.setdefault((claim.key, _condition(claim, live)), claim)
    guards, missing = [], []
    for (key, condition), claim in wanted.items():
        definition = f"emc: {claim.refusal} unless NOT ({condition})"
        digest = hashlib.sha256(f"{key.name}|{definition}".encode()).hexdigest()[:16]
        guard = Guard(key, f"{GUARD_PREFIX}{digest}", definition)
        guards.append(guard)
        there = live.tables[key].guards.get(guard.name)
        if there == definition:
            continue
        name = identifier(guard.name)
        if there is not None:
            missing.append(drop_constraint(key, guard.name))
        # A CHECK that evaluates to NULL passes.
        missing.append(alter(key, f"ADD CONSTRAINT {name} CHECK (({condition}) IS NOT TRUE) NOT VALID"))
        missing.append(f"COMMENT ON CONSTRAINT {name} ON {table_name(key)} IS {literal(definition)}")
    first = steps[0].operation
    stand = [_holds(guard.key, guard.name, f"= {literal(guard.definition)}") for guard in guards]
    names = ", ".join(guard.name for guard in guards)
    put = _step(
        GUARD,
        first.element,
        missing,
        Probe(f"SELECT {' AND '.join(stand) or 'true'}", f"guards {names} stand"),
        f"refuse rows that would be in the way of {first.id}",
    )
    head, *others = steps
    drops = tuple(drop_constraint(guard.key, guard.name) for guard in guards)
    confirming = (*([syncs.confirmation(kept)] if kept else []), *drops)
    unit = (dataclasses.replace(head, statements=(*confirming, *head.statements)), *others)
    standing = (*guards, *(Guard(part.key, part.name, part.definition) for part in kept))
    return Guarding(standing, put, unit, frozenset(confirming), drops)


def lift(key: TableKey, names: Sequence[str]) -> Step:
    """Take the guards called *names* away from table *key*."""
    gone = " AND ".join(f"NOT {_holds(key, name)}" for name in names)
    return _step(
        LIFT_GUARD,
        table_element(key),
        [drop_constraint(key, name) for name in names],
        Probe(f"SELECT {gone}", f"guards {', '.join(names)} of {key} are gone"),
        f"take away what guards {key}",
    )


def standing(connection: Connection, keys: Sequence[TableKey]) -> Mapping[TableKey, Mapping[str, str]]:
    """The guards on tables *keys*, and what keeps columns of theirs in step: definition by name."""
    found: dict[TableKey, Mapping[str, str]] = {}
    for key, kept in syncs.standing(connection, keys).items():
        rows = connection.execute(_STANDING, {"table": table_name(key), "prefix": GUARD_PREFIX})
        found[key] = {**kept, **{row.name: row.definition or "" for row in rows}}
    return found


_STANDING = text(
    "SELECT k.conname AS name, obj_description(k.oid, 'pg_constraint') AS definition FROM pg_constraint k"
    " WHERE k.conrelid = to_regclass(:table) AND starts_with(k.conname, :prefix)"
)


def _condition(claim: Claim, live: LiveSchema) -> str:
    def is_zoned(column: Column[Any]) -> bool:
        found = live.column(claim.key, column.name)
        type_ = found["type"] if found is not None else column.type
        return isinstance(type_, DateTime) and bool(type_.timezone)

    rules = Rules(
        _FUNCTIONS, is_zoned, fixes_constants=True, own_operators=_OPERATORS, converts_moments=False
    )
    check(claim, rules)
    compiler = DIALECT.statement_compiler(DIALECT, None)
    try:
        return str(compiler.process(claim.in_the_way, include_table=False, literal_binds=True))
    except (CompileError, NotImplementedError) as error:
        raise CannotGuardError(f"its condition cannot be written as plain SQL ({error})") from error


def _holds(key: TableKey, name: str, definition: str = "IS NOT NULL OR TRUE") -> str:
    return (
        "EXISTS (SELECT FROM pg_constraint k"
        f" WHERE k.conrelid = to_regclass({literal(table_name(key))}) AND k.conname = {literal(name)}"
        f" AND (obj_description(k.oid, 'pg_constraint') {definition}))"
    )


def _step(
    kind: str, element: Element, statements: Sequence[str], postcondition: Probe, description: str
) -> Step:
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
