"""How is a statement heard that a revision sends by a cursor of the driver, past SQLAlchemy?

The connections that a revision can get hold of are handed out wrapped; the classes of SQLAlchemy and of the driver are
left as they are. SQLAlchemy sends by such cursors too: what it has asked about already is let through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

Hear = Callable[[str, Any], bool]
"""Takes a statement and its parameters; whether it is taken care of."""


_DRIVERS_OWN = frozenset({"driver_connection", "connection"})
"""By which names a connection of the pool hands out the driver's; SQLAlchemy itself goes by ``dbapi_connection``."""


class Heard:
    """What stands for something of the driver's, and is like it in everything else."""

    __slots__ = ("_heard_inner", "_heard_tell")

    def __init__(self, inner: Any, tell: Hear) -> None:
        object.__setattr__(self, "_heard_inner", inner)
        object.__setattr__(self, "_heard_tell", tell)

    @property  # type: ignore[misc]  # Functions of drivers look at it.
    def __class__(self) -> Any:
        return self._heard_inner.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard_inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._heard_inner, name, value)

    def __enter__(self) -> Any:
        self._heard_inner.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._heard_inner.__exit__(*error)


class HeardConnection(Heard):
    """A connection of the pool, or the driver's own."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._heard_inner, name)
        return HeardConnection(found, self._heard_tell) if name in _DRIVERS_OWN else found

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As that of psycopg and of SQLite."""
        return self.cursor().execute(statement, *args, **kw)

    def executemany(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As that of SQLite."""
        return self.cursor().executemany(statement, *args, **kw)

    def executescript(self, statement: Any) -> Any:
        """As that of SQLite."""
        return self.cursor().executescript(statement)

    def query(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As that of MySQL's drivers."""
        if self._heard_tell(_text(statement, None), None):
            return 0
        return self._heard_inner.query(statement, *args, **kw)

    def cursor(self, *args: Any, **kw: Any) -> Any:
        """As the driver's."""
        return HeardCursor(self._heard_inner.cursor(*args, **kw), self._heard_tell)


class HeardCursor(Heard):
    """A cursor whose statements are told before they are sent."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._heard_inner)

    def __next__(self) -> Any:
        return next(self._heard_inner)

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As the driver's."""
        return self._told("execute", statement, *args, **kw)

    def executemany(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As the driver's."""
        return self._told("executemany", statement, *args, **kw)

    def executescript(self, statement: Any) -> Any:
        """As SQLite's."""
        return self._told("executescript", statement)

    def copy(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As that of psycopg."""
        return self._told("copy", statement, *args, **kw)

    def copy_expert(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """As that of psycopg2."""
        return self._told("copy_expert", statement, *args, **kw)

    def stream(self, statement: Any, *args: Any, **kw: Any) -> Iterator[Any]:
        """As that of psycopg."""
        if not self._heard_tell(_text(statement, self._heard_inner), args[0] if args else None):
            yield from self._heard_inner.stream(statement, *args, **kw)

    def callproc(self, name: str, args: Sequence[Any] = ()) -> Any:
        """As the driver's."""
        if self._heard_tell(f"CALL {name}({', '.join(['%s'] * len(args))})", tuple(args) or None):
            return args
        return self._heard_inner.callproc(name, args)

    def _told(self, method: str, statement: Any, *args: Any, **kw: Any) -> Any:
        parameters = args[0] if args else None
        if self._heard_tell(_text(statement, self._heard_inner), parameters):
            return self
        answer = getattr(self._heard_inner, method)(statement, *args, **kw)
        return self if answer is self._heard_inner else answer


def _text(statement: Any, cursor: Any) -> str:
    if isinstance(statement, bytes):
        return statement.decode()
    if hasattr(statement, "as_string"):  # A statement that psycopg has put together.
        return str(statement.as_string(cursor))
    return str(statement)


@contextlib.contextmanager
def heard(engine: Engine, connection: Connection, tell: Hear) -> Iterator[None]:
    """Let *tell* hear what is sent by connections of *engine*, and by *connection*, while the block runs."""
    before = connection._dbapi_connection  # noqa: SLF001  # What Connection.connection hands out.
    opened = engine.raw_connection

    def raw_connection() -> Any:
        return HeardConnection(opened(), tell)

    if before is not None:
        connection._dbapi_connection = HeardConnection(before, tell)  # type: ignore[assignment]  # noqa: SLF001
    engine.raw_connection = raw_connection  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(engine).pop("raw_connection", None)
        now: Any = connection._dbapi_connection  # noqa: SLF001
        if isinstance(now, HeardConnection):
            connection._dbapi_connection = now._heard_inner  # noqa: SLF001
