"""Which table or column does a person mean?"""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy import inspect as inspected
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from emc.errors import DeclarationError


def caller() -> str:
    """``path:line`` of the code outside emc that made a declaration."""
    package = str(Path(__file__).parent)
    frame = inspect.currentframe()
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    path = Path(frame.f_code.co_filename)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.f_lineno}"


def column_of(target: Any, place: str) -> Column[Any]:
    """The column that *target*, a mapped attribute or a Column, stands for.

    :raises DeclarationError: *target* is neither, or belongs to no table.
    """
    if isinstance(target, InstrumentedAttribute):
        columns = getattr(target.property, "columns", None)
        target = columns[0] if columns and len(columns) == 1 else None
    if isinstance(target, Column) and isinstance(target.table, Table):
        return target
    raise DeclarationError(
        f"{target!r} is not a column.",
        places=[place],
        remedy="Give a mapped attribute such as User.name, or a Column of a Table such as users.c.name.",
    )


def table_of(target: Any, place: str) -> Table:
    """The table that *target*, a mapped class or a Table, stands for.

    :raises DeclarationError: *target* is neither.
    """
    if isinstance(target, Table):
        return target
    try:
        mapper = inspected(target)
    except NoInspectionAvailable:
        mapper = None
    if isinstance(mapper, Mapper) and mapper.single:
        base = mapper.base_mapper.class_.__name__
        raise DeclarationError(
            f"{mapper.class_.__name__} shares its table with other classes, whose rows would be meant too.",
            places=[place],
            remedy=f"Give the class that the table belongs to ({base}), and ask for the discriminator in where=.",
        )
    if isinstance(mapper, Mapper) and isinstance(mapper.local_table, Table):
        return mapper.local_table
    raise DeclarationError(
        f"{target!r} is not a table.",
        places=[place],
        remedy='Give a mapped class such as User, a Table, or a dotted name such as "users".',
    )
