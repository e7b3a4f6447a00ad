"""How are columns kept in step by triggers of SQLite?

A BEFORE trigger cannot change the row that is being written, so these come AFTER it and write the row once more. What
they ask of a row they ask of the row itself, and not of ``NEW``: another trigger may have changed it meanwhile, and
``NEW.x`` is compared without the affinity and the collation of its column (seen with SQLite 3.40.1).

Each of them leaves a row alone that is in step, so they come to rest with ``PRAGMA recursive_triggers`` on as well as
off. While it is off, a trigger does not run again within what it has set off itself: where a user's trigger answers our
write by changing the other side, the second of two equal statements sees to it.

``UPDATE OF`` keeps them from unrelated updates altogether. Actions of foreign keys do fire them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Table,
    literal_column,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import visitors

from emc.dialects.sqlite import moves
from emc.dialects.sqlite.catalog import SQLiteTable
from emc.dialects.sqlite.comparing import Literally, same
from emc.dialects.sqlite.edits import literal, quoted
from emc.dialects.sqlite.text import parse
from emc.names import TableKey, dotted
from emc.schema import LiveSchema
from emc.sync import SYNC_PREFIX, Sync, SyncPart

# -- what stands ---------------------------------------------------------------------------------------------------


def parts(sync: Sync, live: LiveSchema) -> tuple[SyncPart, ...]:
    """The triggers of *sync*, in the words of the catalog."""
    made = triggers(sync, text_of(sync, live))
    return tuple(SyncPart(key, name, sql) for key, of_table in made.items() for name, sql in of_table.items())


def text_of(sync: Sync, live: LiveSchema) -> str:
    """The text of the table of the sources; empty where it is not known."""
    table = live.table(sync.key)
    return table.sql if isinstance(table, SQLiteTable) else ""


def triggers(sync: Sync, table: str) -> dict[TableKey, dict[str, str]]:
    """The texts of the triggers of *sync* by their tables and names, as the catalog keeps them.

    :param table: the text of its table; empty: it is not there yet, and its rows are taken to have numbers.
    """
    if sync.elsewhere is not None:
        return moves.triggers(sync, sync.elsewhere, _digest(sync))
    up, down = _set(sync.targets, sync.up), _set(sync.sources, sync.down)
    in_step, pending = _written(sync.is_in_step(same)), _written(sync.is_pending(same))
    name = quoted(sync.key.name)
    this = _this_row(table, sync.row)
    copy = f"UPDATE {name} SET {up} WHERE {this} AND {pending};"
    forth = f"UPDATE {name} SET {up} WHERE {this} AND NOT ({in_step});"
    back = f"UPDATE {name} SET {down} WHERE {this} AND NOT ({in_step});"
    if not sync.down:
        refusal = f"SELECT RAISE(ABORT, {literal(_read_only(sync))}) FROM {name} WHERE {this} AND NOT "
        derived = _written(sync.is_derived(same))
        bodies = {
            "i": ("INSERT", "", copy),
            "s": (_update_of(sync.sources), _changed(sync.sources), f"{refusal}({derived});"),
        }
    else:
        bodies = {
            "i": ("INSERT", "", f"{copy} {back}"),
            "s": (
                _update_of(sync.sources),
                f"{_changed(sync.sources)} AND NOT {_changed(sync.targets)}",
                f"{forth} {forth}",
            ),
            "t": (_update_of(sync.targets), _changed(sync.targets), f"{back} {copy} {back}"),
        }
    digest = _digest(sync)
    found = {}
    for letter, (event, when, body) in bodies.items():
        trigger = f"{SYNC_PREFIX}{digest}_{letter}"
        condition = f" WHEN {when}" if when else ""
        found[trigger] = (
            f"CREATE TRIGGER {quoted(trigger)} AFTER {event} ON {name} FOR EACH ROW{condition} BEGIN {body} END"
        )
    return {sync.key: found}


def _digest(sync: Sync) -> str:
    return hashlib.sha256(sync.name.encode()).hexdigest()[:16]


def _read_only(sync: Sync) -> str:
    sources = ", ".join(dotted(sync.key.name, name) for name in sync.sources)
    return f"emc: {sources} is read-only; {', '.join(sync.targets)} took its place, with no way back"


def _update_of(columns: Sequence[str]) -> str:
    return f"UPDATE OF {', '.join(map(quoted, columns))}"


def _changed(columns: Sequence[str]) -> str:
    changed = (f"NEW.{quoted(name)} IS NOT OLD.{quoted(name)} COLLATE BINARY" for name in columns)
    return f"({' OR '.join(changed)})"


def _set(columns: Sequence[str], values: Mapping[str, ColumnElement[Any]]) -> str:
    return ", ".join(f"{quoted(name)} = {_written(values[name])}" for name in columns if name in values)


def _this_row(table: str, row: Table) -> str:
    """The condition that finds the row which was written."""
    taken = {column.name.lower() for column in row.columns}
    if table and (text := parse(table)).without_rowid:
        key = next(clause for clause in text.clauses if clause.kind == "primary-key")
        return " AND ".join(f"{quoted(name)} = NEW.{quoted(name)}" for name in key.columns)
    name = next((one for one in ("rowid", "_rowid_", "oid") if one not in taken), "")
    return f"{name} = NEW.{name}"


def _written(expression: ColumnElement[Any]) -> str:
    """*expression* as SQL without parameters, that speaks of columns by their bare names.

    :raises sqlalchemy.exc.CompileError: it cannot be written so; NotImplementedError too.
    """

    def replace(element: Any, **_: Any) -> Any:
        return literal_column(quoted(element.name), element.type) if isinstance(element, Column) else None

    bare = visitors.replacement_traverse(expression, {}, replace)
    return str(Literally(sqlite.dialect(paramstyle="named"), None).process(bare))
