"""What keeps a claim true until the drop, where neither a transaction nor a CHECK without a copy can?

Two triggers, which refuse a row that would be in the way, inserted or updated. They come AFTER the write, because there
the row is what is stored: with its generated and automatic values and whatever other triggers made of it, in whichever
order they run; and an INSERT … ON DUPLICATE KEY UPDATE is judged by what it does. An error in one undoes its statement
(MariaDB knowledge base, "Trigger Overview"; IGNORE does not ignore it, seen with MariaDB 10.11.19). Creating a trigger
waits for every transaction that has touched the table, so once both are there all writers pass them.

For a new foreign key the guard is the key itself under another name, added without looking at the rows.

The drop holds LOCK TABLES from the end of the guard to its own end. DROP TRIGGER without IF EXISTS is the confirmation:
it fails when the guard is gone. The trigger goes first, since one that names a column that is gone breaks every write.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection
from sqlalchemy.types import Integer, String

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
from emc.dialects.mysql.conditions import columns_of, listed, quoted, row_condition, text_literal
from emc.dialects.mysql.flavour import MARIADB, Flavour
from emc.dialects.mysql.live import MySQLSchema, MySQLTable
from emc.names import GUARD_PREFIX, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Probe, Step, Transaction

_LONGEST_MESSAGE = 128
"""Characters of MESSAGE_TEXT (MariaDB knowledge base, "SIGNAL"; the rest is cut off)."""
_EVENTS = {"i": "INSERT", "u": "UPDATE"}

_PROVE_THEMSELVES = frozenset(
    {
        Kind.SET_NOT_NULL,
        Kind.ADD_CHECK,
        Kind.ADD_UNIQUE,
        Kind.CREATE_INDEX,
        Kind.REPLACE_INDEX,
        Kind.REMOVE_ENUM_VALUE,
    }
)
"""Kinds whose statements fail when a row is in the way: they read every row, in the strict mode that emc's sessions are
in (seen with MariaDB 10.11.19; MySQL 8.4 manual, "Server SQL Modes")."""


def guarded(operation: Operation, live: LiveSchema) -> bool:
    """Whether the statements of *operation* would succeed although rows are in the way."""
    if operation.kind in _PROVE_THEMSELVES:
        return False
    if operation.kind == Kind.REPLACE_CONSTRAINT:
        return operation.element.kind is ElementKind.FOREIGN_KEY
    if operation.kind == Kind.ALTER_TYPE:
        return not _type_is_strict(operation, live)
    return True


def _type_is_strict(operation: Operation, live: LiveSchema) -> bool:
    """Whether a value that does not fit fails the ALTER.

    A text or number too large does; a fraction too fine is cut off with a note or none (DECIMAL, DATETIME, DOUBLE; seen
    with MariaDB 10.11.19).
    """
    column = live.column(operation.element.table, str(operation.element.name))
    new = operation.directive.modify_type  # type: ignore[attr-defined]
    if column is None:
        return False
    return any(isinstance(column["type"], family) and isinstance(new, family) for family in (String, Integer))


def cannot_guard(operation: Operation, claim: Claim, live: LiveSchema, flavour: Flavour) -> str | None:
    """Why nothing could keep *claim* true until *operation* has run; ``None`` when something can."""
    try:
        _engine(claim, live)
        if not _is_foreign_key(operation):
            _condition(claim, live, flavour)
    except CannotGuardError as error:
        return str(error)
    return None


def guarding(steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema, flavour: Flavour) -> Guarding:
    """How *claims* are kept true until *steps*, which share one unit, have run.

    :raises CannotGuardError: one of them cannot be.
    """
    return _by_triggers(steps, claims, live, flavour)


def lift(key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
    """Take the guards called *names* away from table *key*."""
    triggers = [name for name in names if name in _triggers(key, live)]
    statements = [f"DROP TRIGGER IF EXISTS {quoted(key.schema, name)}" for name in triggers]
    return _step(
        LIFT_GUARD, key, statements, _probe(key, triggers, there=False), f"take away what guards {key}"
    )


def in_doubt(connection: Connection, flavour: Flavour) -> frozenset[str]:
    """Prepared transactions.

    One that its session has left holds no metadata lock in MariaDB (seen with 10.11.19), so no guard waits for it, and
    its rows come in when it is committed. In MySQL it keeps its locks (8.4 manual, "XA Transaction States").
    """
    if flavour is not MARIADB:
        return frozenset()
    rows = connection.exec_driver_sql("XA RECOVER").all()
    return frozenset(f"{row[0]}:{row[3]!r}" for row in rows)


# -- triggers -----------------------------------------------------------------------------------------------------


def _by_triggers(
    steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema, flavour: Flavour
) -> Guarding:
    wanted: dict[tuple[TableKey, str], Claim] = {}
    for claim in claims:
        _engine(claim, live)
        wanted.setdefault((claim.key, _condition(claim, live, flavour)), claim)
    guards, missing = [], []
    for (key, condition), claim in wanted.items():
        body = (
            f"IF ({condition}) IS TRUE THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = "
            f"{text_literal(f'emc: {claim.refusal}'[:_LONGEST_MESSAGE])}; END IF"
        )
        digest = hashlib.sha256(f"{key.name}|{body}".encode()).hexdigest()[:16]
        for letter, event in _EVENTS.items():
            guard = Guard(key, f"{GUARD_PREFIX}{digest}_{letter}", f"AFTER {event} {body}")
            guards.append(guard)
            there = _triggers(key, live).get(guard.name)
            if there == guard.definition:
                continue
            if there is not None:
                missing.append(f"DROP TRIGGER {quoted(key.schema, guard.name)}")
            missing.append(
                f"CREATE TRIGGER {quoted(key.schema, guard.name)} AFTER {event} ON {quoted(key.schema, key.name)} "
                f"FOR EACH ROW {body}"
            )
    first = steps[0].operation
    keys = sorted({guard.key for guard in guards}, key=lambda key: key.sort_key)
    probe = _all([_probe(key, [g.name for g in guards if g.key == key], there=True) for key in keys])
    put = dataclasses.replace(
        _step(GUARD, first.element.table, missing, probe, ""),
        operation=guard_operation(
            GUARD, first.element, f"refuse rows that would be in the way of {first.id}"
        ),
    )
    drops = [f"DROP TRIGGER {quoted(guard.key.schema, guard.name)}" for guard in guards]
    return Guarding(tuple(guards), put, _locked(steps, [*keys], drops, live), frozenset(drops))


def _locked(
    steps: Sequence[Step], keys: Iterable[TableKey], first: Sequence[str], live: LiveSchema
) -> tuple[Step, ...]:
    """*steps* in one session that locks their tables, where the statements *first* come first."""
    tables = {*keys, *(step.operation.element.table for step in steps)} & set(live.tables)
    locks = ", ".join(
        f"{quoted(key.schema, key.name)} WRITE" for key in sorted(tables, key=lambda key: key.sort_key)
    )
    before = (f"LOCK TABLES {locks}", *first)
    head, *others = steps
    wrapped = dataclasses.replace(
        head,
        statements=(*before, *head.statements),
        statement_locks=(*(LockPolicy.SHORT for _ in before), *head.policies),
    )
    return tuple(
        dataclasses.replace(step, transaction=Transaction.LOCKED, hazards=_with_lock(step))
        for step in (wrapped, *others)
    )


def _with_lock(step: Step) -> tuple[Hazard, ...]:
    return tuple(dict.fromkeys((*step.hazards, Hazard.EXCLUSIVE_LOCK)))


def _condition(claim: Claim, live: LiveSchema, flavour: Flavour) -> str:
    assert isinstance(live, MySQLSchema)
    _check_cascades(claim, live)
    return row_condition(claim, live, flavour)


def _engine(claim: Claim, live: LiveSchema) -> None:
    table = live.table(claim.key)
    if isinstance(table, MySQLTable) and table.engine.upper() != "INNODB":
        # A statement that fails in a trigger leaves its row behind there (MyISAM, Aria; seen with MariaDB 10.11.19).
        raise CannotGuardError(
            f"table {claim.key} is stored by {table.engine}, which does not undo a write that is refused"
        )


def _check_cascades(claim: Claim, live: MySQLSchema) -> None:
    """Make sure that no foreign key writes what *claim* speaks of: such a write fires no trigger.

    (MariaDB knowledge base, "Trigger Overview"; MySQL 8.4 manual, "FOREIGN KEY Constraints"; measured.)
    """
    table = live.tables[claim.key]
    columns = columns_of(claim)
    is_computed = any(table.columns[name].get("computed") for name in columns if name in table.columns)
    for foreign_key in table.foreign_keys:
        rules = foreign_key.get("options", {})
        written = [
            rules.get("onupdate"),
            *([rules["ondelete"]] if rules.get("ondelete") != "CASCADE" else []),
        ]
        if not any(written) or claim.overwriting_is_harmless:
            continue
        if is_computed or columns & set(foreign_key["constrained_columns"]):
            raise CannotGuardError(
                f"foreign key {foreign_key['name']} writes {', '.join(foreign_key['constrained_columns'])} of "
                f"{claim.key} when its parent changes, and no trigger sees that"
            )


# -- what both have in common ---------------------------------------------------------------------------------------


def _is_foreign_key(operation: Operation) -> bool:
    return operation.kind == Kind.ADD_FOREIGN_KEY or (
        operation.kind == Kind.REPLACE_CONSTRAINT and operation.element.kind is ElementKind.FOREIGN_KEY
    )


def _triggers(key: TableKey, live: LiveSchema) -> dict[str, str]:
    table = live.table(key)
    found = table.guards if table is not None else {}
    return {name: text for name, text in found.items() if text.startswith(("AFTER ", "BEFORE "))}


def _step(kind: str, key: TableKey, statements: Sequence[str], probe: Probe, description: str) -> Step:
    operation = guard_operation(kind, table_element(key), description)
    return Step(
        operation,
        tuple(statements),
        probe,
        Transaction.AUTOCOMMIT,
        LockPolicy.SHORT,
        (Hazard.EXCLUSIVE_LOCK,),
        unit=operation.id,
    )


def _probe(key: TableKey, names: Sequence[str], *, there: bool) -> Probe:
    schema = "DATABASE()" if key.schema is None else text_literal(key.schema)
    count = (
        "(SELECT COUNT(*) FROM information_schema.TRIGGERS"
        f" WHERE TRIGGER_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {text_literal(key.name)}"
        f" AND TRIGGER_NAME IN ({listed(names) or 'NULL'}))"
    )
    verb = "stand" if there else "are gone"
    return Probe(
        f"SELECT {count} = {len(names) if there else 0}", f"guards {', '.join(names)} of {key} {verb}"
    )


def _all(probes: Sequence[Probe]) -> Probe:
    if len(probes) == 1:
        return probes[0]
    conditions = " AND ".join(f"({probe.sql})" for probe in probes)
    return Probe(f"SELECT {conditions}", " and ".join(probe.expects for probe in probes))
