"""Do the values of one MariaDB or MySQL type fit into another?

Capacities are those of the MySQL 8.4 manual, "Data Type Storage Requirements"; MariaDB shares them (tried on 10.11.19).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from emc.fit import Fit

_INTEGER_BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INTEGER": 32, "BIGINT": 64}
_TEXT_BYTES = {"TINYTEXT": 2**8 - 1, "TEXT": 2**16 - 1, "MEDIUMTEXT": 2**24 - 1, "LONGTEXT": 2**32 - 1}
_BLOB_BYTES = {"TINYBLOB": 2**8 - 1, "BLOB": 2**16 - 1, "MEDIUMBLOB": 2**24 - 1, "LONGBLOB": 2**32 - 1}
_ROW_BYTES = 2**16 - 1
"""No VARCHAR or VARBINARY takes more, since no row does."""
_CHARACTER_BYTES = 4
"""At most, whatever the character set."""


def fit(old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
    """How values of *old* fit into *new*. Unknown types are :attr:`Fit.DIFFERENT`."""
    if _pads(new) and not (_pads(old) and isinstance(new, sa.CHAR | sa.NCHAR)) and not _same(old, new):
        # CHAR loses the blanks at the end of what was no CHAR; BINARY fills every value up with zero bytes.
        return Fit.DIFFERENT
    # The same values under another name count as wider: nobody can notice.
    return Fit.WIDER if _holds(new, old) else Fit.NARROWER if _holds(old, new) else Fit.DIFFERENT


def _pads(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.CHAR | sa.NCHAR | sa.BINARY)


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and old.length == new.length and _writing(old) == _writing(new)


def _holds(outer: TypeEngine[Any], inner: TypeEngine[Any]) -> bool:
    """Whether every value of *inner* is a value of *outer*; in doubt it is not."""
    for is_outer, is_inner, holds in _FAMILIES:
        if is_outer(outer) and is_inner(inner):
            return holds(outer, inner)
    return False


# -- numbers --------------------------------------------------------------------------------------------------------


def integer_range(type_: TypeEngine[Any]) -> tuple[int, int] | None:
    """The least and the greatest value of an integer type; ``None`` for any other type."""
    name = type_.__visit_name__.upper()
    if isinstance(type_, sa.Boolean):
        name = "TINYINT"
    elif isinstance(type_, sa.Integer) and name not in _INTEGER_BITS:
        # Of the models: Integer, SmallInteger and BigInteger themselves.
        small, big = isinstance(type_, sa.SmallInteger), isinstance(type_, sa.BigInteger)
        name = "SMALLINT" if small else "BIGINT" if big else "INTEGER"
    bits = _INTEGER_BITS.get(name)
    if bits is None:
        return None
    return (0, 2**bits - 1) if _is_unsigned(type_) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _is_unsigned(type_: Any) -> bool:
    return bool(getattr(type_, "unsigned", False))


def _signs(outer: Any, inner: Any) -> bool:
    return _is_unsigned(inner) or not _is_unsigned(outer)


def _is_integer(type_: TypeEngine[Any]) -> bool:
    return integer_range(type_) is not None


def _integers(outer: Any, inner: Any) -> bool:
    (low, high), (inner_low, inner_high) = integer_range(outer) or (0, 0), integer_range(inner) or (0, 0)
    return low <= inner_low and inner_high <= high


def _is_decimal(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.Numeric) and not isinstance(type_, sa.Float)


def _digits(type_: Any) -> tuple[int, int]:
    """Before and behind the point. DECIMAL is DECIMAL(10, 0)."""
    scale = type_.scale or 0
    return (10 if type_.precision is None else type_.precision) - scale, scale


def _decimals(outer: Any, inner: Any) -> bool:
    (before, behind), (inner_before, inner_behind) = _digits(outer), _digits(inner)
    return _signs(outer, inner) and before >= inner_before and behind >= inner_behind


def _decimal_of_integer(outer: Any, inner: Any) -> bool:
    low, high = integer_range(inner) or (0, 0)
    return _signs(outer, inner) and _digits(outer)[0] >= len(str(max(-low, high)))


def _is_float(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.Float)


def _floats(outer: Any, inner: Any) -> bool:
    if (outer.scale, inner.scale) != (None, None) and (outer.precision, outer.scale) != (
        inner.precision,
        inner.scale,
    ):
        return False  # FLOAT(7,4) rounds; it is deprecated, and nobody has asked for more
    return _signs(outer, inner) and (_is_double(outer) or not _is_double(inner))


def _is_double(type_: Any) -> bool:
    """FLOAT and FLOAT(p) up to 24 bits are single, DOUBLE and REAL are double."""
    if type_.__visit_name__.upper() == "FLOAT":
        return type_.precision is not None and type_.scale is None and type_.precision > 24
    return True


# -- text and bytes -------------------------------------------------------------------------------------------------


def text_bytes(type_: Any) -> int | None:
    """How many bytes one of the TEXT or BLOB types holds; ``None`` for a type that counts otherwise."""
    name = type_.__visit_name__.upper()
    sizes, unit = (_BLOB_BYTES, 1) if "BLOB" in name or "BINARY" in name else (_TEXT_BYTES, _CHARACTER_BYTES)
    if name in ("UNICODE_TEXT", "LARGE_BINARY"):
        name = "BLOB" if sizes is _BLOB_BYTES else "TEXT"
    if name not in sizes:
        return None
    if getattr(type_, "length", None) is None:
        return sizes[name]
    # TEXT(n) is the least of them that holds n characters.
    return min((size for size in sizes.values() if size >= type_.length * unit), default=max(sizes.values()))


def _is_text(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.String) and labels(type_) is None


def _texts(outer: Any, inner: Any) -> bool:
    # Other collations find other values equal, in unique keys and in the statements of the old release.
    return _writing(outer) == _writing(inner) and _room(outer, inner, _CHARACTER_BYTES)


def _writing(type_: Any) -> tuple[str | None, str | None]:
    """Character set and collation; ``None`` is that of the table."""
    return getattr(type_, "charset", None), getattr(type_, "collation", None)


def _is_binary(type_: TypeEngine[Any]) -> bool:
    return type_.__visit_name__.upper() in {*_BLOB_BYTES, "LARGE_BINARY", "VARBINARY", "BINARY"}


def _binaries(outer: Any, inner: Any) -> bool:
    return _room(outer, inner, 1)


def _room(outer: Any, inner: Any, unit: int) -> bool:
    """By length where both have one, by bytes otherwise; one unit of length may take *unit* bytes."""
    outer_bytes, inner_bytes = text_bytes(outer), text_bytes(inner)
    if outer_bytes is None:
        # Each unit of length takes a byte at least.
        return bool(outer.length >= (inner.length if inner_bytes is None else inner_bytes))
    return bool(outer_bytes >= (min(inner.length * unit, _ROW_BYTES) if inner_bytes is None else inner_bytes))


# -- lists of labels ------------------------------------------------------------------------------------------------


def labels(type_: Any) -> tuple[str, ...] | None:
    """The labels of ENUM or SET; ``None`` for any other type."""
    if isinstance(type_, mysql.SET):
        return tuple(type_.values)
    if isinstance(type_, sa.Enum) and type_.native_enum:
        return tuple(type_.enums)
    return None


def _is_set(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, mysql.SET)


def _is_enum(type_: TypeEngine[Any]) -> bool:
    return labels(type_) is not None and not _is_set(type_)


def _labels(outer: Any, inner: Any) -> bool:
    return _writing(outer) == _writing(inner) and set(labels(outer) or ()) >= set(labels(inner) or ())


def _text_of_enum(outer: Any, inner: Any) -> bool:
    """Each label is a text, and the old release compares both with texts."""
    longest = max(map(len, labels(inner) or ("",)))
    size = text_bytes(outer)
    room = outer.length if size is None else size // _CHARACTER_BYTES
    return _writing(outer) == _writing(inner) and not _pads(outer) and bool(room >= longest)


# -- moments and bits -----------------------------------------------------------------------------------------------


def _is_timestamp(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.TIMESTAMP)


def _is_datetime(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.DateTime) and not _is_timestamp(type_)


def _is_time(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, sa.Time)


def _moments(outer: Any, inner: Any) -> bool:
    return (getattr(outer, "fsp", None) or 0) >= (getattr(inner, "fsp", None) or 0)


def _is_bits(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, mysql.BIT)


def _bits(outer: Any, inner: Any) -> bool:
    return (outer.length or 1) >= (inner.length or 1)


_Is = Callable[[TypeEngine[Any]], bool]
_FAMILIES: tuple[tuple[_Is, _Is, Callable[[Any, Any], bool]], ...] = (
    (_is_integer, _is_integer, _integers),
    (_is_decimal, _is_decimal, _decimals),
    (_is_decimal, _is_integer, _decimal_of_integer),
    (_is_float, _is_float, _floats),
    (_is_text, _is_text, _texts),
    (_is_text, _is_enum, _text_of_enum),
    (_is_enum, _is_enum, _labels),
    (_is_set, _is_set, _labels),
    (_is_binary, _is_binary, _binaries),
    (_is_timestamp, _is_timestamp, _moments),
    (_is_datetime, _is_datetime, _moments),
    (_is_time, _is_time, _moments),
    (_is_bits, _is_bits, _bits),
)
"""The kinds of type, outer and inner, and whether the one holds the other."""
