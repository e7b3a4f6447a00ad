"""How does a table look, in SQLite's own texts, once an operation is done?"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from alembic.operations import ops

from emc.dialects.sqlite import edits, render, syncs
from emc.dialects.sqlite.catalog import Attached, SQLiteTable, index_goes
from emc.dialects.sqlite.edits import quoted
from emc.dialects.sqlite.text import Clause, parse
from emc.dialects.sqlite.tokens import normal, tokens
from emc.errors import PlanRefusedError, Refusal
from emc.names import ElementKind, TableKey
from emc.operations import Kind, Operation, constraint_kind
from emc.phases import Phase


@dataclass(frozen=True)
class Draft:
    """The texts of one table, before or after operations on it."""

    key: TableKey
    sql: str
    indexes: Mapping[str, str] = field(default_factory=dict)
    """Texts by name, in the order in which they are made."""
    triggers: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    """Columns that are gone, in lower case."""
    retyped: frozenset[str] = frozenset()
    """Columns whose type changed, in lower case."""

    @property
    def parent_name(self) -> str:
        """The table as statements name it."""
        return qualified(self.key)


def qualified(key: TableKey) -> str:
    """A table, or anything else in its schema, as statements name it."""
    return quoted(key.name) if key.schema is None else f"{quoted(key.schema)}.{quoted(key.name)}"


def in_schema(sql: str, schema: str | None) -> str:
    """A CREATE text of the catalog, which leaves the schema out, with the schema put back in."""
    if schema is None:
        return sql
    kinds = ("TABLE", "INDEX", "TRIGGER", "VIEW")
    name = next(token for token in tokens(sql) if token.keyword in kinds).end
    return f"{sql[:name]} {quoted(schema)}.{sql[name:].lstrip()}"


def without_schema(sql: str, schema: str | None) -> str:
    """A rendered CREATE text as the catalog will keep it."""
    parts = tokens(sql)
    for before, dot in itertools.pairwise(parts):
        if schema is not None and dot.text == "." and before.name == schema:
            return sql[: before.start] + sql[dot.end :]
        if dot.text == "(":
            break
    return sql


def draft_of(table: SQLiteTable) -> Draft:
    """The texts of a live table."""
    texts: dict[str, dict[str, str]] = {"index": {}, "trigger": {}}
    for one in table.attached:
        texts[one.kind][one.name] = one.sql
    return Draft(table.key, table.sql, texts["index"], texts["trigger"])


def created(operation: Operation) -> Draft:
    """The texts of a table that *operation* creates."""
    directive = operation.directive
    assert isinstance(directive, ops.CreateTableOp)
    return Draft(operation.element.table, without_schema(render.table_sql(directive), directive.schema))


def index_of(operation: Operation) -> tuple[str, str]:
    """Name and text of the index that *operation* creates."""
    create = getattr(operation.directive, "create", operation.directive)
    assert isinstance(create, ops.CreateIndexOp)
    sql = render.index_sql(create)
    return str(create.index_name), without_schema(sql, create.schema)


def column_definition(operation: Operation) -> tuple[str, list[str]]:
    """The definition of the column that *operation* adds, and the CHECKs that its type brings along."""
    directive = operation.directive
    assert isinstance(directive, ops.AddColumnOp)
    return render.column_sql(directive.column), render.bound_checks(directive.column)


def applied(draft: Draft, operation: Operation) -> Draft:
    """*draft* once *operation* is done."""
    directive = operation.directive
    column = operation.element.name or ""
    kind = operation.kind
    sql = draft.sql
    if kind == Kind.ADD_COLUMN:
        definition, checks = column_definition(operation)
        sql = edits.add_column(sql, definition)
        for check in checks:
            sql = with_constraint(sql, check, operation)
        return dataclasses.replace(draft, sql=sql)
    if kind == Kind.DROP_COLUMN:
        text = parse(sql)
        indexes = {
            name: index
            for name, index in draft.indexes.items()
            if not index_goes(text, Attached("index", name, draft.key.name, index), column)
        }
        return dataclasses.replace(
            draft,
            sql=edits.drop_column(sql, column),
            indexes=indexes,
            dropped=draft.dropped | {column.lower()},
        )
    if isinstance(directive, ops.AlterColumnOp):
        if kind in (Kind.SET_NOT_NULL, Kind.DROP_NOT_NULL):
            return dataclasses.replace(
                draft, sql=edits.set_nullable(sql, column, nullable=kind == Kind.DROP_NOT_NULL)
            )
        if kind in (Kind.SET_DEFAULT, Kind.DROP_DEFAULT):
            default = None if kind == Kind.DROP_DEFAULT else render.altered_column_sql(directive)
            return dataclasses.replace(draft, sql=edits.set_default(sql, column, default))
        if kind == Kind.ALTER_TYPE:
            sql = edits.set_type(sql, column, render.altered_column_sql(directive))
            return dataclasses.replace(draft, sql=sql, retyped=draft.retyped | {column.lower()})
    if kind in (Kind.INSTALL_SYNC, Kind.DROP_SYNC):
        wanted = sync_triggers(draft, operation).get(draft.key, {})
        kept = {name: text for name, text in draft.triggers.items() if name not in wanted}
        return dataclasses.replace(draft, triggers=kept | wanted if kind == Kind.INSTALL_SYNC else kept)
    if kind == Kind.CREATE_INDEX:
        name, index = index_of(operation)
        return dataclasses.replace(draft, indexes={**draft.indexes, name: index})
    if kind in (Kind.DROP_INDEX, Kind.REPLACE_INDEX):
        gone = {column.lower(), str(getattr(directive, "beside", None)).lower()}
        indexes = {name: index for name, index in draft.indexes.items() if name.lower() not in gone}
        if kind == Kind.REPLACE_INDEX:
            name, index = index_of(operation)
            indexes[name] = index
        return dataclasses.replace(draft, indexes=indexes)
    if kind == Kind.REPLACE_CONSTRAINT:
        beside = getattr(directive, "beside", None)
        draft = _without_constraint(draft, directive.drop, operation)  # type: ignore[attr-defined]
        if beside is not None:
            draft = _without_named(draft, constraint_kind(directive.drop), beside)  # type: ignore[attr-defined]
    elif isinstance(directive, ops.DropConstraintOp):
        return _without_constraint(draft, directive, operation)
    added = render.added_constraint(operation)
    if added is None:
        raise ValueError(f"SQLite has no {kind}; {operation.id} should not have been planned")
    return dataclasses.replace(draft, sql=with_constraint(draft.sql, added, operation))


def sync_triggers(draft: Draft, operation: Operation) -> dict[TableKey, dict[str, str]]:
    """The triggers that *operation* makes or takes away: text by table and name."""
    return syncs.triggers(operation.directive.sync, draft.sql)  # type: ignore[attr-defined]


def with_constraint(sql: str, definition: str, operation: Operation) -> str:
    """*sql* with a constraint, unless it is there already."""
    new = render.constraint_clause(definition)
    for clause in parse(sql).clauses:
        same_name = (clause.name or "").lower() == (new.name or "").lower()
        if clause.kind == new.kind and same_name and normal(clause.text) == normal(new.text):
            return sql
        if clause.kind == new.kind and new.name is not None and same_name:
            if operation.phase is Phase.CONTRACT:
                # Planned before expand has dropped the old definition; contract itself does not run before that.
                return edits.add_constraint(edits.drop_clause(sql, clause), definition)
            raise refused(
                operation,
                f"a constraint {new.name} is there already, and says something else: {clause.text}",
                "Drop or rename it by hand, or declare it retired, then plan again.",
            )
    return edits.add_constraint(sql, definition)


def name_of(directive: ops.DropConstraintOp) -> str | None:
    """The name of the constraint that *directive* drops."""
    return None if directive.constraint_name is None else str(directive.constraint_name)


def clause_of(sql: str, directive: ops.DropConstraintOp) -> Clause | None:
    """The constraint that *directive* drops, as it stands in *sql*."""
    known = render.dropped_constraint(directive)
    return edits.find_constraint(
        sql,
        constraint_kind(directive),
        name_of(directive),
        known.columns if known is not None else (),
        known.argument if known is not None and known.kind != ElementKind.UNIQUE.value else None,
    )


def _without_constraint(draft: Draft, directive: ops.DropConstraintOp, operation: Operation) -> Draft:
    clause = clause_of(draft.sql, directive)
    if clause is not None:
        return dataclasses.replace(draft, sql=edits.drop_clause(draft.sql, clause))
    name = name_of(directive)
    if name is not None:
        return _without_named(draft, constraint_kind(directive), name)
    raise refused(
        operation,
        "the constraint has no name, and the text of the table shows none like it",
        "Compare the table's text in sqlite_master with the models.",
    )


def _without_named(draft: Draft, kind: ElementKind, name: str) -> Draft:
    clause = edits.find_constraint(draft.sql, kind, name)
    sql = edits.drop_clause(draft.sql, clause) if clause is not None else draft.sql
    # A unique index is as good as a constraint, and may have been built in its stead.
    indexes = {known: index for known, index in draft.indexes.items() if known.lower() != name.lower()}
    return dataclasses.replace(draft, sql=sql, indexes=indexes)


def refused(operation: Operation, reason: str, remedy: str) -> PlanRefusedError:
    """The error that stops a plan for the sake of one operation."""
    return PlanRefusedError([Refusal(str(operation.element), reason, remedy)])
