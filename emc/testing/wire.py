"""What does a session send, and when does it commit?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

from emc.dialects import dialect_of

WRITING = (
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "COMMENT",
    "VACUUM",
    "REINDEX",
)
"""What a statement begins with that changes something."""

SCRATCH = "emc_scratch_"
"""Part of every statement that builds something only to see how the server spells it, and takes it away again."""


@contextmanager
def writes(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements sent through *engine* that write and are not rolled back."""
    commits_ddl = not dialect_of(engine).transactional_ddl
    kept: list[str] = []
    pending: dict[int, list[str]] = {}

    def sent(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        word = statement.split(None, 1)[0].upper() if statement.strip() else ""
        mine = pending.setdefault(id(connection.connection.dbapi_connection), [])
        if word in ("ROLLBACK", "COMMIT"):  # SQLite's sessions send them as statements
            if word == "COMMIT":
                kept.extend(mine)
            mine.clear()
        elif word in WRITING and SCRATCH not in statement:
            if commits_ddl and word not in ("INSERT", "UPDATE", "DELETE"):
                kept.extend(mine)
                mine.clear()
                kept.append(statement)
            else:
                (kept if commits_by_itself(connection) else mine).append(statement)

    def committed(connection: Connection) -> None:
        kept.extend(pending.pop(id(connection.connection.dbapi_connection), []))

    def rolled_back(connection: Connection) -> None:
        pending.pop(id(connection.connection.dbapi_connection), None)

    listeners: dict[str, Any] = {"before_cursor_execute": sent, "commit": committed, "rollback": rolled_back}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield kept
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


def commits_by_itself(connection: Connection) -> bool:
    """Whether the next statement on *connection* is a transaction of its own."""
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        return not raw.in_transaction and raw.isolation_level is None
    if hasattr(raw, "get_autocommit"):  # PyMySQL, mysqlclient
        return bool(raw.get_autocommit())
    return getattr(raw, "autocommit", False) is True
