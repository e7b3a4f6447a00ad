"""What can be said about a table when the server does not tell how it would spell it?

A read-only role cannot create a scratch table. Text is compared after harmless normalisation then: equal text is
equal, and different literals differ; about different expressions nothing is known, and that is what is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, exc
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.schema import DefaultClause

from emc.dialects.base import Dialect
from emc.diff.facts import type_text
from emc.diff.text import normal, says_something, single_percents

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_LITERALS = (re.compile(r"'(?:[^']|'')*'"), re.compile(r"true|false|null", re.IGNORECASE))
_TYPE = re.compile(r"(?P<name>[^()]+)(?:\((?P<arguments>.*)\))?(?P<rest>[^()]*)")
_LETTERS = re.compile(r" CHARACTER SET \w+| COLLATE \S+")
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
    # 't' and true may be the same: literals of one kind differ, those of two kinds may not.
    return True if any(kind.fullmatch(mine) and kind.fullmatch(theirs) for kind in _LITERALS) else None


def type_differs(wanted: str, live: str) -> bool:
    """Whether two types of one name have other arguments or attributes: ``VARCHAR(50)`` and ``VARCHAR``."""
    attributes = [_ATTRIBUTE.findall(text) for text in (wanted, live)]
    mine, theirs = (
        _TYPE.fullmatch(_ATTRIBUTE.sub("", _LETTERS.sub("", text)).strip()) for text in (wanted, live)
    )
    return (
        mine is not None
        and theirs is not None
        and mine["name"].strip() == theirs["name"].strip()
        and (_arguments(mine) != _arguments(theirs) or attributes[0] != attributes[1])
    )


def _arguments(match: re.Match[str]) -> str:
    # NUMERIC(10) is NUMERIC(10, 0).
    return (match["arguments"] or "").replace(" ", "").removesuffix(",0")


def check_text(check: CheckConstraint, dialect: SQLAlchemyDialect) -> str:
    """The condition of *check* as DDL spells it."""
    compiler = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    text = compiler.sql_compiler.process(check.sqltext, include_table=False, literal_binds=True)
    return single_percents(text, dialect)


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
