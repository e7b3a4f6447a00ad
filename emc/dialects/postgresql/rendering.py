"""What do Alembic and SQLAlchemy write for a directive on PostgreSQL?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.ddl.postgresql import PostgresqlColumnType
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from alembic.util import sqla_compat
from sqlalchemy import Column, Index, MetaData, Table, UniqueConstraint, literal_column, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import (
    CheckConstraint,
    Constraint,
    DDLElement,
    DropConstraint,
    ForeignKeyConstraint,
    conv,
)
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.ground import Patient
from emc.dialects.postgresql.naming import DIALECT, MAX_BYTES, identifier, table_name
from emc.names import TableKey


def compiled(element: DDLElement) -> str:
    """The SQL of *element*."""
    return str(element.compile(dialect=DIALECT)).strip()


def rendered(directive: ops.MigrateOperation) -> Sequence[str]:
    """The statements that Alembic would run for *directive*, one by one."""
    statements: list[str] = []

    def keep(element: Any, *_: Any, **__: Any) -> None:
        statements.append(compiled(element))

    # Not Alembic's offline mode: that turns tabs inside literals into spaces.
    context = MigrationContext.configure(connection=MockConnection(DIALECT, keep))  # type: ignore[arg-type]
    Operations(context).invoke(directive)
    return statements


def final_name(element: Constraint | Index) -> str | None:
    """The name that *element* has on the server, cut as SQLAlchemy cuts it; ``None`` where it gives none."""
    if element.name is None:
        return None
    name = DIALECT.identifier_preparer.format_constraint(element, _alembic_quote=False)
    return None if name is None else str(name)


def renamed(constraint: Constraint, name: str) -> Constraint:
    """*constraint* under the name *name*, as it stands."""
    constraint.name = conv(name)
    return constraint


def bare_column(column: Column[Any], key: TableKey) -> Column[Any]:
    """A copy of *column* in a table of its own, without constraints and indexes: they are operations of their own."""
    alone: Column[Any] = sqla_compat._copy(column)  # noqa: SLF001
    alone.unique = alone.index = None
    alone.constraints.clear()
    alone.foreign_keys.clear()
    Table(key.name, MetaData(), alone, schema=key.schema)
    return alone


def alter(key: TableKey, clause: str, *, only: bool = False) -> str:
    """An ALTER TABLE that neither Alembic nor SQLAlchemy can write.

    :param only: leave its partitions as they are.
    """
    return f"ALTER TABLE {'ONLY ' if only else ''}{table_name(key)} {clause}"


def validate(key: TableKey, name: str) -> Patient:
    """Look at every row, under a lock that lets writers go on."""
    return Patient(alter(key, f"VALIDATE CONSTRAINT {identifier(name)}"))


def drop_constraint(key: TableKey, name: str) -> str:
    """Drop a constraint of any kind."""
    table = Table(key.name, MetaData(), schema=key.schema)
    constraint = CheckConstraint("", name=conv(name))
    table.append_constraint(constraint)
    return compiled(DropConstraint(constraint))


def alter_type(key: TableKey, column: str, type_: TypeEngine[Any], using: str | None) -> str:
    """Give a column another type."""
    return compiled(PostgresqlColumnType(key.name, column, type_, schema=key.schema, using=using))


def type_text(type_: TypeEngine[Any]) -> str:
    """The SQL of a type, without its collation."""
    if getattr(type_, "collation", None) is not None:
        type_ = type_.copy()
        type_.collation = None  # type: ignore[attr-defined]
    return str(DIALECT.type_compiler_instance.process(type_))


def atomic(statements: Sequence[str]) -> str:
    """One statement that runs *statements* together or not at all, outside a transaction."""
    body = "".join(f"  {statement};\n" for statement in statements)
    tag = "$emc$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\nBEGIN\n{body}END\n{tag}"


def constraint_of(directive: ops.AddConstraintOp) -> Any:
    """The constraint that *directive* adds, on a table of its own: nothing of the models is touched.

    ``to_constraint()`` would do so twice (seen with Alembic 1.20): a CHECK made of the models' own columns attaches
    itself to the models' table, which then has it twice; and of an exclusion constraint it answers the models' own,
    which ``AddConstraint`` takes out of the table's CREATE TABLE for good.
    """
    if isinstance(directive, ops.CreateCheckConstraintOp):
        condition = text(directive.condition) if isinstance(directive.condition, str) else directive.condition
        compiler: Any = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]
        written = compiler.sql_compiler.process(condition, include_table=False, literal_binds=True)
        # Without the type's marks: to_constraint() leaves them out, too.
        check = CheckConstraint(literal_column(written), name=directive.constraint_name, **directive.kw)
        Table(directive.table_name, MetaData(), check, schema=directive.schema)
        return check
    constraint: Any = directive.to_constraint()
    if isinstance(constraint, ExcludeConstraint):
        copied = constraint.table.to_metadata(MetaData())
        copy: Any = constraint._copy  # noqa: SLF001  # as Table.to_metadata() does
        constraint = copy(target_table=copied)
        copied.append_constraint(constraint)
    return constraint


def default_name(constraint: Constraint, key: TableKey) -> str:
    """What PostgreSQL would call an unnamed *constraint* (``makeObjectName`` in its source)."""
    columns: list[str] = []
    label = "check"
    if isinstance(constraint, (UniqueConstraint, ForeignKeyConstraint, ExcludeConstraint)):
        columns = [column.name for column in constraint.columns]
        label = {UniqueConstraint: "key", ForeignKeyConstraint: "fkey"}.get(type(constraint), "excl")
    table, middle = key.name.encode(), "_".join(columns).encode()
    room = MAX_BYTES - len(label) - 1 - (1 if middle else 0)
    while len(table) + len(middle) > room:
        if len(table) > len(middle):
            table = table[:-1]
        else:
            middle = middle[:-1]
    parts = [part.decode(errors="ignore") for part in (table, middle) if part]
    return "_".join([*parts, label])
