"""Which rows would a foreign key not allow?

The clean-up and the gate of a foreign key have to mean the same rows, and the rows that the key itself will refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, exists, not_, or_, select


def parentless(
    pairs: Sequence[tuple[ColumnElement[Any], ColumnElement[Any]]], parent: FromClause, match: object
) -> ColumnElement[bool]:
    """The rows that have no parent.

    :param pairs: each column of the key, with the one of *parent* that it refers to.
    :param parent: the table referred to, under another name.
    :param match: the MATCH of the foreign key.
    """
    # A foreign key with a NULL in it refers to nothing (MATCH SIMPLE, what every database does by default).
    complete = and_(*(child.is_not(None) for child, _ in pairs))
    # SQLite compares by the collation of the column on the left, and its foreign keys by that of the parent's.
    is_parent = and_(*(theirs == child for child, theirs in pairs))
    lost = and_(complete, ~exists(select(1).select_from(parent).where(is_parent)))
    if str(match or "").upper() == "FULL":
        lost = or_(lost, and_(or_(*(child.is_not(None) for child, _ in pairs)), not_(complete)))
    return lost
