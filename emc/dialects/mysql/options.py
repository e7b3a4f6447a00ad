"""Which options of the models count, where SQLAlchemy has two names for one server?

SQLAlchemy takes options that begin with ``mysql_`` for ``mysql://`` URLs and those with ``mariadb_`` for ``mariadb://``
ones. Projects often give only the first, and connect by either. An index on a long text cannot even be made without
its length; so what an index says under the other name counts as long as it says nothing under the own one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Index, MetaData, Table, text
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

NAMES = ("mariadb", "mysql")
"""What options may begin with."""

CHARSET_OPTIONS = ("charset", "character_set", "default_charset", "default_character_set")
COLLATION_OPTIONS = ("collate", "default_collate")
"""The names of SQLAlchemy's options for the character set and the collation of a table, which all mean the same."""

_INDEX_OPTIONS = ("length", "prefix", "using", "with_parser")


def index_options(index: Index, dialect: SQLAlchemyDialect) -> tuple[dict[str, Any], dict[str, Any]]:
    """What *index* says under the name of *dialect*, and what it says under the other name alone."""
    own = _said(index, dialect.name)
    (other,) = (name for name in NAMES if name != dialect.name)
    return own, {option: value for option, value in _said(index, other).items() if option not in own}


def _said(index: Index, name: str) -> dict[str, Any]:
    return {
        option: index.dialect_kwargs[f"{name}_{option}"]
        for option in _INDEX_OPTIONS
        if index.dialect_kwargs.get(f"{name}_{option}") is not None
    }


def lengths(length: int | Mapping[str, int] | None, columns: list[str]) -> dict[str, int]:
    """The lengths of the prefixes that an index has of its columns, from one number or one for each."""
    if length is None:
        return {}
    return dict.fromkeys(columns, length) if isinstance(length, int) else dict(length)


def completed(index: Index, dialect: SQLAlchemyDialect) -> Index:
    """*index* with what it says under the other name; itself where that is nothing, or where it is more than columns.

    Its copy belongs to a bare table, so that the models are left as they are.
    """
    own, other = index_options(index, dialect)
    columns = [expression for expression in index.expressions if isinstance(expression, Column)]
    if not other or len(columns) != len(index.expressions) or index.table is None:
        return index
    options = {**other, **own}
    length = lengths(options.pop("length", None), [column.name for column in columns])
    quote = dialect.identifier_preparer.quote
    elements = [
        text(quote(column.name) + (f"({length[column.name]})" if column.name in length else ""))
        for column in columns
    ]
    table = Table(index.table.name, MetaData(), schema=index.table.schema)
    return Index(
        index.name,
        *elements,
        unique=index.unique,
        _table=table,
        **{f"{dialect.name}_{option}": value for option, value in options.items()},
    )
