"""What can PostgreSQL not do to a table in use without stalling it?"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sqlalchemy import Column, Enum
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.dependents import refuse_type
from emc.dialects.postgresql.ground import SMALL, Ground
from emc.dialects.postgresql.kinship import columns_of_enum
from emc.dialects.postgresql.naming import DIALECT
from emc.dialects.postgresql.rendering import type_text
from emc.errors import Refusal
from emc.names import ElementKind
from emc.operations import Kind

_TYPE = re.compile(r"([A-Za-z ]+?)\s*(?:\(([\d, ]+)\))?( WITH(?:OUT)? TIME ZONE)?")
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


def is_free(old: TypeEngine[Any], new: TypeEngine[Any]) -> bool:
    """Whether the server changes the type of a column without looking at its rows.

    PostgreSQL documents (ALTER TABLE, Notes) that binary coercible types and unconstrained domains need no rewrite;
    which lengths and precisions do not is in the source: ``varchar_support``, ``numeric_support``,
    ``timestamp_support``, ``varbit_support``. timestamp to timestamptz is free in the time zone UTC only, which is a
    setting of a session: not counted on.
    """
    before, after = _parsed(type_text(old)), _parsed(type_text(new))
    if before is None or after is None:
        return type_text(old) == type_text(new)
    (old_name, old_numbers), (new_name, new_numbers) = before, after
    if (old_name, old_numbers) == (new_name, new_numbers):
        return True
    if {old_name, new_name} <= {"VARCHAR", "TEXT"}:
        return not new_numbers or (bool(old_numbers) and new_numbers[0] >= old_numbers[0])
    if old_name == new_name == "NUMERIC":
        if not new_numbers:
            return True
        return (
            bool(old_numbers)
            and new_numbers[0] >= old_numbers[0]
            and _scale(new_numbers) == _scale(old_numbers)
        )
    if (old_name, new_name) == ("CIDR", "INET"):
        return True
    if old_name == new_name and old_name.startswith(("TIMESTAMP", "TIME", "BIT VARYING")):
        return not new_numbers or (bool(old_numbers) and new_numbers[0] >= old_numbers[0])
    return False


def _parsed(sql: str) -> tuple[str, tuple[int, ...]] | None:
    match = _TYPE.fullmatch(sql)
    if match is None:
        return None
    name = match[1].upper().replace("CHARACTER VARYING", "VARCHAR").replace("DECIMAL", "NUMERIC")
    zone = (match[3] or "").replace(" WITHOUT TIME ZONE", "")
    return name + zone, tuple(int(number) for number in (match[2] or "").split(",") if number.strip())


def _scale(numbers: tuple[int, ...]) -> int:
    return numbers[1] if len(numbers) > 1 else 0


def rewrites(column: Column[Any]) -> bool:
    """Whether adding *column* writes every row: its value differs from row to row."""
    if column.identity is not None:
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
    if not ground.is_big or (live is not None and is_free(live["type"], directive.modify_type)):
        return None
    old = type_text(live["type"]) if live is not None else "its type"
    return _refusal(
        ground,
        f"changing {old} to {type_text(directive.modify_type)} copies the whole table{_size(ground)} while nobody "
        "can read or write it",
        f"Add a column of the new type under a new name, move the values with @upgrade.data_migration, and retire "
        f"{ground.operation.element}.",
    )


def _rewriting_column(ground: Ground) -> Refusal | None:
    column: Column[Any] = ground.directive.column
    if not ground.is_big or ground.is_new or not rewrites(column):
        return None
    if column.nullable and column.identity is None and column.computed is None:
        return None
    why = "a default that differs from row to row"
    if column.identity is not None:
        why = "an identity"
    elif column.computed is not None:
        why = "a stored computed value"
    return _refusal(
        ground,
        f"adding a column with {why} writes the whole table{_size(ground)} while nobody can read or write it",
        "Make the column nullable in this release (without identity or computed value) and fill it with "
        "@upgrade.data_migration; make it NOT NULL in the next one.",
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
