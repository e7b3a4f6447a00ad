"""How would the server show the tables of the models?

They are built in a scratch database, read like live ones, and dropped with it. DDL commits at once here, so that is
done by a session of its own, beside the one that reads. The database bears a name that says which server and run made
it, and its session holds a lock of that name as long as it lives: a database whose lock is free belongs to a run that
was killed, and the next one drops it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Table, text
from sqlalchemy import Sequence as SequenceDefault
from sqlalchemy.exc import CompileError, DBAPIError, IdentifierError
from sqlalchemy.schema import CreateIndex, CreateSequence, CreateTable, ExecutableDDLElement

from emc.dialects.base import CannotSpellError
from emc.dialects.mysql import sessions
from emc.dialects.mysql.catalog import read_scratch
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.leniency import settled
from emc.dialects.mysql.options import completed
from emc.names import EMC_PREFIX, TableKey
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Transaction

SCRATCH_PREFIX = f"{EMC_PREFIX}scratch_"
"""What the names of scratch databases begin with."""

_FORBIDDEN = frozenset({1044, 1142, 1205, 1227, 1290, 1792, 1836, 3554})
"""Access to the database or command denied, lock wait timeout (a backup holds up DDL), privilege missing, server or
transaction read-only, server in read-only mode, access to a system table rejected (MySQL)."""
_NO_SUCH_DATABASE = 1049


def spell(
    connection: Connection, tables: Sequence[Table], live: LiveSchema, flavour: Flavour
) -> Mapping[TableKey, LiveTable]:
    """*tables* as the server would show them had it just created them, foreign keys left out.

    What the models leave to whoever operates the database is as it is in *live*; see
    :mod:`emc.dialects.mysql.leniency`. A table that the server refuses to create is missing from the answer.

    :raises CannotSpellError: the role may not create a database, or this session or server is read-only.
    """
    if not tables:
        return {}
    if connection.exec_driver_sql(f"SELECT @@SESSION.{flavour.read_only_variable}").scalar():
        raise CannotSpellError("the session may only read")
    spelled: dict[TableKey, LiveTable] = {}
    with _forbidden_says_so(), _session(connection, flavour) as session:
        server = _server(session)
        _drop_leftovers(session, server)
        for schema, collation, batch in _batches(tables, live):
            real = schema or str(connection.dialect.default_schema_name)
            with _database(session, server, collation or _collation_of(session, real)) as scratch:
                built = _create(session, scratch, batch)
                found = read_scratch(
                    session, scratch, {table.name: key for key, table in built.items()}, flavour
                )
            for key, table in found.items():
                at_home = _at_home(table, scratch, real)
                spelled[key] = settled(at_home, live.table(key), built[key], connection.dialect)
    return {key: spelled[key] for key in sorted(spelled, key=lambda key: key.sort_key)}


# -- the scratch place -----------------------------------------------------------------------------------------


@contextmanager
def _forbidden_says_so() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if _code(error) in _FORBIDDEN or _code(error) == _NO_SUCH_DATABASE:
            raise CannotSpellError(str(error.orig)) from error
        raise


def _code(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


@contextmanager
def _session(connection: Connection, flavour: Flavour) -> Iterator[Connection]:
    """A session of its own, which never goes back to a pool."""
    with sessions.opened(
        connection.engine, flavour, Transaction.AUTOCOMMIT, LockPolicy.WEAK, sessions.BUILD_WAIT
    ) as session:
        session.detach()
        with suppress(DBAPIError):
            # Replicas need not follow. Where the role lacks the privilege they do, and drop it again like we do.
            session.exec_driver_sql("SET SESSION sql_log_bin = 0")
        yield session


def _server(session: Connection) -> str:
    """Eight digits that tell this server from those that replicate to it or from it."""
    digest = session.exec_driver_sql("SELECT LEFT(MD5(CONCAT_WS(':', @@hostname, @@port, @@datadir)), 8)")
    return str(digest.scalar())


@contextmanager
def _database(session: Connection, server: str, collation: str | None) -> Iterator[str]:
    """A new database, whose lock the session holds, and which is dropped at the end."""
    name = f"{SCRATCH_PREFIX}{server}_{secrets.token_hex(4)}"
    _lock(session, name)
    # Of a database that is not there: who may not drop shall not create.
    session.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
    character_set = f" CHARACTER SET {collation.partition('_')[0]} COLLATE {collation}" if collation else ""
    session.exec_driver_sql(f"CREATE DATABASE {name}{character_set}")
    try:
        yield name
    finally:
        if not session.invalidated:  # What a lost session leaves, the next one drops: nobody holds its lock.
            session.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            session.exec_driver_sql(f"DO RELEASE_LOCK('{name}')")


def _collation_of(session: Connection, schema: str) -> str | None:
    """The collation that tables of *schema* get; ``None`` for a schema that is not there."""
    collation: str | None = session.execute(
        text("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = :schema"),
        {"schema": schema},
    ).scalar()
    return collation


def _lock(session: Connection, name: str) -> bool:
    return session.exec_driver_sql(f"SELECT GET_LOCK('{name}', 0)").scalar() == 1


def _drop_leftovers(session: Connection, server: str) -> None:
    """Drop the scratch databases of this server whose runs are over."""
    own = re.compile(rf"{SCRATCH_PREFIX}{server}_[0-9a-f]{{8}}")
    names = session.execute(
        text("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE :pattern"),
        {"pattern": f"{SCRATCH_PREFIX}{server}_%"},
    )
    for name in sorted(str(row[0]) for row in names):
        if own.fullmatch(name) and _lock(session, name):
            session.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            session.exec_driver_sql(f"DO RELEASE_LOCK('{name}')")


def _batches(
    tables: Sequence[Table], live: LiveSchema
) -> Iterator[tuple[str | None, str | None, dict[TableKey, Table]]]:
    """*tables* by schema and by the collation that the live table gives to columns that name none.

    Within a schema no two tables have the same name; the collation is the operator's choice where the models make
    none.
    """
    groups: dict[tuple[str | None, str | None], dict[TableKey, Table]] = {}
    for table in tables:
        key = TableKey(table.schema, table.name)
        there = live.table(key)
        collation = there.options.get("collate") if there is not None else None
        groups.setdefault((key.schema, collation), {})[key] = table
    for (schema, collation), batch in sorted(
        groups.items(), key=lambda item: (item[0][0] or "", item[0][1] or "")
    ):
        yield schema, collation, batch


# -- building --------------------------------------------------------------------------------------------------


def _create(session: Connection, scratch: str, tables: Mapping[TableKey, Table]) -> dict[TableKey, Table]:
    """Build *tables*; those that the server refuses are missing from the answer."""
    for sequence in {
        sequence.name: sequence for table in tables.values() for sequence in _sequences(table)
    }.values():
        _attempt(session, scratch, sequence.schema, [CreateSequence(sequence)])
    return {
        key: table
        for key, table in tables.items()
        if _attempt(session, scratch, table.schema, _elements(table, session))
    }


def _attempt(
    session: Connection, scratch: str, schema: str | None, elements: Sequence[ExecutableDDLElement]
) -> bool:
    """Run *elements* with *schema* put into the scratch database; tell whether that went well."""
    try:
        for element in elements:
            session.execute(
                element, execution_options={"schema_translate_map": {None: scratch, schema: scratch}}
            )
    except (CompileError, IdentifierError):
        # MariaDB cannot have such a table, under that name or at all: nothing to spell.
        return False
    except DBAPIError as error:
        if error.connection_invalidated or _code(error) in _FORBIDDEN or _code(error) == _NO_SUCH_DATABASE:
            raise
        return False
    return True


def _elements(table: Table, session: Connection) -> list[ExecutableDDLElement]:
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    return [
        CreateTable(table, include_foreign_key_constraints=[]),
        *(CreateIndex(completed(index, session.dialect)) for index in indexes),
    ]


def _sequences(table: Table) -> Iterator[SequenceDefault]:
    for column in table.columns:
        for default in (column.default, getattr(column.server_default, "arg", None)):
            sequence = getattr(default, "sequence", default)
            if isinstance(sequence, SequenceDefault):
                yield sequence


def _at_home(table: LiveTable, scratch: str, real: str) -> LiveTable:
    """*table* as it would be in database *real*, whose name stands before that of a sequence."""
    for column in table.columns.values():
        if column["default"] is not None:
            column["default"] = column["default"].replace(f"`{scratch}`.", f"`{real}`.")
    return table
