"""Which steps do operations become on SQLite?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from alembic.operations import ops

from emc.dialects.sqlite import edits, render
from emc.dialects.sqlite.catalog import ONLY_COPY, SQLiteSchema, SQLiteTable, leftovers_of
from emc.dialects.sqlite.draft import (
    Draft,
    applied,
    column_definition,
    created,
    draft_of,
    in_schema,
    index_of,
    qualified,
    refused,
    sync_triggers,
)
from emc.dialects.sqlite.edits import literal, quoted
from emc.dialects.sqlite.probes import probe
from emc.dialects.sqlite.rebuild import master, rebuild_statements, required
from emc.dialects.sqlite.rehearsal import Rehearsal, RehearsalError, rehearse
from emc.dialects.sqlite.text import parse
from emc.dialects.sqlite.tokens import UnreadableTextError
from emc.dialects.sqlite.units import (
    INDEX_KINDS,
    SYNC_KINDS,
    Unit,
    inline_clause,
    inline_sql,
    sync_tables,
    units_of,
)
from emc.errors import PlanRefusedError, Refusal
from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema
from emc.steps import Hazard, Step, Transaction


def plan_steps(operations: Sequence[Operation], live: LiveSchema) -> list[Step]:
    """*operations* of one phase as steps, rehearsed on a copy of the schema in memory.

    What *live* lacks (a column that an earlier phase of the same plan adds) is taken to be there: so the plan can be
    shown, while a rebuild that starts from such a text refuses to run.

    :raises PlanRefusedError: something cannot be done, or not without breaking or losing something else.
    """
    if not operations:
        return []
    if not isinstance(live, SQLiteSchema):
        raise TypeError("steps for SQLite need the snapshot that SQLite.read() made")
    drafts = {key: draft_of(table) for key, table in live.tables.items() if isinstance(table, SQLiteTable)}
    for operation in operations:
        if operation.kind != Kind.CREATE_TABLE:
            _assume(operation, operations, drafts)
    try:
        units = units_of(operations, live, drafts)
        leftovers = [name for key in drafts for name in leftovers_of(live, key)]
        with rehearse(list(drafts.values()), live.views, leftovers) as rehearsal:
            return [step for unit in units for step in _steps_of(unit, live, drafts, rehearsal)]
    except (UnreadableTextError, RehearsalError) as error:
        raise refused(operations[0], str(error), _BY_HAND) from error


_BY_HAND = "Change the element that SQLite names by hand, then plan again."


def _assume(operation: Operation, operations: Sequence[Operation], drafts: dict[TableKey, Draft]) -> None:
    """Add to *drafts* what an operation takes for granted and the live schema does not have yet."""
    key = operation.element.table
    if any(one.kind == Kind.CREATE_TABLE and one.element.table == key for one in operations):
        return
    wanted: dict[str, str] = {}
    directive = operation.directive
    if isinstance(directive, ops.AlterColumnOp):
        kind = directive.existing_type if directive.existing_type is not None else directive.modify_type
        name = str(directive.column_name)
        wanted[name] = render.altered_column_sql(
            ops.AlterColumnOp(
                key.name, name, modify_type=kind, modify_server_default=directive.existing_server_default
            )
        )
    elif isinstance(getattr(directive, "create", directive), ops.AddConstraintOp):
        wanted = {name: quoted(name) for name in inline_clause(operation).columns}
    added = {str(one.element.name).lower() for one in operations if one.kind == Kind.ADD_COLUMN}
    draft = drafts.get(key)
    if draft is None and operation.kind != Kind.DROP_TABLE:
        columns = ", ".join(wanted.values()) or quoted(operation.element.name or "x")
        drafts[key] = Draft(key, f"CREATE TABLE {quoted(key.name)} ({columns})")
        return
    if draft is None:
        return
    for name, definition in wanted.items():
        if name.lower() not in added and parse(draft.sql).column(name) is None:
            draft = dataclasses.replace(draft, sql=edits.add_column(draft.sql, definition))
    drafts[key] = draft


def _steps_of(
    unit: Unit, live: SQLiteSchema, drafts: dict[TableKey, Draft], rehearsal: Rehearsal
) -> list[Step]:
    before = drafts.get(unit.key)
    after: Draft | None
    shared: list[str] = []
    own: dict[str, list[str]] = {}
    transaction = Transaction.TOGETHER
    if unit.how == "create":
        after = created(unit.operations[0])
        for operation in unit.operations[1:]:
            after = applied(after, operation)
        shared = [in_schema(after.sql, unit.key.schema)]
        before = None
    elif unit.how == "rebuild":
        assert before is not None
        after = before
        # Columns first: constraints and indexes of the list may be about them.
        refusals = [refusal_of(one, live) for one in unit.operations if one.kind == Kind.DROP_COLUMN]
        if any(refusals):
            raise PlanRefusedError([refusal for refusal in refusals if refusal is not None])
        for operation in sorted(unit.operations, key=lambda one: one.kind != Kind.ADD_COLUMN):
            after = applied(after, operation)
        if after != before:
            shared = rebuild_statements(before, after, leftovers_of(live, unit.key))
        transaction = Transaction.REBUILD
    elif unit.how == "drop":
        after = None
        transaction = Transaction.REBUILD
        together = [operation.element.table for operation in unit.operations]
        own = {
            one.id: _sync(one, before or Draft(unit.key, ""), drafts)
            if one.kind in SYNC_KINDS
            else _drop_table(one, live, together)
            for one in unit.operations
        }
    else:
        shared = _native(unit, before, drafts)
        after = before
        for operation in unit.operations:
            if operation.kind in (*INDEX_KINDS, *SYNC_KINDS, Kind.DROP_COLUMN) and after is not None:
                after = _after_native(operation, after)
    statements = [*shared, *(statement for part in own.values() for statement in part)]
    if _rehearsed(unit, statements, transaction, live, rehearsal) and after is not None:
        after = dataclasses.replace(
            after, sql=rehearsal.sql("table", unit.key.schema, unit.key.name) or after.sql
        )
    steps = []
    for position, operation in enumerate(unit.operations):
        sent = own.get(operation.id, shared if position == 0 else [])
        steps.append(
            Step(
                operation=operation,
                statements=tuple(sent),
                postcondition=probe(operation, before, after, rehearsal),
                transaction=transaction,
                hazards=_hazards(unit, operation),
                unit=unit.name,
            )
        )
    # A sync may have triggers on a second table.
    others = [(sync_tables(one) - {unit.key}, one) for one in unit.operations if one.kind in SYNC_KINDS]
    drafts |= {key: applied(drafts[key], one) for keys, one in others for key in keys if key in drafts}
    if after is None:
        for operation in unit.operations:
            drafts.pop(operation.element.table, None)
    else:
        drafts[unit.key] = dataclasses.replace(after, dropped=frozenset(), retyped=frozenset())
    return steps


def _rehearsed(
    unit: Unit, statements: Sequence[str], transaction: Transaction, live: SQLiteSchema, rehearsal: Rehearsal
) -> bool:
    """Try the statements of *unit* on the copy; whether they ran.

    :raises PlanRefusedError: they cannot work, whatever an earlier phase does.
    """
    try:
        rehearsal.run(statements, transaction)
    except RehearsalError as error:
        # A column, constraint or index that an earlier phase adds or drops: shown all the same, and SQLite refuses
        # it, before anything is changed, should it run too early.
        missing = unit.key not in live.tables and unit.how != "create"
        if missing or str(error).startswith(("no such ", "unknown column", "table ", "integer overflow")):
            return False
        reasons = [Refusal(str(one.element), str(error), _BY_HAND) for one in unit.operations]
        raise PlanRefusedError(reasons) from error
    return True


def _native(unit: Unit, before: Draft | None, drafts: Mapping[TableKey, Draft]) -> list[str]:
    operation = unit.operations[0]
    if operation.kind in SYNC_KINDS:
        return [
            statement
            for one in unit.operations
            for statement in (
                _sync(one, before or Draft(unit.key, ""), drafts)
                if one.kind in SYNC_KINDS
                else _one_by_one(one, before)
            )
        ]
    return _one_by_one(operation, before, unit.operations[1:])


def _one_by_one(operation: Operation, before: Draft | None, inlined: Sequence[Operation] = ()) -> list[str]:
    """What one operation takes, and those that can be written into its statement."""
    key = operation.element.table
    table = qualified(key)
    if operation.kind == Kind.ADD_COLUMN:
        definition, checks = column_definition(operation)
        inline = [inline_sql(render.constraint_clause(check)) for check in checks]
        inline += [inline_sql(inline_clause(one)) for one in inlined]
        return [" ".join([f"ALTER TABLE {table} ADD COLUMN {definition}", *dict.fromkeys(inline)])]
    if operation.kind == Kind.DROP_COLUMN:
        return [f"ALTER TABLE {table} DROP COLUMN {quoted(operation.element.name or '')}"]
    statements: list[str] = []
    if operation.kind in (Kind.DROP_INDEX, Kind.REPLACE_INDEX):
        statements.append(f"DROP INDEX {qualified(TableKey(key.schema, operation.element.name or ''))}")
        beside = getattr(operation.directive, "beside", None)
        if beside is not None and before is not None and beside in before.indexes:
            statements.append(f"DROP INDEX {qualified(TableKey(key.schema, beside))}")
    if operation.kind in (Kind.CREATE_INDEX, Kind.REPLACE_INDEX):
        statements.append(in_schema(index_of(operation)[1], key.schema))
    return statements


def _sync(operation: Operation, before: Draft, drafts: Mapping[TableKey, Draft]) -> list[str]:
    made = sync_triggers(before, operation)
    installs = operation.kind == Kind.INSTALL_SYNC
    drops = [
        f"DROP TRIGGER {qualified(TableKey(key.schema, name))}"
        for key, of_table in made.items()
        for name in of_table
        if not installs or (key in drafts and name in drafts[key].triggers)
    ]
    texts = ((key, sql) for key, of_table in made.items() for sql in of_table.values() if installs)
    return [*drops, *(in_schema(sql, key.schema) for key, sql in texts)]


def _after_native(operation: Operation, before: Draft) -> Draft:
    if operation.kind == Kind.DROP_COLUMN and parse(before.sql).column(operation.element.name or "") is None:
        return before
    return applied(before, operation)


def _drop_table(operation: Operation, live: SQLiteSchema, together: Sequence[TableKey]) -> list[str]:
    """Drop a table, but not while another one refers to it: writes to that one would fail from then on."""
    key = operation.element.table
    others = ", ".join(literal(one.name.lower()) for one in together)
    schema = "" if key.schema is None else f", {literal(key.schema)}"
    return [
        *(f"DROP TABLE IF EXISTS {qualified(name)}" for name in leftovers_of(live, key)),
        required(
            f"NOT EXISTS (SELECT 1 FROM {master(key.schema)} AS m JOIN pragma_foreign_key_list(m.name{schema}) AS f"
            f" WHERE m.type = 'table' AND lower(m.name) NOT IN ({others})"
            f' AND f."table" = {literal(key.name)} COLLATE NOCASE)',
            f"no other table refers to {key}",
        ),
        f"DROP TABLE {qualified(key)}",
    ]


_LOOK_AT_ROWS = (Kind.CREATE_INDEX, Kind.REPLACE_INDEX, Kind.ADD_CHECK)


def _hazards(unit: Unit, operation: Operation) -> tuple[Hazard, ...]:
    found: list[Hazard] = []
    if unit.how == "rebuild" or (unit.how == "native" and operation.kind == Kind.DROP_COLUMN):
        # DROP COLUMN writes every row anew, too.
        found += [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES]
    elif unit.how == "drop" or (unit.how == "native" and operation.kind in _LOOK_AT_ROWS):
        found.append(Hazard.BLOCKS_WRITES)
    if operation.kind in (Kind.DROP_COLUMN, Kind.DROP_TABLE):
        found.append(Hazard.LOSES_DATA)
    return tuple(found)


def refusal_of(operation: Operation, live: LiveSchema) -> Refusal | None:
    """Why *operation* could not be done without losing something; see :meth:`emc.dialects.base.Dialect.refuse`."""
    key = operation.element.table
    target = str(operation.element)
    if operation.kind == Kind.CREATE_TABLE:
        for name, what in live.names_taken.items():
            if what == ONLY_COPY and name.name.endswith(f"_{key.name}") and name.schema == key.schema:
                return Refusal(
                    target,
                    f"an interrupted rebuild left its rows in {name}, and dropped the table itself",
                    f"ALTER TABLE {qualified(name)} RENAME TO {quoted(key.name)};  -- then create its indexes again",
                )
        return None
    table = live.table(key)
    if isinstance(table, SQLiteTable) and operation.kind not in (*INDEX_KINDS, Kind.DROP_TABLE):
        try:
            parse(table.sql)
        except UnreadableTextError as error:
            return Refusal(
                target,
                f"emc cannot read the text of the table in sqlite_master: {error}",
                "Rebuild the table by hand.",
            )
    if operation.kind == Kind.DROP_COLUMN:
        named = live.dependents.get((key, operation.element.name or ""), ())
        broken = [one for one in named if one.startswith(("view ", "trigger "))]
        if broken:
            return Refusal(
                target,
                f"{', '.join(broken)} names the column and would not work any more",
                "; ".join(
                    f"DROP {one.split(' ')[0].upper()} {quoted(one.split(' ', 1)[1])}" for one in broken
                ),
            )
    return None
