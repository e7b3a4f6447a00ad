"""What is known about a table that stands on both sides and is not provably in step?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Column, Constraint, Index, Table, UniqueConstraint
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from emc.dialects.base import Dialect
from emc.diff import facts, unspelled
from emc.names import Element, ElementKind, TableKey
from emc.schema import LiveTable


@dataclass(frozen=True, eq=False)
class Note:
    """Something about the comparison that a person should know, and that leads to no operation."""

    target: str
    """The dotted name of the element."""
    text: str
    """What was found, as a sentence."""
    kind: Literal["not-convergent", "not-compared"]
    """``not-convergent``: the models would differ from a database just made from them. ``not-compared``: the server's
    own spelling of the models could not be had, and their text does not settle the question."""


class Notes:
    """The notes of one comparison, each said once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], Note] = {}

    def not_convergent(self, element: Element, what: str) -> None:
        """*what* of the models is not in a database just made from them either."""
        self._add(
            Note(
                str(element),
                f"The models ask for {what}, which a database just made from them does not have either.",
                "not-convergent",
            )
        )

    def not_compared(self, element: Element, what: str) -> None:
        """Whether *what* is the same on both sides is not known."""
        self._add(
            Note(
                str(element),
                f"Whether {what} is the same in the models and in the database cannot be told without the right to "
                "create a table.",
                "not-compared",
            )
        )

    def _add(self, note: Note) -> None:
        self._notes.setdefault((note.target, note.text), note)

    def sorted(self) -> tuple[Note, ...]:
        """In the order of their targets."""
        return tuple(self._notes[key] for key in sorted(self._notes))


@dataclass(frozen=True, eq=False)
class Pair:
    """One table of the models with its live counterpart.

    Each question is answered from the server's own spelling of the models where that could be had, and else from
    the models' text as far as it goes.
    """

    key: TableKey
    model: Table
    live: LiveTable
    spelled: LiveTable | None
    """The model's table as the server would show it; ``None``: it does not let us ask."""
    dialect: SQLAlchemyDialect
    database: Dialect
    notes: Notes

    def element(self, kind: ElementKind, name: str | None = None) -> Element:
        """An element of the table."""
        return Element(kind, self.key, name)

    # -- columns ---------------------------------------------------------------------------------------------

    def type_differs(self, column: Column[Any], alembic: Callable[[], bool]) -> bool:
        """Whether the type of *column* differs.

        :param alembic: asks Alembic's own, more forgiving comparison.
        """
        name = column.name
        if self.spelled is not None and name in self.spelled.columns:
            wanted, wanted_more = facts.column_type(self.spelled, name, self.dialect)
            have, have_more = facts.column_type(self.live, name, self.dialect)
            # How values are generated is told with the collation, and is another matter.
            return wanted != have or (wanted_more != have_more and not self.generates(column))
        shown = self.database.shown_type(facts.type_text(column.type, self.dialect))
        there = self.database.shown_type(facts.column_type(self.live, column.name, self.dialect)[0])
        answer = unspelled.type_differs(shown, there, self.live.options)
        return alembic() if answer is None else answer

    def default_differs(self, column: Column[Any]) -> bool:
        """Whether the server default of *column* differs; generated values are another matter."""
        live = facts.column_default(self.live, column.name)
        if self.spelled is not None and column.name in self.spelled.columns:
            return facts.column_default(self.spelled, column.name) != live
        answer = unspelled.default_differs(column, live, self.dialect, self.database)
        if answer is None:
            self.notes.not_compared(self.element(ElementKind.COLUMN, column.name), "the default")
        return bool(answer)

    def generates(self, column: Column[Any]) -> bool:
        """Whether either side makes the values of *column* up by itself in a way that is no plain default."""
        name = column.name
        live = self.live.columns[name]
        if live.get("identity") or live.get("computed") or column.identity or column.computed:
            return True
        return self.makes_serial(column) and not facts.draws_from_sequence(live)

    def makes_serial(self, column: Column[Any]) -> bool:
        """Whether the server would give *column* a sequence of its own."""
        if self.spelled is not None and column.name in self.spelled.columns:
            return facts.draws_from_sequence(self.spelled.columns[column.name])
        return (
            column is self.model.autoincrement_column
            and column.server_default is None
            and column.default is None
            # Where a key counts up without a sequence the inspector says "auto".
            and isinstance(self.live.columns[column.name].get("autoincrement"), bool)
        )

    # -- indexes and constraints -----------------------------------------------------------------------------

    def index_differs(self, index: Index, alembic: Callable[[], bool]) -> bool:
        """Whether the live index of the same name has another definition than *index*."""
        name = final_name(index, self.dialect) or str(index.name)
        have = facts.indexes(self.live)[name]
        if self.spelled is not None:
            # One that the server would not have either is noise; see emc.diff.directives.
            return facts.indexes(self.spelled).get(name, have) != have
        if unspelled.same_elements(index, find(self.live.indexes, name) or {}, self.dialect):
            return False
        if alembic():
            return True
        if unspelled.index_is_doubtful(
            index, find(self.live.indexes, name) or {}, self.dialect, self.database
        ):
            self.notes.not_compared(self.element(ElementKind.INDEX, name), "the index")
        return False

    def unique_differs(self, unique: UniqueConstraint, name: str, alembic: Callable[[], bool]) -> bool:
        """Whether the live unique constraint *name* has another definition than *unique*."""
        live = find(self.live.uniques, name)
        if live is None:
            return True
        if self.spelled is not None:
            spelled = find(self.spelled.uniques, name)
            return spelled is not None and facts.unique(self.spelled, spelled) != facts.unique(
                self.live, live
            )
        return alembic() or [column.name for column in unique.columns] != list(live["column_names"])


@dataclass(frozen=True, eq=False)
class Comparison:
    """What one run of Alembic's comparison works on."""

    pairs: Mapping[TableKey, Pair]
    """Tables on both sides, by the key that the live schema has."""
    added: Mapping[TableKey, Table]
    """Tables of the models only, in an order in which they can be created."""
    removed: Mapping[TableKey, LiveTable]
    """Tables of the database only."""
    database: Dialect
    accepts_name: Callable[..., bool]
    accepts_object: Callable[..., bool]
    notes: Notes = field(default_factory=Notes)


def final_name(element: Constraint | Index, dialect: SQLAlchemyDialect) -> str | None:
    """The name that DDL gives an element of the models: after naming conventions and truncation."""
    if element.name is None:
        return None
    # Without quotes, as Alembic asks for it.
    name: str | None = dialect.identifier_preparer.format_constraint(element, _alembic_quote=False)
    return name


def find(elements: Any, name: str | None) -> Any:
    """The reflected element called *name*, if there is one."""
    return next((element for element in elements if element["name"] == name), None)
