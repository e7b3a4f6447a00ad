"""How is one ALTER TABLE put together from what Alembic and SQLAlchemy write, with ALGORITHM and LOCK at its end?

Neither of the two can write the last part (Alembic 1.20, SQLAlchemy 2.1), nor several changes of one table in one
statement; a compile hook does both. Each clause is an element of theirs or of this module that writes a whole
``ALTER TABLE``; what comes before the clause is cut off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from alembic.ddl.base import AddColumn, DropColumn
from sqlalchemy import Index, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import AddConstraint, CreateIndex, DDLElement

from emc.dialects.mysql.live import ColumnText
from emc.names import TableKey
from emc.operations import bare_table


class AlterTable(DDLElement):
    """One statement that changes one table.

    :param clauses: what is changed, in order.
    :param how: ``ALGORITHM`` and ``LOCK``, as they stand at the end; empty: left to the server.
    :param unchecked: whether foreign keys are added without a look at the rows (``foreign_key_checks=0``).
    """

    def __init__(
        self, key: TableKey, clauses: Sequence[DDLElement], how: str = "", *, unchecked: bool = False
    ) -> None:
        self.key = key
        self.clauses = tuple(clauses)
        self.how = how
        self.unchecked = unchecked


class _Clause(DDLElement):
    """A part of an ALTER TABLE, written as if it stood alone."""

    def __init__(self, key: TableKey) -> None:
        self.key = key

    def written(self, compiler: Any) -> str:
        """The clause."""
        raise NotImplementedError


class Modify(_Clause):
    """The whole definition of a column, as it is to be from now on."""

    def __init__(self, key: TableKey, column: ColumnText) -> None:
        super().__init__(key)
        self.column = column

    def written(self, compiler: Any) -> str:
        """``MODIFY name …``."""
        return f"MODIFY {compiler.preparer.quote(self.column.name)} {definition(self.column, compiler)}"


class AddChecked(_Clause):
    """A column with a CHECK of its own."""

    def __init__(self, key: TableKey, add: AddColumn, check: str) -> None:
        super().__init__(key)
        self.add = add
        self.check = check

    @property
    def column(self) -> Any:
        """The column."""
        return self.add.column

    def written(self, compiler: Any) -> str:
        """``ADD COLUMN name … CHECK (…)``."""
        added = compiler.process(self.add).removeprefix(_head(self.key, compiler))
        return f"{added} CHECK ({self.check})"


class SetDefault(_Clause):
    """A default, of a column without ON UPDATE, which would be gone (10.11.19); ``None`` takes the default away."""

    def __init__(self, key: TableKey, column: str, default: str | None) -> None:
        super().__init__(key)
        self.column = column
        self.default = default

    def written(self, compiler: Any) -> str:
        """``ALTER COLUMN name SET DEFAULT …``."""
        what = "DROP DEFAULT" if self.default is None else f"SET DEFAULT {self.default}"
        return f"ALTER COLUMN {compiler.preparer.quote(self.column)} {what}"


class AddIndex(_Clause):
    """An index, with what SQLAlchemy's CREATE INDEX says of it."""

    def __init__(self, key: TableKey, index: Index) -> None:
        super().__init__(key)
        self.index = index

    def written(self, compiler: Any) -> str:
        """``ADD UNIQUE INDEX name (…)``."""
        name = compiler.preparer.format_index(self.index)
        table = compiler.preparer.format_table(self.index.table)
        before, _, after = compiler.process(CreateIndex(self.index)).partition(f"INDEX {name} ON {table} ")
        return f"{before.replace('CREATE', 'ADD', 1)}INDEX {name} {after}"


class DropIndex(_Clause):
    """An index, unique or not."""

    def __init__(self, key: TableKey, name: str) -> None:
        super().__init__(key)
        self.name = name

    def written(self, compiler: Any) -> str:
        """``DROP INDEX name``."""
        return f"DROP INDEX {compiler.preparer.quote(self.name)}"


class RenameIndex(_Clause):
    """Another name for an index."""

    def __init__(self, key: TableKey, old: str, new: str) -> None:
        super().__init__(key)
        self.old = old
        self.new = new

    def written(self, compiler: Any) -> str:
        """``RENAME INDEX old TO new``."""
        return f"RENAME INDEX {compiler.preparer.quote(self.old)} TO {compiler.preparer.quote(self.new)}"


class Comment(_Clause):
    """The comment of the table; empty for none."""

    def __init__(self, key: TableKey, comment: str) -> None:
        super().__init__(key)
        self.comment = comment

    def written(self, compiler: Any) -> str:
        """``COMMENT '…'``."""
        return f"COMMENT {compiler.sql_compiler.render_literal_value(self.comment, String())}"


def definition(column: ColumnText, compiler: Any) -> str:
    """What MODIFY has to say of *column*: whatever it leaves out would be gone."""
    if is_json(column):
        # By its own name: as the LONGTEXT that it is shown as it would be another type, for a copy (10.11.19).
        column = dataclasses.replace(column, type="json", charset=None, collation=None, check=None)
    words = [column.type]
    if column.charset is not None:
        words.append(f"CHARACTER SET {column.charset}")
    if column.collation is not None:
        words.append(f"COLLATE {column.collation}")
    if column.generated is not None:
        # MariaDB takes no NOT NULL here, and shows none.
        words.append(f"GENERATED ALWAYS AS ({column.generated}) {'STORED' if column.stored else 'VIRTUAL'}")
    else:
        words.append("NULL" if column.nullable else "NOT NULL")
        if column.default is not None:
            words.append(f"DEFAULT {column.default}")
        elif column.nullable and not column.auto_increment:
            # Said aloud, since TIMESTAMP may have a default of its own where nothing is said.
            words.append("DEFAULT NULL")
    if column.on_update is not None:
        words.append(f"ON UPDATE {column.on_update}")
    if column.auto_increment:
        words.append("AUTO_INCREMENT")
    words.append(column.more)
    if column.comment:
        words.append(f"COMMENT {compiler.sql_compiler.render_literal_value(column.comment, String())}")
    if column.check is not None:
        words.append(f"CHECK ({column.check})")
    return " ".join(word for word in words if word)


def is_json(column: ColumnText) -> bool:
    """Whether *column* was made as JSON, which MariaDB shows as a LONGTEXT with a CHECK."""
    return (
        column.type == "longtext"
        and column.collation == "utf8mb4_bin"
        and column.check is not None
        and column.check.startswith("json_valid(")
    )


@compiles(AddChecked, "mysql", "mariadb")
@compiles(Modify, "mysql", "mariadb")
@compiles(SetDefault, "mysql", "mariadb")
@compiles(AddIndex, "mysql", "mariadb")
@compiles(DropIndex, "mysql", "mariadb")
@compiles(RenameIndex, "mysql", "mariadb")
@compiles(Comment, "mysql", "mariadb")
def _clause(element: _Clause, compiler: Any, **_: Any) -> str:
    return _head(element.key, compiler) + element.written(compiler)


@compiles(AlterTable, "mysql", "mariadb")
def _alter_table(element: AlterTable, compiler: Any, **_: Any) -> str:
    head = _head(element.key, compiler)
    clauses = [compiler.process(clause).strip().removeprefix(head) for clause in element.clauses]
    statement = head + ", ".join([*clauses, *([element.how] if element.how else [])])
    return f"SET STATEMENT foreign_key_checks=0 FOR {statement}" if element.unchecked else statement


def _head(key: TableKey, compiler: Any) -> str:
    return f"ALTER TABLE {compiler.preparer.format_table(bare_table(key))} "


def columns_named(clause: DDLElement) -> frozenset[str]:
    """The columns that *clause* defines, in lower case: one ALTER TABLE may define each only once."""
    if isinstance(clause, Modify):
        return frozenset({clause.column.name.lower()})
    if isinstance(clause, SetDefault):
        return frozenset({clause.column.lower()})
    if isinstance(clause, (AddColumn, AddChecked, DropColumn)):
        return frozenset({str(clause.column.name).lower()})
    return frozenset()


def is_plain(clause: DDLElement) -> bool:
    """Whether *clause* adds something, or sets a default: what it does to the table can be told from it alone."""
    return isinstance(clause, (AddColumn, AddChecked, AddIndex, AddConstraint)) or (
        isinstance(clause, SetDefault) and clause.default is not None
    )
