"""How does SQLAlchemy write a column, a constraint, an index or a table for SQLite?"""

from __future__ import annotations

from typing import Any

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Column, Constraint, MetaData, Table, Text, literal_column, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from emc.dialects.sqlite.text import Clause, parse
from emc.operations import Operation, table_of

DIALECT = sqlite.dialect()
_TEXT = "CREATE TABLE t (x, {})"


def table_sql(directive: ops.CreateTableOp) -> str:
    """The CREATE TABLE text."""
    return str(CreateTable(table_of(directive)).compile(dialect=DIALECT)).strip()


def index_sql(directive: ops.CreateIndexOp) -> str:
    """The CREATE INDEX text."""
    return str(CreateIndex(directive.to_index()).compile(dialect=DIALECT)).strip()


def column_sql(column: Column[Any]) -> str:
    """The definition of *column* as within CREATE TABLE."""
    if getattr(column, "table", None) is None:
        Table("t", MetaData(), column)
    return str(CreateColumn(column).compile(dialect=DIALECT)).strip()


def altered_column_sql(directive: ops.AlterColumnOp) -> str:
    """A column of the type and default that *directive* asks for; without a type there, any will do."""
    default = directive.modify_server_default
    kind = next((one for one in (directive.modify_type, directive.existing_type) if one is not None), Text())
    given = {} if default is False or default is None else {"server_default": default}
    return column_sql(Column(str(directive.column_name), kind, **given))


def bound_checks(column: Column[Any]) -> list[str]:
    """The CHECKs that the type of *column* brings along (Enum, Boolean with ``create_constraint=True``)."""
    column_sql(column)
    compiler = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]  # as SQLAlchemy's own tests do
    found: list[str] = []
    for constraint in column.table.constraints:
        private: Any = constraint
        if (
            isinstance(constraint, CheckConstraint)
            and private._type_bound  # noqa: SLF001  # no public way to tell them from the user's own
            and list(constraint.columns) == [column]
            and private._should_create_for_compiler(compiler)  # noqa: SLF001
        ):
            found.append(constraint_sql(constraint))
    return sorted(found)


def constraint_sql(constraint: Constraint) -> str:
    """The definition of *constraint* as within CREATE TABLE, its name included."""
    compiler: Any = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]
    rendered = compiler.process(constraint)
    return str(rendered).strip()


def constraint_of(directive: ops.AddConstraintOp) -> Constraint:
    """The constraint that *directive* adds, apart from the models.

    ``CreateCheckConstraintOp.to_constraint()`` is avoided: given an expression of the models' own columns, SQLAlchemy
    attaches what it makes to the models' table, which then has the CHECK twice (seen with Alembic 1.20).
    """
    if not isinstance(directive, ops.CreateCheckConstraintOp):
        return directive.to_constraint()
    condition = text(directive.condition) if isinstance(directive.condition, str) else directive.condition
    compiler: Any = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]
    rendered = compiler.sql_compiler.process(condition, include_table=False, literal_binds=True)
    check = CheckConstraint(literal_column(rendered), name=directive.constraint_name, **directive.kw)
    Table("t", MetaData(), check)
    return check


def constraint_clause(definition: str) -> Clause:
    """A rendered constraint of a table, parsed."""
    return parse(_TEXT.format(definition)).constraints[0]


def added_constraint(operation: Operation) -> str | None:
    """The definition of the constraint that *operation* adds, if it adds one."""
    directive = operation.directive
    create = getattr(directive, "create", directive)
    return constraint_sql(constraint_of(create)) if isinstance(create, ops.AddConstraintOp) else None


def dropped_constraint(directive: ops.DropConstraintOp) -> Clause | None:
    """What *directive* knows of the constraint that it drops, beside its name."""
    original = directive._reverse  # noqa: SLF001  # no public way to it
    return None if original is None else constraint_clause(constraint_sql(constraint_of(original)))
