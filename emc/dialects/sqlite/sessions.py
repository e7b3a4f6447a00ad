"""How does emc hold a SQLite connection, and what do its errors mean?

Python's sqlite3 begins and commits transactions of its own accord, differently by version and by setting; here it
is told not to, and every BEGIN, COMMIT and ROLLBACK is sent. Whatever is changed on a connection is put back before
the pool gets it: the application may live in the same process.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from emc.dialects.answers import Failure
from emc.dialects.sqlite.edits import literal, quoted
from emc.errors import EmcError
from emc.steps import Transaction


@contextmanager
def open_session(engine: Engine, transaction: Transaction, lock_timeout: float) -> Iterator[Connection]:
    """A connection for one unit of work; see :meth:`emc.dialects.base.Dialect.open`.

    :param lock_timeout: seconds to wait for the one writer's lock.
    """
    with _held(engine) as connection, _pragma(connection, "busy_timeout", round(lock_timeout * 1000)):
        if transaction is Transaction.AUTOCOMMIT:
            yield connection
        elif transaction is Transaction.TOGETHER:
            with _transaction(connection, "BEGIN IMMEDIATE"):
                yield connection
        elif transaction is Transaction.REBUILD:
            # Both can only be set outside a transaction. With foreign_keys=ON, dropping the old copy of a table is
            # an implicit DELETE that cascades to its children; without legacy_alter_table, a rename rewrites what
            # views, triggers and other tables say. https://sqlite.org/lang_altertable.html#otheralter
            with (
                _pragma(connection, "foreign_keys", 0),
                _pragma(connection, "legacy_alter_table", 1),
                _transaction(connection, "BEGIN IMMEDIATE"),
            ):
                before = foreign_key_violations(connection)
                yield connection
                refuse_violations(foreign_key_violations(connection) - before)
        else:
            raise ValueError(f"SQLite knows no {transaction} session: nothing but a transaction locks there")


@contextmanager
def read_session(engine: Engine) -> Iterator[Connection]:
    """A connection whose reads are one snapshot, for a read-only file as well."""
    with _held(engine) as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            # The snapshot is taken by the first read, not by BEGIN.
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
            yield connection
        finally:
            if _in_transaction(raw_of(connection)):
                connection.exec_driver_sql("ROLLBACK")


def raw_of(connection: Connection) -> Any:
    """The driver's own connection: sqlite3's, or one that looks like it."""
    return connection.connection.dbapi_connection


def _in_transaction(raw: Any) -> bool:
    """Whether the driver's connection *raw* is in a transaction; SQLAlchemy's disguise of aiosqlite does not tell."""
    return bool(
        raw.in_transaction if hasattr(raw, "in_transaction") else raw.driver_connection.in_transaction
    )


@contextmanager
def _held(engine: Engine) -> Iterator[Connection]:
    """A connection on which the driver begins no transaction."""
    with engine.connect() as connection:
        raw = raw_of(connection)
        # Python 3.12's own attribute; LEGACY_TRANSACTION_CONTROL (-1) unless the application set it.
        autocommit = getattr(raw, "autocommit", -1)
        if _in_transaction(raw) and autocommit is not False:
            raise EmcError(
                "Another part of this process has a transaction open on the only connection of this database.",
                remedy="Finish that transaction first, or use a database in a file.",
            )
        level = raw.isolation_level
        try:
            # Runs the application's "begin" events; SQLAlchemy's recipe for pysqlite sends a BEGIN there.
            connection.begin()
            if _in_transaction(raw):
                raw.rollback()
            if autocommit != -1:
                raw.autocommit = True
            raw.isolation_level = None
            yield connection
        finally:
            if _in_transaction(raw):
                raw.rollback()
            raw.isolation_level = level
            if autocommit != -1:
                raw.autocommit = autocommit


@contextmanager
def _transaction(connection: Connection, begin: str) -> Iterator[None]:
    connection.exec_driver_sql(begin)
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors (full disk, out of memory).
        if _in_transaction(raw_of(connection)):
            connection.exec_driver_sql("ROLLBACK")
        raise


@contextmanager
def _pragma(connection: Connection, name: str, value: int) -> Iterator[None]:
    """Set a pragma, read it back, and restore it in the end."""
    before = connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
    _set(connection, name, value)
    try:
        yield
    finally:
        _set(connection, name, before)


def _set(connection: Connection, name: str, value: int) -> None:
    # Closed at once: an open cursor would keep a transaction alive, and with it the old value of foreign_keys.
    connection.exec_driver_sql(f"PRAGMA {name}={value}").close()
    seen = connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
    if seen != value:
        raise EmcError(
            f"SQLite did not take PRAGMA {name}={value}: it says {seen}. Nothing was changed.",
            remedy="Look for an event listener that opens a transaction when a connection is made.",
        )


def foreign_key_violations(connection: Connection) -> Counter[tuple[str, str, str]]:
    """Rows without a parent, as (child, rowid, parent), and foreign keys that cannot be checked at all."""
    found: Counter[tuple[str, str, str]] = Counter()
    schemas = [row[1] for row in connection.exec_driver_sql("PRAGMA database_list")]
    for schema in schemas:
        master = f"{quoted(schema)}.sqlite_{'temp_' if schema == 'temp' else ''}master"
        children = connection.exec_driver_sql(
            f"SELECT m.name FROM {master} AS m WHERE m.type = 'table'"
            f" AND EXISTS (SELECT 1 FROM pragma_foreign_key_list(m.name, {literal(schema)}))"
        )
        for child in [row[0] for row in children]:
            try:
                rows = connection.exec_driver_sql(
                    f"PRAGMA {quoted(schema)}.foreign_key_check({quoted(child)})"
                ).fetchall()
            except DBAPIError as error:
                # "foreign key mismatch": the parent has no such unique key. Known before or not, it is compared.
                if failure(error) is not Failure.OTHER:
                    raise
                found[child, "mismatch", str(error.orig)] += 1
            else:
                found.update((str(row[0]), str(row[1]), str(row[2])) for row in rows)
    return found


def refuse_violations(violations: Counter[tuple[str, str, str]]) -> None:
    """Raise when a rebuild left rows without a parent that had one before, or whose foreign key is new."""
    if not violations:
        return
    shown = ", ".join(
        parent if rowid == "mismatch" else f"{child} (rowid {rowid}) to {parent}"
        for child, rowid, parent in sorted(violations)[:5]
    )
    raise IntegrityError(
        "PRAGMA foreign_key_check",
        None,
        sqlite3.IntegrityError(f"FOREIGN KEY constraint failed for {sum(violations.values())} rows: {shown}"),
    )


_FORBIDDEN = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def failure(error: DBAPIError) -> Failure:
    """What *error* means, by SQLite's primary result code."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _LOCKED:
        return Failure.LOCKED
    if primary in _FORBIDDEN:
        return Failure.FORBIDDEN
    if isinstance(error, IntegrityError):
        return Failure.INTEGRITY
    return Failure.OTHER


def missing_privileges(connection: Connection) -> list[str]:
    """Why nothing could be written, if so: how the file was opened, and what the file system says."""
    lacks: list[str] = []
    if connection.exec_driver_sql("PRAGMA query_only").scalar():
        lacks.append("writing: PRAGMA query_only is on")
    for row in connection.exec_driver_sql("PRAGMA database_list").fetchall():
        name, file = row[1], row[2]
        if name != "main" or not file:
            continue
        path = Path(file)
        if not os.access(path, os.W_OK):
            lacks.append(f"write permission on the file {path}")
        elif not os.access(path.parent, os.W_OK):
            lacks.append(f"write permission on the directory {path.parent}, where SQLite puts its journal")
        elif _opened_read_only(connection):
            lacks.append(f"a connection that may write: the URL opens {path} read-only")
    return lacks


def _opened_read_only(connection: Connection) -> bool:
    """By the URL: SQLite itself tells only by refusing a write, and a plan must not try one."""
    url = connection.engine.url
    given = {key: str(value) for key, value in url.query.items()}
    given |= dict(parse_qsl((url.database or "").partition("?")[2]))
    return given.get("mode") == "ro" or given.get("immutable") in ("1", "yes", "on", "true")


def absent(engine: Engine) -> str | None:
    """Why there is no database file to look at; ``None`` when there is one, or a database in memory."""
    name = engine.url.database
    if not name or name == ":memory:" or name.startswith("file:") or Path(name).exists():
        return None
    return f"there is no file {name}"
