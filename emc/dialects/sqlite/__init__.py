"""How does SQLite change a schema while it is in use?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, literal_column
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.dialects.sqlite import catalog, planning, sessions
from emc.errors import Refusal
from emc.names import TableKey
from emc.operations import Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction

__all__ = ["SQLite"]


class SQLite(Dialect):
    """SQLite 3.35 or later: one writer, transactional DDL, and a rebuild for most of what changes a table."""

    name: ClassVar[str] = "sqlite"
    transactional_ddl: ClassVar[bool] = True
    concurrent_sessions: ClassVar[bool] = False
    separate_enums: ClassVar[bool] = False

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """See the base class. There is one lock, the writer's, so the policy makes no difference."""
        return sessions.open_session(engine, transaction, lock_timeout)

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

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """``rowid``, under the first of its names that no column takes; ``None`` for a table WITHOUT ROWID."""
        if not table.dialect_options["sqlite"]["with_rowid"]:
            return None
        taken = {column.name.lower() for column in table.columns}
        name = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)
        return None if name is None else literal_column(f"{name}")
