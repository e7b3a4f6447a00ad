"""Run single operations of a plan, one after the other as somebody asks for them.

As ``emc expand`` and ``emc contract`` run them, under one lease. So a plan is derived once and not for each operation:
of what expand runs only the live schema is read again; what contract runs is planned and judged afresh, as always.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Engine

from emc.commands.confirming import with_gone
from emc.commands.expanding import again
from emc.commands.gated import carry_out, chosen, clear, leftovers, note_words, open_again, sort
from emc.commands.guarding import Course, standing
from emc.commands.results import Blocked
from emc.commands.session import Report, demand_privileges, demand_sessions, planned, units
from emc.dialects import Dialect
from emc.diff import look
from emc.execute import RetryPolicy, run_unit
from emc.gates import Scope, Verdict, gates_of, watch
from emc.names import Element
from emc.phases import Phase
from emc.planning import Plan, render
from emc.state.lease import LOCK_TIMEOUT, Lease, acquire
from emc.state.ledger import Event
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade


class Piecewise:
    """One run, on one database. Holds the lease from the first operation that is to do until it is closed.

    :param command: what is running, for whoever is kept waiting.
    :param scope: what gates may look at besides the database.
    :param overrides: as in :func:`emc.contract`; those of operations that are not asked for are left alone.
    """

    def __init__(
        self,
        upgrade: Upgrade,
        engine: Engine,
        dialect: Dialect,
        *,
        command: str,
        scope: Callable[[Plan], Scope],
        overrides: Mapping[str, str],
        retry: RetryPolicy,
        report: Report,
    ) -> None:
        self.upgrade = upgrade
        self.engine = engine
        self.dialect = dialect
        self.command = command
        self.scope = scope
        self.overrides = overrides
        self.retry = retry
        self.report = report
        self.done: set[str] = set()
        """Ids of what was carried out since the plan was derived."""
        self.taken: set[Element] = set()
        """What was carried out was about these elements."""
        self._plan: Plan | None = None
        self._lease: Lease | None = None
        self._is_cleared = False
        """Whether what an interrupted contract left has been looked for."""
        self._is_said = False
        """Whether the ledger knows that the old release is gone."""
        self._noted: set[str] = set()
        """The overrides that the ledger knows of."""

    # -- the plan -----------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The plan as it was when it was last derived; :attr:`done` says what of it was carried out since.

        :raises EmcError: whatever :func:`emc.plan` raises.
        """
        if self._plan is None:
            self._plan = planned(self.upgrade, self.engine, self.dialect, lambda _, plan: plan)
            self.done.clear()
        return self._plan

    def forget(self) -> None:
        """Derive the plan afresh when it is asked for again: something has changed that it does not know of."""
        self._plan = None

    # -- the lease ----------------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """The right to work on the database; taken when it is first asked for.

        :raises LeaseHeldError: another emc is at work.
        """
        if self._lease is None:
            demand_sessions(self.engine, self.dialect)
            self._lease = acquire(self.engine, self.dialect, command=self.command).__enter__()
            self.forget()  # Another runner may have been at work until a moment ago.
        return self._lease

    def close(self, error: BaseException | None = None) -> None:
        """Give the lease back, if it was taken.

        :param error: what ends the run, if it was not to end so.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.__exit__(None if error is None else type(error), error, None)

    # -- expand -------------------------------------------------------------------------------------------------

    def expand(self, wanted: Collection[str]) -> None:
        """Carry out operations *wanted* of expand; nothing of what the plan does not hold, since that is done then.

        They may share statements.

        :raises EmcError: as :func:`emc.expand`.
        """
        lease = self.lease
        operations = [
            step.operation for step in self.plan.expand if step.id in wanted and step.id not in self.done
        ]
        if not operations:
            return
        situation = self.plan.situation

        def render_now(connection: Connection) -> tuple[Step, ...]:
            now = situation
            if self.done:  # Statements that spell a whole column or table have to know what came since.
                now = replace(now, live=look(connection, self.upgrade, self.dialect, now.models))
            steps = render(self.dialect, operations, now)
            demand_privileges(self.dialect, connection, steps)
            return steps

        for unit in units(self.dialect.ask(self.engine, render_now)):
            run_unit(
                self.engine,
                self.dialect,
                unit,
                lease=lease,
                release=self.upgrade.release,
                phase=Phase.EXPAND,
                confirm=None,
                rerender=lambda connection, unit=unit: again(self.upgrade, self.dialect, connection, unit),  # type: ignore[misc]
                retry=self.retry,
                report=self.report,
            )
        self.done.update(wanted)
        self.taken.update(operation.element for operation in operations)

    # -- contract -----------------------------------------------------------------------------------------------

    def contract(self, wanted: str) -> tuple[Blocked, ...]:
        """Carry out operation *wanted* of contract, with what runs together with it; nothing where it is done.

        :returns: what is blocked by which gates, so that it was not done.
        :raises EmcError: as :func:`emc.contract`.
        """
        if self._lease is None and not self.scope(self.plan).old_code_gone:
            # Nothing would be written but the lease; explain without leaving a trace.
            blocked = planned(self.upgrade, self.engine, self.dialect, partial(self._judged, wanted, None))
            if blocked:
                return blocked
        course = Course(
            self.engine,
            self.dialect,
            self.upgrade,
            self.lease,
            self.overrides,
            self.scope,
            self.retry,
            self.report,
        )

        def is_wanted(step: Step) -> bool:
            return step.id == wanted

        self._note(wanted)
        if not self._is_cleared:
            if standing(self.plan.situation.live) or leftovers(self.plan, self.dialect):
                clear(course, is_wanted)
            self._is_cleared = True
        done, shut = carry_out(course, is_wanted, only=self._together(wanted))
        self.done.update(done)
        self.taken.update(step.operation.element for step in self.plan.contract if step.id in done)
        if wanted in done:
            return ()
        blocked = planned(self.upgrade, self.engine, self.dialect, partial(self._judged, wanted, shut))
        return tuple(
            replace(one, verdicts=with_gone(one.verdicts, course.gone[one.step.id])) for one in blocked
        )

    def _together(self, wanted: str) -> Collection[str]:
        return {step.id for step in chosen(self.plan.contract, lambda step: step.id == wanted)}

    def _judged(
        self,
        wanted: str,
        shut: Mapping[str, tuple[Verdict, ...]] | None,
        connection: Connection,
        plan: Plan,
    ) -> tuple[Blocked, ...]:
        """What of operation *wanted* is blocked now.

        :param shut: the gates that were found shut when it was tried, whose words know what has been tried; ``None``:
            it was not.
        """
        steps = chosen(plan.contract, lambda step: step.id == wanted)
        _, blocked = sort(steps, connection, self.scope(plan), self.overrides, tidies=shut is None)
        shut = shut or {}
        then = {gate.gate: gate for gates in shut.values() for gate in gates}
        seen = [
            replace(one, verdicts=tuple(then.get(gate.gate, gate) for gate in one.verdicts))
            for one in blocked
        ]
        return (*seen, *open_again(steps, blocked, shut))

    def _note(self, wanted: str) -> None:
        """Keep in the ledger what a person answers for, once."""
        words = Event.OLD_CODE_GONE if self.scope(self.plan).old_code_gone and not self._is_said else None
        operations = [step.operation for step in self.plan.contract if step.id == wanted]
        names = {gate.name for operation in operations for gate in gates_of(operation)} - self._noted
        overrides = {gate: reason for gate, reason in self.overrides.items() if gate in names}
        self._noted |= overrides.keys()
        if operations and (words or overrides):
            self._is_said = True
            note_words(self.engine, self.dialect, self.lease, self.upgrade, Phase.CONTRACT, words, overrides)

    # -- in the end ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Note down what gates have to remember between runs, if anything was to do."""
        if self._lease is None:
            return
        if self._is_cleared:
            self.forget()  # After the last look: what is noted down here opens gates for the next run.
        plan = self.plan
        left = [step.operation for step in _without(plan.contract, self.done)]
        with self.dialect.open(
            self.engine, Transaction.TOGETHER, LockPolicy.WEAK, LOCK_TIMEOUT
        ) as connection:
            self.lease.confirm(connection)
            scope = self.scope(plan)
            watch(left, connection, replace(scope, old_code_gone=scope.old_code_gone and self._is_cleared))


def _without(steps: Sequence[Step], done: Collection[str]) -> Sequence[Step]:
    return [step for step in steps if step.id not in done]
