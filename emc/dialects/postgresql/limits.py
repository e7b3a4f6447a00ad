"""What can PostgreSQL not do to a table in use without stalling it?"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sqlalchemy import Column, Enum

from emc.dialects.postgresql.dependents import refuse_type
from emc.dialects.postgresql.ground import SMALL, Ground
from emc.dialects.postgresql.kinship import columns_of_enum
from emc.dialects.postgresql.naming import DIALECT
from emc.dialects.postgresql.rendering import type_text
from emc.dialects.postgresql.types import gone_over, is_constrained, is_free, is_kept
from emc.errors import Refusal
from emc.names import ElementKind
from emc.operations import Kind

_CALL = re.compile(r"([A-Za-z_][\w.]*)\s*\(")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_STABLE = frozenset(
    {
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "current_setting",
        "cast",
        "timezone",
        "date_trunc",
    }
)
"""Functions that answer one value for a whole statement: the server evaluates such a default once."""
_TYPES = frozenset(
    {"bit", "char", "character", "decimal", "numeric", "time", "timestamp", "varbit", "varchar", "varying"}
)
"""Types that take arguments, as in a cast."""


def rewrites(column: Column[Any]) -> bool:
    """Whether adding *column* writes every row: its value differs from row to row."""
    if column.identity is not None or is_constrained(column.type):
        return True
    if column.computed is not None:
        return column.computed.persisted is not False
    if column.server_default is None:
        return False
    compiler = DIALECT.ddl_compiler(DIALECT, None)  # type: ignore[arg-type]
    default = _LITERAL.sub("''", compiler.get_column_default_string(column) or "")
    return any(
        call.lower().removeprefix("pg_catalog.") not in _STABLE | _TYPES for call in _CALL.findall(default)
    )


def can_wait_for_its_default(column: Column[Any]) -> bool:
    """Whether only its default makes *column* write every row: then it can come first, and get the default then."""
    plain = column.identity is None and column.computed is None and not is_constrained(column.type)
    return bool(column.nullable) and plain


# -- refusals -------------------------------------------------------------------------------------------------------


def refuse(ground: Ground) -> Refusal | None:
    """Why the operation would stall or break a running system; ``None`` when it would not."""
    kind = ground.operation.kind
    if kind == Kind.ALTER_TYPE and (refusal := refuse_type(ground) or _enumerating(ground)) is not None:
        return refusal
    if ground.operation.allowed is None and (refusal := _costs(ground)) is not None:
        allow = f'upgrade.allow("{ground.operation.id}", reason="who agreed, and when it runs")'
        return dataclasses.replace(refusal, remedy=f"{refusal.remedy}\nOr let them wait: {allow}")
    return None


def _costs(ground: Ground) -> Refusal | None:
    """Why the operation would keep others waiting for long, which a person may allow."""
    kind = ground.operation.kind
    if kind == Kind.ALTER_TYPE:
        return _rewriting_type(ground)
    if kind == Kind.ADD_COLUMN:
        return _rewriting_column(ground)
    if kind == Kind.REMOVE_ENUM_VALUE:
        return _rewriting_enum(ground)
    if not ground.is_big or ground.is_new:
        return None
    if kind == Kind.ADD_EXCLUSION or (
        kind == Kind.REPLACE_CONSTRAINT and ground.operation.element.kind is ElementKind.EXCLUSION
    ):
        return _refusal(
            ground,
            "an exclusion constraint can only be added under a lock that stops every write while its index is built",
            "Add it in a maintenance window; emc then finds it there.",
        )
    return None


def _enumerating(ground: Ground) -> Refusal | None:
    """A text column whose values become those of an enumerated type."""
    directive = ground.directive
    live, new = ground.live.column(ground.key, directive.column_name), directive.modify_type
    if live is None or isinstance(live["type"], Enum) or not (isinstance(new, Enum) and new.native_enum):
        return None
    return _refusal(
        ground,
        f"{type_text(live['type'])} becomes the enumerated type {new.name}, with which the statements of the old "
        "release, which send text, cannot compare it",
        "Keep the column as text with Enum(..., native_enum=False); or add a column of the new type under a new name, "
        f"move the values with @upgrade.data_migration, and retire {ground.operation.element}.",
    )


def _rewriting_type(ground: Ground) -> Refusal | None:
    directive = ground.directive
    live = ground.live.column(ground.key, directive.column_name)
    if not ground.is_big or is_kept(ground):
        return None
    old = type_text(live["type"]) if live is not None else "its type"
    change = f"changing {old} to {type_text(directive.modify_type)}"
    if live is not None and is_free(live["type"], directive.modify_type):
        on_it = gone_over(ground)
        return _refusal(
            ground,
            f"{change} copies no row, but makes PostgreSQL go over the whole table{_size(ground)} for "
            f"{', '.join(on_it)}, while nobody can read or write it",
            f"Let go of {', '.join(on_it)} in one release and change the type; put it back in the next one.",
        )
    return _refusal(
        ground,
        f"{change} copies the whole table{_size(ground)} while nobody can read or write it",
        f"Add a column of the new type under a new name, move the values with @upgrade.data_migration, and retire "
        f"{ground.operation.element}.",
    )


def _rewriting_column(ground: Ground) -> Refusal | None:
    column: Column[Any] = ground.directive.column
    if not ground.is_big or ground.is_new or not rewrites(column):
        return None
    if can_wait_for_its_default(column):
        return None
    why = "a default that differs from row to row"
    remedy = (
        "Make the column nullable in this release (without identity or computed value) and fill it with "
        "@upgrade.data_migration; make it NOT NULL in the next one."
    )
    if column.identity is not None:
        why = "an identity"
    elif column.computed is not None:
        why = "a stored computed value"
    elif is_constrained(column.type):
        why = f"the domain {type_text(column.type)}, which has constraints,"
        remedy = "Give the column the type that the domain is made of, and a CheckConstraint of its own."
    return _refusal(
        ground,
        f"adding a column with {why} writes the whole table{_size(ground)} while nobody can read or write it",
        remedy,
    )


def _rewriting_enum(ground: Ground) -> Refusal | None:
    tables = dict.fromkeys(key for key, _ in columns_of_enum(ground))
    big = [key for key in tables if _is_big(ground.live.tables[key].size_bytes)]
    if not big:
        return None
    return _refusal(
        ground,
        "PostgreSQL cannot remove a label from an enumerated type; giving every column a new type copies "
        f"{', '.join(str(key) for key in big)} while nobody can read or write",
        "Keep the label in the models; it costs nothing.",
    )


def _is_big(size: int | None) -> bool:
    return size is None or size > SMALL


def _size(ground: Ground) -> str:
    size = ground.table.size_bytes if ground.table is not None else None
    return f" ({size // 1024 // 1024} MiB)" if size is not None else ""


def _refusal(ground: Ground, reason: str, remedy: str) -> Refusal:
    return Refusal(target=str(ground.operation.element), reason=reason, remedy=remedy)
