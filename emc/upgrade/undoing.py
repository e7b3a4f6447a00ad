"""What may a person say of the way back of a data migration?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emc.errors import DeclarationError
from emc.upgrade.declarations import RowFunction, Where
from emc.upgrade.targets import column_of


def way_back(undo: Any, where: Where, place: str) -> RowFunction | Mapping[str, Any] | None:
    """``undo=`` of a data migration: values by column name, or a function of the row.

    :param where: ``undo_where=``.
    :param place: the source line.
    :raises DeclarationError: it is neither, is empty, or nobody could tell when it is done.
    """
    if undo is None:
        if where is not None:
            raise DeclarationError(
                "undo_where= says which rows undo= takes back, and there is no undo=.",
                places=[place],
                remedy="Give undo={column: value}, or a function of the row; or leave undo_where= out.",
            )
        return None
    if isinstance(undo, Mapping) and undo:
        return {
            column if isinstance(column, str) else column_of(column, place).name: value
            for column, value in undo.items()
        }
    if isinstance(undo, Mapping) or not callable(undo):
        raise DeclarationError(
            f"undo={undo!r} does not say what to write.",
            places=[place],
            remedy="Give undo={column: SQL expression or constant}, or a function of the row.",
        )
    if where is None:
        raise DeclarationError(
            "A function takes rows back, and nothing says which rows are left: it would be called for ever, and "
            "nobody could tell when it is done.",
            places=[place],
            remedy="Give undo_where=, a condition that no longer holds for a row that is taken back.",
        )
    function: RowFunction = undo
    return function
