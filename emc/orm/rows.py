"""What does the database say of some rows, and what does the function of a declaration make of them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    false,
    or_,
    select,
    update,
)
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.elements import ClauseElement

from emc.data.apply import by_column
from emc.dialects import Dialect
from emc.dialects.rowwrites import RowWrites
from emc.errors import ConversionError, EmcError
from emc.orm.standing import Task
from emc.work import Deletion
from emc.work.tables import rewritten

Key = tuple[Any, ...]

_CHUNK = 500
"""Rows that one statement asks for; databases limit the number of parameters."""


class Seen(NamedTuple):
    """A row as it is now."""

    values: tuple[Any, ...]
    """Of the columns of the live table, in their order, and whether it is pending."""
    told: tuple[Any, ...] = ()
    """What tells it from what others may make of it, if it is not locked."""

    @property
    def is_pending(self) -> bool:
        """Whether the row is work that remains; not if the condition does not say."""
        return bool(self.values[-1])

    def by_column(self, task: Task) -> dict[str, Any]:
        """The values by column."""
        return dict(zip(task.columns, self.values, strict=False))

    def row(self, task: Task) -> Row[Any]:
        """The row as the function sees it."""
        metadata = SimpleResultMetaData(task.columns)
        rows: IteratorResult[Any] = IteratorResult(metadata, iter([self.values[:-1]]))
        return rows.one()


def look(connection: Connection, task: Task, names: Sequence[str], keys: Sequence[Key]) -> dict[Key, Seen]:
    """The rows with *keys*, and whether each of them is work that remains.

    :param names: the columns of the key.
    """
    found: dict[Key, Seen] = {}
    for chunk in _chunks(keys):
        found.update(_seen(connection, task, names, _asking(task, names, chunk)))
    return found


def look_and_lock(
    connection: Connection, task: Task, names: Sequence[str], keys: Sequence[Key], dialect: Dialect
) -> dict[Key, Seen]:
    """The same of rows that nobody else writes to until the transaction ends."""
    if not dialect.concurrent_sessions:
        # SQLite: the whole database is locked by the first statement that may write, be there no row to write to.
        connection.execute(delete(task.work.table).where(false()))
        return look(connection, task, names, keys)
    found: dict[Key, Seen] = {}
    for chunk in _chunks(keys):
        # Like the UPDATE that is to come: children of the row may be inserted (PostgreSQL: FOR NO KEY UPDATE).
        query = _asking(task, names, chunk).order_by(*(task.work.table.c[name] for name in names))
        query = query.with_for_update(key_share=True)
        found.update(_seen(connection, task, names, query))
    return found


def look_and_remember(
    connection: Connection, task: Task, names: Sequence[str], keys: Sequence[Key], writes: RowWrites
) -> dict[Key, Seen]:
    """The same of rows that nobody can hold, and by what to tell that nobody has written to them since."""
    found: dict[Key, Seen] = {}
    told = [column.label(f"emc_was_{at}") for at, column in enumerate(writes.seen)]
    for chunk in _chunks(keys):
        found.update(_seen(connection, task, names, _asking(task, names, chunk).add_columns(*told)))
    return found


def row_writes(connection: Connection, task: Task, names: Sequence[str], dialect: Dialect) -> RowWrites:
    """How rows are written to that nobody can hold."""
    table = task.work.table
    writes = dialect.row_writes(connection, table, _columns(task, names))
    if writes.seen:
        return writes
    # SQLite needs none in a transaction, where nobody else writes.
    return RowWrites(table, writes.key, [dialect.exact(column) for column in table.c])


def versions(
    connection: Connection,
    column: ColumnElement[Any],
    names: Sequence[ColumnElement[Any]],
    keys: Sequence[Key],
) -> dict[Key, Any]:
    """What *column* is in the rows with *keys*, which are locked.

    :param names: the columns of the key.
    """
    found: dict[Key, Any] = {}
    for chunk in _chunks(keys):
        # Locked rows are read as they are, others as they were when the transaction began (MariaDB, MySQL).
        query = select(*names, column).where(_among(names, chunk)).with_for_update(key_share=True)
        found.update((tuple(row[:-1]), row[-1]) for row in connection.execute(query))
    return found


def answer(
    connection: Connection, task: Task, names: Sequence[str], seen: Seen
) -> Mapping[str, Any] | Deletion:
    """What the function makes of a row: values by column, or that it goes.

    :raises ConversionError: it raised.
    :raises DeclarationError: it answers what cannot be written.
    """
    work = task.work
    try:
        return task.action.answer(seen.row(task), connection, work.table)
    except EmcError:
        raise
    except Exception as error:
        values = seen.by_column(task)
        key = {name: values[name] for name in names}
        shown = ", ".join(f"{name}={value}" for name, value in key.items())
        raise ConversionError(
            f"{work.name} failed on the row of {work.key} with {shown}: {type(error).__name__}: {error}\n"
            f"  declared at {task.action.place}",
            work=work.name,
            table=str(work.key),
            key=key,
            remedy=f"Correct the row or the function. emc migrate --only {work.name} lists all rows like it.",
        ) from error


def evaluated(
    connection: Connection, task: Task, names: Sequence[str], key: Key, values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """*values*, those of them that are SQL as the database makes them of the row with *key*."""
    table = task.work.table
    sql = {name: rewritten(_clause(value), task.work.key, table) for name, value in values.items()}
    asked: dict[str, Any] = {name: value for name, value in sql.items() if isinstance(value, ClauseElement)}
    if not asked:
        return values
    query = select(*(value.label(f"emc_{at}") for at, value in enumerate(asked.values()))).where(
        _among(_columns(task, names), [key])
    )
    row = connection.execute(query).one()
    return {**values, **dict(zip(asked, row, strict=True))}


def stored(
    connection: Connection, task: Task, names: Sequence[str], answers: Mapping[Key, Mapping[str, Any]]
) -> Mapping[Key, Mapping[str, Any]]:
    """*answers* that were written, those values of them that were SQL as they are in the rows now."""
    sql = {key: [name for name, value in values.items() if _is_sql(value)] for key, values in answers.items()}
    found = {key: dict(values) for key, values in answers.items()}
    # What was counted up would be counted up once more if it was evaluated again.
    for key, seen in look(connection, task, names, [key for key, asked in sql.items() if asked]).items():
        row = seen.by_column(task)
        found[key] |= {name: row[name] for name in sql[key]}
    return found


def write(
    connection: Connection, task: Task, names: Sequence[str], answers: Mapping[Key, Mapping[str, Any]]
) -> None:
    """Write to rows that are locked, each what its function answered."""
    table = task.work.table
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    keyed = [
        table.c[name] == bindparam(f"emc_key_{at}", type_=table.c[name].type) for at, name in enumerate(names)
    ]
    for key, values in answers.items():
        parameters = {f"emc_key_{at}": value for at, value in enumerate(key)}
        if any(map(_is_sql, values.values())):
            one = update(table).where(*keyed).values(by_column(task.work, values))
            connection.execute(one, parameters)
            continue
        columns = tuple(sorted(values))
        parameters |= {f"emc_new_{at}": values[name] for at, name in enumerate(columns)}
        by_columns.setdefault(columns, []).append(parameters)
    for columns, every in by_columns.items():
        new = {name: bindparam(f"emc_new_{at}", type_=table.c[name].type) for at, name in enumerate(columns)}
        connection.execute(update(table).where(*keyed).values(by_column(task.work, new)), every)


def write_if_unchanged(
    connection: Connection,
    task: Task,
    writes: RowWrites,
    rows: Mapping[Key, Seen],
    answers: Mapping[Key, Mapping[str, Any]],
) -> set[Key]:
    """Write what functions answered to those rows that still are as they were seen; answers the keys of these."""
    written: set[Key] = set()
    unchanged = writes.unchanged()
    for key, values in answers.items():
        one = update(task.work.table).where(*unchanged).values(by_column(task.work, values))
        if connection.execute(one, writes.parameters([(*key, *rows[key].told)])[0]).rowcount:
            written.add(key)
    return written


def _asking(task: Task, names: Sequence[str], keys: Sequence[Key]) -> Select[Any]:
    table = task.work.table
    return select(*table.c, task.work.pending.label("emc_pending")).where(_among(_columns(task, names), keys))


def _seen(
    connection: Connection, task: Task, names: Sequence[str], query: Select[Any]
) -> Iterator[tuple[Key, Seen]]:
    places = [task.columns.index(name) for name in names]
    behind = len(task.columns) + 1
    for row in connection.execute(query):
        yield tuple([row[at] for at in places]), Seen(tuple(row[:behind]), tuple(row[behind:]))


def _columns(task: Task, names: Sequence[str]) -> list[ColumnElement[Any]]:
    return [task.work.table.c[name] for name in names]


def _among(columns: Sequence[ColumnElement[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return or_(*(and_(*(c == value for c, value in zip(columns, key, strict=True))) for key in keys))


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for at in range(0, len(keys), _CHUNK):
        yield keys[at : at + _CHUNK]


def _clause(value: Any) -> Any:
    return value.__clause_element__() if hasattr(value, "__clause_element__") else value


def _is_sql(value: Any) -> bool:
    return isinstance(_clause(value), ClauseElement)
