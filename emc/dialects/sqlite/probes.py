"""How does SQLite's catalog tell that an operation is done?

Structure, from the pragmas, where they know it; else the text of the element that the catalog keeps, to the letter.
"""

from __future__ import annotations

from alembic.operations import ops

from emc.dialects.sqlite import render
from emc.dialects.sqlite.draft import Draft, clause_of, index_of, sync_triggers
from emc.dialects.sqlite.edits import find_constraint, literal
from emc.dialects.sqlite.rebuild import master
from emc.dialects.sqlite.rehearsal import Rehearsal
from emc.dialects.sqlite.text import Clause, parse
from emc.names import ElementKind, TableKey
from emc.operations import Kind, Operation, constraint_kind
from emc.steps import Probe


def probe(operation: Operation, before: Draft | None, after: Draft | None, rehearsal: Rehearsal) -> Probe:
    """The question whose answer is yes once *operation*, and what runs together with it, is done.

    :param before: texts of the table before the unit; ``None`` for a new table.
    :param after: texts of the table after the unit; ``None`` for a dropped one.
    """
    key = operation.element.table
    name = operation.element.name or ""
    kind = operation.kind
    if kind == Kind.CREATE_TABLE:
        text = rehearsal.sql("table", key.schema, key.name) or ""
        return Probe(_one(key, "table", key.name, text), f"table {key} exists as planned")
    if kind == Kind.DROP_TABLE:
        return Probe(_none(key, "table", key.name), f"table {key} is gone")
    if kind in (Kind.CREATE_INDEX, Kind.REPLACE_INDEX):
        index, rendered = index_of(operation)
        text = rehearsal.sql("index", key.schema, index) or rendered
        beside = getattr(operation.directive, "beside", None)
        gone = f" AND NOT {_exists(key, 'index', beside)}" if beside else ""
        return Probe(_one(key, "index", index, text) + gone, f"index {index} of {key} exists as planned")
    if kind == Kind.DROP_INDEX:
        return Probe(_none(key, "index", name), f"index {name} is gone")
    if kind in (Kind.INSTALL_SYNC, Kind.DROP_SYNC):
        return _sync_probe(operation, before or after)
    if kind == Kind.DROP_COLUMN:
        here = f"SELECT {_exists(key, 'table', key.name)} AND NOT EXISTS (SELECT 1 FROM {_xinfo(key, name)})"
        return Probe(here, f"column {name} of {key} is gone")
    if kind in _COLUMN_FACTS:
        return _column_probe(operation, after, rehearsal)
    return _constraint_probe(operation, before, after)


def _sync_probe(operation: Operation, draft: Draft | None) -> Probe:
    key = operation.element.table
    made = sync_triggers(draft or Draft(key, ""), operation)
    named = "; ".join(f"triggers {', '.join(of_table)} of {at}" for at, of_table in made.items())
    triggers = [(at, name, text) for at, of_table in made.items() for name, text in of_table.items()]
    if operation.kind == Kind.DROP_SYNC:
        gone = " AND ".join(f"NOT {_exists(at, 'trigger', name)}" for at, name, _ in triggers)
        return Probe(f"SELECT {gone}", f"{named} are gone")
    there = " AND ".join(f"({_one(at, 'trigger', name, text)})" for at, name, text in triggers)
    return Probe(f"SELECT {there}", f"{named} stand")


_COLUMN_FACTS = {
    Kind.ADD_COLUMN: ("type", "notnull", "dflt_value", "pk", "hidden"),
    Kind.SET_NOT_NULL: ("notnull",),
    Kind.DROP_NOT_NULL: ("notnull",),
    Kind.ALTER_TYPE: ("type",),
    Kind.SET_DEFAULT: ("dflt_value",),
    Kind.DROP_DEFAULT: ("dflt_value",),
}


def _column_probe(operation: Operation, after: Draft | None, rehearsal: Rehearsal) -> Probe:
    key = operation.element.table
    name = operation.element.name or ""
    facts = rehearsal.column(key, name) or {}
    wanted = [f'"{fact}" IS {_value(facts.get(fact))}' for fact in _COLUMN_FACTS[operation.kind]]
    sql = f"SELECT EXISTS (SELECT 1 FROM {_xinfo(key, name)} AND {' AND '.join(wanted)})"
    column = parse(after.sql).column(name) if after is not None else None
    if operation.kind == Kind.ALTER_TYPE and after is not None and column is not None:
        # The pragma knows no collation.
        sql += f" AND {_count(key, after.sql[column.start : column.end], after.sql)}"
    said = {
        Kind.SET_NOT_NULL: "is NOT NULL",
        Kind.DROP_NOT_NULL: "may be NULL",
        Kind.ALTER_TYPE: f"has type {facts.get('type')}",
        Kind.SET_DEFAULT: f"has default {facts.get('dflt_value')}",
        Kind.DROP_DEFAULT: "has no default",
    }.get(operation.kind, "exists as planned")
    return Probe(sql, f"column {name} of {key} {said}")


def _constraint_probe(operation: Operation, before: Draft | None, after: Draft | None) -> Probe:
    directive = operation.directive
    drop = getattr(directive, "drop", directive if isinstance(directive, ops.DropConstraintOp) else None)
    create = getattr(directive, "create", directive if isinstance(directive, ops.AddConstraintOp) else None)
    key = operation.element.table
    now = after.sql if after is not None else ""
    asked: list[str] = []
    if drop is not None and before is not None:
        old = clause_of(before.sql, drop)
        if old is not None:
            asked.append(_count(key, _fragment(before.sql, old), now))
        elif drop.constraint_name is not None:
            asked.append(f"NOT {_exists(key, 'index', str(drop.constraint_name))}")
    if create is not None:
        new = _added(create, now)
        if new is not None:
            asked.append(_count(key, now[new.start : new.end], now))
    done = "is gone" if create is None else "exists as planned"
    return Probe(
        f"SELECT {' AND '.join(asked) or '1'}", f"{operation.element.kind.value} {operation.element} {done}"
    )


def _added(create: ops.AddConstraintOp, sql: str) -> Clause | None:
    known = render.constraint_clause(render.constraint_sql(render.constraint_of(create)))
    expression = known.argument if known.kind != ElementKind.UNIQUE.value else None
    kind = constraint_kind(create)
    clauses = [clause for clause in reversed(list(parse(sql).clauses)) if clause.kind == kind.value]
    same = next((one for one in clauses if one.name == known.name and one.text == known.text), None)
    return same or find_constraint(sql, kind, known.name, known.columns, expression)


def _fragment(sql: str, clause: Clause) -> str:
    """A piece of text that is gone once *clause* is.

    For an inline one that is the whole column, since UNIQUE alone does not say whose it is.
    """
    if clause.inline:
        for column in parse(sql).columns:
            if clause in column.clauses:
                return sql[column.start : column.end]
    return sql[clause.start : clause.end]


def _xinfo(key: TableKey, column: str) -> str:
    return (
        f"pragma_table_xinfo({literal(key.name)}{_schema(key)}) WHERE name = {literal(column)} COLLATE NOCASE"
    )


def _schema(key: TableKey) -> str:
    return "" if key.schema is None else f", {literal(key.schema)}"


def _value(value: object) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else literal(str(value))


def _exists(key: TableKey, kind: str, name: str) -> str:
    return (
        f"EXISTS (SELECT 1 FROM {master(key.schema)} WHERE type = '{kind}'"
        f" AND name = {literal(name)} COLLATE NOCASE)"
    )


def _none(key: TableKey, kind: str, name: str) -> str:
    return f"SELECT NOT {_exists(key, kind, name)}"


def _one(key: TableKey, kind: str, name: str, text: str) -> str:
    return (
        f"SELECT EXISTS (SELECT 1 FROM {master(key.schema)} WHERE type = '{kind}'"
        f" AND name = {literal(name)} COLLATE NOCASE AND tbl_name = {literal(key.name)} COLLATE NOCASE"
        f" AND sql = {literal(text)})"
    )


def _count(key: TableKey, fragment: str, text: str) -> str:
    """Whether the text of the table holds *fragment* as often as *text* does."""
    return (
        f"EXISTS (SELECT 1 FROM {master(key.schema)} WHERE type = 'table'"
        f" AND name = {literal(key.name)} COLLATE NOCASE"
        f" AND (length(sql) - length(replace(sql, {literal(fragment)}, ''))) / {len(fragment)}"
        f" = {text.count(fragment)})"
    )
