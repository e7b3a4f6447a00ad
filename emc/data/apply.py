"""How is one batch of rows written?"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, select, true, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement

from emc.data.locking import in_chunks, locked_and_pending, still_pending
from emc.data.reading import seen_columns, typed_rows
from emc.data.walk import Key, Walk
from emc.dialects.base import Dialect
from emc.dialects.rowwrites import RowChange, RowWrites, Target, send
from emc.errors import DeclarationError, EmcError
from emc.work import CallFunction, Deletion, SetElsewhere, SetValues, Work
from emc.work.tables import has_subquery, reads, rewritten


@dataclass
class Applied:
    """What a batch did."""

    found: int = 0
    """Rows that were pending."""
    written: int = 0
    """Rows updated or deleted."""
    deleted: int = 0
    """Those of them that are no longer there."""
    lost: int = 0
    """Rows that somebody else wrote to between our read and our write: they are left for the next pass."""
    failed: list[tuple[Key, BaseException]] = field(default_factory=list)
    """Rows for which the function raised, without having touched the database."""
    is_cut: bool = False
    """Whether it ended before a row that failed and is to end the run."""
    last: Key | None = None
    """The last row before that one; ``None``: it was the first."""


class RowError(Exception):
    """A function that had the connection raised, so its transaction cannot be kept."""

    def __init__(self, key: Key, position: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.key = key
        self.position = position
        """How many rows of the batch came before."""
        self.cause = cause


def apply(
    connection: Connection,
    walk: Walk,
    rows: ColumnElement[bool],
    skipped: Collection[Key],
    dialect: Dialect,
    row_writes: RowWrites | None,
) -> Applied:
    """Do the action of the work to those of *rows* that are pending.

    :param skipped: keys of rows that are not given to a function again.
    :param row_writes: how what a function answers is written; needed for functions only.
    :raises RowError: a function that had the connection raised.
    :raises UnreadableError: a row cannot be read for a function.
    """
    work, action = walk.work, walk.work.action
    if isinstance(action, CallFunction):
        assert row_writes is not None
        return _call(connection, walk, action, rows, skipped, dialect, row_writes)
    if isinstance(action, SetElsewhere):
        # Our own rows are locked before those of the other table, as the triggers of these do.
        keys = locked_and_pending(connection, walk, rows)
        statements = [one for chunk in in_chunks(keys) for one in action.statements(walk.among(chunk))]
        return Applied(found=len(keys), written=sum(connection.execute(one).rowcount for one in statements))
    statement: Any = delete(work.table)
    # What is deleted cannot be put right again.
    locked_first = dialect.concurrent_sessions
    if isinstance(action, SetValues):
        statement = update(work.table).values(by_column(work, action.values))
        # PostgreSQL judges a row that was written meanwhile again, but what its condition looks up elsewhere by the old
        # snapshot: the parent that such a row has got by then would not be seen.
        looks_elsewhere = dialect.concurrent_sessions and has_subquery(work.pending)
        locked_first = looks_elsewhere or _looks_at_what_it_writes(walk, dialect)
    if not locked_first:
        written = found = connection.execute(statement.where(rows, work.pending)).rowcount
    else:
        keys = locked_and_pending(connection, walk, rows)
        found = len(keys)
        written = sum(
            connection.execute(statement.where(walk.among(chunk))).rowcount for chunk in in_chunks(keys)
        )
    return Applied(found=found, written=written, deleted=written if work.deletes else 0)


def _looks_at_what_it_writes(walk: Walk, dialect: Dialect) -> bool:
    """Whether the condition cannot stand in a statement that writes to the table it reads (MySQL: error 1093)."""
    return not dialect.updates_what_it_reads and reads(walk.work.pending, walk.work.key)


def by_column(work: Work, values: Mapping[str, Any]) -> dict[Any, Any]:
    """What an UPDATE sets to write *values*, and to leave everything else as it is."""
    table = work.table
    new = {table.c[name]: rewritten(_clause(value), work.key, table) for name, value in values.items()}
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
    row_writes: RowWrites,
) -> Applied:
    applied = Applied()
    answers = _Answers()
    answer_to = action.answering(connection, walk.work.table)
    key_of, last = row_writes.key_of, None
    # Everything is asked before anything is written: locks on rows last as long as the writes, not the
    # functions.
    for row, told in _read(connection, walk, rows, dialect, row_writes):
        applied.found += 1
        if skipped and key_of(told) in skipped:
            continue
        try:
            answer = answer_to(row)
        except EmcError:
            raise
        except Exception as error:
            # With the connection in its hands it may have written, or broken the transaction.
            if action.takes_connection or isinstance(error, DBAPIError):
                raise RowError(key_of(told), applied.found - 1, error) from error
            applied.failed.append((key_of(told), error))
            if walk.work.on_error == "stop":
                applied.is_cut, applied.last = True, last and key_of(last)
                break
            continue
        last = told
        answers.take(told, answer)
    if action.takes_connection and not dialect.renew(connection):
        raise DeclarationError(
            f"{walk.work.name} ended the transaction of its batch, which holds what it wrote and how far it is.",
            places=[walk.work.place],
            remedy="Let the function use the connection without COMMIT and ROLLBACK; emc commits each batch.",
        )
    applied.written, applied.deleted = _write(connection, walk, rows, answers, dialect, row_writes)
    applied.lost = answers.count - applied.written
    return applied


def _read(
    connection: Connection, walk: Walk, rows: ColumnElement[bool], dialect: Dialect, row_writes: RowWrites
) -> Iterable[tuple[Row[Any], RowChange]]:
    """The pending *rows*: as the function sees them, each with its key and what tells whether it has changed."""
    columns = seen_columns(walk.work.table)
    seen = [one.label(f"emc_was_{at}") for at, one in enumerate(row_writes.seen)]
    query = select(*columns, *walk.labelled(), *seen).where(rows, walk.work.pending).order_by(*walk.columns)
    action = walk.work.action
    if not (isinstance(action, CallFunction) and action.takes_connection):
        return typed_rows(connection, walk, query)
    # The function is to find the connection free, so all are read before it is called.
    if not dialect.concurrent_sessions:
        return list(typed_rows(connection, walk, query))
    # What the function writes elsewhere is committed with the batch, so its row must not turn out to have changed: the
    # function would be asked again, and write once more.
    if not has_subquery(walk.work.pending):
        return list(typed_rows(connection, walk, query.with_for_update()))
    locked = set(locked_and_pending(connection, walk, rows))
    return [found for found in typed_rows(connection, walk, query) if row_writes.key_of(found[1]) in locked]


_PLAIN = frozenset(
    {type(None), bool, bytes, dict, dt.date, dt.datetime, float, int, list, str, uuid.UUID, Decimal}
)
"""Types whose values are no SQL expressions, which for any other takes a closer look."""


class _Answers:
    """What a function answered, by what rows have in common, so that one statement serves for many of them."""

    def __init__(self) -> None:
        self.values: defaultdict[tuple[str, ...], list[RowChange]] = defaultdict(list)
        """By the columns that are written."""
        self.sql: list[tuple[RowChange, Mapping[str, Any]]] = []
        """Each is a statement of its own."""
        self.deleted: list[RowChange] = []
        self.count = 0

    def take(self, told: RowChange, answer: Mapping[str, Any] | Deletion) -> None:
        """Remember what is to become of one row."""
        if isinstance(answer, Deletion):
            self.deleted.append(told)
        elif not answer:
            return
        elif not _PLAIN.issuperset(map(type, answer.values())) and any(map(_is_sql, answer.values())):
            self.sql.append((told, answer))
        else:
            self.values[tuple(answer)].append((*told, *answer.values()))
        self.count += 1


def _is_sql(value: Any) -> bool:
    return isinstance(_clause(value), ClauseElement)


def _write(
    connection: Connection,
    walk: Walk,
    rows: ColumnElement[bool],
    answers: _Answers,
    dialect: Dialect,
    row_writes: RowWrites,
) -> tuple[int, int]:
    """Write to each row that still is as it was read; answers to how many, and how many of them are gone."""
    table, condition = walk.work.table, walk.work.pending
    judged_first = _looks_at_what_it_writes(walk, dialect)
    if judged_first:
        condition = true()

    def ready(changes: Sequence[RowChange]) -> Sequence[RowChange]:
        if not judged_first or not changes:
            return changes
        keys = [row_writes.key_of(change) for change in changes]
        found = set(still_pending(connection, walk, keys, walk.among(keys)))
        return [change for change, key in zip(changes, keys, strict=True) if key in found]

    written = deleted = 0
    for columns, changes in answers.values.items():
        if found := ready(changes):
            target = Target(rows=rows, condition=condition, kept=_kept(table, columns))
            written += row_writes.update(connection, target, columns, found)
    unchanged = [*row_writes.unchanged(), condition]
    if found := ready(answers.deleted):
        deleted = send(connection, delete(table).where(*unchanged), row_writes.parameters(found))
    still = set(map(row_writes.key_of, ready([change for change, _ in answers.sql])))
    for change, answer in answers.sql:
        if row_writes.key_of(change) in still:
            one = update(table).where(*unchanged).values(by_column(walk.work, answer))
            written += connection.execute(one, row_writes.parameters([change])).rowcount
    return written + deleted, deleted
