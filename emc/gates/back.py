"""May what expand did be taken back: does nobody need it, and is nothing lost with it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    exists,
    literal_column,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.types import NullType

from emc.changes.companions import built_on
from emc.claims import Claim
from emc.gates.base import Gate, Scope, Verdict
from emc.gates.given import as_literal, constant_of, given_to, of_table
from emc.gates.returning import (
    Feasible,
    FitsTypeBack,
    NoNullsBack,
    NoOrphansBack,
    NoViolationsBack,
    ValueUnusedBack,
)
from emc.gates.rows import RowsGate
from emc.gates.syncs import SyncLive
from emc.literally import literally
from emc.names import Element, ElementKind
from emc.operations import Kind, Operation
from emc.sync import Same, Sync
from emc.work import CallFunction, Work, anything_undecided
from emc.work.back import name_of_back
from emc.work.tables import rewritten
from emc.work.values import BACK, UNDO


@dataclass(frozen=True, eq=False)
class NewCodeGone(Gate):
    """Nobody of the release that is taken back runs any more. That is the operator's word."""

    kind = "new-code-gone"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Take the operator's word, given for this very run."""
        if scope.new_code_gone:
            return self.opened("the operator says that the new release is gone", word="--new-code-gone")
        return self.shut(
            "the new release may still run, and rely on it",
            f"{UNDO}   # once the release before runs everywhere again",
        )


@dataclass(frozen=True, eq=False)
class OnlyOurs(Gate):
    """Nobody else has built on the column: an index or constraint that emc did not add goes with it unasked."""

    kind = "only-ours"

    def concerns(self, scope: Scope) -> bool:
        """Where there is something."""
        return bool(self._others(scope))

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Name it."""
        others = self._others(scope)
        if not others:
            return self.opened("nobody else has built on it")
        names = ", ".join(f"{one.kind} {one}" for one in others)
        return self.shut(
            f"{names} would go with it, and emc did not add that",
            f"Take it away by hand once nobody needs it, then: {UNDO}   "
            f"# or leave the column: --keep {self.operation.undoes}",
        )

    def _others(self, scope: Scope) -> list[Element]:
        situation = scope.plan.situation
        table = situation.live.table(self.element.table)
        if table is None:
            return []
        going = {step.operation.element for step in scope.plan.undo}
        model = situation.models.get(self.element.table)
        modelled: set[str] = set()
        if model is not None:
            modelled = {str(one.name) for one in model.constraints} | {str(one.name) for one in model.indexes}
        modelled |= set(table.implied)
        return [
            one
            for one in built_on(table, str(self.element.name))
            if one not in going and str(one.name) not in modelled and not _of_its_type(one, self.element)
        ]


def _of_its_type(element: Element, column: Element) -> bool:
    """Whether a CHECK is part of the definition of its column, by whose name the server calls it."""
    return element.kind is ElementKind.CHECK and element.name == column.name


@dataclass(frozen=True, eq=False)
class NothingLost(RowsGate):
    """What the new release has written is elsewhere too, or there is none of it."""

    kind = "nothing-lost"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows of a new table; rows whose value in a new column is not what emc put there, or says elsewhere."""
        table = scope.table(self.element.table)
        if table is None:
            return None
        if self.element.kind is ElementKind.TABLE:
            syncs = _moved_to(scope, self.element)
            return table, self._only_there(scope, table, syncs) if syncs else true()
        name = str(self.element.name)
        sync = _sync_to(scope, self.element)
        if sync is not None:
            return sync.row, _unsaid(sync, scope.dialect.same)
        if moved := _moved_to(scope, self.element):
            return table, and_(table.columns[name].is_not(None), *self._unowned(scope, table, moved))
        # Whatever its type compares: SQLAlchemy 2.1 warns of those that do not say (MySQL's BIT).
        filled = type_coerce(table.columns[name], NullType()).is_not(None)
        differs = and_(filled, *self._differs(scope, table))
        if differs is not filled and self._unguardable(scope, table, differs):
            return table, filled  # Less is known then: what emc has put there counts too.
        return table, differs

    def _only_there(self, scope: Scope, table: Table, syncs: Sequence[Sync]) -> ColumnElement[bool]:
        """Rows of a table that columns have moved to, which say more than these, or what the old ones do not say."""
        same, key = scope.dialect.same, self.element.table
        known = {name for sync in syncs for name in (*sync.targets, *_matched(sync))}
        found = self._unowned(scope, table, syncs)
        for column in table.columns:
            if column.name not in known and not column.primary_key:
                live = scope.plan.situation.live.column(key, column.name)
                default = constant_of(str(live.get("default") or "" if live is not None else ""), column.type)
                given = [] if default is None else [not_(same(column, as_literal(default, column.type)))]
                found.append(and_(type_coerce(column, NullType()).is_not(None), *given))
        return or_(*found)

    def _unowned(self, scope: Scope, table: Table, syncs: Sequence[Sync]) -> list[ColumnElement[bool]]:
        """For each of *syncs*: whether no row of the old columns says the same as one of *table*."""
        found: list[ColumnElement[bool]] = []
        for sync in syncs:
            said = rewritten(
                and_(sync.joined, sync.says_the_same(scope.dialect.same)), self.element.table, table
            )
            owners: Select[Any] = select(literal_column("1")).select_from(sync.row).where(said)
            found.append(not_(exists(owners.correlate(table))))
        return found

    def _differs(self, scope: Scope, table: Table) -> list[ColumnElement[bool]]:
        """What tells a value of the new release from what emc has put there, and from what is brought back."""
        column = table.columns[str(self.element.name)]
        found = [not_(scope.dialect.same(column, one)) for one in given_to(scope, self.element, table)]
        back = [work for work in scope.plan.work_back if _reads(work, self.element)]
        left = [of_table(rewritten(_left(work, scope), work.key, table), table) for work in back]
        return [*found, or_(*left)] if left else found

    def _unguardable(self, scope: Scope, table: Table, where: ColumnElement[bool]) -> bool:
        """Whether nothing could keep it so that no row satisfies *where*, and something has to."""
        live = scope.plan.situation.live
        claim = Claim(self.name, self.element.table, table, where, self.noun(), self.refusal())
        guarded = scope.dialect.guarded(self.operation, claim, live)
        return guarded and scope.dialect.cannot_guard(self.operation, claim, live) is not None

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count; a generated column holds nothing of its own."""
        name = self.element.name
        if name is not None:
            live = scope.plan.situation.live.column(self.element.table, name)
            if live is not None and live.get("computed"):
                return self.opened("it is computed from other columns")
        verdict = super().evaluate(connection, scope)
        sync = _sync_to(scope, self.element)
        if verdict.rows and sync is not None and sync.down:
            update = _bring_over(connection, sync, _unsaid(sync, scope.dialect.same))
            remedy = (
                "They were written while the triggers were not in force. Look at them, then keep what the new release "
                f"wrote:\n{update};\nor let it go:\n"
                f'{UNDO} --override {self.name} --reason "who looked"'
            )
            return dataclasses.replace(verdict, remedy=remedy)
        if verdict.rows and (unsure := self._undecided(connection, scope)):
            remedy = "".join(
                f"-- the condition of {work.name} is NULL for some rows, so it does not say whether they are done: "
                f"write it at {work.place} so that it is true or false for every row\n"
                for work in unsure
            )
            return dataclasses.replace(verdict, remedy=f"{remedy}{verdict.remedy}")
        return verdict

    def _undecided(self, connection: Connection, scope: Scope) -> list[Work]:
        """The data migrations that leave open which rows they have moved, so that some are not brought back."""
        back = [work for work in scope.plan.work_back if _reads(work, self.element)]
        forward = [scope.plan.all_work.get(work.name.removeprefix(name_of_back(""))) for work in back]
        return [work for work in forward if isinstance(work, Work) and anything_undecided(connection, work)]

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That there are none."""
        name = self.element.name
        live = scope.plan.situation.live.column(self.element.table, name) if name is not None else None
        if live is not None and live.get("computed"):
            return ()
        claims = super().claims(connection, scope)
        sync = next(iter(_moved_to(scope, self.element)), None) or _sync_to(scope, self.element)
        if sync is not None and sync.down and self.operation.together is not None:
            # The triggers write whatever comes into the old column too, until both go.
            return tuple(dataclasses.replace(claim, kept_by=sync) for claim in claims)
        return claims

    def noun(self) -> str:
        """What the rows in the way are."""
        rows = f"rows of {self.element.table}"
        if self.element.kind is ElementKind.TABLE:
            return f"{rows}, which the old release does not know"
        return f"{rows} with a value in {self.element.name} that is nowhere else"

    def refusal(self) -> str:
        """What a session is told that writes such a row."""
        return f"{self.element} is being taken back, and what is written there would be lost"

    def remedy(self, scope: Scope) -> str:
        """Move it, or say that it may be lost."""
        override = f'{UNDO} --override {self.name} --reason "who agreed that it may be lost"'
        if self.element.kind is ElementKind.TABLE:
            return f"SELECT * FROM {self.element};   -- save what is worth keeping, then:\n{override}"
        sync = _sync_to(scope, self.element)
        if sync is not None:
            sets = ", ".join(f"{name} = …" for name in sync.sources)
            why = f"by hand: {sync.verb} at {sync.place} has no down="
            return f"UPDATE {sync.key} SET {sets} WHERE …;   -- {why}; then, or without it:\n{override}"
        table = scope.table(self.element.table)
        given = table is not None and given_to(scope, self.element, table)
        functions = [
            work.name
            for work in scope.plan.all_work.values()
            if isinstance(work, Work)
            and work.key == self.element.table
            and isinstance(work.action, CallFunction)
            and work.action.column in (None, self.element.name)
            and work.kind != BACK
        ]
        query = f"SELECT * FROM {self.element.table} WHERE {self.element.name} IS NOT NULL"
        lines = [f"{query};   -- save what is worth keeping, then:", override]
        if functions and not given:
            lines.insert(
                0, f"-- emc cannot tell what {', '.join(functions)} has computed from what was written"
            )
        ways = [work.name for work in scope.plan.work_back if _reads(work, self.element)]
        if ways:
            lines.insert(0, f"{UNDO}   # {' and '.join(ways)} brings back first what it can; for the rest:")
        else:
            back = f'undo={{"old_column": column("{self.element.name}")}}'
            lines.insert(
                0, f"upgrade.data_migration(..., {back})   # brings it to where the old release reads it; or:"
            )
        return "\n".join(lines)


def _sync_to(scope: Scope, element: Element) -> Sync | None:
    """What keeps the column *element* in step with old ones of its own table."""
    if element.name is None:
        return None
    sync = scope.plan.situation.sync_to(element.table, element.name)
    return sync if sync is not None and sync.elsewhere is None else None


def _moved_to(scope: Scope, element: Element) -> Sequence[Sync]:
    """What keeps *element*, a column or any of a table, in step with columns of another table."""
    return [
        one
        for one in scope.plan.situation.syncs.values()
        if one.elsewhere is not None
        and one.elsewhere.key == element.table
        and (element.kind is ElementKind.TABLE or element.name in one.targets)
    ]


def _matched(sync: Sync) -> Sequence[str]:
    return [name for name, _ in sync.elsewhere.on] if sync.elsewhere is not None else []


def _unsaid(sync: Sync, same: Same) -> ColumnElement[bool]:
    """The rows in which the new columns say what the old ones do not."""
    said = [sync.is_unset(), sync.is_derived(same)]
    if sync.down:
        said.append(sync.is_in_step(same))
    return not_(or_(*said))


def _bring_over(connection: Connection, sync: Sync, where: ColumnElement[bool]) -> str:
    """The statement that writes what the new columns say into the old ones."""
    sets = {sync.row.c[name]: value for name, value in sync.down.items()}
    update = sync.row.update().where(where).values(sets)
    return literally(update, connection.dialect)


def _left(back: Work, scope: Scope) -> ColumnElement[bool]:
    """The rows that *back* has not brought back, and those of which nobody can tell which side is the newer one."""
    forward = scope.plan.all_work.get(back.name.removeprefix(name_of_back("")))
    undecided = [back.pending, back.pending.is_(None)]
    if isinstance(forward, Work):
        undecided.append(forward.pending)
    return or_(*undecided)


def _reads(work: Work, element: Element) -> bool:
    """Whether *work* brings back what is in the column *element*; of a function its condition says that."""
    # Only what is certain counts: of a column that it does not read it says nothing.
    return work.key == element.table and element.name in work.concerns


OWN: Mapping[str, tuple[Callable[[Operation], Gate], ...]] = {
    Kind.DROP_TABLE: (NothingLost,),
    Kind.DROP_COLUMN: (NothingLost, OnlyOurs),
    Kind.SET_NOT_NULL: (NoNullsBack,),
    Kind.ALTER_TYPE: (FitsTypeBack,),
    Kind.ADD_CHECK: (NoViolationsBack,),
    Kind.ADD_FOREIGN_KEY: (NoOrphansBack,),
    Kind.REMOVE_ENUM_VALUE: (ValueUnusedBack,),
    # Nothing in the data speaks against these: that the new release is gone is all they need.
    Kind.DROP_INDEX: (),
    Kind.DROP_UNIQUE: (),
    Kind.DROP_CHECK: (),
    Kind.DROP_EXCLUSION: (),
    Kind.DROP_FOREIGN_KEY: (),
    Kind.DROP_ENUM: (),
    Kind.DROP_SYNC: (SyncLive,),
    Kind.SET_DEFAULT: (),
    Kind.DROP_DEFAULT: (),
    Kind.SET_COMMENT: (),
}
"""The gates of undo by the kind of operation, besides those that all have."""
ALL: tuple[Callable[[Operation], Gate], ...] = (Feasible, NewCodeGone)
"""The gates that all have."""
REPLACED: Mapping[ElementKind, tuple[Callable[[Operation], Gate], ...]] = {
    ElementKind.FOREIGN_KEY: (NoOrphansBack,),
    ElementKind.UNIQUE: (),
}
