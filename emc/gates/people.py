"""Does nobody need the element any more, and did somebody say what becomes of its data?"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from dataclasses import dataclass

from sqlalchemy import ClauseElement, Column, ColumnElement, Connection, TableClause, or_
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, TableValuedColumn, TextClause

from emc.changes.base import column_element
from emc.claims import Claim
from emc.gates.base import Gate, Scope, Verdict, counted
from emc.gates.rows import HoldsNoData
from emc.names import Element, TableKey
from emc.operations import Operation
from emc.schema import LiveSchema
from emc.state.observations import observation
from emc.sync import SyncOp
from emc.upgrade import Discard, Retire, Superseded
from emc.work import (
    CallFunction,
    DeleteRow,
    NotReady,
    Report,
    SetElsewhere,
    SetValues,
    Work,
    anything_left,
    anything_undecided,
    rows_left,
    sample_keys,
)

_NEW = "the database was empty when this run began, so no release has worked with it"

_STAR_OR_NUMBER = re.compile(r"\*|\d+").fullmatch
"""What SQLAlchemy writes into ``EXISTS (SELECT …)`` and ``count(…)``, and a person into the former."""


@dataclass(frozen=True, eq=False)
class ExpandDone(Gate):
    """Nothing is contracted before everything is expanded: the new release has to stand on its own."""

    kind = "expand-done"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Look whether the plan has anything to expand."""
        steps = scope.plan.expand
        if scope.expands_later:
            return self.opened("what is left of expand belongs to revisions that come after this one")
        if steps:
            listed = ", ".join(step.id for step in steps[:3]) + (", …" if len(steps) > 3 else "")
            return self.shut(
                f"{counted(len(steps), 'operations')} of expand not done: {listed}", "emc expand"
            )
        return self.opened("expand is done")


@dataclass(frozen=True, eq=False)
class MigrateDone(Gate):
    """No data goes while a data migration that may read it has rows left.

    A function may read all of its row, and most of all the column that is discarded because it moves it.
    """

    kind = "migrate-done"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Look whether the plan has such data work left, and whether a straggler has made some since."""
        planned = {work.name for work in scope.plan.work}
        pending = [
            work.name
            for work in scope.plan.all_work.values()
            if _may_read(work, self.element, scope.plan.situation.live)
            and not (scope.expands_later and isinstance(work, NotReady))
            and (work.name in planned or self._came_up(connection, work))
        ]
        if pending:
            listed = ", ".join(pending[:3]) + (", …" if len(pending) > 3 else "")
            noun = "data migration" if len(pending) == 1 else "data migrations"
            return self.shut(f"{len(pending)} {noun} not done: {listed}", "emc migrate")
        return self.opened(f"no data migration that may read {self.element.table} has rows left")

    def _came_up(self, connection: Connection, work: Work | NotReady) -> bool:
        """Whether *work* has rows of the table that is locked, and reads what is dropped."""
        return (
            isinstance(work, Work)
            and work.key == self.element.table
            and _reads(work, self.element)
            and not _is_copied_along(work, self.operation)
            and anything_left(connection, work)
        )

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That no row comes up for a data migration that reads what is dropped."""
        return tuple(
            _none_left(self, work)
            for work in scope.plan.all_work.values()
            if isinstance(work, Work)
            and not work.is_complete
            and work.key == self.element.table
            and _reads(work, self.element)
            and not _is_copied_along(work, self.operation)
        )


def _is_copied_along(work: Work, operation: Operation) -> bool:
    """Whether *work* copies what is dropped to where it is kept in step until then: another gate sees to that."""
    return work.kind == "copy" and operation.together == f"sync:{work.name.removeprefix('copy:')}"


def _none_left(gate: Gate, work: Work) -> Claim:
    """That *work* has no row left, and none of which its condition does not say so."""
    undecided = work.pending.is_(None)
    refusal = f"{gate.element} is being dropped, and data migration {work.name} has not seen this row"
    rows = f"rows of {work.key} that {work.name} has left"
    return Claim(gate.name, work.key, work.table, or_(work.pending, undecided), rows, refusal, work.walk)


def _reads(work: Work, element: Element) -> bool:
    """Whether *work* may move data of *element*, which belongs to its own table, to a place that stays."""
    if isinstance(work.action, CallFunction) or (isinstance(work.action, DeleteRow) and work.action.merge):
        return True
    if isinstance(work.action, SetElsewhere):
        return element.name is None or speaks_of(work.pending, element.name)
    if isinstance(work.action, (DeleteRow, Report)) or element.name is None:
        return False  # What it writes is in the table that goes.
    return any(speaks_of(value, element.name) for value in (*work.action.values.values(), work.pending))


def speaks_of(expression: object, column: str) -> bool:
    """Whether *expression* may read *column*. What is written as text may."""
    return isinstance(expression, ClauseElement) and any(
        isinstance(part, TextClause)
        or (isinstance(part, ColumnClause) and (part.name == column or not isinstance(part, Column)))
        for part in visitors.iterate(expression)
    )


def _may_read(work: Work | NotReady, element: Element, live: LiveSchema) -> bool:
    """Whether *work* may look at *element*, or at other data of its own table.

    It does so in its own rows, through the connection of a function, or in a subquery of what it writes or of its
    condition.
    """
    key = element.table
    if work.kind == "copy":
        return work.key == key  # Triggers do the same, and see no other rows.
    if isinstance(work, NotReady) or work.key == key:
        return True
    # That of orphans is emc's own, and reads keys that the models have: none that goes.
    if work.kind != "orphans" and _looks_into(work.pending, element, live):
        return True
    if isinstance(work.action, CallFunction):
        return work.action.takes_connection
    if isinstance(work.action, DeleteRow):
        return work.action.merge is not None and work.action.merge.takes_connection
    return isinstance(work.action, SetValues) and any(
        isinstance(value, ClauseElement) for value in work.action.values.values()
    )


def _looks_into(condition: ColumnElement[bool], element: Element, live: LiveSchema) -> bool:
    """Whether *condition*, which belongs to another table, may read *element*. Where nobody can tell, it may."""
    parts = list(visitors.iterate(condition))
    columns = [part for part in parts if isinstance(part, ColumnClause)]
    written = {str(part.name) for part in columns if part.is_literal}
    if any(isinstance(part, TextClause) for part in parts) or any(
        not _STAR_OR_NUMBER(one) for one in written
    ):
        return True
    sources = [part for part in (*parts, *(one.table for one in columns)) if isinstance(part, TableClause)]
    keys = {TableKey(one.schema, one.name) for one in sources}
    # What is no table may be a view of it.
    if not any(key == element.table or key not in live.tables for key in keys):
        return False
    is_whole_row = "*" in written or any(isinstance(part, TableValuedColumn) for part in parts)
    return (
        is_whole_row
        or element.name is None
        or any(str(part.name).lower() == element.name.lower() for part in columns)
    )


@dataclass(frozen=True, eq=False)
class OldCodeGone(Gate):
    """Nobody who runs refers to the element. Until instances are registered, that is the operator's word."""

    kind = "old-code-gone"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Take the operator's word, given for this very run."""
        if scope.is_new:
            return self.opened(_NEW, new=True)
        if scope.old_code_gone:
            return self.opened("the operator says that the old release is gone", word="--old-code-gone")
        return self.shut(
            self.operation.because or "the old release may still run",
            "emc contract --old-code-gone   # once no process of the old release is left",
        )


@dataclass(frozen=True, eq=False)
class DataElsewhere(Gate):
    """What the element held is elsewhere, is not there, or may be lost."""

    kind = "data-elsewhere"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Ask the declaration what counts, then the data."""
        removal = scope.plan.situation.removals.get(self.element)
        if isinstance(removal, Discard):
            return self.opened(
                f"discarded on purpose: {removal.reason}", discarded=removal.reason, place=removal.place
            )
        if isinstance(removal, Superseded):
            return self._superseded(removal, scope)
        if not isinstance(removal, Retire):
            return self.shut(
                f"nobody has declared that {self.element} may go", f'upgrade.retire("{self.element}")'
            )
        if not removal.after:
            verdict = HoldsNoData(self.operation).evaluate(connection, scope)
            return Verdict(
                self.name,
                verdict.open,
                verdict.reason,
                verdict.remedy,
                verdict.rows,
                verdict.keys,
                evidence=verdict.evidence,
            )
        for name in removal.after:
            work = scope.plan.all_work.get(name)
            if work is None or isinstance(work, NotReady):
                reason = work.reason if isinstance(work, NotReady) else "it is unknown"
                return self.shut(f"data migration {name} cannot be judged: {reason}", "emc expand")
            left = rows_left(connection, work)
            if left:
                return self.shut(
                    f"data migration {name} has {counted(left, 'rows')} left",
                    f"emc migrate --only {name}",
                    rows=left,
                    keys=sample_keys(connection, work),
                    migration=name,
                )
            if anything_undecided(connection, work):
                return self.shut(
                    f"the condition of data migration {name} is NULL for some rows, so it does not say whether they "
                    "are done",
                    f"Write the condition at {work.place} so that it is true or false for every row, "
                    "e.g. with is_distinct_from()",
                    migration=name,
                )
        return self.opened(
            f"data migration {', '.join(removal.after)} has no rows left",
            migrations=list(removal.after),
            rows=0,
        )

    def _superseded(self, removal: Superseded, scope: Scope) -> Verdict:
        """Its data is in the column that takes its place, which the gates of what goes along with it show."""
        situation = scope.plan.situation
        if self.operation.together is not None and removal.to in situation.syncs:
            return self.opened(
                f"it goes together with drop-sync:{removal.to}, whose gates show that {removal.to} says the same",
                together=self.operation.together,
            )
        declared = next(one for one in situation.upgrade.parallels if removal in one.superseded)
        gone = [str(one.target) for one in declared.superseded if one.target in situation.past.dropped]
        if gone:
            return self.opened(
                f"it was in step with {removal.to} when {', '.join(gone)} was dropped", gone=gone
            )
        return self.shut(f"nothing keeps it in step with {removal.to}", "emc expand")

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That it holds no data, or that none has come up which its data migrations have not seen."""
        removal = scope.plan.situation.removals.get(self.element)
        if not isinstance(removal, Retire) or isinstance(removal, Superseded):
            return ()
        if not removal.after:
            claims = HoldsNoData(self.operation).claims(connection, scope)
            return tuple(dataclasses.replace(claim, gate=self.name) for claim in claims)
        every = (scope.plan.all_work.get(name) for name in removal.after)
        return tuple(
            _none_left(self, work) for work in every if isinstance(work, Work) and not work.is_complete
        )


@dataclass(frozen=True, eq=False)
class IndexUnused(Gate):
    """No query has used the index since its retirement was first seen, where the database can tell."""

    kind = "index-unused"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Compare the scans counted now with those counted when the retirement was first seen."""
        if scope.is_new:
            return self.opened(_NEW, new=True)
        scans = scope.dialect.index_scans(connection, self.element)
        if scans is None:
            return self.opened("this database does not count the uses of an index", counted=False)
        seen = observation(connection, retirement(self))
        again = "Wait until the queries of a normal day have run, then: emc contract --old-code-gone"
        if seen is None:
            return self.shut(
                "its uses are counted from the next run of emc expand, migrate or contract on", again
            )
        before = int(seen.facts["scans"])
        if scans != before:
            return self.shut(
                f"it was used since {seen.first_seen:%Y-%m-%d %H:%M} UTC ({before:,} scans then, {scans:,} now); "
                "the next run counts anew",
                again,
                scans=scans,
            )
        return self.opened(f"no scan since {seen.first_seen:%Y-%m-%d %H:%M} UTC", scans=scans)


def retirement(gate: Gate) -> str:
    """Under which name the first sight of a retirement is kept."""
    return f"retired:{gate.element.kind}:{gate.element}"


@dataclass(frozen=True, eq=False)
class Soaked(Gate):
    """The other gates have been open for as long as the declaration asks."""

    kind = "soaked"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Look when the other gates were first seen open."""
        soak = required_soak(self, scope)
        if not soak:
            return self.opened("no soak is asked for")
        seen = observation(connection, first_open(self))
        if seen is None:
            return self.shut(
                f"its soak of {soak} begins when its other gates are open", "emc contract --old-code-gone"
            )
        ends = seen.first_seen + soak
        if scope.now < ends:
            return self.shut(
                f"its gates are open since {seen.first_seen:%Y-%m-%d %H:%M} UTC, "
                f"and soak until {ends:%Y-%m-%d %H:%M} UTC",
                "Wait, then: emc contract --old-code-gone   # or --soak 0",
            )
        return self.opened(f"its gates are open since {seen.first_seen:%Y-%m-%d %H:%M} UTC")


FIRST_OPEN = "open:"
"""How the names of all such first sights begin."""


def first_open(gate: Gate) -> str:
    """Under which name the first sight of open gates is kept."""
    return f"{FIRST_OPEN}{gate.operation.id}"


def required_soak(gate: Gate, scope: Scope) -> dt.timedelta:
    """How long the gates of an operation have to stay open."""
    if scope.soak is not None:
        return scope.soak
    removals, directive = scope.plan.situation.removals, gate.operation.directive
    removal = removals.get(gate.element)
    if isinstance(directive, SyncOp):
        # The triggers and the old columns go together, and it is the triggers that wait.
        removal = removals.get(column_element(directive.sync.key, directive.sync.sources[0]))
    elif isinstance(removal, Superseded):
        return dt.timedelta(0)
    return removal.soak if isinstance(removal, Retire) else dt.timedelta(0)
