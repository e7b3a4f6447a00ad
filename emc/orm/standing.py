"""What is there to convert on this database, as of now?

Derived from declarations and live schema like everything else, once for each engine, and again when the schema turns
out to be another one: a process goes on running while ``emc contract`` drops the columns that its functions read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection
from sqlalchemy.engine import interfaces
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from emc.dialects import DIALECTS, Dialect, dialect_of
from emc.errors import UnsupportedDatabaseError
from emc.names import TableKey
from emc.orm.excluding import Judge, judge_of
from emc.orm.mapped import Mapped
from emc.upgrade import Upgrade
from emc.work import CallFunction, NotReady, Work, all_work

_T = TypeVar("_T")

_AGAIN = 60.0
"""Seconds after which work that the schema was not ready for is looked at again."""


@dataclass(frozen=True, eq=False)
class Task:
    """A function that converts the rows of one table, and how to tell which."""

    work: Work
    action: CallFunction
    columns: tuple[str, ...]
    """Those of the live table."""
    asks: Mapping[str, int]
    """The columns that the condition speaks of, each with its place among them."""
    _judges: dict[Mapped, Judge] = field(default_factory=dict)

    def judge(self, mapped: Mapped) -> Judge:
        """What tells of an object what the condition may be of its row."""
        judge = self._judges.get(mapped)
        if judge is None:
            judge = self._judges[mapped] = judge_of(self.work.pending, mapped.attributes)
        return judge


@dataclass(frozen=True, eq=False)
class Standing:
    """What is to be converted on one database."""

    dialect: Dialect
    tasks: Mapping[TableKey, tuple[Task, ...]]
    tables: Mapping[TableKey, tuple[tuple[str, str], ...]]
    """The columns of their tables, and the types of these."""
    look_again_at: float | None
    """By the monotonic clock; ``None``: not before something shows that the schema is another one."""


class Databases:
    """What is to be converted on each database that sessions lead to."""

    def __init__(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade
        # Engines that differ in their execution options alone share this object.
        self._standing: WeakKeyDictionary[interfaces.Dialect, Standing] = WeakKeyDictionary()

    def standing(self, connection: Connection) -> Standing:
        """What is to be converted on the database of *connection*; reads its catalog the first time.

        :raises EmcError: a declaration cannot be followed there.
        """
        known = self._standing.get(connection.dialect)
        if known is not None and (known.look_again_at is None or time.monotonic() < known.look_again_at):
            return known
        try:
            dialect = dialect_of(connection.engine)
        except UnsupportedDatabaseError:
            # Sessions may lead to several databases, and to others than that of the upgrade.
            known = Standing(DIALECTS[0], {}, {}, None)
        else:
            with _apart(connection, dialect):
                known = self._read(connection, dialect)
        self._standing[connection.dialect] = known
        return known

    def forget(self) -> None:
        """Look at each database again, for there are other declarations."""
        self._standing.clear()

    def ask(self, connection: Connection, question: Callable[[Standing], _T]) -> _T:
        """The answer to *question*, which reads only, even if the schema was changed since it was last looked at.

        :param question: asked once more if it failed and the schema turns out to be another one.
        """
        standing = self.standing(connection)
        try:
            with _apart(connection, standing.dialect):
                return question(standing)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            try:
                with _apart(connection, standing.dialect):
                    now = self._read(connection, standing.dialect)
            except DBAPIError:
                raise error from None
            if now.tables == standing.tables:
                raise
            self._standing[connection.dialect] = now
        with _apart(connection, now.dialect):
            return question(now)

    def _read(self, connection: Connection, dialect: Dialect) -> Standing:
        upgrade = self._upgrade
        live = dialect.read(connection, upgrade.schema_names)
        # The application may not be allowed to read the ledger. What it does not convert, emc migrate does.
        works = all_work(upgrade, live, dialect.uniqueness, contracted=None)
        every = {work.name: work for work in works}
        functions = {declared.name for declared in upgrade.data_migrations if declared.function is not None}
        functions |= {declared.name for declared in upgrade.fills if is_function(declared.value)}
        tasks: dict[TableKey, list[Task]] = {}
        is_unready = False
        for work in every.values():
            if isinstance(work, NotReady):
                is_unready |= work.name in functions
                continue
            # What it waits for concerns other rows too, of which nothing is known here without reading them all.
            is_its_turn = all(_is_complete(every[name]) for name in work.after)
            if isinstance(work.action, CallFunction) and not work.is_complete and is_its_turn:
                tasks.setdefault(work.key, []).append(_task(work, work.action))
        return Standing(
            dialect,
            {key: tuple(some) for key, some in tasks.items()},
            {
                key: tuple((name, str(column["type"])) for name, column in live.tables[key].columns.items())
                for key in tasks
            },
            time.monotonic() + _AGAIN if is_unready else None,
        )


def commits_by_itself(connection: Connection) -> bool:
    """Whether each statement on *connection* is a transaction of its own, so that no lock outlives it."""
    return connection._is_autocommit_isolation()  # noqa: SLF001 - none in public before 2.0.40, and not for each driver


def is_function(value: Any) -> bool:
    """Whether the *value* of a fill is a function of the row."""
    return callable(value) and not isinstance(value, ClauseElement)


def _task(work: Work, action: CallFunction) -> Task:
    asks = {
        element.name
        for element in visitors.iterate(work.pending)
        if isinstance(element, Column) and element.table is work.table
    }
    columns = tuple(column.name for column in work.table.c)
    return Task(work, action, columns, {name: at for at, name in enumerate(columns) if name in asks})


def _is_complete(work: Work | NotReady) -> bool:
    return isinstance(work, Work) and work.is_complete


def _apart(connection: Connection, dialect: Dialect) -> Any:
    """Lets a statement fail without harm to the transaction of the application, which knows nothing of it."""
    if not dialect.errors_end_transactions or commits_by_itself(connection):
        return nullcontext()
    return connection.begin_nested()
