"""Which columns can triggers of SQLite not keep in step?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import Column
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors

from emc.dialects.rowwise import NotRowwiseError, Rules, check_row
from emc.dialects.sqlite.syncs import text_of, triggers
from emc.errors import Refusal
from emc.names import dotted
from emc.schema import LiveSchema
from emc.sync import Sync

_FUNCTIONS = """
    abs char coalesce hex ifnull instr json json_array json_array_length json_extract json_object json_type json_valid
    length lower ltrim nullif printf quote replace round rtrim substr trim typeof unicode upper
"""
"""Functions that every build has, and that answer the same whenever they are asked. What an application defines for its
own connections is missing in all others, whose writes would fail (https://sqlite.org/lang_corefunc.html)."""
_RULES = Rules(
    frozenset(_FUNCTIONS.split()),
    lambda _: False,
    fixes_constants=True,
    own_operators=frozenset({"||", "->", "->>"}),
)


def cannot_sync(sync: Sync, live: LiveSchema) -> Refusal | None:
    """Why triggers could not keep *sync*, or would break what is there."""
    looks: tuple[Callable[[Sync, LiveSchema], Iterator[Refusal]], ...] = (
        _elsewhere,
        _generated,
        _without_address,
        _not_of_the_row,
        _not_plain,
    )
    return next((refusal for look in looks for refusal in look(sync, live)), None)


def _elsewhere(sync: Sync, live: LiveSchema) -> Iterator[Refusal]:
    if sync.elsewhere is not None and sync.key.schema != sync.elsewhere.key.schema:
        yield Refusal(
            sync.name,
            f"{sync.key} and {sync.elsewhere.key} are in two files, and a trigger of SQLite knows its own alone",
            "Copy it by a data migration, and let the application write both until it is complete.",
        )


def _generated(sync: Sync, live: LiveSchema) -> Iterator[Refusal]:
    both = [(sync.key, name) for name in sync.sources] + [(sync.target_key, name) for name in sync.targets]
    for key, name in both:
        column = live.column(key, name)
        if column is not None and column.get("computed"):
            place = dotted(key.schema, key.name, name)
            yield Refusal(
                place,
                f"{place} is generated, so nothing can be written to it",
                f"Name the columns that {name} is made of instead.",
            )


def _without_address(sync: Sync, live: LiveSchema) -> Iterator[Refusal]:
    table = live.table(sync.key) if sync.elsewhere is None else None
    if {"rowid", "_rowid_", "oid"} <= {name.lower() for name in (table.columns if table is not None else ())}:
        yield Refusal(
            str(sync.key),
            f"columns of {sync.key} take all names by which a row can be found again (rowid, _rowid_, oid)",
            "Rename one of these columns in a release before.",
        )


def _not_of_the_row(sync: Sync, live: LiveSchema) -> Iterator[Refusal]:
    """Conversions that do not answer the same whenever and by whomever they are asked."""
    sides = (
        ("up", sync.up, sync.sources, sync.row),
        ("down", sync.down, sync.targets, sync.target_row),
    )
    for side, values, given, row in sides:
        for name, value in values.items():
            what = f"{side} of {dotted(sync.key.name, name)}"
            read = [part.name for part in visitors.iterate(value) if isinstance(part, Column)]
            try:
                if other := [one for one in read if one not in given]:
                    raise NotRowwiseError(
                        f"{what} reads {', '.join(other)}, which the declaration does not name"
                    )
                check_row(value, row, _RULES, what)
            except NotRowwiseError as error:
                yield Refusal(
                    sync.name,
                    f"{error}; so two sides that say the same now could differ later, or for another session",
                    f"Write {side} so that it depends on {', '.join(given)} alone.",
                )


def _not_plain(sync: Sync, live: LiveSchema) -> Iterator[Refusal]:
    try:
        triggers(sync, text_of(sync, live))
    except (CompileError, NotImplementedError) as error:
        yield Refusal(
            sync.name,
            f"its up or down cannot be written as plain SQL into a trigger: {error}",
            "Use expressions that SQLAlchemy renders with literal values.",
        )
