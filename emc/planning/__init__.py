"""What will each phase do?

A plan is derived afresh from models, declarations, live schema, and what the ledger says was added beside the old
release; it is never stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from emc.changes import Past, Situation, Unmanaged, classify
from emc.dialects.base import Dialect
from emc.diff import compare
from emc.errors import PlanRefusedError, Refusal
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.planning.order import after_their_keys, in_order
from emc.planning.ways import WayBack, remembering, ways_back
from emc.schema import LiveSchema
from emc.state.ledger import carried_out, carried_out_beside_old_code
from emc.steps import Step
from emc.sync import SyncOp, is_kept
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, all_work, anything_left

__all__ = ["Note", "Plan", "WayBack", "derive", "is_open"]


@dataclass(frozen=True)
class Note:
    """Something to know that stops nothing."""

    kind: str
    """``not-convergent``, ``not-compared``, ``looks-like-rename``, ``nothing-left``, ``no-way-back``, ``guard``,
    ``sync`` or ``unfinished``."""
    target: str
    text: str


@dataclass(frozen=True, eq=False)
class Plan:
    """The ordered steps of each phase, and what emc leaves alone."""

    dialect: str
    release: str | None
    situation: Situation
    expand: tuple[Step, ...]
    work: tuple[Work | NotReady, ...]
    """The data work of the migrate phase that is not complete."""
    all_work: Mapping[str, Work | NotReady]
    """All declared data work by name, complete or not."""
    contract: tuple[Step, ...]
    unmanaged: tuple[Unmanaged, ...]
    notes: tuple[Note, ...]
    undo: tuple[Step, ...] = ()
    """Of a plan of the way back (``emc.planning.back``), which has no other steps."""
    work_back: tuple[Work, ...] = ()
    """Of such a plan: the data migrations that have a way back, those to be undone first before the others."""
    ways: Mapping[str, WayBack] = field(default_factory=dict)
    """What undo makes of each operation of expand and of each data migration, by id."""

    def steps(self, phase: Phase) -> tuple[Step, ...]:
        """The schema steps of *phase*; the migrate phase has none."""
        steps = {Phase.EXPAND: self.expand, Phase.CONTRACT: self.contract, Phase.UNDO: self.undo}
        return steps.get(phase, ())

    @property
    def names(self) -> Iterator[str]:
        """Every name that ``--only`` knows."""
        yield from (step.id for step in (*self.expand, *self.contract, *self.undo))
        yield from self.all_work

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to do in any phase."""
        return not (self.expand or self.work or self.contract)


def derive(connection: Connection, upgrade: Upgrade, dialect: Dialect) -> Plan:
    """Derive the plan of *upgrade* for the database behind *connection*. Reads only.

    :raises DeclarationError: a declaration contradicts the models or the database.
    :raises PlanRefusedError: there are differences that emc refuses to act on.
    """
    diff = compare(connection, upgrade, dialect)
    past = past_of(connection, upgrade, dialect)
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
    operations = allowed(after_their_keys(classified.operations, diff.live, diff.models), upgrade)
    expand = in_order(operations, Phase.EXPAND, diff.live)
    contract = in_order(operations, Phase.CONTRACT, diff.live)
    refusals: list[Refusal] = list(classified.refusals)
    everything = (*expand, *contract)
    refusals += filter(None, (dialect.refuse(operation, diff.live, everything) for operation in everything))
    installed = (one.directive.sync for one in expand if isinstance(one.directive, SyncOp))
    refusals += filter(None, (dialect.cannot_sync(sync, diff.live) for sync in installed))
    if refusals:
        raise PlanRefusedError(refusals)
    work = all_work(upgrade, diff.live, dialect.uniqueness, dialect, past.contracted)
    expand = remembering(expand, diff.live)
    expanding, contracting = (render(dialect, one, situation) for one in (expand, contract))
    notes = [Note(note.kind, note.target, note.text) for note in diff.notes]
    notes += [Note(hint.kind, hint.target, hint.text) for hint in classified.hints]
    notes += _guards(diff.live)
    notes += _undeclared_syncs(situation, dialect)
    notes += idle_allowances(everything, upgrade)
    steps = (*expanding, *contracting)
    for left in dialect.leftovers(steps, diff.live):
        what = f"{left.operation.description}. Nothing needs it any more; the next emc contract does so."
        notes.append(Note("guard", str(left.operation.element), what))
    notes += (Note("unfinished", target, what) for target, what in dialect.remarks(steps, diff.live))
    return Plan(
        dialect=dialect.name,
        release=upgrade.release,
        situation=situation,
        expand=expanding,
        work=tuple(one for one in work if is_open(connection, one)),
        all_work={one.name: one for one in work},
        contract=contracting,
        unmanaged=classified.unmanaged,
        notes=tuple(notes),
        ways=ways_back(expand, work, upgrade, situation),
    )


def allowed(operations: Iterable[Operation], upgrade: Upgrade) -> list[Operation]:
    """*operations*, those that a person allows to keep others waiting with the reason for it."""
    reasons = {one.operation: one.reason for one in upgrade.allowances}
    return [dataclasses.replace(one, allowed=reasons.get(one.id)) for one in operations]


def idle_allowances(operations: Iterable[Operation], upgrade: Upgrade) -> Iterator[Note]:
    """Allowances for operations that the plan does not hold: done, or never to be done here."""
    ids = {one.id for one in operations}
    for one in upgrade.allowances:
        if one.operation not in ids:
            yield Note(
                "nothing-left",
                one.operation,
                f"allow at {one.place} has nothing left to do in this database: its plan holds no such operation.",
            )


def _guards(live: LiveSchema) -> Iterator[Note]:
    for key, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key):
        if table.guards:
            yield Note(
                "guard",
                str(key),
                f"{', '.join(sorted(table.guards))} refuses some writes; an emc contract that is at work, or that was "
                "interrupted, put it there. The next one goes on from it, or takes it away.",
            )


def _undeclared_syncs(situation: Situation, dialect: Dialect) -> Iterator[Note]:
    """What keeps columns in step though no declaration asks for it any more."""
    live = situation.live
    standing = {key: table for key, table in live.tables.items() if table.syncs}
    if not standing:
        return
    wanted = {
        (part.key, part.name) for sync in situation.syncs.values() for part in dialect.sync_parts(sync, live)
    }
    for key, table in sorted(standing.items(), key=lambda item: item[0].sort_key):
        left = sorted(name for name in table.syncs if (key, name) not in wanted)
        if left:
            yield Note(
                "sync",
                str(key),
                f"{', '.join(left)} keeps columns in step, but no declaration asks for it any more. Put the rename or "
                "convert back, and contract takes it away once the old column may go.",
            )


def past_of(connection: Connection, upgrade: Upgrade, dialect: Dialect) -> Past:
    """What the ledger says was done. Without a label nobody can tell this release from the one before it."""
    added: frozenset[str] = frozenset()
    if upgrade.release is not None:
        added = carried_out_beside_old_code(connection, upgrade.release)
    dropped = frozenset(one for one in carried_out(connection) if one.startswith("drop-"))
    holding = tuple(f"{kind}:" for kind in (Kind.DROP_COLUMN, Kind.DROP_TABLE))
    held = (one for one in carried_out(connection, Phase.CONTRACT) if one.startswith(holding))
    keys = (one for one in dropped if one.startswith(f"{Kind.DROP_FOREIGN_KEY}:"))
    return Past(
        added,
        frozenset(map(_target, dropped)),
        frozenset(map(_target, held)),
        frozenset(map(_target, keys)) if dialect.indexes_foreign_keys else frozenset(),
    )


def _target(operation: str) -> str:
    """What an operation is about, by its id."""
    return operation.split(":", 1)[1]


def render(dialect: Dialect, operations: list[Operation], situation: Situation) -> tuple[Step, ...]:
    """*operations* as the database runs them."""
    return tuple(dialect.steps(operations, situation.live)) if operations else ()


def is_open(connection: Connection, work: Work | NotReady) -> bool:
    """Whether data *work* is not complete."""
    return isinstance(work, NotReady) or anything_left(connection, work)
