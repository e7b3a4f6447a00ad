"""Do the values of one type fit into another?

By what the standard types of SQL mean; a database with types of its own has more to say, see
:meth:`emc.dialects.base.Dialect.fit`.
"""

from __future__ import annotations

import enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine


class Fit(enum.Enum):
    """How the values of one type fit into another."""

    WIDER = "wider"
    """Every value of the old type is a value of the new one."""
    NARROWER = "narrower"
    """Every value of the new type is a value of the old one."""
    DIFFERENT = "different"
    """Neither, or unknown."""


def fit(old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
    """How values of *old* fit into *new*, from the types alone. Unknown types are :attr:`Fit.DIFFERENT`."""
    if isinstance(old, sa.Enum) and not (
        isinstance(new, sa.Enum) and new.native_enum and new.name == old.name
    ):
        # An enumerated type of its own, as reflected: the old release compares the column with values of that type.
        return Fit.DIFFERENT
    if isinstance(new, sa.CHAR | sa.NCHAR) and not isinstance(old, sa.CHAR | sa.NCHAR):
        return Fit.DIFFERENT  # pads every value, and loses the blanks at its end
    if isinstance(old, sa.String) and isinstance(new, sa.String):
        if old.collation != new.collation and None not in (old.collation, new.collation):
            return Fit.DIFFERENT
        return _sizes(_length(old), _length(new))
    if isinstance(old, sa.LargeBinary | sa.VARBINARY | sa.BINARY) and isinstance(
        new, sa.LargeBinary | sa.VARBINARY | sa.BINARY
    ):
        return _sizes(_length(old), _length(new))
    if isinstance(old, sa.Integer) and isinstance(new, sa.Integer):
        return _sizes(_integer_bytes(old), _integer_bytes(new))
    if isinstance(old, sa.Float) and isinstance(new, sa.Float):
        return _sizes(_float_bits(old), _float_bits(new))
    if isinstance(old, sa.Integer) and isinstance(new, sa.Numeric) and not isinstance(new, sa.Float):
        return Fit.WIDER if _holds_integers(old, new) else Fit.DIFFERENT
    if isinstance(old, sa.Numeric) and isinstance(new, sa.Numeric):
        return _numerics(old, new)
    return Fit.DIFFERENT


def misfits(column: sa.ColumnElement[Any], new: TypeEngine[Any]) -> sa.ColumnElement[bool] | None:
    """The rows whose value of *column* does not fit into *new*; ``None`` where that cannot be told."""
    if isinstance(new, sa.String) and new.length is not None:
        return sa.func.length(column) > new.length
    if isinstance(new, sa.Integer):
        bits = 15 if isinstance(new, sa.SmallInteger) else 63 if isinstance(new, sa.BigInteger) else 31
        return sa.or_(column < -(2**bits), column > 2**bits - 1)
    if isinstance(new, sa.Numeric) and new.precision is not None and new.asdecimal:
        scale = new.scale or 0
        limit = 10 ** (new.precision - scale)
        return sa.or_(sa.func.abs(column) >= limit, sa.func.round(column, scale) != column)
    return None


_UNBOUNDED = float("inf")


def _length(type_: Any) -> float:
    return type_.length if type_.length is not None else _UNBOUNDED


def _integer_bytes(type_: sa.Integer) -> int:
    if isinstance(type_, sa.SmallInteger):
        return 2
    return 8 if isinstance(type_, sa.BigInteger) else 4


def _float_bits(type_: sa.Float[Any]) -> float:
    if isinstance(type_, sa.Double) or type_.__visit_name__ == "DOUBLE_PRECISION":
        return 53
    if isinstance(type_, sa.REAL):
        return 24
    # FLOAT without precision is what the database makes of it: double on PostgreSQL and SQLite.
    return type_.precision or 53


def _holds_integers(old: sa.Integer, new: sa.Numeric[Any]) -> bool:
    digits = {2: 5, 4: 10, 8: 19}[_integer_bytes(old)]
    return new.precision is None or new.precision - (new.scale or 0) >= digits


def _numerics(old: sa.Numeric[Any], new: sa.Numeric[Any]) -> Fit:
    if isinstance(old, sa.Float) != isinstance(new, sa.Float):
        return Fit.DIFFERENT
    old_scale, new_scale = old.scale or 0, new.scale or 0
    if new.precision is None:
        return Fit.WIDER if old.precision is not None else Fit.DIFFERENT
    if old.precision is None:
        return Fit.NARROWER
    if new_scale >= old_scale and new.precision - new_scale >= old.precision - old_scale:
        return Fit.WIDER
    if new_scale <= old_scale and new.precision - new_scale <= old.precision - old_scale:
        return Fit.NARROWER
    return Fit.DIFFERENT


def _sizes(old: float, new: float) -> Fit:
    # Equal sizes under other names (VARCHAR without length and TEXT) hold the same values.
    return Fit.WIDER if new >= old else Fit.NARROWER
