"""Which rows would a unique rule not allow together, and which of them stays?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, select, true


@dataclass(frozen=True, eq=False)
class Rivalry:
    """Rows of one table that are alike, and an order in which the first of them stays.

    Equality is the database's own, under the collations that the columns have: PARTITION BY compares like ``=``.
    """

    source: FromClause
    """The live table under another name; what follows speaks of its columns."""
    group: tuple[ColumnElement[Any], ...]
    """Rows are alike that are equal in all of these."""
    concerned: ColumnElement[bool]
    """Only these rows take part."""
    order: tuple[ColumnElement[Any], ...]
    """Tells any two rows apart; the first stays."""

    def losers(
        self, columns: Sequence[ColumnElement[Any]], among: ColumnElement[bool] | None = None
    ) -> Select[Any]:
        """For each row that has to go its *columns*, and then those of the row that stays.

        They are called ``emc_key_0`` and so on, and ``emc_best_0`` and so on.

        :param columns: of ``source``.
        :param among: only the rows for which it holds take part. Whoever loses among some rows loses among all.
        """
        over: dict[str, Any] = {"partition_by": list(self.group), "order_by": list(self.order)}
        ranked = (
            select(
                *(column.label(f"emc_key_{at}") for at, column in enumerate(columns)),
                *(
                    func.first_value(column).over(**over).label(f"emc_best_{at}")
                    for at, column in enumerate(columns)
                ),
                func.row_number().over(**over).label("emc_rank"),
            )
            .select_from(self.source)
            .where(self.concerned, true() if among is None else among)
            .subquery()
        )
        return select(*(column for column in ranked.c if column.name != "emc_rank")).where(
            ranked.c.emc_rank > 1
        )
