"""What does each phase do for columns that are renamed or converted?

The columns themselves are added and dropped like others; here is what keeps both sides in step in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.types import TypeEngine

from emc.changes.base import Change, RefusedError, Situation, because_old_code, column_element, operation
from emc.changes.moves import cannot_move
from emc.errors import DeclarationError, Refusal
from emc.fit import Fit
from emc.names import TableKey, dotted
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable
from emc.sync import Sync, SyncOp
from emc.upgrade import Parallel, Rename, Upgrade
from emc.work.copying import synced
from emc.work.tables import unique_keys


def together(sync: Sync) -> str:
    """The mark of what goes with *sync*: the triggers, the old columns, and what has waited for them."""
    return f"sync:{sync.name}"


def install_sync(sync: Sync) -> Operation:
    """Put in place what keeps *sync*."""
    return operation(
        SyncOp(sync, install=True),
        Kind.INSTALL_SYNC,
        column_element(sync.target_key, sync.targets[0]),
        Phase.EXPAND,
        f"keep {_sides(sync)} in step",
    )


def drop_sync(sync: Sync) -> Operation:
    """Take away what keeps *sync*, with the old columns."""
    return operation(
        SyncOp(sync, install=False),
        Kind.DROP_SYNC,
        column_element(sync.target_key, sync.targets[0]),
        Phase.CONTRACT,
        f"stop keeping {_sides(sync)} in step",
        because=because_old_code(f"read and write {_named(sync.key, sync.sources)}"),
        together=together(sync),
    )


def _sides(sync: Sync) -> str:
    return f"{_named(sync.key, sync.sources)} and {_named(sync.target_key, sync.targets)}"


def _named(key: TableKey, columns: Iterable[str]) -> str:
    return ", ".join(dotted(key.schema, key.name, column) for column in columns)


def active_syncs(
    upgrade: Upgrade,
    live: LiveSchema,
    models: Mapping[TableKey, Table],
    dropped: Iterable[str] = (),
    added: Iterable[str] = (),
) -> Mapping[str, Sync]:
    """What is to be kept in step on the database that *live* shows, by name; nothing where the old columns are gone.

    :param dropped: what emc is known to have dropped, e.g. ``users.name``.
    :param added: what emc is known to have added for this release, by operation, e.g. ``create-table:addresses``.
    :raises DeclarationError: an old column is not there, though nothing says that it was; or two declarations give
        the same column its values.
    """
    found: dict[str, Sync] = {}
    for declared in upgrade.parallels:
        model_key = declared.target_key
        model = models.get(model_key)
        if model is None:
            continue  # A filter of the upgrade keeps emc from the table.
        is_new = model_key not in live.tables or f"{Kind.CREATE_TABLE}:{model_key}" in frozenset(added)
        sync = synced(declared, live, model, source=models.get(declared.key), is_new=is_new)
        if sync is None:
            _demand_gone(declared, live, frozenset(dropped))
            continue
        for other in found.values():
            shared = set(other.targets) & set(sync.targets)
            if other.target_key == sync.target_key and shared:
                raise DeclarationError(
                    f"{_named(sync.target_key, sorted(shared))} gets its values from "
                    f"{_named(other.key, other.sources)} and from {_named(sync.key, sync.sources)}, and the database "
                    "has both.",
                    places=[other.place, sync.place],
                    remedy="Finish the upgrade that the database is in the middle of first (emc status, with the "
                    "release before this one), or keep one of the two.",
                )
        found[sync.name] = sync
    return found


def _demand_gone(declared: Parallel, live: LiveSchema, dropped: frozenset[str]) -> None:
    """Make sure that the old columns are not there because they have done their duty."""
    there = live.table(declared.key)
    if there is None:
        return  # The table is yet to be created, as the models have it.
    left = [name for name in declared.sources if name in there.columns]
    gone = [name for name in declared.sources if name not in there.columns]
    target = live.table(declared.target_key)
    known = target.columns if target is not None else {}
    absent = [column.name for column in declared.targets if column.name not in known]
    was = [name for name in gone if dotted(declared.key.schema, declared.key.name, name) in dropped]
    if was or (not left and not absent):
        return
    what = f"{_named(declared.key, left)} is" if left else f"neither is {_named(declared.target_key, absent)}"
    raise DeclarationError(
        f"{declared.verb} names {_named(declared.key, gone)}, which the database does not have, "
        f"{'while ' if left else 'and '}{what}{' there' if left else ''}.",
        places=[declared.place],
        remedy=f"Name columns that the table has: {', '.join(there.columns)}.",
    )


@dataclass(frozen=True, eq=False)
class Synced(Change):
    """A person has said that columns are renamed or converted, and the old ones are there."""

    sync: Sync
    stands: Callable[[Sync], bool]

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``install-sync`` now, unless it stands as it should; ``drop-sync`` later, with the old columns."""
        sync = self.sync
        if sync.verb == Rename.verb:
            _demand_fit(sync, situation)
        if not self.stands(sync):
            _demand_no_default(sync, situation)
            if sync.elsewhere is not None:
                for refusal in cannot_move(sync, situation):
                    raise RefusedError(refusal)
            yield install_sync(sync)
        yield drop_sync(sync)


def _demand_fit(sync: Sync, situation: Situation) -> None:
    """A rename writes the values of each side to the other."""
    old, new = sync.sources[0], sync.targets[0]
    kinds: tuple[TypeEngine[Any], TypeEngine[Any]] = (sync.row.c[old].type, sync.row.c[new].type)
    live = situation.live.column(sync.key, old)
    before: TypeEngine[Any] = live["type"] if live is not None else kinds[0]
    if situation.fit(before, kinds[1]) is Fit.WIDER and situation.fit(kinds[1], before) is Fit.WIDER:
        return
    if _same_kind(before, kinds[1]):
        return
    source, target = _named(sync.key, [old]), _named(sync.target_key, [new])
    raise RefusedError(
        Refusal(
            target,
            f"it is said to be {source} under another name, but {before!r} and {kinds[1]!r} do not hold the same "
            "values, and either side is written to the other while both releases run",
            f'upgrade.convert("{source}", to=…, up=lambda old: …, down=lambda new: …)   # SQL expressions; or give the '
            "column of the models the type that the database has",
        )
    )


_ALIKE = {"timestamp": "datetime"}
_UNSIZED = (
    "boolean",
    "date",
    "datetime",
    "time",
    "json",
    "jsonb",
    "uuid",
    "interval",
    "bytea",
    "inet",
    "cidr",
)


def _same_kind(old: Any, new: Any) -> bool:
    """Whether two types of which no sizes are compared are the same."""
    names = [_ALIKE.get(name, name) for name in (one.__visit_name__.lower() for one in (old, new))]
    if names[0] != names[1]:
        return False
    marks = ("timezone", "fsp", "precision")
    is_plain = names[0] in _UNSIZED and all(getattr(old, m, None) == getattr(new, m, None) for m in marks)
    return is_plain or repr(old) == repr(new)


def _demand_no_default(sync: Sync, situation: Situation) -> None:
    """A default looks like a value that somebody has written."""
    for name in sync.targets:
        column = situation.live.column(sync.target_key, name)
        if column is not None and column.get("default") is not None:
            target = _named(sync.target_key, [name])
            raise RefusedError(
                Refusal(
                    target,
                    f"the database has it already, with a default ({column['default']}); a row of the old release "
                    "would get that, and it would look like a value that the new release has written",
                    f"ALTER TABLE {sync.target_key} ALTER COLUMN {name} DROP DEFAULT;   -- emc sets that of the models "
                    "in contract",
                )
            )


def says_no_way_back(sync: Sync) -> str | None:
    """What a person has to know before expand of what has no way back; ``None`` where there is one."""
    if sync.down:
        return None
    sources = _named(sync.key, sync.sources)
    return (
        f"has no way back: from expand on an UPDATE of {sources} is refused, so the old release can only insert and "
        f"read it; and what the new release writes is not in it, so emc undo would lose that. Give the conversion at "
        f"{sync.place} a down= to keep both sides right."
    )


# -- rules that the old columns keep already ---------------------------------------------------------------------------


def renamed_from(situation: Situation, key: TableKey, columns: Iterable[str]) -> tuple[str, ...] | None:
    """The columns that hold the same values today: each renamed one under its old name, others as they are.

    ``None`` where one of *columns* is converted, or none of them is renamed.
    """
    before: list[str] = []
    is_any = False
    for name in columns:
        sync = situation.sync_to(key, name)
        if sync is None:
            before.append(name)
            continue
        if not sync.is_copy or not sync.down or sync.key != key:
            return None
        is_any = True
        before.append(sync.sources[sync.targets.index(name)])
    return tuple(before) if is_any else None


def is_kept_unique(situation: Situation, key: TableKey, columns: Iterable[str]) -> bool:
    """Whether *columns* are unique because the columns that they are renamed from are."""
    before = renamed_from(situation, key, columns)
    table = situation.live.table(key)
    return (
        before is not None
        and table is not None
        and any(set(one) == set(before) for one in unique_keys(table))
    )


def is_kept_referring(
    situation: Situation,
    key: TableKey,
    columns: Iterable[str],
    parent: TableKey,
    parent_columns: Iterable[str],
    on_delete: str | None,
    on_update: str | None,
) -> bool:
    """Whether a foreign key over *columns* holds because the columns that they are renamed from have the same one."""
    before = renamed_from(situation, key, columns)
    table = situation.live.table(key)
    if before is None or table is None:
        return False
    wanted = (before, parent, tuple(parent_columns), _action(on_delete), _action(on_update))
    return any(_foreign_key(one) == wanted for one in table.foreign_keys)


def _foreign_key(one: Any) -> tuple[Any, ...]:
    options = one.get("options") or {}
    return (
        tuple(one["constrained_columns"]),
        TableKey(one["referred_schema"], one["referred_table"]),
        tuple(one["referred_columns"]),
        _action(options.get("ondelete")),
        _action(options.get("onupdate")),
    )


def _action(action: str | None) -> str:
    said = (action or "NO ACTION").upper()
    return "NO ACTION" if said == "RESTRICT" else said


def goes_on(situation: Situation, table: LiveTable, foreign_key: Any) -> bool:
    """Whether the models have *foreign_key* of an old column on the one that it is renamed to."""
    model = situation.models.get(table.key)
    if model is None:
        return False
    for one in model.foreign_key_constraints:
        parent = one.elements[0].column.table
        if is_kept_referring(
            situation,
            table.key,
            [column.name for column in one.columns],
            TableKey(parent.schema, parent.name),
            [element.column.name for element in one.elements],
            one.ondelete,
            one.onupdate,
        ) and renamed_from(situation, table.key, [column.name for column in one.columns]) == tuple(
            foreign_key["constrained_columns"]
        ):
            return True
    return False
