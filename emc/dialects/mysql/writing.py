"""How are names, literals, types and DDL written for one server?"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from alembic.operations import ops
from alembic.util import sqla_compat
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, literal_column, text
from sqlalchemy.dialects.mysql.base import MySQLDDLCompiler, MySQLDialect
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.schema import CheckConstraint, Constraint, CreateColumn
from sqlalchemy.sql.ddl import BaseDDLElement
from sqlalchemy.types import TypeEngine

from emc.dialects.mysql.flavour import MARIADB, MYSQL, Flavour
from emc.dialects.mysql.live import MySQLSchema
from emc.names import TableKey
from emc.operations import bare_table
from emc.schema import LiveSchema


class _Compiler(MySQLDDLCompiler):
    """SQLAlchemy's, but for the parent of a foreign key.

    A parent that names no database is looked up in that of the child (1005 where it is not there, seen with MariaDB
    10.11.19), while SQLAlchemy means that of the connection.
    """

    database: ClassVar[str | None] = None

    def define_constraint_remote_table(self, constraint: Any, table: Any, preparer: Any) -> str:
        """The parent, with its database where that is another one than the child's."""
        name = str(preparer.format_table(table))
        if table.schema is None and constraint.parent.schema is not None and self.database is not None:
            return f"{preparer.quote(self.database)}.{name}"
        return name


class Writer:
    """Writes SQL for the server behind one snapshot.

    :param name: ``mysql`` or ``mariadb``, as in the URL: SQLAlchemy chooses variants of types by it.
    :param version: of the server; empty: not known, and taken for a recent one.
    :param backslash_escapes: whether a backslash in a literal is special.
    :param database: that of the connection.
    """

    def __init__(
        self,
        flavour: Flavour,
        name: str,
        version: tuple[int, ...],
        *,
        backslash_escapes: bool,
        database: str | None = None,
    ) -> None:
        # "named": what is sent as it stands must not have its per cent signs doubled for a driver.
        dialect: Any
        if name == "mariadb":
            dialect = MariaDBDialect(paramstyle="named")
        else:
            dialect = MySQLDialect(paramstyle="named", is_mariadb=flavour.is_mariadb)
        # A dialect learns these from a connection.
        dialect.server_version_info = version or flavour.recent_version
        dialect._backslash_escapes = backslash_escapes  # noqa: SLF001
        dialect.ddl_compiler = type("_Compiler", (_Compiler,), {"database": database})
        dialect.supports_sequences = flavour.is_mariadb
        dialect.supports_native_uuid = flavour.is_mariadb
        self.flavour = flavour
        self.dialect = dialect
        self._literal: Any = String().literal_processor(dialect)  # type: ignore[no-untyped-call]

    def name(self, name: str) -> str:
        """*name* as it has to be written, in backquotes where it needs them."""
        return str(self.dialect.identifier_preparer.quote(name))

    def table(self, key: TableKey) -> str:
        """The name of a table, with its schema where the key gives one."""
        return str(self.dialect.identifier_preparer.format_table(bare_table(key)))

    def literal(self, value: str) -> str:
        """*value* as a string literal."""
        return str(self._literal(value))

    def compiled(self, element: BaseDDLElement) -> str:
        """The SQL of *element*."""
        return str(element.compile(dialect=self.dialect)).strip()

    def type(self, type_: TypeEngine[Any]) -> str:
        """The SQL of a type."""
        return str(self.dialect.type_compiler_instance.process(type_))

    def default(self, server_default: Any, type_: TypeEngine[Any] | None) -> str | None:
        """What stands behind DEFAULT: an expression in parentheses where it needs them; ``None`` for no default."""
        if server_default is None:
            return None
        column: Column[Any] = Column("c", type_ or Integer(), server_default=server_default)
        Table("t", MetaData(), column)
        _, _, written = self.compiled(CreateColumn(column)).partition(" DEFAULT ")
        return written or None

    def final_name(self, element: Constraint | Index) -> str | None:
        """The name that *element* has on the server, cut as SQLAlchemy cuts it; ``None`` where it gives none."""
        if element.name is None:
            return None
        name = self.dialect.identifier_preparer.format_constraint(element, _alembic_quote=False)
        return None if name is None else str(name)

    def constraint(self, directive: ops.AddConstraintOp) -> Any:
        """The constraint that *directive* adds, on a table of its own: nothing of the models is touched.

        ``to_constraint()`` of a CHECK made of the models' own columns attaches it to the models' table, which then has
        it twice (seen with Alembic 1.20).
        """
        if not isinstance(directive, ops.CreateCheckConstraintOp):
            return directive.to_constraint()
        condition = text(directive.condition) if isinstance(directive.condition, str) else directive.condition
        compiler = self.dialect.ddl_compiler(self.dialect, None)
        written = compiler.sql_compiler.process(condition, include_table=False, literal_binds=True)
        # Without the type's marks: to_constraint() leaves them out, too.
        check = CheckConstraint(literal_column(written), name=directive.constraint_name, **directive.kw)
        Table(directive.table_name, MetaData(), check, schema=directive.schema)
        return check


@functools.lru_cache(maxsize=8)
def _writer(
    name: str,
    version: tuple[int, ...],
    *,
    is_mariadb: bool,
    backslash_escapes: bool,
    database: str | None,
) -> Writer:
    flavour = MARIADB if is_mariadb else MYSQL
    return Writer(flavour, name, version, backslash_escapes=backslash_escapes, database=database)


def writer_for(live: LiveSchema, flavour: Flavour) -> Writer:
    """The writer for the server that *live* was read from."""
    known = live if isinstance(live, MySQLSchema) else MySQLSchema({})
    return _writer(
        known.dialect_name,
        known.version,
        is_mariadb=flavour.is_mariadb,
        backslash_escapes=known.backslash_escapes,
        database=known.database,
    )


def bare_column(column: Column[Any], key: TableKey) -> Column[Any]:
    """A copy of *column* in a table of its own, without constraints and indexes: they are operations of their own."""
    alone: Column[Any] = sqla_compat._copy(column)  # noqa: SLF001
    alone.unique = alone.index = None
    alone.constraints.clear()
    alone.foreign_keys.clear()
    Table(key.name, MetaData(), alone, schema=key.schema)
    return alone
