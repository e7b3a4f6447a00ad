"""What takes an upgrade back, as long as nothing was contracted?

Derived afresh like any plan: from the ledger, which says what expand did for this release and how things were before,
and from the live schema, which says what of it still stands. What the ledger does not know was not done by emc, and is
not taken back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from emc.changes import Situation, classify
from emc.changes.reversal import NoWayBackError, reversed_operation
from emc.changes.syncs import drop_sync, together
from emc.dialects.base import Dialect
from emc.diff import compare
from emc.errors import CannotUndoError, UnknownOperationError
from emc.names import TableKey, dotted
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.planning import Note, Plan, allowed, past_of, render
from emc.planning.order import in_order
from emc.planning.ways import way_of_work
from emc.schema import LiveSchema
from emc.state.ledger import Entry, Event, contracted, expanded, expanded_by_others, last_undone
from emc.state.progress import load
from emc.sync import Sync, SyncOp, is_kept
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, all_work
from emc.work.back import all_work_back


def derive_back(
    connection: Connection, upgrade: Upgrade, dialect: Dialect, keep: Collection[str] = ()
) -> Plan:
    """Derive what takes *upgrade* back on the database behind *connection*. Reads only.

    :param keep: ids of operations of expand that stay as they are.
    :raises CannotUndoError: contract has begun, a later release stands on what would go, or the ledger does not say
        how things were.
    :raises UnknownOperationError: *keep* names something that expand has not done.
    :raises DeclarationError: a declaration contradicts the models or the database.
    """
    if upgrade.release is None:
        raise CannotUndoError(
            "The upgrade names no release, so nobody can tell what was added for it from what was there before.",
            remedy='Upgrade(..., release="2026.2")   # before emc expand; what was expanded without it stays',
        )
    diff = compare(connection, upgrade, dialect)
    past = past_of(connection, upgrade, dialect)
    # What the forward plan refuses keeps nobody from going back.
    classified = classify(
        diff.directives,
        upgrade,
        diff.live,
        diff.models,
        past,
        dialect.fit,
        lambda sync: is_kept(sync, diff.live, dialect.sync_parts),
    )
    situation = classified.situation
    planned = {one.id for one in classified.operations if one.phase is Phase.CONTRACT}
    _refuse_contracted(contracted(connection, upgrade.release), planned, upgrade.release)
    begun = expanded(connection, upgrade.release)
    unknown = sorted(set(keep) - begun.keys())
    if unknown:
        raise UnknownOperationError(
            f"Expand has done nothing called {unknown[0]!r} for release {upgrade.release}: there is nothing to keep.",
            known=sorted(begun),
            remedy=f"It has done: {', '.join(sorted(begun)) or 'nothing'}.",
        )
    kept = _with_their_columns(keep, situation)
    going = {id_: one for id_, one in begun.items() if id_ not in kept}
    operations = _taking_back(going, situation, dialect)
    _refuse_built_upon(connection, upgrade.release, begun, operations)
    ordered = in_order(allowed(operations, upgrade), Phase.UNDO, diff.live)
    works = all_work(upgrade, diff.live, dialect.uniqueness, dialect, past.contracted)
    back = all_work_back(upgrade, diff.live, works, dialect.same) if operations else ()
    return Plan(
        dialect=dialect.name,
        release=upgrade.release,
        situation=situation,
        expand=(),
        work=(),
        all_work={one.name: one for one in (*works, *back)},
        contract=(),
        unmanaged=(),
        notes=tuple(_staying(connection, upgrade, works, situation)) if begun else (),
        undo=render(dialect, ordered, situation),
        work_back=back,
    )


# -- what keeps from going back ---------------------------------------------------------------------------------------


def _refuse_contracted(entries: Sequence[Entry], planned: Collection[str], release: str) -> None:
    """Make sure that contract has carried out nothing.

    :raises CannotUndoError: it has.
    """
    entry = _carried_out(entries, planned)
    if entry is None:
        return
    target = str(entry.operation).partition(":")[2]
    raise CannotUndoError(
        f"Contract of release {release} has carried out {entry.operation} at {entry.at:%Y-%m-%d %H:%M:%S} UTC "
        f"(entry {entry.id} of the ledger): the release before it can no longer rely on {target}. Nothing was "
        "changed.",
        remedy="Go forward: repair the new release and deploy it on this schema. Or restore a backup from before "
        f"{entry.at:%Y-%m-%d %H:%M} UTC, and lose what was written since.",
    )


def _carried_out(entries: Iterable[Entry], planned: Collection[str]) -> Entry | None:
    """The first thing that contract has carried out, if any.

    :param planned: what it has yet to do: of that, what was about to be sent has not taken effect.
    """
    for entry in entries:
        # Guards come and go, and undo takes them away.
        is_guard = str(entry.operation).partition(":")[0].endswith("guard")
        if not is_guard and not (entry.event is Event.SENT and entry.operation in planned):
            return entry
    return None


def standing_of_undo(connection: Connection, plan: Plan) -> str | None:
    """Where the way back stands, in one line; ``None`` where there is nothing to go back from.

    :param plan: that of the way forward.
    """
    if plan.release is None:
        return None
    left = {step.id for step in plan.contract}
    entry = _carried_out(contracted(connection, plan.release), left)
    if entry is not None:
        return f"none since contract has carried out {entry.operation} ({entry.at:%Y-%m-%d %H:%M:%S} UTC)"
    begun = expanded(connection, plan.release)
    if begun:
        noun = "operation" if len(begun) == 1 else "operations"
        return f"emc undo takes back {len(begun):,} {noun} of expand"
    undone = last_undone(connection, plan.release)
    return f"taken back at {undone.at:%Y-%m-%d %H:%M:%S} UTC" if undone is not None else None


def _refuse_built_upon(
    connection: Connection, release: str, begun: Mapping[str, Entry], operations: Iterable[Operation]
) -> None:
    """Make sure that no later release was expanded on the tables that *operations* change.

    :raises CannotUndoError: one was.
    """
    first = min((entry.id or 0 for entry in begun.values()), default=0)
    tables = {operation.element.table for operation in operations}
    for entry in expanded_by_others(connection, release, since=first):
        facts = entry.details.get("before") or {}
        if not facts or TableKey(facts["schema"], facts["table"]) in tables:
            other = f"release {entry.release}" if entry.release else "an upgrade without a release"
            raise CannotUndoError(
                f"Expand has done {entry.operation} for {other} after it had begun with release {release}, and may "
                "have built on what undo would take away. Nothing was changed.",
                remedy=f"First take {other} back, with its own code: emc undo --new-code-gone",
            )


# -- what is taken back -----------------------------------------------------------------------------------------------


def _taking_back(begun: Mapping[str, Entry], situation: Situation, dialect: Dialect) -> list[Operation]:
    """The operations that take *begun* back.

    :raises CannotUndoError: there are none for some of it.
    """
    found: list[Operation] = []
    stuck: list[tuple[str, str]] = []
    for id_, entry in begun.items():
        kind, _, target = id_.partition(":")
        try:
            if kind == Kind.INSTALL_SYNC:
                operation = _no_sync(id_, target, situation, dialect)
            else:
                operation = reversed_operation(id_, kind, entry.details.get("before") or {}, situation.live)
        except NoWayBackError as error:
            stuck.append((id_, str(error)))
        else:
            found += [operation] if operation is not None else []
    if stuck:
        raise CannotUndoError(
            "Some of what expand did cannot be taken back; nothing was changed.\n"
            + "\n".join(f"- {id_}: {reason}" for id_, reason in stuck),
            remedy="The release before lives with what expand did. Leave it as it is:\n"
            f"emc undo --new-code-gone {' '.join(f'--keep {id_}' for id_, _ in stuck)}",
        )
    tables = {one.element.table for one in found if one.kind == Kind.DROP_TABLE}
    columns = {one.element for one in found if one.kind == Kind.DROP_COLUMN}
    found = _together(found)
    return [
        one
        for one in found
        if (
            one.element.table not in tables
            or one.kind == Kind.DROP_TABLE
            or _ties(one, tables, situation.live)
            # Its triggers stand on a table that stays, too.
            or (isinstance(one.directive, SyncOp) and one.directive.sync.key not in tables)
        )
        and not (one.element in columns and one.kind not in (Kind.DROP_COLUMN, Kind.DROP_SYNC))
    ]


def _ties(operation: Operation, tables: set[TableKey], live: LiveSchema) -> bool:
    """Whether *operation* drops a foreign key between two of *tables*, which neither could go before: a cycle."""
    table = live.table(operation.element.table)
    return operation.kind == Kind.DROP_FOREIGN_KEY and any(
        one["name"] == operation.element.name
        and TableKey(one["referred_schema"], one["referred_table"]) in tables - {operation.element.table}
        for one in (table.foreign_keys if table is not None else ())
    )


def _no_sync(id_: str, target: str, situation: Situation, dialect: Dialect) -> Operation | None:
    """What takes away what keeps columns in step.

    :raises NoWayBackError: no declaration says what that is.
    """
    sync, live = situation.syncs.get(target), situation.live
    if sync is None:
        standing = any(table.syncs for table in live.tables.values())
        if standing:
            raise NoWayBackError(
                "no declaration says any more what is kept in step there: put the rename or convert back"
            )
        return None
    parts = dialect.sync_parts(sync, live) if _is_there(sync, live) else ()
    if not any(part.key in live.tables and part.name in live.tables[part.key].syncs for part in parts):
        return None
    stopped = drop_sync(sync)
    return dataclasses.replace(stopped, phase=Phase.UNDO, because=None, together=None, undoes=id_)


def _is_there(sync: Sync, live: LiveSchema) -> bool:
    return all(live.column(sync.target_key, name) is not None for name in sync.targets)


def _together(operations: Sequence[Operation]) -> list[Operation]:
    """*operations*, each new column in one unit with what keeps it in step: in between, nobody would."""
    marks: dict[tuple[TableKey, str], str] = {}
    for one in operations:
        if isinstance(one.directive, SyncOp):
            sync = one.directive.sync
            marks |= {(sync.target_key, name): together(sync) for name in sync.targets}
    created = {one.element.table for one in operations if one.kind == Kind.DROP_TABLE}
    # All that fills a table goes along with it.
    whole = {key: mark for (key, _), mark in reversed(marks.items()) if key in created}
    found = []
    for one in operations:
        mark = whole.get(one.element.table) or marks.get((one.element.table, str(one.element.name)))
        goes_along = mark is not None and one.kind in (Kind.DROP_SYNC, Kind.DROP_COLUMN, Kind.DROP_TABLE)
        found.append(dataclasses.replace(one, together=mark) if goes_along else one)
    return found


def _with_their_columns(keep: Collection[str], situation: Situation) -> frozenset[str]:
    """*keep*, and the columns without which what is kept would fail at every write."""
    kept = set(keep)
    for sync in situation.syncs.values():
        if f"{Kind.INSTALL_SYNC}:{sync.name}" in kept:
            columns = (dotted(sync.target_key.schema, sync.target_key.name, name) for name in sync.targets)
            kept |= {f"{Kind.ADD_COLUMN}:{one}" for one in columns}
            kept |= {f"{Kind.CREATE_TABLE}:{sync.target_key}"} if sync.elsewhere is not None else set()
    return frozenset(kept)


def _staying(
    connection: Connection, upgrade: Upgrade, works: Iterable[Work | NotReady], situation: Situation
) -> Iterable[Note]:
    """The data migrations that have moved rows, and that nothing takes back."""
    for work in works:
        progress = load(connection, work.name)
        way = way_of_work(work, upgrade, situation)
        if progress is not None and progress.rows_done and not way.is_there:
            yield Note("stays", work.name, f"{progress.rows_done:,} rows done: {way.text}")
