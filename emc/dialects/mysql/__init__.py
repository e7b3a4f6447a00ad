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
from emc.dialects.answers import Blocker, Failure
from emc.dialects.base import Dialect
from emc.dialects.mysql import (
    blockers,
    catalog,
    comparing,
    entry,
    failures,
    fits,
    guards,
    limits,
    options,
    recipes,
    sessions,
    spelling,
    wording,
)
from emc.dialects.mysql.flavour import MARIADB, MYSQL, Flavour
from emc.dialects.mysql.misfits import misfits
from emc.errors import Refusal
from emc.fit import Fit
from emc.names import TableKey
from emc.operations import Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction
from emc.work.uniqueness import Uniqueness

__all__ = ["MariaDB", "MySQL"]


class MySQL(Dialect):
    """MySQL 8 with InnoDB. No such server was at hand: what is peculiar to it rests on the manual and its answers."""

    name: ClassVar[str] = "mysql"
    transactional_ddl: ClassVar[bool] = False
    indexes_foreign_keys: ClassVar[bool] = True
    updates_what_it_reads: ClassVar[bool] = False
    builds_end_locked: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = False
    indexes_row_values: ClassVar[bool] = False
    counting: ClassVar[str] = "AUTO_INCREMENT"
    restrict_goes_without_saying: ClassVar[bool] = True
    parents_are_siblings: ClassVar[bool] = True
    tells_implied_indexes: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = options.NAMES
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
        return {key: found[key].guards for key in keys if key in found}

    def lift(self, key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
        """See the base class."""
        return guards.lift(key, names, live, self.flavour)

    def in_doubt(self, engine: Engine, keys: Sequence[TableKey]) -> frozenset[str]:
        """See the base class."""
        return guards.in_doubt(engine, keys, self.flavour)

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """See the base class."""
        return dict.fromkeys(limits.missing_privileges(connection, steps, self.flavour), "")

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


class MariaDB(MySQL):
    """MariaDB 10.11 or later with InnoDB."""

    name: ClassVar[str] = "mariadb"
    updates_what_it_reads: ClassVar[bool] = True
    flavour: ClassVar[Flavour] = MARIADB

    def serves(self, engine: Engine) -> bool:
        """See the base class."""
        return engine.dialect.name in ("mysql", "mariadb") and self._is_mariadb(engine)
