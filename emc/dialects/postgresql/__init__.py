"""How does PostgreSQL (13 and later) change a schema under a running system?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from emc.dialects.base import Dialect, Failure
from emc.dialects.postgresql import reading, spelling
from emc.names import TableKey
from emc.operations import Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction

__all__ = ["PostgreSQL"]


class PostgreSQL(Dialect):
    """PostgreSQL 13 and later, through psycopg or psycopg2."""

    name: ClassVar[str] = "postgresql"
    transactional_ddl: ClassVar[bool] = True
    separate_enums: ClassVar[bool] = True

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """A connection with every timeout set and read back."""
        raise NotImplementedError

    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means."""
        raise NotImplementedError

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """Everything that can be known about the tables of *schemas*.

        Takes at most eight queries, and one more per further schema.
        """
        return reading.read(connection, schemas)

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """*tables* of the models as the server would show them had it just created them.

        Foreign keys are left out. So is a table that the server will not create as things stand, because it needs a
        type or function that is not there yet.

        :raises CannotSpellError: the role or the transaction may not create temporary tables.
        """
        return spelling.spell(connection, tables, live)

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """*operations* of one phase as PostgreSQL runs them."""
        raise NotImplementedError
