"""How does SQLite keep columns in step with those of another table?

Triggers of both tables, which look at the two rows as they are stored, and write where they are not in step. So those
that a write of theirs sets off find nothing left to do, whether ``PRAGMA recursive_triggers`` is on or off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, literal_column
from sqlalchemy.dialects import sqlite

from emc.dialects.sqlite.comparing import Literally, same
from emc.dialects.sqlite.edits import quoted
from emc.names import TableKey
from emc.sync import SYNC_PREFIX, Elsewhere, Sync


def triggers(sync: Sync, there: Elsewhere, digest: str) -> dict[TableKey, dict[str, str]]:
    """The texts of the triggers of *sync* by their tables and names, as the catalog keeps them.

    :param digest: what their names have in common.
    """
    names = [name for name, _ in there.on]
    own = and_(*(sync.row.c[source] == _of("NEW", source) for _, source in there.on))
    its = and_(*(there.row.c[name] == _of("NEW", source) for name, source in there.on))
    this = and_(*(there.row.c[name] == _of("NEW", name) for name in names))
    owner = and_(*(sync.row.c[source] == _of("NEW", name) for name, source in there.on))
    before = and_(*(sync.row.c[source] == _of("OLD", name) for name, source in there.on))
    late = _written(sync.to_late(same, own))
    forth, make = _written(sync.to_targets(same, its)), _written(sync.to_make(same, own))
    fresh, back = (
        _written(sync.to_targets(same, this, only_unset=True)),
        _written(sync.to_sources(same, owner)),
    )
    gone = _written(sync.to_sources(same, before))
    orphan = and_(*(there.row.c[name] == _of("OLD", source) for name, source in there.on))
    # SQLite does what foreign keys say only in sessions that ask for it. A key that is free is given to the next row,
    # which would get what was left of the one before.
    along = _written(delete(there.row).where(orphan))
    on_sources = {
        "i": ("INSERT", "", [late, forth, make]),
        "s": (_update_of(sync.sources), _changed(sync.sources), [forth, make]),
        "o": ("DELETE", "", [along]),
    }
    on_targets = {
        "a": ("INSERT", "", [fresh, back]),
        "m": (_update_of(names), _changed(names), [gone, fresh, back]),
        "t": (_update_of(sync.targets), _changed(sync.targets), [back]),
        "d": ("DELETE", "", [gone]),
    }
    return {
        key: {
            f"{SYNC_PREFIX}{digest}_{letter}": _trigger(f"{SYNC_PREFIX}{digest}_{letter}", key, *what)
            for letter, what in bodies.items()
        }
        for key, bodies in ((sync.key, on_sources), (there.key, on_targets))
    }


def _trigger(name: str, key: TableKey, event: str, when: str, body: Sequence[str]) -> str:
    condition = f" WHEN {when}" if when else ""
    return (
        f"CREATE TRIGGER {quoted(name)} AFTER {event} ON {quoted(key.name)} FOR EACH ROW{condition} "
        f"BEGIN {' '.join(f'{one};' for one in body)} END"
    )


def _update_of(columns: Sequence[str]) -> str:
    return f"UPDATE OF {', '.join(map(quoted, columns))}"


def _changed(columns: Sequence[str]) -> str:
    changed = (f"NEW.{quoted(name)} IS NOT OLD.{quoted(name)} COLLATE BINARY" for name in columns)
    return f"({' OR '.join(changed)})"


def _of(row: str, name: str) -> ColumnElement[Any]:
    return literal_column(f"{row}.{quoted(name)}")


def _written(statement: Any) -> str:
    """*statement* as SQL without parameters."""
    return str(_Unqualified(sqlite.dialect(paramstyle="named"), statement))


class _Unqualified(Literally):
    """Leaves the schema out, which no statement of a trigger may name (https://sqlite.org/lang_createtrigger.html)."""

    def visit_table(self, table: Any, *arguments: Any, **kw: Any) -> str:
        """By its bare name."""
        write: Any = super().visit_table
        return str(write(table, *arguments, **{**kw, "use_schema": False}))
