"""What does emc have to know of a database to find, compare and write rows?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Index, Table, Text, UniqueConstraint, cast

from emc.dialects.rowwrites import RowWrites
from emc.work.uniqueness import Uniqueness, uniqueness


class Rows:
    """The part of a dialect that answers this."""

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect."""
    concurrent_sessions: ClassVar[bool] = True
    """Whether a second session may write while the first one works."""

    def uniqueness(self, element: Index | UniqueConstraint) -> Uniqueness:
        """What a unique constraint or index of the models demands here, its options for this database included."""
        prefix = f"{self.name}_"
        options = {
            name.removeprefix(prefix): value
            for name, value in element.kwargs.items()
            if name.startswith(prefix)
        }
        return uniqueness(element, options)

    def ordered(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """*column* of a key in a form whose comparisons agree with the order in which rows are sorted by it."""
        return column

    def exact(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """*column* in a form in which two values are equal if they are the same, and only then.

        Not every type can be compared, and a collation may find different texts equal.
        """
        return cast(column, Text)

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether *column* holds exactly what *value* becomes when it is stored there; NULL is the same as NULL.

        Never NULL itself. Unlike :meth:`exact` it finds 1.50 and 1.5 the same, where the column has them both.
        """
        return column.is_not_distinct_from(cast(value, column.type))

    def row_writes(
        self, connection: Connection, table: Table, key: Sequence[ColumnElement[Any]]
    ) -> RowWrites:
        """How what a function answered is written to rows of *table* that still are as they were read.

        :param key: what rows are walked by, as :meth:`ordered` has it.
        """
        seen = [self.exact(column) for column in table.c] if self.concurrent_sessions else []
        return RowWrites(table, key, seen)

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """The physical address of a row, for tables without a key; ``None`` where there is none to walk by."""
        return None

    def nearer_row_id(self, lower: Any, upper: Any, rows: int) -> Any:
        """An address up to which to look for *rows* rows behind *lower*, and no further than *upper*.

        *upper* itself where an index knows the order of addresses.

        :param lower: ``None``: the beginning of the table.
        """
        return upper
