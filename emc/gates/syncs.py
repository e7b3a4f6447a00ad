"""Do the old columns and the new ones say the same, and will they until the old ones are gone?"""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, FromClause, not_, true
from sqlalchemy.exc import DataError, InternalError, ProgrammingError

from emc.claims import Claim
from emc.gates.base import Gate, Scope, Verdict, count_rows, counted, first_keys
from emc.gates.rows import RowsGate
from emc.literally import literally
from emc.names import dotted
from emc.sync import Sync, SyncOp
from emc.work import NotReady
from emc.work.left import apart


def sync_of(gate: Gate) -> Sync:
    """What the operation of *gate* takes away."""
    directive = gate.operation.directive
    assert isinstance(directive, SyncOp)
    return directive.sync


@dataclass(frozen=True, eq=False)
class InStep(RowsGate):
    """No old column goes while a row says one thing in it and another in the new one.

    The triggers themselves keep a row in step that is; so they are the guard, and all that is left to do under the lock
    is to confirm that they stand as they should.
    """

    kind = "in-step"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows that are not in step."""
        sync = sync_of(self)
        table = scope.plan.situation.live.table(sync.target_key)
        if table is None or not set(sync.targets) <= table.columns.keys():
            return None
        return sync.row, not_(sync.is_in_step(scope.dialect.same))

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count; and tell those that are yet to be copied from those that nobody but a person can put right."""
        sync = sync_of(self)
        try:
            with apart(connection) if scope.dialect.errors_end_transactions else nullcontext():
                verdict = super().evaluate(connection, scope)
        except (DataError, InternalError, ProgrammingError) as error:
            return self.shut(
                f"the conversion at {sync.place} fails on {sync.key}: {str(error.orig).splitlines()[0]}",
                f"{work_command(sync)}   # names the rows that it fails for",
            )
        if not verdict.rows:
            return verdict
        work = scope.plan.all_work.get(f"copy:{sync.name}")
        if work is None or isinstance(work, NotReady):
            return verdict
        same = scope.dialect.same
        pending = count_rows(connection, sync.row, sync.is_pending(same))
        torn = verdict.rows - pending
        if not torn:
            return dataclasses.replace(
                verdict,
                reason=f"{counted(pending, f'rows of {sync.key}')} not copied yet",
                remedy=work_command(sync),
            )
        either = not_(sync.is_in_step(same)) & not_(sync.is_pending(same))
        noun = f"rows of {sync.key} whose {_listed(sync.sources)} says one thing and {_targets(sync)} another"
        return dataclasses.replace(
            verdict,
            reason=counted(torn, noun)
            + (f", and {counted(pending, 'rows')} not copied yet" if pending else ""),
            remedy=self._either_side(connection, scope, sync, either),
            keys=first_keys(connection, sync.row, either),
        )

    def _either_side(
        self, connection: Connection, scope: Scope, sync: Sync, torn: ColumnElement[bool]
    ) -> str:
        """The statements that let one side win, or the other."""
        lines = [
            "They were written while the triggers were not in force. Look at them, then let one side win:"
        ]
        rows, same = sync.row, scope.dialect.same
        if sync.elsewhere is not None:
            old, new = sync.to_targets(same, true()), sync.to_sources(same, torn)
            lines.append(f"{literally(old, connection.dialect)};   -- keeps what the old release wrote")
            lines.append(f"{literally(new, connection.dialect)};   -- keeps what the new one wrote")
            return "\n".join(lines)
        for who, values in (("what the old release wrote", sync.up), ("what the new one wrote", sync.down)):
            if values:
                update = (
                    rows.update().where(torn).values({rows.c[name]: value for name, value in values.items()})
                )
                lines.append(f"{literally(update, connection.dialect)};   -- keeps {who}")
        return "\n".join(lines)

    def noun(self) -> str:
        """What the rows in the way are."""
        sync = sync_of(self)
        return f"rows of {sync.key} whose {_listed(sync.sources)} and {_targets(sync)} are not in step"

    def remedy(self, scope: Scope) -> str:
        """Copy them."""
        return work_command(sync_of(self))

    def refusal(self) -> str:
        """What keeps the rows in step refuses nothing."""
        return f"{self.element} is kept in step"

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That every row is in step, which the triggers see to."""
        claims = super().claims(connection, scope)
        return tuple(dataclasses.replace(claim, kept_by=sync_of(self)) for claim in claims)


@dataclass(frozen=True, eq=False)
class SyncLive(Gate):
    """What keeps the columns in step is what emc has put there, to the letter, and is in force."""

    kind = "sync-live"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Compare definitions."""
        sync, live = sync_of(self), scope.plan.situation.live
        table = live.table(sync.target_key)
        if table is None or not set(sync.targets) <= table.columns.keys():
            return self.not_there_yet(str(self.element))
        parts = scope.dialect.sync_parts(sync, live)
        keys = sorted({part.key for part in parts}, key=lambda key: key.sort_key)
        standing = scope.dialect.guards(connection, keys)
        for part in parts:
            found = standing.get(part.key, {}).get(part.name)
            if found is None:
                return self.shut(
                    f"{part.name} of {part.key}, which keeps the columns in step, is not there", "emc expand"
                )
            if found != part.definition:
                return self.shut(
                    f"{part.name} of {part.key}, which keeps the columns in step, is not what emc would put there now: "
                    "somebody has changed it or put it out of force, or it was made for another conversion",
                    "emc expand   # puts it in place anew",
                    expected=part.definition,
                    found=found,
                )
        return self.opened(
            f"what keeps {_listed(sync.sources)} and {_targets(sync)} in step stands as it should",
            parts=[part.name for part in parts],
        )


def work_command(sync: Sync) -> str:
    """The command that copies what is left."""
    return f"emc migrate --only copy:{sync.name}"


def _targets(sync: Sync) -> str:
    if sync.elsewhere is None:
        return _listed(sync.targets)
    return " and ".join(dotted(sync.elsewhere.key.name, name) for name in sync.targets)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(dotted(name) for name in names)


__all__ = ["InStep", "SyncLive", "sync_of"]
