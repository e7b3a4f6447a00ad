"""How does SQLite change a schema while it is in use?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from emc.dialects.base import Dialect, Failure
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
        """See the base class."""
        raise NotImplementedError

    def failure(self, error: DBAPIError) -> Failure:
        """See the base class."""
        raise NotImplementedError

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """See the base class."""
        raise NotImplementedError

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """See the base class."""
        raise NotImplementedError

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """See the base class."""
        raise NotImplementedError
