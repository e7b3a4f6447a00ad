"""Do the gates still say yes, at the moment of the operation?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from emc.claims import Guard, Proof
from emc.errors import EmcError, ExitCode
from emc.gates import Scope, Verdict, judge, looked_at
from emc.steps import Step, Transaction


class GateShutError(EmcError):
    """A gate that was open when the run began is shut at the moment of the operation, which was not run."""

    exit_code = ExitCode.GATE_SHUT

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        super().__init__("; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in verdicts))


def confirm(
    connection: Connection,
    scope: Scope,
    unit: Sequence[Step],
    overrides: Mapping[str, str],
    guards: Sequence[Guard] = (),
    proofs: Sequence[Proof] = (),
    *,
    apart: bool = False,
    left_to_the_database: Collection[str] = (),
    sweep: Callable[[Connection], None] = lambda _: None,
) -> Mapping[str, Any]:
    """Ask the gates once more, with everybody kept out; answers what they saw, for the ledger, by the id of the step.

    :param guards: what has to stand still, since what was proved rests on it.
    :param proofs: what was proved behind it, and is not looked at again.
    :param apart: for what is taken away beforehand, in a transaction of its own: nobody is kept out.
    :param left_to_the_database: gates that are not asked, as :func:`emc.gates.judge` has it.
    :param sweep: takes the last rows out of the way while everybody is kept out.
    :raises GateShutError: a gate says no.
    """
    if not apart and unit[0].transaction is not Transaction.AUTOCOMMIT:
        # A writer between the last look and the drop would lose its row. Statements that commit by themselves prove
        # what they need themselves (VALIDATE, a unique index).
        tables = {step.operation.element.table for step in unit}
        present = sorted(tables & scope.plan.situation.live.tables.keys(), key=lambda key: key.sort_key)
        scope.dialect.lock(connection, present)
        _demand_small(connection, scope, unit, overrides, proofs)
        sweep(connection)
    if gone := fallen(connection, scope, guards):
        raise GateShutError(unguarded(gone, proofs, scope))
    evidence: dict[str, Any] = {}
    for step in unit:
        verdicts = judge(step.operation, connection, scope, overrides, proofs, left_to_the_database)
        shut = [verdict for verdict in verdicts if not verdict.lets_pass]
        if shut:
            raise GateShutError(shut)
        evidence[step.id] = {verdict.gate: _evidence(verdict) for verdict in verdicts}
    return evidence


def _demand_small(
    connection: Connection,
    scope: Scope,
    unit: Sequence[Step],
    overrides: Mapping[str, str],
    proofs: Sequence[Proof],
) -> None:
    """Make sure that what is looked at now, with everybody kept out, is as small as the plan believed.

    :raises GateShutError: it is not; a look at it would keep everybody waiting for as long as it takes.
    """
    for step in unit:
        if step.operation.allowed is not None:
            continue
        for gate, claim in looked_at(step.operation, connection, scope, overrides, proofs):
            size = scope.dialect.outgrown(connection, claim.key, scope.plan.situation.live)
            if size is not None:
                raise GateShutError(
                    [
                        gate.shut(
                            f"table {claim.key} has {size // 2**20} MiB, which its statistics do not know yet: too"
                            " much to be looked at while everybody waits",
                            f"ANALYZE {claim.key};  -- as its owner, then: {scope.command}",
                        )
                    ]
                )


def fallen(connection: Connection, scope: Scope, guards: Sequence[Guard]) -> list[Guard]:
    """Which of *guards* do not stand as they have to; the definition counts, not the name alone."""
    if not guards:
        return []
    standing = scope.dialect.guards(connection, sorted({g.key for g in guards}, key=lambda key: key.sort_key))
    return [guard for guard in guards if standing.get(guard.key, {}).get(guard.name) != guard.definition]


def unguarded(gone: Sequence[Guard], proofs: Sequence[Proof], scope: Scope) -> list[Verdict]:
    """The answers of the gates that had relied on the guards that are *gone*."""
    names = ", ".join(guard.name for guard in gone)
    reason = f"somebody took away guard {names} of {gone[0].key} while emc relied on it, so rows may have come since"
    return [
        Verdict(
            gate,
            False,
            reason,
            f"Find out who drops triggers or constraints, then: {scope.command}",
        )
        for gate in dict.fromkeys(proof.claim.gate for proof in proofs)
    ]


def _evidence(verdict: Verdict) -> dict[str, Any]:
    overridden = {} if verdict.overridden is None else {"overridden": verdict.overridden}
    return {"reason": verdict.reason, **verdict.evidence, **overridden}


def with_gone(verdicts: Sequence[Verdict], gone: Sequence[str]) -> tuple[Verdict, ...]:
    """*verdicts* that keep an operation from running, when some of what goes with it is *gone* already."""
    if not gone:
        return tuple(verdicts)
    already = f"; gone before it shut: {', '.join(gone)}"
    return tuple(dataclasses.replace(one, reason=f"{one.reason}{already}") for one in verdicts)
