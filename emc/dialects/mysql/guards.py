"""What keeps a claim true until the drop, where neither a transaction nor a CHECK without a copy can?

Two triggers, which refuse a row that would be in the way, inserted or updated. They come AFTER the write, because there
the row is what is stored: with its generated and automatic values and whatever other triggers made of it, in whichever
order they run; and an INSERT … ON DUPLICATE KEY UPDATE is judged by what it does. An error in one undoes its statement
(MariaDB knowledge base, "Trigger Overview"; IGNORE does not ignore it, seen with MariaDB 10.11.19). Creating a trigger
waits for every transaction that has touched the table, so once both are there all writers pass them.

For a new foreign key the guard is the key itself: :mod:`emc.dialects.mysql.key_guards`.

The drop holds LOCK TABLES from the end of the guard to its own end. DROP TRIGGER without IF EXISTS is the confirmation:
it fails when the guard is gone. The trigger goes first, since one that names a column that is gone breaks every write.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Integer, String

from emc.claims import (
    GUARD,
    LIFT_GUARD,
    CannotGuardError,
    Claim,
    Guard,
    Guarding,
    table_element,
)
from emc.dialects.answers import Failure
from emc.dialects.mysql import failures, key_guards, syncs
from emc.dialects.mysql.conditions import (
    listed,
    quoted,
    row_condition,
    text_literal,
    trigger_text,
)
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import SMALL
from emc.dialects.mysql.key_guards import by_key, guard_step, is_foreign_key, refers_as_before, refusing
from emc.dialects.mysql.live import MySQLSchema, MySQLTable
from emc.dialects.rowwise import columns_of
from emc.names import GUARD_PREFIX, TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Probe, Step, Transaction
from emc.sync import SyncPart

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
        return is_foreign_key(operation) and not refers_as_before(operation, live)
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
    if claim.kept_by is not None:
        return None
    try:
        _engine(claim, live)
        if not is_foreign_key(operation):
            _condition(claim, live, flavour)
    except CannotGuardError as error:
        return str(error)
    return None


def guarding(steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema, flavour: Flavour) -> Guarding:
    """How *claims* are kept true until *steps*, which share one unit, have run.

    :raises CannotGuardError: one of them cannot be.
    """
    if any(is_foreign_key(step.operation) for step in steps):
        (step,) = steps  # It is proved in its own way, so it shares no statement with others.
        return by_key(step, live, flavour)
    return _by_triggers(steps, claims, live, flavour)


def lift(key: TableKey, names: Sequence[str], live: LiveSchema, flavour: Flavour) -> Step:
    """Take the guards called *names* away from table *key*."""
    triggers = [name for name in names if name[-2:] in {f"_{letter}" for letter in _EVENTS}]
    statements = [f"DROP TRIGGER IF EXISTS {quoted(key.schema, name)}" for name in triggers]
    probes = [_gone(key, triggers)] if triggers else []
    for name in names:
        if name not in triggers:
            statements += key_guards.lifted(key, name, live, flavour)
            probes.append(key_guards.gone(key, name))
    return guard_step(
        LIFT_GUARD, table_element(key), statements, _all(probes), f"take away what guards {key}"
    )


def in_doubt(engine: Engine, keys: Sequence[TableKey], flavour: Flavour) -> frozenset[str]:
    """Tables of *keys* that a prepared transaction without a session may still write to.

    Once its session has left it, such a transaction holds no metadata lock in MariaDB (seen with 10.11.19), so no guard
    waits for it, and its rows come in when it is committed. Its locks in InnoDB it keeps; LOCK TABLES asks for these
    too without autocommit (knowledge base, "innodb_table_locks"). In MySQL it keeps all its locks (8.4 manual, "XA
    Transaction States").
    """
    if not flavour.forgets_prepared:
        return frozenset()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.exec_driver_sql("XA RECOVER").all():
            return frozenset()
        connection.detach()  # A session for this alone, whose settings end with it.
        connection.exec_driver_sql("SET autocommit = 0, lock_wait_timeout = 1, innodb_lock_wait_timeout = 0")
        return frozenset(str(key) for key in keys if not _is_free(connection, key))


def _is_free(connection: Connection, key: TableKey) -> bool:
    """Whether nobody holds what a reader of the whole table would have to wait for."""
    try:
        connection.exec_driver_sql(
            f"LOCK TABLES {quoted(key.schema, key.name)} READ", execution_options={"no_parameters": True}
        )
    except DBAPIError as error:
        if failures.failure(error) is not Failure.LOCKED:
            raise
        return False
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("UNLOCK TABLES")
    return True


# -- triggers -----------------------------------------------------------------------------------------------------


def _by_triggers(
    steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema, flavour: Flavour
) -> Guarding:
    wanted: dict[tuple[TableKey, str], Claim] = {}
    kept: list[SyncPart] = []
    for claim in claims:
        if claim.kept_by is not None:
            kept += syncs.parts(claim.kept_by, flavour)
            continue
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
            guard = Guard(key, f"{GUARD_PREFIX}{digest}_{letter}", trigger_text("AFTER", event, body))
            guards.append(guard)
            there = live.tables[key].guards.get(guard.name)
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
    probe = _all([_stand(key, [guard for guard in guards if guard.key == key]) for key in keys])
    put = guard_step(GUARD, first.element, missing, probe, refusing(first))
    drops = [f"DROP TRIGGER {quoted(guard.key.schema, guard.name)}" for guard in guards]
    standing = (*guards, *(Guard(part.key, part.name, part.definition) for part in kept))
    confirming = frozenset([*drops, *([syncs.required(kept)] if kept else [])])
    return Guarding(standing, put, _locked(steps, [*keys], drops, live), confirming)


def _locked(
    steps: Sequence[Step], keys: Iterable[TableKey], first: Sequence[str], live: LiveSchema
) -> tuple[Step, ...]:
    """*steps* in one session that locks their tables, where the statements *first* come first."""
    head, *others = steps
    if head.transaction is Transaction.LOCKED:
        # The end of a sync, which has locked its tables already.
        lock, *after = head.statements
        policies = (head.policies[0], *(LockPolicy.SHORT for _ in first), *head.policies[1:])
        return (
            dataclasses.replace(head, statements=(lock, *first, *after), statement_locks=policies),
            *others,
        )
    tables = {*keys, *(step.operation.element.table for step in steps)} & set(live.tables)
    locks = ", ".join(
        f"{quoted(key.schema, key.name)} WRITE" for key in sorted(tables, key=lambda key: key.sort_key)
    )
    before = (f"LOCK TABLES {locks}", *first)
    wrapped = dataclasses.replace(
        head,
        statements=(*before, *head.statements),
        statement_locks=(*(LockPolicy.SHORT for _ in before), *head.policies),
    )
    return tuple(
        dataclasses.replace(step, transaction=Transaction.LOCKED, hazards=_with_lock(step))
        for step in (wrapped, *others)
    )


def alone(step: Step, cleaning: str, live: LiveSchema) -> Step | None:
    """*step* behind statement *cleaning*, both under LOCK TABLES; ``None`` where writers would wait long, unasked.

    A table is locked under each name that a statement gives it (knowledge base, "LOCK TABLES"), and ALTER TABLE keeps
    the lock (seen with MariaDB 10.11.19).
    """
    key = step.operation.element.table
    table = live.table(key)
    size = table.size_bytes if table is not None else None
    if step.operation.allowed is None and (size is None or size > SMALL):
        return None
    name = quoted(key.schema, key.name)
    spelled = r"\.".join(f"`?{re.escape(one)}`?" for one in (key.schema, key.name) if one)
    others = dict.fromkeys(re.findall(rf"{spelled} AS (`[^`]+`|\w+)", cleaning))
    locks = ", ".join([f"{name} WRITE", *(f"{name} AS {other} READ" for other in others)])
    (locked,) = _locked([step], [key], [cleaning], live)
    _, *rest = locked.statements
    return dataclasses.replace(locked, statements=(f"LOCK TABLES {locks}", *rest))


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
        # A row that is deleted along is in nobody's way.
        written = rules.get("onupdate") or rules.get("ondelete", "CASCADE") != "CASCADE"
        if not written or claim.overwriting_is_harmless:
            continue
        if is_computed or columns & set(foreign_key["constrained_columns"]):
            raise CannotGuardError(
                f"foreign key {foreign_key['name']} writes {', '.join(foreign_key['constrained_columns'])} of "
                f"{claim.key} when its parent changes, and no trigger sees that"
            )


def _stand(key: TableKey, guards: Sequence[Guard]) -> Probe:
    # A body is shown without introducers by one server, and perhaps not by another: see trigger_text().
    shown = "CONCAT_WS(' ', ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT)"
    found = " OR ".join(
        f"(TRIGGER_NAME = {text_literal(guard.name)}"
        f" AND BINARY REPLACE({shown}, '_utf8mb4 X', ' X') = BINARY {text_literal(guard.definition)})"
        for guard in guards
    )
    names = ", ".join(guard.name for guard in guards)
    return Probe(
        f"SELECT (SELECT COUNT(*) {_rows(key)} AND ({found})) = {len(guards)}",
        f"guards {names} of {key} stand",
    )


def _gone(key: TableKey, names: Sequence[str]) -> Probe:
    return Probe(
        f"SELECT NOT EXISTS (SELECT 1 {_rows(key)} AND TRIGGER_NAME IN ({listed(names)}))",
        f"guards {', '.join(names)} of {key} are gone",
    )


def _rows(key: TableKey) -> str:
    schema = "DATABASE()" if key.schema is None else text_literal(key.schema)
    return (
        "FROM information_schema.TRIGGERS"
        f" WHERE TRIGGER_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {text_literal(key.name)}"
    )


def _all(probes: Sequence[Probe]) -> Probe:
    conditions = " AND ".join(f"({probe.sql})" for probe in probes)
    return Probe(f"SELECT {conditions or 'TRUE'}", " and ".join(probe.expects for probe in probes))
