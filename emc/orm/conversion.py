"""How is conversion turned on for the sessions of a service, and off again?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from threading import RLock
from typing import Any

from sqlalchemy import Result, Table, event
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, UOWTransaction
from sqlalchemy.orm.mapper import _all_registries
from sqlalchemy.sql.expression import UpdateBase

from emc.orm.loading import Loaded
from emc.orm.mapped import Mapped, mapped
from emc.orm.saving import Saving
from emc.orm.sessions import listens_to
from emc.orm.standing import Databases, is_function
from emc.upgrade import Upgrade


def convert(upgrade: Upgrade, *, on: Any, read_only: bool = False) -> Conversion:
    """Convert old rows as objects of them are loaded and saved, by the functions that *upgrade* declares.

    Those are the functions of the row given to :meth:`~emc.Upgrade.data_migration` and :meth:`~emc.Upgrade.fill`. What
    is declared in SQL is left to ``emc migrate``, and so is all that nobody loads or saves.

    *Loaded*: an object of a row that is work, as the condition says, shows what the function makes of the row. That
    alone writes nothing and does not make the object dirty. *Saved*: when a session flushes a new or changed object
    whose row is work, the row is converted in the same transaction, from what is in it then, and what the application
    has changed is written on top of that.

    :param on: whose sessions: a ``sessionmaker``, ``async_sessionmaker``, ``scoped_session``, class of sessions, or one
        session.
    :param read_only: convert what is loaded, and nothing that is saved.
    :returns: what turns it off again.
    :raises ConfigurationError: *on* makes no sessions.
    """
    return Conversion(upgrade, listens_to(on), read_only=read_only)


class Conversion:
    """The conversion of rows in some sessions, see :func:`convert`."""

    def __init__(self, upgrade: Upgrade, target: Any, *, read_only: bool) -> None:
        self._upgrade = upgrade
        self._databases = Databases(upgrade)
        self._mapped: dict[Mapper[Any], tuple[Mapped, ...]] = {}
        """The classes that map tables with functions, and how."""
        self._tables: tuple[Table, ...] = ()
        self._seen: set[Mapper[Any]] = set()
        self._declarations = -1
        self._option = f"emc_loaded_{id(self)}"
        self._saving = f"emc_saving_{id(self)}"
        self._lock = RLock()
        self._listening: list[tuple[Any, str, Any]] = []
        self._listen(target, "do_orm_execute", self._execute)
        if not read_only:
            self._listen(target, "before_flush", self._flush)
            self._listen(target, "after_flush", self._flushed)
        self._listen(Mapper, "after_configured", self._look_for_classes)
        self._look_for_classes()

    def stop(self) -> None:
        """Turn it off. Objects that are loaded already stay as they are."""
        with self._lock:
            for target, name, function in self._listening:
                event.remove(target, name, function)
            self._listening.clear()
            self._mapped.clear()

    # -- what SQLAlchemy tells ---------------------------------------------------------------------------------

    def _execute(self, execution: ORMExecuteState) -> Result[Any] | None:
        """Statements that load objects hand them to us before they hand them out."""
        self._look_for_declarations()
        # Classes may not be configured before the statement is compiled.
        if not self._tables or not execution.is_orm_statement or not _returns_objects(execution):
            return None
        connection = execution.session.connection(bind_arguments=dict(execution.bind_arguments))
        standing = self._databases.standing(connection)
        if not standing.tasks:
            return None
        loaded = Loaded(execution, self._databases, self._maps)
        options: dict[str, Any] = {self._option: loaded}
        if execution.is_relationship_load or execution.is_column_load:
            # These hand on what they loaded all at once. SQLAlchemy 2.0 lets the yield_per of the statement that they
            # belong to get here by way of invoke_statement(), and then refuses it (its issue 13301).
            options["yield_per"] = None
        result = execution.invoke_statement(execution_options=options)
        loaded.watch(result, standing.dialect)
        return result

    def _load(self, state: InstanceState[Any], context: Any) -> None:
        # There is no context where nothing was loaded: merge(load=False), and our own news of converted attributes.
        loaded = context.execution_options.get(self._option) if context is not None else None
        if loaded is not None:
            loaded.ones.append((state, None))

    def _refresh(self, state: InstanceState[Any], context: Any, attributes: Collection[str] | None) -> None:
        loaded = context.execution_options.get(self._option) if context is not None else None
        if loaded is not None:
            loaded.ones.append((state, attributes))

    def _flush(self, session: Session, flush_context: UOWTransaction, instances: Any) -> None:
        self._look_for_declarations()
        if self._mapped:
            saving = flush_context.attributes[self._saving] = Saving(session, self._databases, self._maps)
            saving.before()

    def _flushed(self, session: Session, flush_context: UOWTransaction) -> None:
        # It was turned on in the middle of a flush if there is none.
        saving = flush_context.attributes.pop(self._saving, None)
        if saving is not None:
            saving.after()

    # -- which classes -----------------------------------------------------------------------------------------

    def _maps(self, mapper: Mapper[Any]) -> Sequence[Mapped]:
        return self._mapped.get(mapper, ())

    def _look_for_declarations(self) -> None:
        if len(self._upgrade.declarations) != self._declarations:
            with self._lock:
                self._seen.clear()
                self._databases.forget()
                self._look_for_classes()

    def _look_for_classes(self) -> None:
        """Listen to the classes that map the tables of functions, those that were configured since the last time."""
        with self._lock:
            self._declarations = len(self._upgrade.declarations)
            self._tables = _tables(self._upgrade)
            # SQLAlchemy knows which mappers a registry has, but tells which registries there are to itself alone.
            mappers = {mapper for registry in _all_registries() for mapper in registry.mappers}
            for mapper in mappers - self._seen:
                if not mapper.configured:
                    continue
                self._seen.add(mapper)
                found = tuple(filter(None, (mapped(mapper, table) for table in self._tables)))
                if found and mapper not in self._mapped:
                    self._listen(mapper.class_, "load", self._load, raw=True)
                    self._listen(mapper.class_, "refresh", self._refresh, raw=True)
                if found:
                    self._mapped[mapper] = found

    def _listen(self, target: Any, name: str, function: Any, **options: Any) -> None:
        event.listen(target, name, function, **options)
        self._listening.append((target, name, function))


def _tables(upgrade: Upgrade) -> tuple[Table, ...]:
    """The tables of the models whose rows functions convert."""
    tables: dict[Table, None] = {}
    for fill in upgrade.fills:
        if is_function(fill.value) and isinstance(fill.column.table, Table):
            tables[fill.column.table] = None
    for migration in upgrade.data_migrations:
        if migration.function is not None and migration.table is not None:
            tables[migration.table] = None
    return tuple(tables)


def _returns_objects(execution: ORMExecuteState) -> bool:
    statement = execution.statement
    return not isinstance(statement, UpdateBase) or len(statement.exported_columns) > 0
