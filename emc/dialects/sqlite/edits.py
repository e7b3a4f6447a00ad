"""How does a CREATE TABLE text change, with everything else in it left as its author wrote it?

Functions from text to text. Each parses what the one before it made, so that no place in the text is ever stale.
"""

from __future__ import annotations

from collections.abc import Sequence

from emc.dialects.sqlite.text import Clause, ColumnText, TableText, parse
from emc.dialects.sqlite.tokens import UnreadableTextError, mentions, normal
from emc.names import ElementKind


def quoted(name: str) -> str:
    """*name* as an identifier, always in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """*text* as a string literal."""
    return "'" + text.replace("'", "''") + "'"


# -- places -------------------------------------------------------------------------------------------------


def column_text(definition: str) -> ColumnText:
    """The parsed *definition* of one column; its places mean nothing."""
    return parse(f"CREATE TABLE t ({definition})").columns[0]


def _cut(sql: str, start: int, end: int, put: str = "") -> str:
    return sql[:start] + put + sql[end:]


def _cut_word(sql: str, start: int, end: int) -> str:
    """Cut a clause together with the white space before it."""
    while sql[start - 1].isspace() and not sql[:start].rstrip(" \t").endswith("\n"):
        start -= 1
    return _cut(sql, start, end)


def _cut_definition(text: TableText, start: int, end: int) -> str:
    """Cut a definition together with one of the commas beside it."""
    before = [comma for comma in text.commas if comma < start]
    after = [comma for comma in text.commas if comma >= end]
    starts = [place[0] for place in text.places]
    if before and not any(before[-1] < other < start for other in starts):
        return _cut(text.sql, before[-1], end)
    # Constraints of a table need no comma between them; the first definition has none before it.
    if after and start == min(starts):
        return _cut(text.sql, start, after[0] + 1)
    return _cut(text.sql, start, end)


def _column(sql: str, name: str) -> ColumnText:
    column = parse(sql).column(name)
    if column is None:
        raise UnreadableTextError(f"column {name} is not in the text of its table")
    return column


# -- columns ---------------------------------------------------------------------------------------------------


def add_column(sql: str, definition: str) -> str:
    """Add a column after those that are there."""
    end = parse(sql).columns[-1].end
    return _cut(sql, end, end, f", {definition}")


def drop_column(sql: str, name: str) -> str:
    """Drop a column with its own clauses, and the constraints that cannot be without it.

    Those are the keys over it, and the CHECKs that name no other column.
    """
    column = _column(sql, name)
    for clause in own_constraints(parse(sql), name):
        if not clause.inline:
            sql = drop_clause(sql, clause)
    column = _column(sql, name)
    return _cut_definition(parse(sql), column.start, column.end)


def own_constraints(text: TableText, name: str) -> list[Clause]:
    """The constraints that go when column *name* goes."""
    others = [column.name for column in text.columns if column.name.lower() != name.lower()]
    found = []
    for clause in text.clauses:
        if clause.kind == ElementKind.CHECK.value:
            if mentions(clause.argument, name) and not any(
                mentions(clause.argument, other) for other in others
            ):
                found.append(clause)
        elif name.lower() in (column.lower() for column in clause.columns):
            found.append(clause)
    return found


def set_type(sql: str, name: str, definition: str) -> str:
    """Give a column the type, and the collation, of another *definition*.

    A collation that the definition does not name stays when the type changes: reflection knows no collations, so
    models made from it would lose one silently.
    """
    new = column_text(definition)
    old = _column(sql, name)
    same_type = normal(old.type) == normal(new.type)
    gap = " " if old.type_end == old.name_end and new.type else ""
    sql = _cut(sql, old.type_end if gap else old.type_end - len(old.type), old.type_end, gap + new.type)
    collation = new.clause("collate")
    if collation is None and not same_type:
        return sql
    sql = _without(sql, name, "collate")
    return sql if collation is None else _add_after_type(sql, name, collation.text)


def set_default(sql: str, name: str, definition: str | None) -> str:
    """Give a column the default of another *definition*; ``None`` takes its default away."""
    default = column_text(definition).clause("default") if definition is not None else None
    sql = _without(sql, name, "default")
    return sql if default is None else _add_after_type(sql, name, default.text)


def set_nullable(sql: str, name: str, *, nullable: bool) -> str:
    """Take a column's NOT NULL away, or give it one."""
    sql = _without(sql, name, "null")
    if nullable:
        return _without(sql, name, "not-null")
    if _column(sql, name).clause("not-null") is not None:
        return sql
    end = _after_properties(_column(sql, name))
    return _cut(sql, end, end, " NOT NULL")


def _after_properties(column: ColumnText) -> int:
    """Where NOT NULL goes: after collation and default, before the constraints."""
    ends = [clause.end for clause in column.clauses if clause.kind in ("collate", "default")]
    return max([column.type_end, *ends])


def _add_after_type(sql: str, name: str, clause: str) -> str:
    end = _column(sql, name).type_end
    return _cut(sql, end, end, f" {clause}")


def _without(sql: str, name: str, kind: str) -> str:
    while (clause := _column(sql, name).clause(kind)) is not None:
        sql = _cut_word(sql, clause.start, clause.end)
    return sql


# -- constraints -----------------------------------------------------------------------------------------------


def add_constraint(sql: str, definition: str) -> str:
    """Add a constraint of the table after all that is there."""
    end = parse(sql).places[-1][1]
    return _cut(sql, end, end, f", {definition}")


def drop_clause(sql: str, clause: Clause) -> str:
    """Cut a constraint, of a column or of the table, out of the text that *clause* was read from."""
    if clause.inline:
        return _cut_word(sql, clause.start, clause.end)
    return _cut_definition(parse(sql), clause.start, clause.end)


def find_constraint(
    sql: str, kind: ElementKind, name: str | None, columns: Sequence[str] = (), expression: str | None = None
) -> Clause | None:
    """A constraint by name, or by what it says where it has none or is known under another name.

    :param columns: of a unique constraint or foreign key.
    :param expression: of a CHECK; the parent table of a foreign key.
    """
    clauses = [clause for clause in parse(sql).clauses if clause.kind == kind.value]
    named = [clause for clause in clauses if name is not None and (clause.name or "").lower() == name.lower()]
    if named:
        return named[0]
    lowered = [column.lower() for column in columns]
    for clause in clauses:
        if kind is ElementKind.CHECK:
            if expression is not None and normal(clause.argument) == normal(expression):
                return clause
        elif (
            lowered
            and [column.lower() for column in clause.columns] == lowered
            and (expression is None or clause.argument.lower() == expression.lower())
        ):
            return clause
    return None
