"""Compare models with a database, and say what was found in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Engine, MetaData

from emc.dialects import dialect_of
from emc.diff import Diff, compare
from emc.names import TableKey
from emc.operations import AlterEnumOp, UnsupportedDifferenceOp
from emc.upgrade import Upgrade


def differences(engine: Engine, metadata: MetaData | Sequence[MetaData], **options: Any) -> Diff:
    """What `compare` finds, in a transaction that is rolled back."""
    with dialect_of(engine).reading(engine) as connection:
        return compare(connection, Upgrade(metadata, **options), dialect_of(engine))


def found(diff: Diff) -> list[str]:
    """The directives, in their order, each in a few words."""
    return [words(directive) for directive in diff.directives]


def words(directive: ops.MigrateOperation) -> str:
    """What a directive does and to what, as ``"drop column users.name"``."""
    match directive:
        case AlterEnumOp():
            return f"alter enum {directive.type_name}: {directive.before} -> {directive.after}"
        case UnsupportedDifferenceOp():
            return f"unsupported {directive.what} {directive.element}"
        case ops.CreateTableOp():
            return f"create table {TableKey(directive.schema, directive.table_name)}"
        case ops.DropTableOp():
            return f"drop table {TableKey(directive.schema, directive.table_name)}"
        case ops.AddColumnOp():
            return f"add column {directive.table_name}.{directive.column.name}"
        case ops.DropColumnOp():
            return f"drop column {directive.table_name}.{directive.column_name}"
        case ops.AlterColumnOp():
            return f"alter column {directive.table_name}.{directive.column_name} {_change(directive)}"
        case ops.CreateIndexOp():
            return f"create index {directive.index_name}"
        case ops.DropIndexOp():
            return f"drop index {directive.index_name}"
        case ops.DropConstraintOp():
            return f"drop {directive.constraint_type or 'exclude'} {directive.constraint_name}"
        case ops.AddConstraintOp():
            return f"add {directive.constraint_type} {getattr(directive, 'constraint_name', None)}"
        case ops.CreateTableCommentOp() | ops.DropTableCommentOp():
            return f"comment table {directive.table_name}"
    raise AssertionError(directive)


def _change(directive: ops.AlterColumnOp) -> str:
    changes = []
    if directive.modify_nullable is not None:
        changes.append("nullable" if directive.modify_nullable else "not null")
    if directive.modify_type is not None:
        changes.append("type")
    if directive.modify_server_default is not False:
        changes.append("default")
    if directive.modify_comment is not False:
        changes.append("comment")
    return " ".join(changes)
