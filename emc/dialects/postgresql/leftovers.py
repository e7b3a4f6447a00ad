"""What has an interrupted run left behind that nothing needs any more?

What a run leaves half done is finished by the step that it belongs to, as long as a plan holds that step. When the
models have changed since, none does: a CHECK of emc's own would refuse NULL for ever, and nobody would know why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alembic.operations import ops

from emc.claims import LIFT_GUARD, guard_operation, table_element
from emc.dialects.postgresql import probes
from emc.dialects.postgresql.ground import Ground, Patient
from emc.dialects.postgresql.naming import identifier, qualified
from emc.dialects.postgresql.rendering import drop_constraint, rendered
from emc.names import ElementKind, TableKey, dotted, is_own
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Step, Transaction


def steps(planned: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
    """How to take away emc's own indexes and constraints that no statement of the steps *planned* speaks of."""
    return [_dropping(live, key, kind, name) for key, kind, name in _unneeded(planned, live) if is_own(name)]


def given_up(steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
    """How to take away what *steps* have left and what refuses writes to rows that are there.

    An UPDATE of a row that has a duplicate, of whatever column, may fail because of a unique index that is INVALID.
    """
    sent = "\n".join(statement for step in steps for statement in step.statements)
    return [
        _dropping(live, key, ElementKind.INDEX, name)
        for key, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key)
        for name in sorted(table.enforcing)
        if identifier(name) in sent and any(step.operation.element.table == key for step in steps)
    ]


def remarks(planned: Sequence[Step], live: LiveSchema) -> Sequence[tuple[str, str]]:
    """What a person should look at: the name of an element, and what there is to say of it."""
    found = []
    for key, kind, name in _unneeded(planned, live):
        table = live.tables[key]
        is_partitioned = (ElementKind.TABLE, key.name) in table.definitions
        if kind is ElementKind.INDEX and name in table.unfinished and not (is_own(name) or is_partitioned):
            said = (
                "it is INVALID: no query uses it, and every write pays for it. A build or REINDEX CONCURRENTLY that "
                f"failed leaves such. If nobody builds it now: DROP INDEX CONCURRENTLY {qualified(key.schema, name)};"
            )
            found.append((dotted(key.schema, key.name, name), said))
    return found


def _unneeded(planned: Sequence[Step], live: LiveSchema) -> Iterator[tuple[TableKey, ElementKind, str]]:
    every = [one for step in planned for one in (*step.beforehand, step)]
    sent = "\n".join(statement for step in every for statement in step.statements)
    for key, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key):
        for kind, name in sorted(table.definitions):
            if not is_own(key.name) and kind in _ELEMENTS and name not in sent:
                yield key, kind, name


_ELEMENTS = (ElementKind.INDEX, ElementKind.UNIQUE, ElementKind.CHECK, ElementKind.FOREIGN_KEY)


def _dropping(live: LiveSchema, key: TableKey, kind: ElementKind, name: str) -> Step:
    operation = guard_operation(
        LIFT_GUARD, table_element(key), f"take away what an interrupted run left: {name}"
    )
    ground = Ground(operation, live)
    if kind is not ElementKind.INDEX:
        probe = probes.constraint_gone(key, name)
        return ground.step(
            [drop_constraint(key, name)], probe, Hazard.EXCLUSIVE_LOCK, transaction=Transaction.AUTOCOMMIT
        )
    concurrently = not ground.is_partitioned
    (drop,) = rendered(
        ops.DropIndexOp(name, key.name, schema=key.schema, postgresql_concurrently=concurrently)
    )
    return ground.step(
        [Patient(drop) if concurrently else drop],
        probes.index_gone(key, name),
        transaction=Transaction.AUTOCOMMIT,
        locks=LockPolicy.WEAK if concurrently else LockPolicy.SHORT,
    )
