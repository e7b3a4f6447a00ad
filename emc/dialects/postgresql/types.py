"""How do PostgreSQL's types fit into one another, and which changes of type leave the rows of a table as they are?"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.dialects.postgresql import ARRAY, CIDR, CITEXT, DOMAIN, INET
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.naming import identifier
from emc.dialects.postgresql.rendering import type_text
from emc.fit import Fit
from emc.fit import fit as standard_fit
from emc.names import ElementKind

_TYPE = re.compile(r"([A-Za-z ]+?)\s*(?:\(([\d, ]+)\))?( WITH(?:OUT)? TIME ZONE)?")
_COLLATE = re.compile(r'COLLATE ((?:"(?:[^"]|"")+"|[^\s".]+)(?:\.(?:"(?:[^"]|"")+"|[^\s".]+))?)')
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_GROWING = ("TIMESTAMP", "TIME", "INTERVAL", "BIT VARYING")
"""Types whose argument bounds their values, and does not shape them."""


def fit(old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
    """How values of *old* fit into *new*: what the standard says, and types that only PostgreSQL has.

    ``citext`` holds the same texts as ``text`` and finds others equal: neither fits into the other.
    """
    if isinstance(old, DOMAIN) or isinstance(new, DOMAIN):
        return Fit.DIFFERENT if is_constrained(new) else fit(_base(old), _base(new))
    if isinstance(old, ARRAY) and isinstance(new, ARRAY):
        return fit(old.item_type, new.item_type)
    if isinstance(old, CITEXT) is not isinstance(new, CITEXT):
        return Fit.DIFFERENT
    if isinstance(old, CIDR) and isinstance(new, INET):
        return Fit.WIDER
    before, after = _parsed(type_text(old)), _parsed(type_text(new))
    if before is not None and after is not None and before[0] == after[0] and before[0].startswith(_GROWING):
        # A narrower one would round, or cut off, what the data shows to no gate.
        return Fit.WIDER if is_free(old, new) else Fit.DIFFERENT
    return standard_fit(old, new)


def is_kept(ground: Ground) -> bool:
    """Whether the change of type that *ground* speaks of looks at no row, neither for itself nor for what is on it."""
    live = ground.live.column(ground.key, str(ground.directive.column_name))
    return live is not None and is_free(live["type"], ground.directive.modify_type) and not gone_over(ground)


def gone_over(ground: Ground) -> tuple[str, ...]:
    """What the server makes anew, from every row and under the lock, when the column gets even a type of the same form.

    Seen on 15 and 18: a CHECK that speaks of the column is checked again; an index on it that has a condition or an
    expression is built again, and every index on it where the collation changes.

    :returns: kind and name of each, as in ``check ck_users_name``.
    """
    table, name = ground.table, str(ground.directive.column_name)
    if table is None:
        return ()
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")

    def speaks(text: str) -> bool:
        return word.search(_LITERAL.sub("''", text)) is not None

    found = [f"check {one['name']}" for one in table.checks if speaks(one["sqltext"])]
    reorders = _reorders(ground, name)
    for index in table.indexes:
        condition = str((index.get("dialect_options") or {}).get("postgresql_where") or "")
        expressions = [str(one) for one in index.get("expressions") or ()]
        columns = index["column_names"]
        # Of one that is more than columns the server does not even ask whether it could stay (CheckIndexCompatible).
        more = condition or None in columns
        if (more and (name in columns or any(map(speaks, (condition, *expressions))))) or (
            reorders and name in columns
        ):
            found.append(f"index {index['name']}")
    if reorders:
        found += [f"unique {one['name']}" for one in table.uniques if name in one["column_names"]]
        if table.primary_key is not None and name in table.primary_key["constrained_columns"]:
            found.append("the primary key")
    return tuple(found)


def _reorders(ground: Ground, name: str) -> bool:
    """Whether the collation changes, by which indexes are in order."""
    there = _COLLATE.search(ground.definition(ElementKind.COLUMN, name) or "")
    wanted = getattr(ground.directive.modify_type, "collation", None)
    return (there[1] if there else None) != (identifier(wanted) if wanted else None)


def _base(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    while isinstance(type_, DOMAIN):
        type_ = type_.data_type
    return type_


def is_constrained(type_: TypeEngine[Any]) -> bool:
    """Whether *type_* is a domain that does not take every value of its base."""
    while isinstance(type_, DOMAIN):
        if type_.check is not None or type_.not_null:
            return True
        type_ = type_.data_type
    return False


def is_free(old: TypeEngine[Any], new: TypeEngine[Any]) -> bool:
    """Whether the server changes the type of a column without looking at its rows.

    PostgreSQL documents (ALTER TABLE, Notes) that binary coercible types and unconstrained domains need no rewrite;
    which lengths and precisions do not is in the source: ``varchar_support``, ``numeric_support``,
    ``timestamp_support``, ``interval_support``, ``varbit_support``. timestamp to timestamptz is free in the time zone
    UTC only, which is a setting of a session: not counted on.
    """
    if isinstance(old, DOMAIN) or isinstance(new, DOMAIN):
        # A domain is its base type; its constraints, which nothing has checked yet, would be looked for in every row.
        # So are lengths: PostgreSQL does not see through a domain to that of its base (seen on 15 and 18).
        if type_text(old) == type_text(new):
            return True
        before, after = _base(old), _base(new)
        bounded = getattr(after, "length", None) is not None or getattr(after, "precision", None) is not None
        same = type_text(before) == type_text(after) and not isinstance(old, DOMAIN)
        return not is_constrained(new) and (same or (not bounded and is_free(before, after)))
    old_parts, new_parts = _parsed(type_text(old)), _parsed(type_text(new))
    if old_parts is None or new_parts is None:
        return type_text(old) == type_text(new)
    (old_name, old_numbers), (new_name, new_numbers) = old_parts, new_parts
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
    if old_name == new_name and old_name.startswith(_GROWING):
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
