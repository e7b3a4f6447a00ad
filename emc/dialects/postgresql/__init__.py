"""How does PostgreSQL (13 and later) change a schema under a running system?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine, UserDefinedType

from emc.claims import Claim, Guarding
from emc.dialects.answers import Blocker, Failure, Pressure, Progress
from emc.dialects.base import Dialect
from emc.dialects.lexis import Lexis
from emc.dialects.postgresql import (
    blockers,
    comparing,
    constraints,
    dependents,
    domains,
    guards,
    indexes,
    leftovers,
    limits,
    pooling,
    pressures,
    privileges,
    progress,
    reading,
    recipes,
    rowwrites,
    sessions,
    spelling,
    syncs,
    taken,
    types,
    unsyncable,
)
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.naming import table_name
from emc.dialects.postgresql.script import Psql, PsqlDemands
from emc.dialects.rowwrites import RowWrites
from emc.dialects.scripting import Demanding, Scripting
from emc.errors import Refusal
from emc.fit import Fit
from emc.names import Element, TableKey
from emc.operations import Kind, Operation
from emc.schema import Dependent, LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction
from emc.sync import Sync, SyncPart

__all__ = ["PostgreSQL"]

_RECIPES: Mapping[str, Callable[[Ground], Step]] = {
    Kind.CREATE_ENUM: recipes.create_enum,
    Kind.ADD_ENUM_VALUE: recipes.add_enum_value,
    Kind.REMOVE_ENUM_VALUE: recipes.remove_enum_value,
    Kind.DROP_ENUM: recipes.drop_enum,
    Kind.CREATE_TABLE: recipes.create_table,
    Kind.DROP_TABLE: recipes.drop_table,
    Kind.ADD_COLUMN: recipes.add_column,
    Kind.DROP_COLUMN: recipes.drop_column,
    Kind.SET_NOT_NULL: recipes.set_not_null,
    Kind.DROP_NOT_NULL: recipes.drop_not_null,
    Kind.ALTER_TYPE: recipes.alter_column_type,
    Kind.SET_DEFAULT: recipes.set_default,
    Kind.DROP_DEFAULT: recipes.drop_default,
    Kind.SET_COMMENT: recipes.set_comment,
    Kind.CREATE_INDEX: indexes.create_index,
    Kind.DROP_INDEX: indexes.drop_index,
    Kind.REPLACE_INDEX: indexes.replace_index,
    Kind.ADD_UNIQUE: constraints.add_unique,
    Kind.DROP_UNIQUE: constraints.drop,
    Kind.ADD_CHECK: constraints.add_checked,
    Kind.DROP_CHECK: constraints.drop,
    Kind.ADD_FOREIGN_KEY: constraints.add_checked,
    Kind.DROP_FOREIGN_KEY: constraints.drop,
    Kind.ADD_EXCLUSION: constraints.add_exclusion,
    Kind.DROP_EXCLUSION: constraints.drop,
    Kind.REPLACE_CONSTRAINT: constraints.replace_constraint,
    Kind.INSTALL_SYNC: syncs.install,
    Kind.DROP_SYNC: syncs.drop,
}


class _RowAddress(UserDefinedType[str]):
    """``tid``: block and line of a row version, as ``(0,1)``."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "TID"


_ROWS_IN_BLOCK = 20
"""Of a table that is not narrow; batches find out how many there really are."""


def _block(address: str) -> int:
    return int(address.strip("()").partition(",")[0])


class PostgreSQL(Dialect):
    """PostgreSQL 13 and later, through psycopg or psycopg2."""

    name: ClassVar[str] = "postgresql"
    transactional_ddl: ClassVar[bool] = True
    errors_end_transactions: ClassVar[bool] = True
    separate_enums: ClassVar[bool] = True
    keeps_writers_out: ClassVar[bool] = True
    foreign_keys_guard_themselves: ClassVar[bool] = True
    scripting: ClassVar[Scripting | None] = Psql()
    demanding: ClassVar[Demanding | None] = PsqlDemands()
    standpoint: ClassVar[str | None] = (
        "SELECT 'as ' || current_user || ' in ' || array_to_string(current_schemas(false), ', ')"
    )
    conditional: ClassVar[frozenset[str]] = Dialect.conditional | {
        Kind.ADD_COLUMN,
        Kind.DROP_COLUMN,
        Kind.CREATE_INDEX,
        Kind.DROP_INDEX,
    }

    # -- sessions -----------------------------------------------------------------------------------------------

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """A connection for one attempt; :func:`emc.dialects.postgresql.sessions.timeouts` tells which waits end when.

        :raises ConfigurationError: a pooler hands sessions around, so that settings would not stay.
        """
        return sessions.opened(engine, transaction, locks, lock_timeout)

    def lexis(self, connection: Connection) -> Lexis:
        """See the base class."""
        standard = connection.exec_driver_sql("SHOW standard_conforming_strings").scalar_one() == "on"
        return Lexis(nests_comments=True, backslashes=not standard, e_literals=True, dollars=True)

    def renew(self, connection: Connection) -> bool:
        """Set the timeouts again; answers whether the transaction is still the same."""
        return sessions.renew(connection)

    def entry_remedy(self, error: DBAPIError) -> str | None:
        """What settles that a pooler does not let emc in."""
        return pooling.entry_remedy(error)

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection whose queries all see the database as of one moment."""
        with sessions.reading(engine) as connection:
            yield connection

    def lock(self, connection: Connection, keys: Sequence[TableKey]) -> None:
        """Wait until nobody writes to tables *keys*, and let nobody in until the transaction ends."""
        if keys:
            connection.exec_driver_sql(
                f"LOCK TABLE {', '.join(map(table_name, keys))} IN ACCESS EXCLUSIVE MODE",
                execution_options={"no_parameters": True},
            )

    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means, by its SQLSTATE."""
        return sessions.failure(error)

    def cut_off(self, error: DBAPIError) -> bool:
        """Whether it was the timeout of a statement."""
        return sessions.cut_off(error)

    def blockers(self, connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
        """The sessions and prepared transactions that hold locks on tables *keys*, but for emc's own, longest first."""
        return blockers.blockers(connection, keys, sessions.APPLICATION)

    def builders(self, connection: Connection, key: TableKey) -> Sequence[Blocker]:
        """The sessions that build an index on table *key*, or on a partition of it."""
        return progress.builders(connection, key)

    def session(self, connection: Connection) -> str | None:
        """Its process on the server."""
        return progress.session(connection)

    def progress(self, connection: Connection, session: str, key: TableKey) -> Progress | None:
        """By the server's view of index builds; it has none of validations, which only show that they run."""
        return progress.progress(connection, session, key)

    def pressures(self, connection: Connection) -> Sequence[Pressure]:
        """Standbys that are behind, and WAL that waits to be archived."""
        return pressures.pressures(connection)

    def waiters(self, connection: Connection) -> Pressure | None:
        """Who has waited longest for the transaction of *connection*, but for emc's own sessions."""
        return pressures.waiters(connection, sessions.APPLICATION)

    def replica_lag(self, connection: Connection) -> Pressure | None:
        """As the standby itself sees it."""
        return pressures.replica_lag(connection)

    def server_version(self, connection: Connection) -> str:
        """The version, e.g. ``PostgreSQL 15.18``."""
        return "PostgreSQL " + ".".join(str(part) for part in connection.dialect.server_version_info or ())

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """Everything that can be known about the tables of *schemas*.

        Takes at most eleven queries, and one more per further schema.
        """
        named = [schema for schema in schemas if schema is not None]
        found = domains.read(connection, named, visible=None in schemas)
        return replace(reading.read(connection, schemas), domains=found)

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """*tables* of the models as the server would show them had it just created them.

        Foreign keys are left out. So is a table that the server will not create as things stand, because it needs a
        type or function that is not there yet.

        :raises CannotSpellError: the role or the transaction may not create temporary tables.
        """
        return spelling.spell(connection, tables, live)

    def fit(self, old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
        """See the base class."""
        return types.fit(old, new)

    # -- doing --------------------------------------------------------------------------------------------------

    def refuse(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation] = ()
    ) -> Refusal | None:
        """Why *operation* would stall or break a running system, or what has the name that it is about to give."""
        return taken.refuse(Ground(operation, live, operations)) or limits.refuse(Ground(operation, live))

    def dependents(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation]
    ) -> Sequence[Dependent]:
        """What would stop the server, and functions whose text speaks of what goes."""
        return dependents.in_the_way(Ground(operation, live, operations))

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """*operations* of one phase as PostgreSQL runs them: one step each, each a unit of its own."""
        return [_RECIPES[one.kind](Ground(one, live, operations)) for one in operations]

    # -- guard, prove, drop ---------------------------------------------------------------------------------------

    def guarded(self, operation: Operation, claim: Claim, live: LiveSchema) -> bool:
        """Where the table is too big to be looked at in the transaction of the drop."""
        return guards.guarded(operation, claim, live)

    def outgrown(self, connection: Connection, key: TableKey, live: LiveSchema) -> int | None:
        """By the size of the files, of which nobody is asked who does not hold the lock already."""
        return guards.outgrown(connection, key, live)

    def cannot_guard(self, operation: Operation, claim: Claim, live: LiveSchema) -> str | None:
        """Why no CHECK could keep *claim* true."""
        return guards.cannot_guard(claim, live)

    def guarding(self, steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema) -> Guarding:
        """By a CHECK that is NOT VALID."""
        return guards.guarding(steps, claims, live)

    def guards(
        self, connection: Connection, keys: Sequence[TableKey]
    ) -> Mapping[TableKey, Mapping[str, str]]:
        """The guards that stand on tables *keys*; reads nothing else, since a lock is held meanwhile."""
        return guards.standing(connection, keys)

    def lift(self, key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
        """Take guards away."""
        return guards.lift(key, names)

    def leftovers(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
        """Checks and indexes of emc's own whose operation the models no longer ask for."""
        return leftovers.steps(steps, live)

    def given_up(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
        """INVALID unique indexes that refuse duplicates."""
        return leftovers.given_up(steps, live)

    def remarks(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[tuple[str, str]]:
        """INVALID indexes."""
        return leftovers.remarks(steps, live)

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """What the role of *connection* lacks to run *steps*, with the statements that grant it."""
        return privileges.missing(connection, steps)

    # -- keeping columns in step ----------------------------------------------------------------------------------

    def cannot_sync(self, sync: Sync, live: LiveSchema) -> Refusal | None:
        """Why triggers could not keep *sync*; ``None`` when they can."""
        return unsyncable.refuse(sync, live)

    def sync_parts(self, sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
        """Two triggers, with their function."""
        return syncs.parts(sync, live)

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """To the letter, whatever the type finds equal."""
        return comparing.same(column, value)

    # -- facts for gates and data migrations ----------------------------------------------------------------------

    def index_scans(self, connection: Connection, index: Element) -> int | None:
        """How often *index* was used since the statistics were reset; ``None`` if it is not there.

        That of a partitioned table was used when that of a partition was.
        """
        scans = connection.execute(
            text(
                "WITH RECURSIVE tree AS (SELECT i.indexrelid AS oid FROM pg_index i"
                " JOIN pg_class c ON c.oid = i.indexrelid"
                " WHERE i.indrelid = to_regclass(:name) AND c.relname = :index"
                " UNION ALL SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid)"
                " SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelid IN (SELECT oid FROM tree)"
            ),
            {"name": table_name(index.table), "index": index.name},
        ).scalar()
        return None if scans is None else int(scans)

    def row_writes(
        self, connection: Connection, table: Table, key: Sequence[ColumnElement[Any]]
    ) -> RowWrites:
        """See the base class."""
        return rowwrites.row_writes(connection, super().row_writes(connection, table, key))

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """``ctid``; ``None`` for a partitioned table, whose partitions share their addresses."""
        if table.dialect_options["postgresql"]["partition_by"] is not None:
            return None
        return literal_column("ctid", _RowAddress())

    def nearer_row_id(self, lower: Any, upper: Any, rows: int) -> Any:
        """See the base class. No index has the order of addresses: what is looked at is sorted, so it is not all."""
        block = (0 if lower is None else _block(lower)) + max(1, rows // _ROWS_IN_BLOCK)
        return upper if block >= _block(upper) else f"({block},0)"
