"""How is one unit of steps carried out, so that a crash, a lock or a lost connection anywhere does no harm?

In the order of work: the lease is ours; the catalog does not show the result already; the gates say yes, in the
transaction that drops; the statements; the catalog shows the result; the ledger says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from emc.dialects.base import Dialect
from emc.errors import EmcError
from emc.execute.attempts import Attempts
from emc.execute.events import StepEvent
from emc.execute.outcomes import FOUND_DONE, FOUND_DONE_WHEN_REFUSED, StartOverError
from emc.execute.retry import RetryPolicy
from emc.phases import Phase
from emc.state.lease import Lease
from emc.steps import Step

__all__ = ["FOUND_DONE", "FOUND_DONE_WHEN_REFUSED", "StartOverError", "run_unit"]


def run_unit(
    engine: Engine,
    dialect: Dialect,
    steps: Sequence[Step],
    *,
    lease: Lease,
    release: str | None,
    phase: Phase,
    confirm: Callable[[Connection], Mapping[str, Any]] | None = None,
    rerender: Callable[[Connection], Sequence[Step]] | None = None,
    retry: RetryPolicy | None = None,
    report: Callable[[StepEvent], None] = lambda _: None,
    spares: Callable[[EmcError], bool] = lambda _: False,
) -> None:
    """Carry out *steps*, which share one unit, or find that the catalog shows their results already.

    :param lease: confirmed before each attempt, in its transaction.
    :param release: the label for the ledger.
    :param phase: in ``EXPAND``, whatever is subtractive is refused before it reaches the server.
    :param confirm: asks the gates once more, in the transaction of the statements; raises to stop, else answers the
        evidence for the ledger, by the id of the step. Where statements commit by themselves it is asked before the
        first of each attempt.
    :param rerender: the same steps as the live schema of a connection asks for now; those that are done may be left
        out. Asked where the steps may no longer fit: some results are there already, or statements that commit by
        themselves were interrupted. Without it the statements that did not succeed are sent again.
    :param retry: how patiently to ask for locks.
    :param report: hears what happens to each step.
    :param spares: whether an error does not end the unit: the caller tells what becomes of it, and neither *report* nor
        the ledger hears that it failed.
    :raises SubtractiveStatementError: in expand, a statement takes something away.
    :raises LeaseLostError: another emc has taken over.
    :raises LockBudgetError: a lock was not to be had within the budget.
    :raises PrivilegeError: the database does not allow a statement to this role.
    :raises StatementFailedError: the database refused a statement.
    :raises PostconditionError: the statements ran, and the catalog does not show their result.
    :raises DatabaseUnavailableError: the connection was lost and could not be had again.
    :raises EmcError: whatever *confirm* and *rerender* raise.
    """
    if not steps:
        return
    unit = Attempts(
        engine,
        dialect,
        steps,
        lease,
        release,
        phase,
        confirm,
        rerender,
        retry or RetryPolicy(),
        report,
        spares,
    )
    unit.run()
