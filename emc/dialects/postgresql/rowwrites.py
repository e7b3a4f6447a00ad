"""How does PostgreSQL write to many rows at once, and know that nobody else has?

A version of a row is told from all others by its address and the transaction that wrote it (``ctid``, ``xmin``; manual,
"System Columns"), so nothing but these has to be compared, whatever the types of the columns. Values go as one array
for each column, in one statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType, UserDefinedType

from emc.dialects.answers import Failure
from emc.dialects.postgresql import sessions
from emc.dialects.postgresql.naming import table_name
from emc.dialects.rowwrites import RowChange, RowWrites, Target, alike
from emc.names import TableKey

_FEW = 8
"""Rows for which one statement each is no loss."""

# xmin is kept for as long as the row is not written to, frozen or not. What is no heap (a foreign table, a columnar
# one) need not have any.
_FACTS = text("""
WITH RECURSIVE tree AS (
    SELECT CAST(to_regclass(:name) AS oid) AS oid
    UNION ALL SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid
)
SELECT a.attname, format_type(a.atttypid, -1), (SELECT count(*) FROM tree),
    (SELECT bool_and(c.relkind = 'p' OR c.relkind = 'r' AND m.amname = 'heap')
     FROM tree JOIN pg_class c ON c.oid = tree.oid LEFT JOIN pg_am m ON m.oid = c.relam)
FROM pg_attribute a
WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped
""")


class _Spelled(UserDefinedType[Any]):
    """A type as the server spells it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


class VersionWrites(RowWrites):
    """One UPDATE for many rows, told by their version.

    :param types: how the server spells the type of each column, without length and precision: a cast to
        ``varchar(5)`` would cut what an assignment refuses.
    :param is_divided: whether it has partitions or children, whose rows may have the same addresses.
    """

    def __init__(
        self, table: Table, key: Sequence[ColumnElement[Any]], types: Mapping[str, str], *, is_divided: bool
    ) -> None:
        names = ("ctid", "xmin", "tableoid")
        self._address, *version = (column(name, NullType(), _selectable=table) for name in names)
        told: ColumnElement[str] = cast(version[0], Text)
        if is_divided:
            told = told + ":" + cast(version[1], Text)
        super().__init__(table, key, [cast(self._address, Text), told])
        self._types = types
        self._in_one = True

    def update(
        self, connection: Connection, target: Target, columns: Sequence[str], changes: Sequence[RowChange]
    ) -> int:
        """See the base class."""
        if not self._in_one or len(changes) < _FEW:
            return super().update(connection, target, columns, changes)
        addresses, versions, *new = list(zip(*changes, strict=True))[len(self.key) :]
        arrays = self._arrays(connection, columns, new)
        if arrays is None:
            return super().update(connection, target, columns, changes)
        lists = [_joined(addresses), _joined(versions), *arrays]
        try:
            with connection.begin_nested():
                return self._update(connection, target, columns, lists)
        except DBAPIError as error:
            if sessions.failure(error) in (Failure.LOCKED, Failure.DISCONNECTED, Failure.FORBIDDEN):
                raise
            # Either a value cannot be stored, which fails one way or the other, or not in an array.
            written = super().update(connection, target, columns, changes)
            self._in_one = False
            return written

    def _arrays(
        self, connection: Connection, columns: Sequence[str], new: Sequence[Sequence[Any]]
    ) -> list[Any] | None:
        """The values of each of *columns* as the driver takes them; ``None`` where they cannot go as arrays."""
        arrays: list[Any] = []
        for name, values in zip(columns, new, strict=True):
            kind = self.table.c[name].type
            if name not in self._types or kind.dialect_impl(connection.dialect)._has_bind_expression:  # noqa: SLF001
                return None
            process = kind.dialect_impl(connection.dialect).bind_processor(connection.dialect)
            sent = list(values if process is None else map(process, values))
            # An array in an array is one array with more dimensions, and not with more values.
            if not alike(sent) or any(issubclass(kind, list | tuple) for kind in set(map(type, sent))):
                return None
            arrays.append(_joined(sent) or sent)
        return arrays

    def _update(
        self, connection: Connection, target: Target, columns: Sequence[str], lists: Sequence[Any]
    ) -> int:
        kinds = ["tid", "text", *(self._types[name] for name in columns)]
        names = ["emc_at", "emc_version", *(f"emc_new_{at}" for at in range(len(columns)))]
        given: Any = func.unnest(*map(_unpacked, names, kinds, lists))
        given = given.table_valued(*names, name="emc_given").render_derived()
        statement = (
            update(self.table)
            .values({**target.kept, **{name: given.c[f"emc_new_{at}"] for at, name in enumerate(columns)}})
            .where(
                # So that an index bounds what is looked at, however large the table is.
                target.rows,
                self._address == given.c.emc_at,
                # Not "=": half a million rows of one transaction are no key to join by.
                self.seen[1].is_not_distinct_from(given.c.emc_version),
                target.condition,
            )
        )
        return connection.execute(statement, dict(zip(names, lists, strict=True))).rowcount


_SEPARATOR, _NULL = "\x1f", "\x1e"


def _joined(values: Sequence[Any]) -> str | None:
    """*values* as one text, which costs drivers a fraction of an array; ``None`` where they cannot be."""
    kinds = set(map(type, values))
    if not kinds <= {str, int, type(None)} or _NULL in values:
        return None
    if kinds != {str}:
        values = [_NULL if value is None else str(value) for value in values]
    text = _SEPARATOR.join(values)
    return text if text.count(_SEPARATOR) == len(values) - 1 else None


def _unpacked(name: str, kind: str, values: Any) -> ColumnElement[Any]:
    """An array of *kind* of what :func:`_joined` made, or of a list."""
    given: Any = bindparam(name, type_=NullType())
    if isinstance(values, str):
        given = func.string_to_array(cast(given, Text), _SEPARATOR, _NULL)
    return cast(given, _Spelled(f"{kind}[]"))


def row_writes(connection: Connection, otherwise: RowWrites) -> RowWrites:
    """By versions where the server has them, and *otherwise* where it does not."""
    table = otherwise.table
    name = table_name(TableKey(table.schema, table.name))
    found = connection.execute(_FACTS, {"name": name}).all()
    if not found or not found[0][3]:
        return otherwise
    return VersionWrites(table, otherwise.key, {row[0]: row[1] for row in found}, is_divided=found[0][2] > 1)
