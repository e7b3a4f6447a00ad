"""Is there a way back, should the new release have to go again before contract?

Asked before expand: what has none is for a person to know before it is too late.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from emc.changes import Situation
from emc.changes.remembering import GAP, remembered
from emc.names import dotted
from emc.operations import Kind, Operation
from emc.schema import LiveSchema
from emc.state.ledger import is_kept
from emc.upgrade import Upgrade
from emc.work import CallFunction, DeleteRow, NotReady, Work
from emc.work.back import name_of_back


@dataclass(frozen=True)
class WayBack:
    """What ``emc undo`` makes of one operation or data migration."""

    is_there: bool
    text: str
    """What becomes of it, and of data; or why nothing takes it back."""


def remembering(operations: Iterable[Operation], live: LiveSchema) -> list[Operation]:
    """*operations* of expand, each with what the ledger has to keep for the way back."""
    return [dataclasses.replace(one, remembers=_kept(remembered(one, live))) for one in operations]


def _kept(facts: Mapping[str, object]) -> Mapping[str, object]:
    if is_kept(facts):
        return facts
    # A definition with what looks like a password in it: the ledger keeps none.
    bare = {key: facts[key] for key in ("element", "schema", "table", "name")}
    return {**bare, GAP: "its definition holds what looks like a password, which the ledger does not keep"}


def ways_back(
    expand: Iterable[Operation], works: Iterable[Work | NotReady], upgrade: Upgrade, situation: Situation
) -> Mapping[str, WayBack]:
    """The way back of each operation of expand, and of each data migration, by id."""
    found = {one.id: way_of(one, upgrade, situation) for one in expand}
    found |= {work.name: way_of_work(work, upgrade, situation) for work in works}
    return found


def way_of(operation: Operation, upgrade: Upgrade, situation: Situation) -> WayBack:
    """The way back of an operation of expand."""
    if upgrade.release is None:
        return WayBack(False, 'the upgrade names no release, by which undo goes: Upgrade(..., release="…")')
    gap = operation.remembers.get(GAP)
    if gap is not None:
        return WayBack(False, f"{gap}; undo leaves it as it is, which the old release lives with")
    sync = situation.sync_to(operation.element.table, str(operation.element.name))
    if sync is not None and operation.kind == Kind.ADD_COLUMN:
        sources = ", ".join(dotted(sync.key.schema, sync.key.name, name) for name in sync.sources)
        if sync.down:
            return WayBack(True, f"dropped again; what the new release writes there is in {sources} too")
        return WayBack(False, f"what the new release writes there is not in {sources}: there is no down=")
    if operation.kind == Kind.CREATE_TABLE:
        moved = [one for one in situation.syncs.values() if one.target_key == operation.element.table]
        if moved:
            targets = ", ".join(name for one in moved for name in one.targets)
            sources = ", ".join(dotted(one.key.name, name) for one in moved for name in one.sources)
            return WayBack(
                True, f"dropped again; what the new release writes to {targets} is in {sources} too"
            )
    return WayBack(True, _BACK.get(operation.kind, "taken away again"))


_BACK: Mapping[str, str] = {
    Kind.CREATE_TABLE: "dropped again; rows that the new release writes there have no place in the old schema",
    Kind.ADD_COLUMN: "dropped again; values that the new release writes there have no place in the old schema",
    Kind.DROP_CHECK: "put back, once no row breaks it",
    Kind.DROP_FOREIGN_KEY: "put back, once no row breaks it",
    Kind.DROP_NOT_NULL: "NOT NULL again, once no row has NULL",
    Kind.ALTER_TYPE: "changed back, once every value fits",
    Kind.ADD_ENUM_VALUE: "removed again, once no row has it",
    Kind.SET_DEFAULT: "as before again",
    Kind.SET_COMMENT: "as before again",
    Kind.REPLACE_CONSTRAINT: "as before again, once no row breaks it",
}


def way_of_work(work: Work | NotReady, upgrade: Upgrade, situation: Situation) -> WayBack:
    """The way back of a data migration."""
    kinds: Mapping[str, Callable[[], WayBack]] = {
        "fill": lambda: _of_fill(work, upgrade, situation),
        "data-migration": lambda: _of_migration(work, upgrade),
        "copy": lambda: WayBack(True, "the values go with the column"),
    }
    if work.kind in kinds:
        return kinds[work.kind]()
    if isinstance(work, Work) and isinstance(work.action, DeleteRow):
        return WayBack(False, "rows that it deletes do not come back")
    return WayBack(False, "undo leaves the rows as they are then")


def _of_fill(work: Work | NotReady, upgrade: Upgrade, situation: Situation) -> WayBack:
    fill = next(one for one in upgrade.fills if one.name == work.name)
    if situation.is_new_column(work.key, fill.column.name):
        return WayBack(True, "the values go with the column")
    return WayBack(False, "undo leaves the values as they are then; the old release lives with them")


def _of_migration(work: Work | NotReady, upgrade: Upgrade) -> WayBack:
    declared = next(one for one in upgrade.data_migrations if one.name == work.name)
    if declared.undo is not None:
        return WayBack(True, f"{name_of_back(work.name)} writes the values back")
    targets = declared.values or {}
    if isinstance(work, Work) and isinstance(work.action, CallFunction):
        what = "what the function has written"
    else:
        what = f"what is in {', '.join(sorted(targets))} then" if targets else "what it has written"
    return WayBack(False, f"it has no undo=: {what} stays, or goes with the column that it is in")
