"""What do the lines of a contract revision say of gates and data migrations?

A revision is written before expand has run, so gates are asked what they rest on as if it had: the columns and tables
that expand adds are taken to be there, and empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

from alembic.operations import ops
from sqlalchemy import Connection, literal_column, select
from sqlalchemy.engine.interfaces import ReflectedColumn, ReflectedIndex, ReflectedPrimaryKeyConstraint
from sqlalchemy.exc import CompileError

from emc.alembic.directives import Gate as GateLine
from emc.alembic.directives import Migrated
from emc.changes import Situation
from emc.changes.syncs import install_sync
from emc.claims import Claim
from emc.commands.sql import rendering
from emc.dialects import Dialect
from emc.gates import Gate, Scope, gates_of
from emc.gates.people import ExpandDone, MigrateDone, OldCodeGone, Soaked, required_soak
from emc.gates.rows import CannotProveError
from emc.gates.syncs import SyncLive, sync_of
from emc.names import ElementKind, TableKey
from emc.operations import SPELLED_DEFINITION, Kind, ReplaceOp, table_key, table_of
from emc.planning import Plan, render
from emc.schema import LiveSchema, LiveTable
from emc.steps import Step
from emc.sync import SyncOp
from emc.upgrade import Upgrade
from emc.work import NotReady, all_work

_PROVE_THEMSELVES = frozenset(
    {Kind.ADD_UNIQUE, Kind.ADD_EXCLUSION, Kind.CREATE_INDEX, Kind.REPLACE_INDEX, Kind.REPLACE_CONSTRAINT}
)
_FAILS = "the statement fails where a row is in the way"


def expanded(plan: Plan, dialect: Dialect, upgrade: Upgrade) -> Plan:
    """*plan* as it will be once expand has run, as far as gates and the steps of contract have to know."""
    live = plan.situation.live
    replaced = {
        one.directive.beside: one.directive.create
        for one in (step.operation for step in plan.contract)
        if isinstance(one.directive, ReplaceOp)
    }
    for step in plan.expand:
        live = _after(step, live, dialect, replaced)
    operations = [step.operation for step in plan.expand]
    live = dialect.foreseen(operations, plan.situation.live, live)
    situation = dataclasses.replace(plan.situation, live=live)
    contract = render(dialect, [step.operation for step in plan.contract], situation)
    return dataclasses.replace(
        plan, situation=situation, all_work=_work(upgrade, situation, dialect), contract=contract
    )


def _after(step: Step, live: LiveSchema, dialect: Dialect, replaced: Mapping[str | None, Any]) -> LiveSchema:
    """*live* once *step* of expand has run.

    :param replaced: what contract puts in the place of another, by the name under which expand builds it.
    """
    directive: Any = step.operation.directive
    if isinstance(directive, SyncOp):
        for part in dialect.sync_parts(directive.sync, live):
            kept = live.tables[part.key]
            live = _with(live, dataclasses.replace(kept, syncs={**kept.syncs, part.name: part.definition}))
        return live
    if isinstance(directive, ops.CreateTableOp):
        table = table_of(directive)
        columns = {column.name: _reflected(column) for column in table.columns}
        names = [column.name for column in table.primary_key]
        primary_key = cast("ReflectedPrimaryKeyConstraint", {"name": None, "constrained_columns": names})
        return _with(live, LiveTable(table_key(directive), columns, primary_key))
    there = live.tables.get(step.operation.element.table)
    if there is None:
        return live
    if isinstance(directive, ops.AddColumnOp):
        column = directive.column
        columns = {**there.columns, str(column.name): _reflected(column)}
        return _with(live, dataclasses.replace(there, columns=columns))
    if isinstance(directive, ops.CreateIndexOp):
        wanted = replaced.get(directive.index_name, directive)
        index = directive.to_index()
        definitions = dict(there.definitions)
        if SPELLED_DEFINITION in wanted.info:
            definitions[ElementKind.INDEX, str(index.name)] = wanted.info[SPELLED_DEFINITION]
        built = cast(
            "ReflectedIndex",
            {
                "name": str(index.name),
                "column_names": [getattr(one, "name", None) for one in index.expressions],
                "unique": bool(index.unique),
                "dialect_options": dict(directive.kw),
            },
        )
        there = dataclasses.replace(there, indexes=[*there.indexes, built], definitions=definitions)
        return _with(live, there)
    if step.operation.kind in (Kind.DROP_FOREIGN_KEY, Kind.DROP_CHECK):
        element = step.operation.element
        shown = {
            name: text for name, text in there.definitions.items() if name != (element.kind, element.name)
        }
        keys = [one for one in there.foreign_keys if one["name"] != element.name]
        checks = [one for one in there.checks if one["name"] != element.name]
        there = dataclasses.replace(there, definitions=shown, foreign_keys=keys, checks=checks)
        return _with(live, there)
    return live


def _with(live: LiveSchema, table: LiveTable) -> LiveSchema:
    return dataclasses.replace(live, tables={**live.tables, table.key: table})


def _work(upgrade: Upgrade, situation: Situation, dialect: Dialect) -> Mapping[str, Any]:
    every = all_work(upgrade, situation.live, dialect.uniqueness, dialect, situation.past.contracted)
    return {one.name: one for one in every}


def _reflected(column: Any) -> ReflectedColumn:
    return cast(
        "ReflectedColumn",
        {"name": column.name, "type": column.type, "nullable": bool(column.nullable), "default": None},
    )


def migrations_before(plan: Plan, dialect: Dialect) -> Iterator[Migrated]:
    """The markers of the data migrations that contract waits for.

    :param plan: as it will be once expand has run.
    """
    write = _rendering(dialect)
    for work in plan.all_work.values():
        nobody = None
        if not isinstance(work, NotReady):
            if work.is_complete:
                continue
            nobody = write(select(literal_column("1")).select_from(work.table).where(work.pending))
        yield Migrated(work.name, nobody=nobody)


def gates_before(connection: Connection, plan: Plan, dialect: Dialect) -> Mapping[str, list[GateLine]]:
    """The gates of each operation of contract, by its id.

    :param plan: as it will be once expand has run.
    """
    scope = Scope(plan, dialect)
    return {step.id: list(_lines(step, connection, scope)) for step in plan.contract}


def _lines(step: Step, connection: Connection, scope: Scope) -> Iterator[GateLine]:
    write = _rendering(scope.dialect)
    for gate in gates_of(step.operation):
        if isinstance(gate, ExpandDone | MigrateDone) or not _is_said(gate, scope):
            continue  # That expand has run is what the revision depends on; data migrations have their markers.
        if isinstance(gate, OldCodeGone):
            yield GateLine(step.id, gate.name)
            continue
        if step.operation.kind in _PROVE_THEMSELVES:
            yield GateLine(step.id, gate.name, because=_FAILS)
            continue
        if isinstance(gate, SyncLive):
            yield GateLine(step.id, gate.name, nobody=_out_of_force(gate, scope))
            continue
        try:
            claims = gate.claims(connection, scope)
        except CannotProveError:
            claims = ()
        for claim in claims:
            yield GateLine(step.id, gate.name, nobody=write(_in_the_way(claim)), table=_locked(claim, step))
        if not claims:
            verdict = gate.evaluate(connection, scope) if _is_static(gate) else None
            because = verdict.reason if verdict is not None and verdict.open else None
            yield GateLine(step.id, gate.name, because=because)


def _is_said(gate: Gate, scope: Scope) -> bool:
    if isinstance(gate, Soaked):
        return bool(required_soak(gate, scope))
    return gate.concerns(scope)


def _is_static(gate: Gate) -> bool:
    """Whether the answer is in the declarations, so that it is the same in every database."""
    return gate.kind == "data-elsewhere"


def _locked(claim: Claim, step: Step) -> str | None:
    """The table that a script keeps everybody out of; none where the statements look at its rows themselves."""
    key: TableKey = claim.key
    looks = step.operation.kind in (Kind.SET_NOT_NULL, Kind.ADD_CHECK, Kind.ADD_FOREIGN_KEY)
    return None if looks else str(key)


def _out_of_force(gate: SyncLive, scope: Scope) -> str | None:
    """A query that finds something unless what keeps the columns of *gate* in step is as emc would put it there.

    ``None`` where there are no scripts: there steps cannot be made for columns that are still to come.
    """
    if scope.dialect.demanding is None:
        return None
    installed = install_sync(sync_of(gate))
    (made,) = scope.dialect.steps([installed], scope.plan.situation.live)
    return f"SELECT 1 WHERE NOT coalesce(({made.postcondition.sql}), false)"


def _in_the_way(claim: Claim) -> Any:
    return select(literal_column("1")).select_from(claim.table).where(claim.in_the_way)


def _rendering(dialect: Dialect) -> Any:
    words = dialect.demanding

    def render(statement: Any) -> str | None:
        try:
            if words is not None:
                text = words.render(statement)
            else:
                from sqlalchemy.dialects import registry

                text = rendering(registry.load(dialect.name)(paramstyle="named"))(statement)
        except (CompileError, NotImplementedError):
            return None
        return text.replace(" \n", " ")

    return render
