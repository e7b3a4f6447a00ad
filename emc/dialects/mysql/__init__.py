"""How do MariaDB and MySQL change a schema while it is in use?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Index, Table, UniqueConstraint
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from emc.claims import Claim, Guarding
from emc.dialects.answers import Blocker, Failure, Pressure
from emc.dialects.base import Dialect
from emc.dialects.lexis import Lexis
from emc.dialects.mysql import (
    blockers,
    catalog,
    comparing,
    entry,
    failures,
    fits,
    guards,
    lexis,
    limits,
    options,
    pressures,
    recipes,
    rowwrites,
    sessions,
    spelling,
    syncs,
    wording,
)
from emc.dialects.mysql.flavour import MARIADB, MYSQL, Flavour
from emc.dialects.mysql.misfits import misfits
from emc.dialects.mysql.script import ClientDemands, MariaDBDemands
from emc.dialects.rowwrites import RowWrites
from emc.dialects.scripting import Demanding
from emc.errors import Refusal
from emc.fit import Fit
from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction
from emc.sync import Sync, SyncPart
from emc.work.uniqueness import Uniqueness

__all__ = ["MariaDB", "MySQL"]


class MySQL(Dialect):
    """MySQL 8 with InnoDB. No such server was at hand: what is peculiar to it rests on the manual and its answers."""

    name: ClassVar[str] = "mysql"
    transactional_ddl: ClassVar[bool] = False
    indexes_foreign_keys: ClassVar[bool] = True
    updates_what_it_reads: ClassVar[bool] = False
    builds_end_locked: ClassVar[bool] = True
    streams_alone: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = False
    indexes_row_values: ClassVar[bool] = False
    counting: ClassVar[str] = "AUTO_INCREMENT"
    restrict_goes_without_saying: ClassVar[bool] = True
    parents_are_siblings: ClassVar[bool] = True
    tells_implied_indexes: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = options.NAMES
    unlocks: ClassVar[str | None] = "UNLOCK TABLES"
    demanding: ClassVar[Demanding | None] = ClientDemands()
    standpoint: ClassVar[str | None] = "SELECT DATABASE()"
    flavour: ClassVar[Flavour] = MYSQL

    def serves(self, engine: Engine) -> bool:
        """See the base class. A ``mysql://`` URL may lead to either server; once connected, SQLAlchemy knows."""
        return engine.dialect.name in ("mysql", "mariadb") and not self._is_mariadb(engine)

    @staticmethod
    def _is_mariadb(engine: Engine) -> bool:
        return bool(engine.dialect.is_mariadb)  # type: ignore[attr-defined]

    # -- sessions -----------------------------------------------------------------------------------------------

    def no_database(self, connection: Connection) -> str | None:
        """See the base class."""
        return entry.no_database(connection)

    def entry_remedy(self, error: DBAPIError) -> str | None:
        """See the base class."""
        return entry.remedy(error)

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """See the base class."""
        return sessions.opened(engine, self.flavour, transaction, locks, lock_timeout)

    def lexis(self, connection: Connection) -> Lexis:
        """See the base class."""
        return lexis.lexis(connection)

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:  # type: ignore[override]
        """See the base class."""
        return sessions.reading(engine)

    def lock(self, connection: Connection, keys: Sequence[TableKey]) -> None:
        """See the base class."""
        sessions.lock(connection, keys)

    def failure(self, error: DBAPIError) -> Failure:
        """See the base class."""
        return failures.failure(error)

    def blockers(self, connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
        """See the base class."""
        return blockers.blockers(connection, keys)

    def long_transactions(self, connection: Connection) -> Sequence[Blocker]:
        """See the base class."""
        return blockers.long_transactions(connection)

    def knock(self, connection: Connection, key: TableKey) -> None:
        """See the base class."""
        blockers.knock(connection, self.flavour, key)

    def pressures(self, connection: Connection) -> Sequence[Pressure]:
        """See the base class."""
        return pressures.pressures(connection, self.flavour)

    def replica_lag(self, connection: Connection) -> Pressure | None:
        """See the base class."""
        return pressures.replica_lag(connection, self.flavour)

    def server_version(self, connection: Connection) -> str:
        """See the base class."""
        return sessions.server_version(connection, self.flavour)

    def now(self, connection: Connection) -> dt.datetime:
        """See the base class."""
        return sessions.now(connection)

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """See the base class. A fixed number of queries to information_schema."""
        return catalog.read(connection, schemas, self.flavour)

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """See the base class. The scratch place is a database of its own, dropped at the end."""
        return spelling.spell(connection, tables, live, self.flavour)

    def shown_type(self, text: str) -> str:
        """See the base class."""
        return wording.shown_type(text)

    def shown_default(self, text: str, type_text: str) -> str:
        """See the base class."""
        return wording.shown_default(text, type_text, self.flavour)

    def fit(self, old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
        """See the base class."""
        return fits.fit(old, new)

    def misfits(
        self, column: ColumnElement[Any], old: TypeEngine[Any], new: TypeEngine[Any]
    ) -> ColumnElement[bool] | None:
        """See the base class."""
        return misfits(column, old, new)

    # -- doing --------------------------------------------------------------------------------------------------

    def refuse(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation] = ()
    ) -> Refusal | None:
        """See the base class."""
        return limits.refuse(operation, live, self.flavour, operations)

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """See the base class."""
        return recipes.steps(operations, live, self.flavour)

    def foreseen(self, operations: Sequence[Operation], live: LiveSchema, expected: LiveSchema) -> LiveSchema:
        """See the base class. The definitions of columns, which MODIFY spells whole."""
        return recipes.foreseen(operations, live, expected, self.flavour)

    # -- guard, prove, drop ---------------------------------------------------------------------------------------

    def guarded(self, operation: Operation, claim: Claim, live: LiveSchema) -> bool:
        """See the base class. Sessions are in strict mode, so whatever reads all rows refuses those in the way."""
        return guards.guarded(operation, live)

    def cannot_guard(self, operation: Operation, claim: Claim, live: LiveSchema) -> str | None:
        """See the base class."""
        return guards.cannot_guard(operation, claim, live, self.flavour)

    def guarding(self, steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema) -> Guarding:
        """See the base class. Triggers; for a foreign key the key itself under another name."""
        return guards.guarding(steps, claims, live, self.flavour)

    def guards(
        self, connection: Connection, keys: Sequence[TableKey]
    ) -> Mapping[TableKey, Mapping[str, str]]:
        """See the base class."""
        schemas = list(dict.fromkeys(key.schema for key in keys))
        found = self.read(connection, schemas).tables
        return {key: {**found[key].guards, **found[key].syncs} for key in keys if key in found}

    def alone(self, step: Step, cleaning: str, live: LiveSchema) -> Step | None:
        """See the base class. Under LOCK TABLES."""
        return guards.alone(step, cleaning, live)

    def lift(self, key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
        """See the base class."""
        return guards.lift(key, names, live, self.flavour)

    def in_doubt(self, engine: Engine, keys: Sequence[TableKey]) -> frozenset[str]:
        """See the base class."""
        return guards.in_doubt(engine, keys, self.flavour)

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """See the base class."""
        return dict.fromkeys(limits.missing_privileges(connection, steps, self.flavour), "")

    # -- keeping columns in step ----------------------------------------------------------------------------------

    def cannot_sync(self, sync: Sync, live: LiveSchema) -> Refusal | None:
        """See the base class."""
        return syncs.cannot_sync(sync, live, self.flavour)

    def sync_parts(self, sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
        """See the base class. A BEFORE UPDATE and a BEFORE INSERT trigger."""
        return syncs.parts(sync, self.flavour)

    # -- facts for gates and data migrations ----------------------------------------------------------------------

    def uniqueness(self, element: Index | UniqueConstraint) -> Uniqueness:
        """See the base class."""
        return comparing.demands(element)

    def ordered(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """See the base class."""
        return comparing.ordered(column)

    def exact(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """See the base class."""
        return comparing.exact(column)

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """See the base class."""
        return comparing.same(column, value, self.flavour)

    def row_writes(
        self, connection: Connection, table: Table, key: Sequence[ColumnElement[Any]]
    ) -> RowWrites:
        """See the base class."""
        return rowwrites.LockingWrites(table, key)


class MariaDB(MySQL):
    """MariaDB 10.11 or later with InnoDB."""

    name: ClassVar[str] = "mariadb"
    updates_what_it_reads: ClassVar[bool] = True
    conditional: ClassVar[frozenset[str]] = MySQL.conditional | {
        Kind.ADD_COLUMN,
        Kind.DROP_COLUMN,
        Kind.CREATE_INDEX,
        Kind.DROP_INDEX,
    }
    demanding: ClassVar[Demanding | None] = MariaDBDemands()
    flavour: ClassVar[Flavour] = MARIADB

    def serves(self, engine: Engine) -> bool:
        """See the base class."""
        return engine.dialect.name in ("mysql", "mariadb") and self._is_mariadb(engine)
