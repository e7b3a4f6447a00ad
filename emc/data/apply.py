"""How is one batch of rows written?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, bindparam, delete, select, update
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement

from emc.data.locking import in_chunks, locked_and_pending, still_pending
from emc.data.walk import Key, Walk
from emc.dialects.base import Dialect
from emc.errors import DeclarationError, EmcError
from emc.work import DELETE, CallFunction, Deletion, SetValues
from emc.work.tables import reads, rewritten


@dataclass
class Applied:
    """What a batch did."""

    written: int = 0
    """Rows updated or deleted."""
    lost: int = 0
    """Rows that somebody else wrote to between our read and our write: they are left for the next pass."""
    failed: list[tuple[Key, BaseException]] = field(default_factory=list)
    """Rows for which the function raised, without having touched the database."""


class RowError(Exception):
    """A function that had the connection raised, so its transaction cannot be kept."""

    def __init__(self, key: Key, position: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.key = key
        self.position = position
        """How many rows of the batch came before."""
        self.cause = cause


@dataclass(frozen=True)
class _Write:
    key: Key
    was: tuple[Any, ...]
    answer: Mapping[str, Any] | Deletion


def apply(
    connection: Connection,
    walk: Walk,
    rows: ColumnElement[bool],
    skipped: Collection[Key],
    dialect: Dialect,
) -> Applied:
    """Do the action of the work to those of *rows* that are pending.

    :param skipped: keys of rows that are not given to a function again.
    :raises RowError: a function that had the connection raised.
    """
    work, action = walk.work, walk.work.action
    if isinstance(action, CallFunction):
        return _call(connection, walk, action, rows, skipped, dialect)
    statement: Any = delete(work.table)
    # What is deleted cannot be put right again.
    locked_first = dialect.concurrent_sessions
    if isinstance(action, SetValues):
        statement = update(work.table).values(_by_column(walk, action.values))
        locked_first = _looks_at_what_it_writes(walk, dialect)
    if not locked_first:
        return Applied(written=connection.execute(statement.where(rows, work.pending)).rowcount)
    keys = locked_and_pending(connection, walk, rows)
    return Applied(
        written=sum(
            connection.execute(statement.where(walk.among(chunk))).rowcount for chunk in in_chunks(keys)
        )
    )


def _looks_at_what_it_writes(walk: Walk, dialect: Dialect) -> bool:
    """Whether the condition cannot stand in a statement that writes to the table it reads (MySQL: error 1093)."""
    return not dialect.updates_what_it_reads and reads(walk.work.pending, walk.work.key)


def _by_column(walk: Walk, values: Mapping[str, Any]) -> dict[Any, Any]:
    table = walk.work.table
    new = {table.c[name]: rewritten(_clause(value), walk.work.key, table) for name, value in values.items()}
    return {**_kept(table, values), **new}


def _kept(table: Table, written: Collection[str]) -> dict[Any, Any]:
    """What an UPDATE has to say lest the server sets columns that nobody named (ON UPDATE CURRENT_TIMESTAMP).

    A column that is set to itself stays as it is (MariaDB knowledge base, "TIMESTAMP"; MySQL 8.4 manual, "Automatic
    Initialization and Updating for TIMESTAMP and DATETIME").
    """
    return {
        column: column
        for column in table.c
        if column.server_onupdate is not None and column.name not in written
    }


def _clause(value: Any) -> Any:
    return value.__clause_element__() if hasattr(value, "__clause_element__") else value


# -- functions of the row --------------------------------------------------------------------------------


def _call(
    connection: Connection,
    walk: Walk,
    action: CallFunction,
    rows: ColumnElement[bool],
    skipped: Collection[Key],
    dialect: Dialect,
) -> Applied:
    applied = Applied()
    writes: list[_Write] = []
    # Everything is asked before anything is written: locks on rows last as long as the writes, not the
    # functions.
    for position, (row, key, was) in enumerate(_read(connection, walk, rows, dialect)):
        if key in skipped:
            continue
        try:
            answer = action.answer(row, connection, walk.work.table)
        except EmcError:
            raise
        except Exception as error:
            # With the connection in its hands it may have written, or broken the transaction.
            if action.takes_connection or isinstance(error, DBAPIError):
                raise RowError(key, position, error) from error
            applied.failed.append((key, error))
            continue
        if answer is DELETE or answer:
            writes.append(_Write(key, was, answer))
    if action.takes_connection and not dialect.renew(connection):
        raise DeclarationError(
            f"{walk.work.name} ended the transaction of its batch, which holds what it wrote and how far it is.",
            places=[walk.work.place],
            remedy="Let the function use the connection without COMMIT and ROLLBACK; emc commits each batch.",
        )
    for condition, group in _groups(walk, writes):
        applied.written += _write(connection, walk, condition, group, dialect)
    applied.lost = len(writes) - applied.written
    return applied


def _read(
    connection: Connection, walk: Walk, rows: ColumnElement[bool], dialect: Dialect
) -> Iterator[tuple[Row[Any], Key, tuple[Any, ...]]]:
    """The pending *rows*: as the function sees them, their keys, and their columns as text."""
    columns = list(walk.work.table.c)
    keys = [column.label(f"emc_key_{at}") for at, column in enumerate(walk.columns)]
    texts = columns if dialect.concurrent_sessions else []
    was = [dialect.exact(column).label(f"emc_was_{at}") for at, column in enumerate(texts)]
    query = select(*columns, *keys, *was).where(rows, walk.work.pending).order_by(*walk.columns)
    found = [tuple(row) for row in connection.execute(query)]
    seen: IteratorResult[Any] = IteratorResult(
        SimpleResultMetaData([column.name for column in columns]),
        iter([row[: len(columns)] for row in found]),
    )
    first, second = len(columns), len(columns) + len(keys)
    return zip(seen.all(), (row[first:second] for row in found), (row[second:] for row in found), strict=True)


def _groups(
    walk: Walk, writes: Sequence[_Write]
) -> Iterator[tuple[tuple[str, ...] | Deletion | None, list[_Write]]]:
    """*writes* by what they have in common, so that one statement serves for many rows.

    That is the columns they set, or that they delete. ``None``: each is a statement of its own.
    """
    groups: dict[tuple[str, ...] | Deletion | None, list[_Write]] = {}
    for write in writes:
        common: tuple[str, ...] | Deletion | None
        if isinstance(write.answer, Deletion):
            common = DELETE
        elif any(isinstance(_clause(value), ClauseElement) for value in write.answer.values()):
            common = None
        else:
            common = tuple(sorted(write.answer))
        groups.setdefault(common, []).append(write)
    yield from groups.items()


def _write(
    connection: Connection,
    walk: Walk,
    common: tuple[str, ...] | Deletion | None,
    writes: Sequence[_Write],
    dialect: Dialect,
) -> int:
    """Write to each row that still is as it was read; answers to how many."""
    table = walk.work.table
    unchanged = [
        *(column == bindparam(f"emc_key_{at}", type_=column.type) for at, column in enumerate(walk.columns)),
    ]
    if _looks_at_what_it_writes(walk, dialect):
        keys = [write.key for write in writes]
        ready = set(still_pending(connection, walk, keys, walk.among(keys)))
        writes = [write for write in writes if write.key in ready]
        if not writes:
            return 0
    else:
        unchanged.append(walk.work.pending)
    if writes[0].was:
        # As text, since not every type can be compared (json) and not every value survives the way
        # through Python and back (a float, a document, an encrypted text). Their text is equal if the
        # values are.
        unchanged += [
            exact.is_not_distinct_from(bindparam(f"emc_was_{at}", type_=exact.type))
            for at, exact in enumerate(map(dialect.exact, table.c))
        ]
    found = [
        {
            **{f"emc_key_{at}": value for at, value in enumerate(write.key)},
            **{f"emc_was_{at}": value for at, value in enumerate(write.was)},
        }
        for write in writes
    ]
    if common is None:
        written = 0
        for write, parameters in zip(writes, found, strict=True):
            assert not isinstance(write.answer, Deletion)
            one = update(table).where(*unchanged).values(_by_column(walk, write.answer))
            written += connection.execute(one, parameters).rowcount
        return written
    statement: Any
    if isinstance(common, Deletion):
        statement = delete(table).where(*unchanged)
    else:
        new = {
            table.c[name]: bindparam(f"emc_new_{at}", type_=table.c[name].type)
            for at, name in enumerate(common)
        }
        statement = update(table).where(*unchanged).values({**_kept(table, common), **new})
        for write, parameters in zip(writes, found, strict=True):
            assert not isinstance(write.answer, Deletion)
            parameters.update({f"emc_new_{at}": write.answer[name] for at, name in enumerate(common)})
    if connection.dialect.supports_sane_multi_rowcount:
        return connection.execute(statement, found).rowcount
    return sum(connection.execute(statement, parameters).rowcount for parameters in found)
