"""How does PostgreSQL's catalog tell that a step is done?

Each probe looks at structure and not at names alone: an index that is INVALID, a constraint that is NOT VALID or a
column of another type is not what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import CHAR, TIMESTAMP, DateTime, Numeric, String, Time
from sqlalchemy.dialects.postgresql import ARRAY, BIT, INTERVAL
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.naming import identifier, literal, qualified, table_name
from emc.dialects.postgresql.rendering import type_text
from emc.names import TableKey
from emc.steps import Probe

_ARGUMENTS = re.compile(r"\(([^)]*)\)")
_WITH_ARGUMENTS = (String, Numeric, DateTime, TIMESTAMP, Time, BIT, INTERVAL)
"""Types whose arguments PostgreSQL shows as SQLAlchemy writes them."""


def table_exists(key: TableKey, columns: Sequence[str]) -> Probe:
    """The table is there, with all of *columns*."""
    return Probe(
        f"SELECT (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        f" WHERE a.attrelid = {_regclass(key)} AND c.relkind IN ('r', 'p') AND NOT a.attisdropped"
        f" AND a.attname = ANY ({_array(columns)})) = {len(columns)} AND {_regclass(key)} IS NOT NULL",
        f"table {key} exists",
    )


def table_gone(key: TableKey) -> Probe:
    """Nothing bears the name of the table."""
    return Probe(f"SELECT {_regclass(key)} IS NULL", f"table {key} is gone")


def column(key: TableKey, name: str, expects: str, *conditions: str) -> Probe:
    """The column is there, and *conditions* on its ``pg_attribute a`` hold."""
    return Probe(f"SELECT EXISTS ({_column(key, name, *conditions)})", f"column {key}.{name} {expects}")


def column_gone(key: TableKey, name: str) -> Probe:
    """The table is there, and the column is not."""
    return Probe(
        f"SELECT {_regclass(key)} IS NOT NULL AND NOT EXISTS ({_column(key, name)})",
        f"column {key}.{name} is gone",
    )


def has_type(type_: TypeEngine[Any]) -> str:
    """The condition that a column is of *type_*, length and precision included."""
    text = type_text(type_)
    condition = f"a.atttypid = to_regtype({literal(text)}){_has_collation(type_)}"
    if isinstance(type_, ARRAY):
        type_ = type_.item_type
    if not isinstance(type_, _WITH_ARGUMENTS) or text.upper().startswith("FLOAT"):
        return condition
    found = _ARGUMENTS.search(text)
    arguments = found[1].replace(" ", "") if found else None
    if arguments is not None and isinstance(type_, Numeric) and "," not in arguments:
        arguments += ",0"
    if arguments is None and isinstance(type_, (CHAR, BIT)) and "VAR" not in text.upper():
        arguments = "1"
    expected = "NULL" if arguments is None else literal(arguments)
    shown = r"substring(format_type(a.atttypid, a.atttypmod) FROM '\(([^)]*)\)')"
    return f"{condition} AND {shown} IS NOT DISTINCT FROM {expected}"


def _has_collation(type_: TypeEngine[Any]) -> str:
    if not isinstance(type_, String):
        return ""
    if type_.collation:
        return f" AND a.attcollation = to_regcollation({literal(identifier(type_.collation))})"
    return " AND a.attcollation = (SELECT t.typcollation FROM pg_type t WHERE t.oid = a.atttypid)"


def has_default(before: str | None) -> str:
    """The condition that a column has a default, and another one than *before*."""
    condition = (
        "(SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d"
        " WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)"
    )
    different = f" AND {condition} <> {literal(before)}" if before is not None else ""
    return f"a.atthasdef{different}"


def comment(key: TableKey, name: str | None, text: str | None) -> Probe:
    """The comment of the table, or of its column *name*, is *text*."""
    expected = "NULL" if text is None else literal(text)
    if name is None:
        shown = f"obj_description({_regclass(key)}, 'pg_class')"
        return Probe(
            f"SELECT {_regclass(key)} IS NOT NULL AND {shown} IS NOT DISTINCT FROM {expected}",
            f"the comment of table {key} is that of the models",
        )
    condition = f"col_description(a.attrelid, a.attnum) IS NOT DISTINCT FROM {expected}"
    return column(key, name, "has the comment of the models", condition)


def index(
    key: TableKey,
    name: str,
    unique: bool,
    columns: Sequence[str | None],
    was: str | None = None,
    shown: str | None = None,
) -> Probe:
    """The index is there and complete, and says what it has to say.

    That of a partitioned table is complete once every partition has its own.

    :param columns: its columns; ``None`` where one cannot be told from an expression, which may be a column after all.
    :param was: the definition that it must not have any more.
    :param shown: the definition that it has to have, where that is known: columns and *was* count for nothing then.
    """
    if shown is not None:
        conditions = [_is_shown(shown, key)]
    else:
        found = _columns("i.indkey", "i.indrelid", "i.indnkeyatts")
        conditions = [f"i.indnkeyatts = {len(columns)}", f"i.indisunique = {_boolean(unique)}"]
        if None not in columns:
            conditions.append(f"{found} = {_array(columns)}")
        else:
            named = [(place, one) for place, one in enumerate(columns, 1) if one is not None]
            conditions += [f"({found})[{place}] = {literal(one)}" for place, one in named]
        if was is not None:
            conditions.append(f"NOT ({_is_shown(was, key)})")
    return Probe(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        f" WHERE i.indrelid = {_regclass(key)} AND c.relname = {literal(name)} AND i.indisvalid AND i.indisready"
        f" AND {' AND '.join(conditions)})",
        f"index {name} of table {key} is complete",
    )


def _is_shown(definition: str, key: TableKey) -> str:
    """The condition that index ``i`` has *definition*, in the form that a snapshot has it."""
    tail = literal(_bare_text(definition.removeprefix("UNIQUE "), key))
    unique = _boolean(definition.startswith("UNIQUE "))
    text = _bare("pg_get_indexdef(i.indexrelid)", key)
    return f"i.indisunique = {unique} AND right({text}, length({tail})) = {tail}"


def index_gone(key: TableKey, name: str) -> Probe:
    """The table has no index of that name, valid or not."""
    return Probe(
        "SELECT NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        f" WHERE i.indrelid = {_regclass(key)} AND c.relname = {literal(name)})",
        f"index {name} of table {key} is gone",
    )


def constraint(
    key: TableKey,
    name: str,
    kind: str,
    columns: Sequence[str] | None = None,
    parent: TableKey | None = None,
    was: str | None = None,
) -> Probe:
    """The constraint is there and validated, and its definition is not *was*.

    :param kind: ``pg_constraint.contype``.
    :param columns: its columns in their order; ``None`` where they are not known.
    :param parent: the table that a foreign key refers to.
    """
    # That of a partitioned table holds once every partition has its own: its index tells.
    conditions = (
        " AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = k.conindid AND NOT i.indisvalid)"
    )
    if columns is not None:
        conditions += f" AND {_columns('k.conkey', 'k.conrelid')} = {_array(columns)}"
    if parent is not None:
        conditions += f" AND k.confrelid = {_regclass(parent)}"
    if was is not None:
        shown = _bare("pg_get_constraintdef(k.oid, true)", key)
        conditions += f" AND {shown} <> {literal(_bare_text(was, key))}"
    return Probe(
        f"SELECT EXISTS ({_constraint(key, name)} AND k.contype = {literal(kind)} AND k.convalidated{conditions})",
        f"constraint {name} of table {key} is there and holds for every row",
    )


def constraint_gone(key: TableKey, name: str) -> Probe:
    """The table has no constraint of that name, valid or not."""
    return Probe(f"SELECT NOT EXISTS ({_constraint(key, name)})", f"constraint {name} of table {key} is gone")


def enum_has(schema: str | None, name: str, labels: Sequence[str], *, exactly: bool) -> Probe:
    """The enumerated type has *labels*: among others, or these and no others in this order."""
    found = (
        "ARRAY(SELECT CAST(e.enumlabel AS text) FROM pg_enum e"
        f" WHERE e.enumtypid = to_regtype({literal(qualified(schema, name))}) ORDER BY e.enumsortorder)"
    )
    listed = ", ".join(labels)
    return Probe(
        f"SELECT {found} {'=' if exactly else '@>'} {_array(labels)}",
        f"type {qualified(schema, name)} has the labels {listed}",
    )


def enum_gone(schema: str | None, name: str) -> Probe:
    """No type of that name is there."""
    return Probe(
        f"SELECT to_regtype({literal(qualified(schema, name))}) IS NULL",
        f"type {qualified(schema, name)} is gone",
    )


def _regclass(key: TableKey) -> str:
    return f"to_regclass({literal(table_name(key))})"


def _column(key: TableKey, name: str, *conditions: str) -> str:
    more = "".join(f" AND {condition}" for condition in conditions)
    return (
        f"SELECT FROM pg_attribute a WHERE a.attrelid = {_regclass(key)} AND a.attname = {literal(name)}"
        f" AND a.attnum > 0 AND NOT a.attisdropped{more}"
    )


def _constraint(key: TableKey, name: str) -> str:
    return f"SELECT FROM pg_constraint k WHERE k.conrelid = {_regclass(key)} AND k.conname = {literal(name)}"


def _columns(numbers: str, relid: str, count: str | None = None) -> str:
    some = f" WHERE key.position <= {count}" if count is not None else ""
    return (
        f"ARRAY(SELECT CAST(a.attname AS text) FROM unnest({numbers}) WITH ORDINALITY key (attnum, position)"
        f" LEFT JOIN pg_attribute a ON a.attrelid = {relid} AND a.attnum = key.attnum{some} ORDER BY key.position)"
    )


def _array(values: Sequence[str | None]) -> str:
    listed = ", ".join("NULL" if value is None else literal(value) for value in values)
    return f"CAST(ARRAY[{listed}] AS text[])"


def _boolean(value: bool) -> str:
    return str(value).lower()


def _bare(expression: str, key: TableKey) -> str:
    """*expression* without the table's schema, which the snapshot's definitions leave out too."""
    if key.schema is None:
        return expression
    return f"replace({expression}, {literal(identifier(key.schema) + '.')}, '')"


def _bare_text(text: str, key: TableKey) -> str:
    return text if key.schema is None else text.replace(identifier(key.schema) + ".", "")
