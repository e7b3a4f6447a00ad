"""How is a row read for a person's function, as the types of the models have it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Enum,
    Result,
    Row,
    Select,
    String,
    Table,
    TypeDecorator,
    select,
    type_coerce,
)
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import DBAPIError

from emc.data.walk import Key, Walk

_AT_A_TIME = 500
"""Rows that are objects at a time: those of a whole batch would keep Python's garbage collector busy."""


class UnreadableError(Exception):
    """A row holds a value that a type of the models cannot read. It is not told which: others may not see it."""

    def __init__(self, cause: Exception, columns: Sequence[str] = ()) -> None:
        where = ", ".join(columns) or "a column"
        super().__init__(
            f"the type that the models give {where} cannot read its value ({type(cause).__name__})"
        )
        self.cause = cause

    def located(self, connection: Connection, walk: Walk, keys: Sequence[Key]) -> UnreadableError:
        """The same with the names of the columns, where only the rows with *keys* come into question."""
        named: list[str] = []
        for column in walk.work.table.c:
            query = select(_seen(column)).where(walk.among(keys))
            try:
                connection.execute(query).all()
            except DBAPIError:
                raise
            except Exception:  # noqa: BLE001  # A type may raise anything.
                named.append(f"{walk.work.key}.{column.name}")
        return UnreadableError(self.cause, named)


def seen_columns(table: Table) -> list[ColumnElement[Any]]:
    """What to select of *table*, in the order of its columns, to give it to a function."""
    return [_seen(column) for column in table.c]


def typed_rows(
    connection: Connection, walk: Walk, query: Select[Any]
) -> Iterator[tuple[Row[Any], tuple[Any, ...]]]:
    """What *query* answers: rows as a function sees them, each with whatever is selected behind :func:`seen_columns`.

    :raises UnreadableError: a type of the models cannot read a value.
    """
    names = [column.name for column in walk.work.table.c]
    seen, behind = slice(len(names)), slice(len(names), None)
    described = SimpleResultMetaData(names)
    with connection.execute(query) as found:
        for some in _fetched(found):
            shown: IteratorResult[Any] = IteratorResult(described, iter([row[seen] for row in some]))
            yield from zip(shown.all(), [row[behind] for row in some], strict=True)


def _fetched(found: Result[Any]) -> Iterator[Sequence[Row[Any]]]:
    some = found.partitions(_AT_A_TIME)
    while True:
        try:
            rows = next(some, None)
        except DBAPIError:
            raise
        except Exception as error:
            raise UnreadableError(error) from error
        if rows is None:
            return
        yield rows


def _seen(column: ColumnElement[Any]) -> ColumnElement[Any]:
    kind = column.type
    if not isinstance(kind, Enum):
        return column
    if kind.enum_class is None:
        return type_coerce(column, String())
    named = kind.enum_class.__members__
    # Aliases of members are labels where the type was told omit_aliases=False.
    members = [one for name, one in named.items() if one.name == name or len(kind.enums) == len(named)]
    return type_coerce(column, _Labels(tuple(zip(kind.enums, members, strict=True))))


class _Labels(TypeDecorator[Any]):
    """The members of an enumeration by their labels; a label that the models no longer have stays text.

    To get rid of it, a data migration has to see it.
    """

    impl = String
    cache_ok = True

    def __init__(self, members: tuple[tuple[str, Any], ...] = ()) -> None:
        super().__init__()
        self.members = members
        self._by_label = dict(members)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The member, else what is there."""
        return self._by_label.get(value, value)
