"""Which statements turn a table into another one, and keep everything that SQLite's own ALTER TABLE cannot?

The way of https://sqlite.org/lang_altertable.html#otheralter, with one difference: the old table steps aside and the
new one is created under its own name. So the catalog keeps the text that was planned, to the letter, and the statistics
of ANALYZE stay. Under ``legacy_alter_table`` a rename leaves alone what views, triggers and other tables say.
"""

from __future__ import annotations

from collections.abc import Sequence

from emc.dialects.sqlite.catalog import index_body, temporary_name
from emc.dialects.sqlite.draft import Draft, in_schema, qualified
from emc.dialects.sqlite.edits import literal, quoted
from emc.dialects.sqlite.text import ColumnText, parse
from emc.dialects.sqlite.tokens import mentions
from emc.names import TableKey, is_own

_FAIL = "abs(-9223372036854775808)"
"""The one expression that always fails ("integer overflow"), on every build of SQLite; evaluated only when reached."""


def required(condition: str, what: str) -> str:
    """A statement that fails unless *condition* holds.

    :param what: what has to be so; a person reads it in the failed statement.
    """
    return f"SELECT CASE WHEN {condition} THEN 1 ELSE {_FAIL} END AS {quoted(what)}"


def master(schema: str | None) -> str:
    """The catalog of a schema."""
    return "sqlite_master" if schema is None else f"{quoted(schema)}.sqlite_master"


def doomed_triggers(old: Draft, new: Draft) -> list[str]:
    """Triggers of emc's own that name a column which goes: guards and syncs of that column, and of no more use."""
    return [
        name
        for name, sql in old.triggers.items()
        if is_own(name) and any(mentions(sql, column) for column in new.dropped)
    ]


def rebuild_statements(old: Draft, new: Draft, leftovers: Sequence[TableKey]) -> list[str]:
    """The statements of one rebuild, to be run with ``Transaction.REBUILD``."""
    key = old.key
    aside = TableKey(key.schema, temporary_name(key.name))
    doomed = doomed_triggers(old, new)
    statements = [f"DROP TABLE IF EXISTS {qualified(name)}" for name in leftovers]
    statements += [
        required("0", f"{what} does not name a column that is dropped") for what in left_behind(new)
    ]
    statements.append(_unchanged(old, doomed))
    statements.append(f"ALTER TABLE {qualified(key)} RENAME TO {quoted(aside.name)}")
    statements.append(in_schema(new.sql, key.schema))
    statements.append(_copy(old, new, aside))
    if _has_sequence(old.sql) and _has_sequence(new.sql):
        sequence = f"{quoted(key.schema or 'main')}.sqlite_sequence"
        statements += [
            f"DELETE FROM {sequence} WHERE name = {literal(key.name)}",
            (
                f"INSERT INTO {sequence} (name, seq) SELECT {literal(key.name)}, seq FROM {sequence}"
                f" WHERE name = {literal(aside.name)}"
            ),
        ]
    statements.append(
        required(
            f"(SELECT count(*) FROM {qualified(key)}) = (SELECT count(*) FROM {qualified(aside)})",
            f"every row of {key} was copied",
        )
    )
    statements.append(f"DROP TABLE {qualified(aside)}")
    statements += [in_schema(sql, key.schema) for sql in new.indexes.values()]
    statements += [in_schema(sql, key.schema) for name, sql in new.triggers.items() if name not in doomed]
    return statements


def _unchanged(old: Draft, doomed: Sequence[str]) -> str:
    """A rebuild writes the table anew from texts read earlier: what came since would be lost without a word."""
    left_out = "".join(f" AND name <> {literal(name)}" for name in doomed)
    triggers = {name: sql for name, sql in old.triggers.items() if name not in doomed}
    texts = [
        *(sql for _, sql in sorted(old.indexes.items())),
        old.sql,
        *(sql for _, sql in sorted(triggers.items())),
    ]
    return required(
        f"(SELECT group_concat(sql, ';') FROM (SELECT sql FROM {master(old.key.schema)}"
        f" WHERE tbl_name = {literal(old.key.name)} COLLATE NOCASE AND sql IS NOT NULL{left_out}"
        f" ORDER BY type, name)) = {literal(';'.join(texts))}",
        f"{old.key} is as it was when this was planned",
    )


def _copy(old: Draft, new: Draft, aside: TableKey) -> str:
    before, after = parse(old.sql), parse(new.sql)
    into: list[str] = []
    values: list[str] = []
    names = {column.name.lower() for column in (*before.columns, *after.columns)}
    rowid = next((name for name in ("rowid", "_rowid_", "oid") if name not in names), None)
    if rowid is not None and not before.without_rowid and not after.without_rowid:
        into.append(rowid)
        values.append(rowid)
    for column in after.columns:
        source = before.column(column.name)
        # A generated column computes itself; a new one takes its default.
        if column.clause("generated") is None and source is not None:
            into.append(quoted(column.name))
            retyped = column.name.lower() in new.retyped
            values.append(_converted(source, column) if retyped else quoted(column.name))
    # OR ABORT overrules ON CONFLICT IGNORE and REPLACE of the table, which would lose rows silently.
    return (
        f"INSERT OR ABORT INTO {qualified(new.key)} ({', '.join(into)})"
        f" SELECT {', '.join(values)} FROM {qualified(aside)}"
    )


def _converted(old: ColumnText, new: ColumnText) -> str:
    """A value under another type.

    Storing it applies the new affinity, which converts what can be converted without loss ('12' to 12) and leaves the
    rest as it is, where CAST would make 'abc' a 0. Between text and bytes, which no affinity converts, CAST is the one
    that loses nothing.
    """
    name = quoted(new.name)
    before, after = affinity(old.type), affinity(new.type)
    if after == "BLOB" and before != "BLOB" and new.type:
        return f"CAST({name} AS BLOB)"
    if before == "BLOB" and after == "TEXT":
        return f"CAST({name} AS TEXT)"
    return name


def affinity(declared: str) -> str:
    """The affinity of a column, by the rules of https://sqlite.org/datatype3.html#determination_of_column_affinity."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in upper or not upper:
        return "BLOB"
    if any(word in upper for word in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


def _has_sequence(sql: str) -> bool:
    return any(clause.argument == "AUTOINCREMENT" for clause in parse(sql).clauses if clause.inline)


def left_behind(new: Draft) -> list[str]:
    """What names a dropped column and was not dropped with it.

    SQLite would not always notice: it takes a name in double quotes that is no column for a string.
    """
    text = parse(new.sql)
    found = [
        f"{clause.kind} {clause.name or clause.argument}"
        for clause in text.clauses
        if clause.kind in ("check", "generated")
        and any(mentions(clause.argument, column) for column in new.dropped)
    ]
    found += [
        f"index {name}"
        for name, sql in new.indexes.items()
        if any(mentions(index_body(sql), column) for column in new.dropped)
    ]
    return found
