"""What makes two elements of a table the same, whichever side they are read from?

Facts are plain values taken from a :class:`~emc.schema.LiveTable`. The server's own text of an element is the fact
wherever the snapshot has it; the inspector's dictionary stands in where it does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.types import TypeEngine

from emc.diff.text import normal, says_something
from emc.names import ElementKind
from emc.schema import LiveTable

_SEQUENCE = re.compile(r"nextval\(", re.IGNORECASE)
_IDENTITY_OPTIONS = ("always", "start", "increment", "minvalue", "maxvalue", "cycle", "cache")


def type_text(type_: TypeEngine[Any], dialect: SQLAlchemyDialect) -> str:
    """The type as DDL spells it; ``""`` for one that nobody knows."""
    try:
        return dialect.type_compiler_instance.process(type_)
    except exc.CompileError:  # NullType: the inspector did not know it either
        return ""


def column_type(table: LiveTable, name: str, dialect: SQLAlchemyDialect) -> tuple[str, str | None]:
    """The type of a column and what its dictionary leaves out of it (collation)."""
    text = type_text(table.columns[name]["type"], dialect)
    if dialect.default_schema_name is not None:
        # A type of the default schema may say so on one side only.
        text = text.removeprefix(f"{dialect.identifier_preparer.quote_schema(dialect.default_schema_name)}.")
    return text, table.definitions.get((ElementKind.COLUMN, name))


def nullable(table: LiveTable, name: str, dialect: SQLAlchemyDialect) -> bool:
    """Whether a column may hold NULL.

    SQLite's ``INTEGER PRIMARY KEY`` is another name of the row id: it never does, though nothing says NOT NULL.
    """
    column: Any = table.columns[name]
    is_row_id = (
        column["nullable"]
        and column.get("autoincrement", "auto") == "auto"
        and primary_key(table) == (name,)
        and type_text(column["type"], dialect) == "INTEGER"
    )
    return bool(column["nullable"]) and not is_row_id


def draws_from_sequence(column: Mapping[str, Any]) -> bool:
    """Whether the column has the default that SERIAL gives."""
    return column.get("autoincrement") is True and bool(_SEQUENCE.match(column.get("default") or ""))


def column_default(table: LiveTable, name: str) -> str | None:
    """The default in the server's words; the sequence of a SERIAL column has whatever name it has."""
    column = table.columns[name]
    return "nextval" if draws_from_sequence(column) else column.get("default")


def column_identity(table: LiveTable, name: str) -> str:
    """How a column makes up its values by itself, as a phrase; ``""`` when it does not."""
    column: Mapping[str, Any] = table.columns[name]
    identity = column.get("identity")
    if identity:
        return (
            "identity (" + ", ".join(f"{k} {identity[k]}" for k in _IDENTITY_OPTIONS if identity.get(k)) + ")"
        )
    if draws_from_sequence(column):
        return "a sequence as its default"
    # Where nothing else says so, the column counts by itself.
    return "AUTO_INCREMENT" if column.get("autoincrement") is True and column.get("default") is None else ""


def column_computed(table: LiveTable, name: str) -> str:
    """The expression of a generated column; ``""`` for any other."""
    computed: Any = table.columns[name].get("computed")
    if not computed:
        return ""
    return f"{computed['sqltext']}{' stored' if computed.get('persisted') else ''}"


def primary_key(table: LiveTable) -> tuple[str, ...]:
    """The columns of the primary key, in order."""
    return tuple(table.primary_key["constrained_columns"]) if table.primary_key else ()


def indexes(table: LiveTable) -> dict[str, object]:
    """The definitions of the indexes, by name; also of those that the inspector does not show."""
    found: dict[str, object] = {
        str(one["name"]): (
            bool(one["unique"]),
            tuple(one.get("expressions") or one["column_names"]),
            tuple(one.get("include_columns") or ()),
            _sorted_items(one.get("column_sorting")),
            _sorted_items(one.get("dialect_options")),
        )
        for one in table.indexes
    }
    return found | _defined(table, ElementKind.INDEX)


def reflected_indexes(table: LiveTable) -> list[dict[str, Any]]:
    """The inspector's dictionaries, with stand-ins for the indexes that it does not show."""
    shown = [dict(one) for one in table.indexes]
    names = {one["name"] for one in shown}
    return shown + [
        {
            "name": name,
            "unique": text.lower().startswith("unique"),
            "column_names": [None],
            "expressions": [text[text.find("(") + 1 : text.rfind(")")]],
        }
        for name, text in _defined(table, ElementKind.INDEX).items()
        if name not in names
    ]


def _defined(table: LiveTable, kind: ElementKind) -> dict[str, str]:
    """The texts of the elements of one kind that are finished, by name."""
    return {
        name: text
        for (its_kind, name), text in sorted(table.definitions.items())
        if its_kind is kind and name not in table.unfinished
    }


def unique(table: LiveTable, reflected: Mapping[str, Any]) -> object:
    """The definition of a unique constraint."""
    text = _constraint_text(table, ElementKind.UNIQUE, reflected["name"])
    if text is not None:
        return text
    return (tuple(reflected["column_names"]), _sorted_items(reflected.get("dialect_options")))


def check(table: LiveTable, reflected: Mapping[str, Any]) -> object:
    """The definition of a CHECK; the bare condition of one without a name."""
    text = _constraint_text(table, ElementKind.CHECK, reflected["name"])
    return text if text is not None else normal(str(reflected["sqltext"]))


def exclusions(table: LiveTable) -> dict[str, str]:
    """The definitions of exclusion constraints, by name."""
    return _defined(table, ElementKind.EXCLUSION)


def table_options(table: LiveTable) -> str:
    """What the server says of the table as a whole: partitioning, ``WITHOUT ROWID``."""
    return ", ".join(_defined(table, ElementKind.TABLE).values())


def _constraint_text(table: LiveTable, kind: ElementKind, name: str | None) -> str | None:
    return None if name is None else table.definitions.get((kind, name))


def _sorted_items(options: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Options that say something, as a value that can be compared."""
    return tuple(sorted((key, str(value)) for key, value in (options or {}).items() if says_something(value)))


def same_table(one: LiveTable, other: LiveTable, dialect: SQLAlchemyDialect) -> bool:
    """Whether two tables agree on everything but their foreign keys."""
    return (
        one.columns.keys() == other.columns.keys()
        and primary_key(one) == primary_key(other)
        and (one.comment or None) == (other.comment or None)
        and exclusions(one) == exclusions(other)
        and table_options(one) == table_options(other)
        and one.options == other.options
        and indexes(one) == indexes(other)
        and all(_same_column(one, other, name, dialect) for name in one.columns)
        and _named(one.uniques, one, unique) == _named(other.uniques, other, unique)
        and _named(one.checks, one, check) == _named(other.checks, other, check)
    )


def _same_column(one: LiveTable, other: LiveTable, name: str, dialect: SQLAlchemyDialect) -> bool:
    mine, theirs = one.columns[name], other.columns[name]
    return (
        nullable(one, name, dialect) is nullable(other, name, dialect)
        and (mine.get("comment") or None) == (theirs.get("comment") or None)
        and column_type(one, name, dialect) == column_type(other, name, dialect)
        and column_default(one, name) == column_default(other, name)
        and column_identity(one, name) == column_identity(other, name)
        and column_computed(one, name) == column_computed(other, name)
        and labels(mine["type"]) == labels(theirs["type"])
    )


def _named(elements: Sequence[Any], table: LiveTable, fact: Any) -> list[tuple[str, str]]:
    """Names with their definitions, in an order that does not depend on the catalog's."""
    return sorted((str(element["name"]), repr(fact(table, element))) for element in elements)


def labels(type_: TypeEngine[Any]) -> tuple[str, ...]:
    """The labels of an enumerated type, or of the items of an array of one; empty for any other type."""
    enums = getattr(getattr(type_, "item_type", type_), "enums", None)
    return tuple(str(label) for label in enums or ())
