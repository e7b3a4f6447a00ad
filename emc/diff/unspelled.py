"""What can be said about a table when the server does not tell how it would spell it?

A read-only role cannot create a scratch table. Text is compared after harmless normalisation then: equal text is
equal, and different literals differ; about different expressions nothing is known, and that is what is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, Table, exc, types
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.schema import DefaultClause

from emc.dialects.base import Dialect
from emc.diff.facts import type_text
from emc.diff.text import normal, says_something, single_percents

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_LITERALS = (re.compile(r"'(?:[^']|'')*'"), re.compile(r"true|false|null", re.IGNORECASE))
_TEMPORAL = (types.Date, types.DateTime, types.Time)
_FILLING = "'0:. "
"""What the server puts behind a point in time that is told shortly: ``2020-01-01 00:00:00``, ``10:00:00.500``."""
_TYPE = re.compile(r"(?P<name>[^()]+)(?:\((?P<arguments>.*)\))?(?P<rest>[^()]*)")
_LETTERS = re.compile(r" (CHARACTER SET|COLLATE) (\S+)")
_ATTRIBUTE = re.compile(r" (?:UNSIGNED|ZEROFILL)")


def default_text(column: Column[Any], dialect: SQLAlchemyDialect) -> str | None:
    """The default of *column* as DDL spells it."""
    if not isinstance(column.server_default, DefaultClause):
        return None
    try:
        text = dialect.ddl_compiler(dialect, None).get_column_default_string(column)  # type: ignore[arg-type]
    except (exc.CompileError, NotImplementedError):
        return str(column.server_default.arg)
    return single_percents(str(text), dialect)


def default_differs(
    column: Column[Any], live: str | None, dialect: SQLAlchemyDialect, database: Dialect
) -> bool | None:
    """Whether the default of *column* is another one than *live*; ``None``: nobody knows."""
    wanted = default_text(column, dialect)
    if wanted is not None:
        wanted = database.shown_default(wanted, database.shown_type(type_text(column.type, dialect)))
    if live == "nextval":
        # What SERIAL gives is no default of the models.
        return wanted is not None and not wanted.lower().startswith("nextval(")
    if wanted is None or live is None:
        return wanted is not live
    mine, theirs = normal(wanted), normal(live)
    if _bare(mine) == _bare(theirs):
        return False
    if _NUMBER.fullmatch(_bare(mine)) and _NUMBER.fullmatch(_bare(theirs)):
        return float(_bare(mine)) != float(_bare(theirs))
    if isinstance(column.type, _TEMPORAL) and mine.rstrip(_FILLING) == theirs.rstrip(_FILLING):
        return None
    # 't' and true may be the same: literals of one kind differ, those of two kinds may not.
    return True if any(kind.fullmatch(mine) and kind.fullmatch(theirs) for kind in _LITERALS) else None


def type_differs(wanted: str, live: str, options: Mapping[str, str]) -> bool | None:
    """Whether two types, as a snapshot spells them, are different ones; ``None``: that is not to be seen.

    :param options: those of the live table, which say what holds for a column that says nothing.
    """
    mine, theirs = _LETTERS.sub("", wanted), _LETTERS.sub("", live)
    if mine == theirs:
        # A character set or collation that the models leave unsaid may be any.
        there = _letters(live, options)
        return any(there.get(what, value) != value for what, value in _letters(wanted, {}).items())
    if _ATTRIBUTE.findall(mine) != _ATTRIBUTE.findall(theirs):
        return True
    parts = [_TYPE.fullmatch(_ATTRIBUTE.sub("", text).strip()) for text in (mine, theirs)]
    if None in parts:
        return None
    my_match, their_match = parts
    assert my_match is not None
    assert their_match is not None
    same_name = my_match["name"].strip() == their_match["name"].strip()
    return True if same_name and _arguments(my_match) != _arguments(their_match) else None


def _letters(text: str, options: Mapping[str, str]) -> dict[str, str]:
    """The character set and the collation of a type, as far as they are known."""
    said = {what: value.replace("utf8_", "utf8mb3_") for what, value in _LETTERS.findall(text)}
    collation = said.get("COLLATE", options.get("collate"))
    charset = said.get("CHARACTER SET")
    if charset is None and options:
        charset = collation.partition("_")[0] if "COLLATE" in said and collation else options.get("charset")
    found = {"COLLATE": collation, "CHARACTER SET": "utf8mb3" if charset == "utf8" else charset}
    return {what: value for what, value in found.items() if value is not None}


def _arguments(match: re.Match[str]) -> str:
    # NUMERIC(10) is NUMERIC(10, 0).
    return (match["arguments"] or "").replace(" ", "").removesuffix(",0")


def primary_key(model: Table) -> tuple[str, ...]:
    """The columns of the primary key in the order in which DDL lists them: the one that counts comes first."""
    key = model.primary_key
    columns = key.columns_autoinc_first if key._implicit_generated else key.columns  # noqa: SLF001  # as DDL does
    return tuple(column.name for column in columns)


def check_text(check: CheckConstraint, dialect: SQLAlchemyDialect) -> str:
    """The condition of *check* as DDL spells it."""
    compiler = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    text = compiler.sql_compiler.process(check.sqltext, include_table=False, literal_binds=True)
    return single_percents(text, dialect)


def same_elements(index: Index, live: Mapping[str, Any], dialect: SQLAlchemyDialect) -> bool:
    """Whether an index over more than columns lists the same as *live*, and neither side says anything else."""
    if all(isinstance(expression, Column) for expression in index.expressions) or index.dialect_kwargs:
        return False
    if (
        live.get("expressions")
        or live.get("dialect_options")
        or bool(index.unique) != bool(live.get("unique"))
    ):
        return False
    sorting = live.get("column_sorting") or {}
    there = [" ".join((name, *sorting.get(name, ()))) for name in live.get("column_names", ())]
    compiler: Any = dialect.ddl_compiler(dialect, None).sql_compiler  # type: ignore[arg-type]
    listed = [
        single_percents(compiler.process(one, include_table=False, literal_binds=True), dialect)
        for one in index.expressions
    ]
    return [normal(one) for one in listed] == [normal(one) for one in there]


def index_is_doubtful(
    index: Index, live: Mapping[str, Any], dialect: SQLAlchemyDialect, database: Dialect
) -> bool:
    """Whether either side of an index has something that only the server can compare."""
    prefixes = tuple(f"{name}_" for name in (dialect.name, *database.option_names))
    return (
        any(not isinstance(expression, Column) for expression in index.expressions)
        or any(
            key.startswith(prefixes) and says_something(value) for key, value in index.dialect_kwargs.items()
        )
        or bool(live.get("expressions") or live.get("column_sorting") or live.get("include_columns"))
        or any(map(says_something, (live.get("dialect_options") or {}).values()))
    )


def _bare(text: str) -> str:
    """A literal without its quotes: the server casts ``'0'`` to 0 by itself."""
    return text[1:-1] if text.startswith("'") and text.endswith("'") else text
