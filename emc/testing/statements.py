"""Which statements does a release send, and which of them does the database carry out?

Made of its MetaData: every table is read, gets rows with all columns and with as few as possible, each column is
updated, and a row is deleted, both of a row that is new and of one that is stored. Nothing of it is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Executable, MetaData, Table, and_, select
from sqlalchemy.exc import SQLAlchemyError

from emc.names import is_own
from emc.testing.rows import NoValueError, referred, row_for, value_of

FIRST = 20_000
"""Rows that are tried out are numbered from here on, so that they differ from those that are stored."""


@dataclass(frozen=True)
class Attempt:
    """One statement, and what became of it."""

    name: str
    """Says which, in every run: ``UPDATE users SET name``."""
    statement: str
    """The SQL."""
    error: str | None
    """What the database said against it, or a type against what it answered; ``None``: it was carried out."""


def tables_of(metadata: MetaData) -> list[Table]:
    """The tables of a release, parents first; without views, and without what is emc's own."""
    return [
        table
        for table in metadata.sorted_tables
        if not is_own(table.name) and not getattr(table, "is_view", False)
    ]


def try_out(engine: Engine, metadata: MetaData, number: int = FIRST) -> list[Attempt]:
    """Send the statements of the release with *metadata*, each by itself, and leave no trace.

    :param number: tells the rows that are made from others.
    """
    attempts: list[Attempt] = []
    for table in tables_of(metadata):
        for trial in (_read, _insert_whole, _insert_bare, _update, _delete):
            attempts += trial(engine, table, number)
    return attempts


def store(connection: Connection, metadata: MetaData, *, count: int = 3) -> list[str]:
    """Write rows into every table, as the release does; tables that cannot have any are left empty.

    :param count: how many per table. The last one has as few columns as possible.
    :returns: why a table is empty, one line each.
    """
    reasons = []
    for table in tables_of(metadata):
        written, reason = 0, ""
        for number in range(1, count + 1):
            try:
                with connection.begin_nested():
                    values = row_for(connection, table, number, whole=number < count or count == 1)
                    connection.execute(table.insert().values(values))
            except (NoValueError, SQLAlchemyError) as error:
                reason = reason or told(error)
            else:
                written += 1
        if not written:
            reasons.append(f"{table.fullname}: {reason}")
    return reasons


def told(error: Exception) -> str:
    """What an error says, of the database or of a type, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split()) or repr(error)


def _read(engine: Engine, table: Table, number: int) -> Iterator[Attempt]:
    yield _attempt(engine, f"SELECT … FROM {table.fullname}", lambda _: select(table).limit(100))


def _insert_whole(engine: Engine, table: Table, number: int) -> Iterator[Attempt]:
    name = f"INSERT INTO {table.fullname} with every column"
    yield _attempt(
        engine, name, lambda connection: table.insert().values(row_for(connection, table, number, keys=True))
    )


def _insert_bare(engine: Engine, table: Table, number: int) -> Iterator[Attempt]:
    name = f"INSERT INTO {table.fullname} with what it cannot do without"
    yield _attempt(
        engine,
        name,
        lambda connection: table.insert().values(row_for(connection, table, number, whole=False, keys=True)),
    )


def _update(engine: Engine, table: Table, number: int) -> Iterator[Attempt]:
    for (words, row), column in itertools.product(_ROWS.items(), table.columns):
        if column.primary_key or column.computed is not None or not len(table.primary_key):
            continue

        def update(connection: Connection, row: _Row = row, column: Column[Any] = column) -> Executable:
            key = row(connection, table, number)
            value = (
                referred(connection, column, number + 1)
                if column.foreign_keys
                else value_of(column.type, number + 1)
            )
            return table.update().where(_is(table, key)).values({column.name: value})

        yield _attempt(engine, f"UPDATE {table.fullname} SET {column.name}{words}", update)


def _delete(engine: Engine, table: Table, number: int) -> Iterator[Attempt]:
    for words, row in _ROWS.items() if len(table.primary_key) else ():

        def delete(connection: Connection, row: _Row = row) -> Executable:
            return table.delete().where(_is(table, row(connection, table, number)))

        yield _attempt(engine, f"DELETE FROM {table.fullname}{words}", delete)


def _inserted(connection: Connection, table: Table, number: int) -> Mapping[str, Any]:
    """Insert a row, with no more than what it needs so that only what is tried can fail; its key."""
    values = row_for(connection, table, number, whole=False, keys=True)
    result = connection.execute(table.insert().values(values))
    key = result.inserted_primary_key or ()
    return dict(zip((column.name for column in table.primary_key), key, strict=True))


def _stored(connection: Connection, table: Table, number: int) -> Mapping[str, Any]:
    """The key of the first row that is there, with whatever a data migration has made of it."""
    columns = list(table.primary_key)
    first = connection.execute(select(*columns).order_by(*columns).limit(1)).first()
    if first is None:
        raise NoValueError(f"a row of {table.name}")
    return dict(zip((column.name for column in columns), first, strict=True))


_Row = Callable[[Connection, Table, int], Mapping[str, Any]]
_ROWS: Final[Mapping[str, _Row]] = {"": _inserted, " of a stored row": _stored}
"""What is changed, by how its statement is called."""


def _is(table: Table, key: Mapping[str, Any]) -> Any:
    return and_(*(table.c[name] == value for name, value in key.items()))


def _attempt(engine: Engine, name: str, make: Callable[[Connection], Executable]) -> Attempt:
    """Send what *make* answers, in a transaction that is rolled back."""
    sent = name
    with engine.connect() as connection:
        try:
            statement = make(connection)
            sent = str(statement.compile(engine)) if hasattr(statement, "compile") else name
            result = connection.execute(statement)
            if result.returns_rows:
                result.all()
        except Exception as error:  # noqa: BLE001  # Types raise what they like at a value that they do not know.
            return Attempt(name, " ".join(sent.split()), told(error))
        finally:
            connection.rollback()
    return Attempt(name, " ".join(sent.split()), None)
