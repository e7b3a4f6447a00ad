"""How does PostgreSQL keep columns in step with those of another table?

AFTER triggers of both tables, which look at the two rows as they are stored, and write where they are not in step. Each
calls a function that runs as the owner of the table (SECURITY DEFINER): the old release's role need not have any rights
on a table that it does not know.

Whoever writes a row of the sources locks that one first and then the row over there; so does an INSERT over there, by a
BEFORE trigger that locks the owner. An UPDATE over there cannot: its row is locked before any trigger runs. Where the
two releases write to both sides of the same row at the same moment, one of them may be told of a deadlock (40P01).

Unlike those of a row these triggers fire for the origin of a write alone (ENABLE, not ENABLE ALWAYS): what they write
over there is replicated by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert

from emc.dialects.postgresql.comparing import same
from emc.dialects.postgresql.naming import DIALECT, identifier
from emc.names import TableKey
from emc.schema import LiveSchema
from emc.sync import Elsewhere, Sync
from emc.work.tables import rewritten


@dataclass(frozen=True)
class Trigger:
    """One trigger, with the function that it calls."""

    key: TableKey
    suffix: str
    """Of its name, behind that of the sync."""
    event: str
    """``BEFORE INSERT``, ``AFTER UPDATE OF street``."""
    when: str
    """SQL; empty: always."""
    function: str
    """Suffix of the name of the function."""
    body: str
    """Of the function."""
    is_definer: bool = False

    @property
    def text(self) -> str:
        """What tells it from one that was made for another conversion."""
        return "|".join([self.body, self.event, self.when, *(["definer"] if self.is_definer else [])])


def triggers(sync: Sync, live: LiveSchema) -> Sequence[Trigger]:
    """What keeps *sync*, whose targets are in another table."""
    there = sync.elsewhere
    assert there is not None
    here = _function(_of_sources(sync, there))
    back = _function(_of_targets(sync, there))
    own = [name for name, _ in there.on]

    def made(key: TableKey, suffix: str, event: str, when: str = "") -> Trigger:
        is_source = key == sync.key
        return Trigger(key, suffix, event, when, "" if is_source else "_t", here if is_source else back, True)

    sources = _update(sync.key, sync.sources, live)
    targets = _update(there.key, [*sync.targets, *own], live)
    return [
        made(sync.key, "_i", "AFTER INSERT"),
        made(sync.key, "_u", f"AFTER {sources}", _changed(sync.row, sync.sources, sync.up)),
        made(there.key, "_a", "AFTER INSERT"),
        made(there.key, "_c", f"AFTER {targets}", _changed(there.row, [*sync.targets, *own], sync.down)),
        made(there.key, "_d", "AFTER DELETE"),
        made(there.key, "_l", "BEFORE INSERT"),
    ]


def _update(key: TableKey, columns: Sequence[str], live: LiveSchema) -> str:
    table = live.table(key)
    # UPDATE OF goes by what a statement names, and would not see what a trigger of the user's writes.
    if table is not None and table.rewriters:
        return "UPDATE"
    return f"UPDATE OF {', '.join(map(identifier, columns))}"


def _changed(row: Table, columns: Sequence[str], values: Mapping[str, ColumnElement[Any]]) -> str:
    """Whether one of *columns* has; it holds *values* too, though for nothing: the catalog shows what they call."""
    new, old = row.alias("new"), row.alias("old")
    key = TableKey(row.schema, row.name)
    known = [rewritten(value, key, new).is_(None).is_not(None) for value in values.values()]
    return sql(and_(or_(*(~same(old.c[name], new.c[name]) for name in columns)), *known))


def _of_sources(sync: Sync, there: Elsewhere) -> str:
    own = and_(*(sync.row.c[name] == _of("new", name) for _, name in there.on))
    its = and_(*(there.row.c[name] == _of("new", source) for name, source in there.on))
    return (
        f"  IF TG_OP = 'INSERT' THEN\n    {sql(sync.to_late(same, own))};\n  END IF;\n"
        f"  {sql(sync.to_targets(same, its))};\n  {_made(sync, there, own)};\n"
    )


def _made(sync: Sync, there: Elsewhere, own: ColumnElement[bool]) -> str:
    """Make a row; one that another session has made meanwhile gets the values."""
    making = sync.to_make(same, own)
    names = [*(name for name, _ in there.on), *sync.targets]
    assert making.select is not None
    added = insert(there.row).from_select(names, making.select, include_defaults=False)
    given = {name: added.excluded[name] for name in sync.targets}
    return sql(added.on_conflict_do_update(index_elements=[name for name, _ in there.on], set_=given))


def _of_targets(sync: Sync, there: Elsewhere) -> str:
    def owner(row: str) -> ColumnElement[bool]:
        return and_(*(sync.row.c[source] == _of(row, name) for name, source in there.on))

    its = and_(*(there.row.c[name] == _of("new", name) for name, _ in there.on))
    moved = sql(or_(*(_of("old", name).is_distinct_from(_of("new", name)) for name, _ in there.on)))
    locked: Select[Any] = select(literal_column("1")).select_from(sync.row).where(owner("new"))
    locking = sql(locked.with_for_update(key_share=True)).replace("SELECT", "PERFORM", 1)
    forth = sql(sync.to_targets(same, its, only_unset=True))
    back, gone = sql(sync.to_sources(same, owner("new"))), sql(sync.to_sources(same, owner("old")))
    return (
        f"  IF TG_WHEN = 'BEFORE' THEN\n    {locking};\n    RETURN new;\n  END IF;\n"
        f"  IF TG_OP = 'DELETE' THEN\n    {gone};\n    RETURN NULL;\n  END IF;\n"
        f"  IF TG_OP = 'UPDATE' THEN\n    IF {moved} THEN\n      {gone};\n      {forth};\n    END IF;\n"
        f"  ELSE\n    {forth};\n  END IF;\n  {back};\n"
    )


def _function(body: str) -> str:
    return f"BEGIN\n{body}  RETURN NULL;\nEND\n"


def _of(row: str, name: str) -> ColumnElement[Any]:
    return literal_column(f"{row}.{identifier(name)}")


def sql(expression: Any) -> str:
    """*expression* as plain SQL."""
    return str(expression.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))


__all__ = ["Trigger", "triggers"]
