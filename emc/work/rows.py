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
        given = self.function(row, connection) if self.takes_connection else self.function(row)
        if isinstance(given, Deletion):
            return DELETE
        if self.column is not None:
            return {} if given is None else {self.column: given}
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise DeclarationError(
                f"A data migration of {_key(table)} answered {given!r}.",
                places=[self.place],
                remedy="Answer a dictionary of the values to write by column, emc.DELETE, or None to leave the row.",
            )
        return {self._column(column, table): value for column, value in given.items()}

    def _column(self, column: Any, table: Table) -> str:
        if isinstance(column, str):
            name = column
        else:
            resolved = column_of(column, self.place)
            if _key(resolved.table) != _key(table):
                raise DeclarationError(
                    f"A data migration of {_key(table)} answered a value for "
                    f"{dotted(resolved.table.schema, resolved.table.name, resolved.name)}.",
                    places=[self.place],
                    remedy="Take the connection as a second argument to write to another table.",
                )
            name = resolved.name
        if name not in table.c:
            raise DeclarationError(
                f"A data migration of {_key(table)} answered a value for a column {name!r}, which the table does "
                "not have.",
                places=[self.place],
                remedy=f"It has {', '.join(table.c.keys())}.",
            )
        return name


def _takes_connection(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # Some builtins have no signature; they take one value.
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # A second parameter with a default, such as rounding=2, is the function's own business.
    return len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name == "connection"
    )


def _key(table: Any) -> TableKey:
    return TableKey(table.schema, table.name)
