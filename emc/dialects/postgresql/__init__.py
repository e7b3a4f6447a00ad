"""How does PostgreSQL (13 and later) change a schema under a running system?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine, UserDefinedType

from emc.claims import Claim, Guarding
from emc.dialects.answers import Blocker, Failure, Progress
from emc.dialects.base import Dialect
from emc.dialects.postgresql import (
    blockers,
    constraints,
    dependents,
    guards,
    indexes,
    leftovers,
    limits,
    pooling,
    privileges,
    progress,
    reading,
    recipes,
    sessions,
    spelling,
    taken,
    types,
)
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.naming import table_name
from emc.dialects.postgresql.script import Psql
from emc.dialects.scripting import Scripting
from emc.errors import Refusal
from emc.fit import Fit
from emc.names import Element, TableKey
from emc.operations import Kind, Operation
from emc.schema import Dependent, LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction

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
}


class _RowAddress(UserDefinedType[str]):
    """``tid``: block and line of a row version, as ``(0,1)``."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "TID"


class PostgreSQL(Dialect):
    """PostgreSQL 13 and later, through psycopg or psycopg2."""

    name: ClassVar[str] = "postgresql"
    transactional_ddl: ClassVar[bool] = True
    separate_enums: ClassVar[bool] = True
    scripting: ClassVar[Scripting | None] = Psql()

    # -- sessions -----------------------------------------------------------------------------------------------

    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """A connection for one attempt; :func:`emc.dialects.postgresql.sessions.timeouts` tells which waits end when.

        :raises ConfigurationError: a pooler hands sessions around, so that settings would not stay.
        """
        return sessions.opened(engine, transaction, locks, lock_timeout)

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

    def server_version(self, connection: Connection) -> str:
        """The version, e.g. ``PostgreSQL 15.18``."""
        return "PostgreSQL " + ".".join(str(part) for part in connection.dialect.server_version_info or ())

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """Everything that can be known about the tables of *schemas*.

        Takes at most ten queries, and one more per further schema.
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

    def remarks(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[tuple[str, str]]:
        """INVALID indexes."""
        return leftovers.remarks(steps, live)

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """What the role of *connection* lacks to run *steps*, with the statements that grant it."""
        return privileges.missing(connection, steps)

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

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """``ctid``; ``None`` for a partitioned table, whose partitions share their addresses."""
        if table.dialect_options["postgresql"]["partition_by"] is not None:
            return None
        return literal_column("ctid", _RowAddress())
