"""What does a person's function of a row answer, and how is it called?"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table

from emc.errors import DeclarationError
from emc.names import TableKey, dotted
from emc.upgrade.targets import column_of


class Deletion(enum.Enum):
    """The type of :data:`DELETE`."""

    DELETE = "delete"

    def __repr__(self) -> str:
        return "emc.DELETE"


DELETE: Final = Deletion.DELETE
"""What a function of a data migration answers to delete the row."""


@dataclass(frozen=True, eq=False)
class CallFunction:
    """A function of each row, which answers what to write to it."""

    function: Callable[..., Any]
    place: str
    """``path:line`` of the declaration."""
    takes_connection: bool
    """Whether it wants the connection as a second argument, to write elsewhere in the same transaction."""
    column: str | None = None
    """The function answers the value of this one column; ``None``: a dictionary by column."""

    @classmethod
    def of(cls, function: Callable[..., Any], place: str, *, column: str | None = None) -> CallFunction:
        """Decide once, from its signature, how *function* is called."""
        return cls(function, place, _takes_connection(function), column)

    def answer(self, row: Row[Any], connection: Connection, table: Table) -> Mapping[str, Any] | Deletion:
        """What is to be written to *row* of *table*, by column name; empty: nothing.

        :raises DeclarationError: the answer is of another kind, or names a column that the table does
        not have.
        """
        return self.answering(connection, table)(row)

    def answering(
        self, connection: Connection, table: Table
    ) -> Callable[[Row[Any]], Mapping[str, Any] | Deletion]:
        """:meth:`answer` for many rows: what is the same for all of them is looked up once."""
        function, more = self.function, (connection,) if self.takes_connection else ()
        column, names = self.column, frozenset(table.c.keys())

        def answer(row: Row[Any]) -> Mapping[str, Any] | Deletion:
            given = function(row, *more)
            if isinstance(given, Deletion):
                return DELETE
            if column is not None:
                return {} if given is None else {column: given}
            if type(given) is dict and names.issuperset(given):
                return given
            return _values(given, "A data migration", table, self.place)

        return answer


@dataclass(frozen=True, eq=False)
class Merge:
    """A function of the row that stays and of a row that goes, which answers what to write to the former."""

    function: Callable[..., Any]
    place: str
    """``path:line`` of the declaration."""
    takes_connection: bool
    """Whether it wants the connection as a third argument, to point what refers to the one row to the other."""

    @classmethod
    def of(cls, function: Callable[..., Any], place: str) -> Merge:
        """Decide once, from its signature, how *function* is called."""
        return cls(function, place, _takes_connection(function, rows=2))

    def answer(
        self, winner: Row[Any], loser: Row[Any], connection: Connection, table: Table
    ) -> Mapping[str, Any]:
        """What is to be written to *winner* of *table*, by column name; empty: nothing.

        :raises DeclarationError: the answer is of another kind, or names a column that the table does not have.
        """
        given = (
            self.function(winner, loser, connection)
            if self.takes_connection
            else self.function(winner, loser)
        )
        if isinstance(given, Deletion):
            raise DeclarationError(
                f"The merge of two rows of {_key(table)} answered emc.DELETE; the loser is deleted in any case.",
                places=[self.place],
                remedy="Answer the values to write to the winner, by column, or None.",
            )
        return _values(given, "The merge of two rows", table, self.place)


def _values(given: Any, what: str, table: Table, place: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DeclarationError(
            f"{what} of {_key(table)} answered {given!r}.",
            places=[place],
            remedy="Answer a dictionary of the values to write by column, emc.DELETE, or None to leave the row.",
        )
    return {_column(column, what, table, place): value for column, value in given.items()}


def _column(column: Any, what: str, table: Table, place: str) -> str:
    if isinstance(column, str):
        name = column
    else:
        resolved = column_of(column, place)
        if _key(resolved.table) != _key(table):
            raise DeclarationError(
                f"{what} of {_key(table)} answered a value for "
                f"{dotted(resolved.table.schema, resolved.table.name, resolved.name)}.",
                places=[place],
                remedy="Take the connection as an argument more to write to another table.",
            )
        name = resolved.name
    if name not in table.c:
        raise DeclarationError(
            f"{what} of {_key(table)} answered a value for a column {name!r}, which the table does not have.",
            places=[place],
            remedy=f"It has {', '.join(table.c.keys())}.",
        )
    return name


def _takes_connection(function: Callable[..., Any], rows: int = 1) -> bool:
    """Whether *function* has a parameter for the connection behind those for *rows* rows."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # Some builtins have no signature; they take one value.
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # One more with a default, such as rounding=2, is the function's own business.
    return len(positional) > rows and (
        positional[rows].default is inspect.Parameter.empty or positional[rows].name == "connection"
    )


def _key(table: Any) -> TableKey:
    return TableKey(table.schema, table.name)
