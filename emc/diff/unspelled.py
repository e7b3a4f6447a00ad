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

from emc.diff.text import normal

_LITERAL = re.compile(r"'(?:[^']|'')*'|[-+]?\d+(?:\.\d+)?|true|false|null", re.IGNORECASE)
_TYPE = re.compile(r"(?P<name>[^()]+)(?:\((?P<arguments>[^()]*)\))?(?P<rest>.*)")


def default_text(column: Column[Any], dialect: SQLAlchemyDialect) -> str | None:
    """The default of *column* as DDL spells it."""
    if not isinstance(column.server_default, DefaultClause):
        return None
    try:
        text = dialect.ddl_compiler(dialect, None).get_column_default_string(column)  # type: ignore[arg-type]
    except (exc.CompileError, NotImplementedError):
        return str(column.server_default.arg)
    return str(text)


def default_differs(column: Column[Any], live: str | None, dialect: SQLAlchemyDialect) -> bool | None:
    """Whether the default of *column* is another one than *live*; ``None``: nobody knows."""
    wanted = default_text(column, dialect)
    if live == "nextval":
        # What SERIAL gives is no default of the models.
        return wanted is not None
    if wanted is None or live is None:
        return wanted is not live
    mine, theirs = normal(wanted), normal(live)
    if _bare(mine) == _bare(theirs):
        return False
    return True if _LITERAL.fullmatch(mine) and _LITERAL.fullmatch(theirs) else None


def type_differs(wanted: str, live: str) -> bool:
    """Whether two types of one name have other arguments: ``VARCHAR(50)`` and ``VARCHAR``."""
    mine, theirs = _TYPE.fullmatch(wanted), _TYPE.fullmatch(live)
    return (
        mine is not None
        and theirs is not None
        and mine["name"].strip() == theirs["name"].strip()
        and (mine["arguments"] or "").replace(" ", "") != (theirs["arguments"] or "").replace(" ", "")
    )


def check_text(check: CheckConstraint, dialect: SQLAlchemyDialect) -> str:
    """The condition of *check* as DDL spells it."""
    compiler = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    return compiler.sql_compiler.process(check.sqltext, include_table=False, literal_binds=True)


def index_is_doubtful(index: Index, live: Mapping[str, Any], dialect: SQLAlchemyDialect) -> bool:
    """Whether either side of an index has something that only the server can compare."""
    prefix = f"{dialect.name}_"
    return (
        any(not isinstance(expression, Column) for expression in index.expressions)
        or any(value and key.startswith(prefix) for key, value in index.dialect_kwargs.items())
        or bool(live.get("expressions") or live.get("column_sorting") or live.get("include_columns"))
        or any((live.get("dialect_options") or {}).values())
    )


def _bare(text: str) -> str:
    """A literal without its quotes: the server casts ``'0'`` to 0 by itself."""
    return text[1:-1] if text.startswith("'") and text.endswith("'") else text
