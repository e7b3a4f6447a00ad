"""How does SQLite change a schema while it is in use?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, literal_column
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.dialects.lexis import Lexis
from emc.dialects.sqlite import catalog, comparing, planning, sessions, syncs, unsyncable
from emc.errors import Refusal
from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction
from emc.sync import Sync, SyncPart

__all__ = ["SQLite"]


class SQLite(Dialect):
    """SQLite 3.35 or later: one writer, transactional DDL, and a rebuild for most of what changes a table."""

    name: ClassVar[str] = "sqlite"
    transactional_ddl: ClassVar[bool] = True
    concurrent_sessions: ClassVar[bool] = False
    separate_enums: ClassVar[bool] = False
    conditional: ClassVar[frozenset[str]] = Dialect.conditional | {Kind.CREATE_INDEX, Kind.DROP_INDEX}

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """See the base class. There is one lock, the writer's, so the policy makes no difference."""
        return sessions.open_session(engine, transaction, lock_timeout)

    def lexis(self, connection: Connection) -> Lexis:
        """See the base class."""
        return Lexis(backticks=True, brackets=True)

    def lock(self, connection: Connection, keys: Sequence[TableKey]) -> None:
        """See the base class. BEGIN IMMEDIATE has made us the one writer."""

    def absent(self, engine: Engine) -> str | None:
        """See the base class. sqlite3 makes the file that it does not find."""
        return sessions.absent(engine)

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:  # type: ignore[override]
        """See the base class."""
        return sessions.read_session(engine)

    def failure(self, error: DBAPIError) -> Failure:
        """See the base class."""
        return sessions.failure(error)

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """See the base class. SQLAlchemy asks SQLite table by table; no query leaves the process."""
        return catalog.read(connection, schemas)

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """See the base class. The scratch place is a database in memory, so nothing can forbid it."""
        return catalog.spell(tables)

    def refuse(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation] = ()
    ) -> Refusal | None:
        """See the base class."""
        return planning.refusal_of(operation, live)

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """See the base class.

        What SQLite cannot do by itself is one rebuild per table: its steps share a unit, stand side by side, and the
        first carries the statements.

        :raises PlanRefusedError: a rehearsal in memory failed.
        """
        return planning.plan_steps(operations, live)

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """See the base class."""
        return dict.fromkeys(sessions.missing_privileges(connection) if steps else (), "")

    def enforces_foreign_keys(self, connection: Connection) -> bool:
        """See the base class: each connection is asked, and by default says no."""
        return bool(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())

    # -- keeping columns in step ----------------------------------------------------------------------------------

    def cannot_sync(self, sync: Sync, live: LiveSchema) -> Refusal | None:
        """See the base class."""
        return unsyncable.cannot_sync(sync, live)

    def sync_parts(self, sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
        """See the base class. Triggers AFTER INSERT and AFTER UPDATE OF either side."""
        return syncs.parts(sync, live)

    def guards(
        self, connection: Connection, keys: Sequence[TableKey]
    ) -> Mapping[TableKey, Mapping[str, str]]:
        """See the base class. Syncs only: all else is proved in the transaction of the drop."""
        found = self.read(connection, list(dict.fromkeys(key.schema for key in keys))).tables
        return {key: found[key].syncs for key in keys if key in found}

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """See the base class."""
        return comparing.same(column, value)

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """``rowid``, under the first of its names that no column takes; ``None`` for a table WITHOUT ROWID."""
        if not table.dialect_options["sqlite"]["with_rowid"]:
            return None
        taken = {column.name.lower() for column in table.columns}
        name = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)
        return None if name is None else literal_column(f"{name}")
