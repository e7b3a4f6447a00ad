"""Which gates guard an operation, and do they let it pass?

Gates are derived from the operation, whoever wants to run it. An operation of contract without a gate of its own is a
mistake in emc, and is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import Connection

from emc.claims import Claim, Proof
from emc.dialects.base import Dialect
from emc.gates import back
from emc.gates.base import Gate, Scope, Verdict
from emc.gates.dependents import NothingHangs
from emc.gates.duplicates import NoConflicts, NoDuplicates
from emc.gates.people import (
    DataElsewhere,
    ExpandDone,
    IndexUnused,
    MigrateDone,
    OldCodeGone,
    Soaked,
    first_open,
    required_soak,
    retirement,
)
from emc.gates.rows import FitsType, NoNulls, NoOrphans, NoViolations, ValueUnused
from emc.gates.syncs import InStep, SyncLive
from emc.names import ElementKind
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.state.observations import forget, observation, observe

__all__ = ["Gate", "Scope", "Verdict", "claims", "gates_of", "is_unwatched", "judge", "watch"]

_OWN: Mapping[str, tuple[Callable[[Operation], Gate], ...]] = {
    Kind.SET_NOT_NULL: (NoNulls,),
    Kind.ADD_CHECK: (NoViolations,),
    Kind.ADD_FOREIGN_KEY: (NoOrphans,),
    Kind.ADD_UNIQUE: (NoDuplicates,),
    Kind.ADD_EXCLUSION: (NoConflicts,),
    Kind.CREATE_INDEX: (NoDuplicates,),
    Kind.ALTER_TYPE: (FitsType,),
    Kind.DROP_COLUMN: (DataElsewhere, MigrateDone, Soaked),
    Kind.DROP_TABLE: (DataElsewhere, MigrateDone, Soaked),
    Kind.DROP_SYNC: (InStep, SyncLive, Soaked),
    Kind.DROP_INDEX: (IndexUnused, Soaked),
    Kind.REMOVE_ENUM_VALUE: (ValueUnused,),
    Kind.DROP_ENUM: (Soaked,),
    # Nothing in the data speaks against these: that the old release is gone is all they need.
    Kind.DROP_DEFAULT: (),
    Kind.SET_DEFAULT: (),
    Kind.DROP_UNIQUE: (Soaked,),
    Kind.DROP_EXCLUSION: (Soaked,),
    Kind.DROP_FOREIGN_KEY: (Soaked,),
    Kind.DROP_CHECK: (Soaked,),
}
_TAKING_AWAY = frozenset(
    {
        Kind.DROP_COLUMN,
        Kind.DROP_TABLE,
        Kind.DROP_INDEX,
        Kind.DROP_UNIQUE,
        Kind.DROP_EXCLUSION,
        Kind.DROP_ENUM,
        Kind.REMOVE_ENUM_VALUE,
        Kind.REPLACE_INDEX,
        Kind.REPLACE_CONSTRAINT,
    }
)
_REPLACED: Mapping[ElementKind, tuple[Callable[[Operation], Gate], ...]] = {
    ElementKind.UNIQUE: (NoDuplicates,),
    ElementKind.CHECK: (NoViolations,),
    ElementKind.FOREIGN_KEY: (NoOrphans,),
    ElementKind.EXCLUSION: (NoConflicts,),
}


def gates_of(operation: Operation) -> tuple[Gate, ...]:
    """The gates of an operation of contract or undo, in the order in which they are asked.

    :raises LookupError: no gate is known for the kind of operation, so it must not run.
    """
    if operation.phase is Phase.UNDO:
        return _gates_of_undo(operation)
    if operation.kind == Kind.REPLACE_CONSTRAINT:
        own = _REPLACED[operation.element.kind]
    elif operation.kind == Kind.REPLACE_INDEX:
        own = (NoDuplicates,) if operation.directive.create.unique else ()  # type: ignore[attr-defined]
    else:
        own = _OWN[operation.kind]
    hangs = (NothingHangs(operation),) if operation.kind in _TAKING_AWAY else ()
    return (ExpandDone(operation), *(make(operation) for make in own), *hangs, OldCodeGone(operation))


def _gates_of_undo(operation: Operation) -> tuple[Gate, ...]:
    replaces = operation.kind == Kind.REPLACE_CONSTRAINT
    own = back.REPLACED[operation.element.kind] if replaces else back.OWN[operation.kind]
    hangs = (NothingHangs,) if operation.kind in _TAKING_AWAY else ()
    return tuple(make(operation) for make in (*own, *hangs, *back.ALL))


def judge(
    operation: Operation,
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str] | None = None,
    proofs: Sequence[Proof] = (),
    left_to_the_database: Collection[str] = (),
) -> tuple[Verdict, ...]:
    """Ask every gate of *operation*. Reads only.

    :param overrides: reasons by the full name of a gate; a shut gate with a reason lets pass.
    :param proofs: what was seen behind the guards that still stand; these rows are not looked at again.
    :param left_to_the_database: full names of gates that are not asked, since the statements fail where they are shut,
        and refuse new rows in the way from the first of them on.
    """
    verdicts = []
    for gate in gates_of(operation):
        if not gate.concerns(scope):
            continue
        if gate.name in left_to_the_database:
            verdicts.append(gate.opened("left to the database, which proves it behind the constraint"))
            continue
        own = [proof for proof in proofs if proof.claim.gate == gate.name]
        verdict = gate.proved(own) if own else gate.evaluate(connection, scope)
        if verdict.open and not own:
            verdict = _unless_it_cannot_be_guarded(verdict, gate, connection, scope)
        if not verdict.open and gate.name in (overrides or {}):
            verdict = dataclasses.replace(verdict, overridden=(overrides or {})[gate.name])
        verdicts.append(verdict)
    return tuple(verdicts)


def _unless_it_cannot_be_guarded(
    verdict: Verdict, gate: Gate, connection: Connection, scope: Scope
) -> Verdict:
    """An answer that nothing could keep true until the operation has run is none."""
    operation, dialect = gate.operation, scope.dialect
    own = _guarded(gate, connection, scope)
    claim, reason = _unguardable(operation, own, scope) or (None, None)
    if claim is None or _looked_at_under_the_lock(operation, dialect):
        return verdict
    remedy = "Write the condition so that it speaks of the columns of its row alone; "
    if dialect.transactional_ddl:
        remedy += (
            f"or let everybody wait while the rows of {claim.key} are looked at:"
            f' upgrade.allow("{operation.id}", reason="who agreed, and when it runs"); '
        )
    return gate.shut(
        f"no row is in the way now, but nothing would keep it so until the operation has run: {reason}",
        f'{remedy}or verify it by hand: {scope.command} --override {gate.name} --reason "how it was verified"',
        predicate=str(claim.in_the_way),
    )


def claims(
    operation: Operation,
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str] | None = None,
) -> tuple[Claim, ...]:
    """What the open gates of *operation* rest on and guards have to keep true; nothing of gates that are overridden."""
    found: list[Claim] = []
    for gate in gates_of(operation):
        if gate.name in (overrides or {}):
            continue
        own = _guarded(gate, connection, scope)
        if not (_looked_at_under_the_lock(operation, scope.dialect) and _unguardable(operation, own, scope)):
            found += own
    return tuple(found)


def looked_at(
    operation: Operation,
    connection: Connection,
    scope: Scope,
    overrides: Mapping[str, str] | None = None,
    proofs: Sequence[Proof] = (),
) -> tuple[tuple[Gate, Claim], ...]:
    """What :func:`judge` looks at the rows for, because no proof spares it that and nobody has overridden the gate."""
    spared = {proof.claim.gate for proof in proofs} | set(overrides or {})
    gates = [gate for gate in gates_of(operation) if gate.name not in spared]
    return tuple((gate, claim) for gate in gates for claim in gate.claims(connection, scope))


def _guarded(gate: Gate, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
    """What guards have to keep true of the answer of *gate*: all of it, or nothing."""
    own, live = gate.claims(connection, scope), scope.plan.situation.live
    return own if any(scope.dialect.guarded(gate.operation, claim, live) for claim in own) else ()


def _unguardable(operation: Operation, own: Sequence[Claim], scope: Scope) -> tuple[Claim, str] | None:
    """The first of the claims that nothing could keep true, and why."""
    for claim in own:
        reason = scope.dialect.cannot_guard(operation, claim, scope.plan.situation.live)
        if reason is not None:
            return claim, reason
    return None


def _looked_at_under_the_lock(operation: Operation, dialect: Dialect) -> bool:
    """Whether what cannot be guarded is looked at in the transaction of the drop, however long that takes.

    A person has to agree to that.
    """
    return dialect.transactional_ddl and operation.allowed is not None


def is_unwatched(operations: Sequence[Operation], connection: Connection, scope: Scope) -> bool:
    """Whether :func:`watch` would begin to remember something, so that it is worth a write."""
    return any(
        isinstance(gate, IndexUnused)
        and observation(connection, retirement(gate)) is None
        and scope.dialect.index_scans(connection, gate.element) is not None
        for operation in operations
        for gate in gates_of(operation)
    )


def watch(operations: Sequence[Operation], connection: Connection, scope: Scope) -> None:
    """Note down what gates have to remember between runs: uses of retired indexes, and since when gates are open."""
    for operation in operations:
        gates = gates_of(operation)
        for gate in gates:
            if isinstance(gate, IndexUnused):
                _watch_index(gate, connection, scope)
        soaking = [gate for gate in gates if isinstance(gate, Soaked) and required_soak(gate, scope)]
        for gate in soaking:
            asked = [one for one in gates if one not in soaking and one.concerns(scope)]
            others = [one.evaluate(connection, scope) for one in asked]
            if all(verdict.open for verdict in others):
                observe(connection, first_open(gate), {})
            else:
                forget(connection, first_open(gate))


def _watch_index(gate: IndexUnused, connection: Connection, scope: Scope) -> None:
    scans = scope.dialect.index_scans(connection, gate.element)
    if scans is None:
        return
    seen = observation(connection, retirement(gate))
    if seen is not None and int(seen.facts["scans"]) != scans:
        forget(connection, retirement(gate))
    observe(connection, retirement(gate), {"scans": scans})
