"""Does every operation of contract have a gate, and is it shut while data is unfinished?"""

from __future__ import annotations

import warnings
from contextlib import suppress

from sqlalchemy import Engine

import emc
from emc.gates import gates_of
from emc.steps import Step
from emc.testing.failures import CheckFailedError, UnprovedWarning, told
from emc.testing.snapshots import differences, shape
from emc.testing.unfinished import OldRows, make_unfinished, removal_of
from emc.upgrade import Discard, Upgrade

__tracebackhide__ = True


def check_every_contract_has_a_gate(engine: Engine, upgrade: Upgrade) -> None:
    """No operation of contract runs before the old release is gone, nor, even then, while its data is unfinished.

    Rows that leave data unfinished are made for it: NULLs, duplicates, orphans, values in what is to be dropped. Where
    that is not possible an :class:`UnprovedWarning` says for which operation.

    :param engine: a database as the old release has it, with rows.
    :raises CheckFailedError: an operation has no gate, or its gate is open.
    """
    old = OldRows(engine, upgrade)
    with told("emc expand fails"):
        emc.expand(upgrade, engine)
        steps = emc.plan(upgrade, engine).plan.contract
        ran = emc.contract(upgrade, engine)
    _demand_gates(steps)
    blocked = {one.step.id for one in ran.blocked}
    unguarded = [step.id for step in ran.steps if step.id not in blocked]
    if unguarded or ran.done:
        raise CheckFailedError(
            "Contract runs although nobody has said that the old release is gone, which still needs what it takes:\n"
            + "\n".join(f"  {one}" for one in unguarded or ran.done),
            facts=unguarded or ran.done,
            remedy="It is a bug in emc: please report it.",
        )
    unproved: list[str] = []
    unfinished: list[str] = []
    for step in steps:
        if not isinstance(removal_of(upgrade, step), Discard):
            is_unfinished = make_unfinished(engine, upgrade, step, old)
            if is_unfinished is not None:
                (unfinished if is_unfinished else unproved).append(step.id)
    if unfinished:
        _demand_shut(engine, upgrade, unfinished)
    if unproved:
        listed = ", ".join(unproved)
        warnings.warn(
            f"No unfinished row could be made for {listed}: that its gate is shut then is not shown. Either"
            " where= of the data migration before it holds for no row that the old release writes, or the old database"
            " has to have such rows (the fixture emc_rows).",
            UnprovedWarning,
            stacklevel=2,
        )


def _demand_shut(engine: Engine, upgrade: Upgrade, unfinished: list[str]) -> None:
    """Make sure that no step of *unfinished*, whose data is, gets through its gates."""
    before = shape(engine, upgrade.schema_names)
    with told("emc contract fails"):
        report = emc.contract(upgrade, engine, old_code_gone=True, only=unfinished, dry_run=True)
    blocked = {one.step.id for one in report.blocked}
    opened = [step for step in report.steps if step.id in unfinished and step.id not in blocked]
    if opened:
        raise CheckFailedError(
            "Gates are open although the data behind them is unfinished, so that emc contract would lose it:\n"
            + "\n".join(f"  {step.id}: {step.operation.description}" for step in opened),
            facts=[step.id for step in opened],
            remedy="Look at the condition of the data migration that it waits for: where= has to hold for every row "
            "that is not migrated yet, NULLs included.",
        )
    with told("emc contract fails"):
        report = emc.contract(upgrade, engine, old_code_gone=True, only=unfinished)
    if report.done:
        raise CheckFailedError(
            "emc contract ran although the data of these operations is unfinished:\n"
            + "\n".join(f"  {one}" for one in report.done),
            facts=report.done,
            remedy="It is a bug in emc: please report it.",
        )
    changed = differences(before, shape(engine, upgrade.schema_names))
    if changed:
        raise CheckFailedError(
            "emc contract has changed the schema though no operation was let through:\n"
            + "\n".join(f"  {one}" for one in changed),
            facts=changed,
            remedy="It is a bug in emc: please report it.",
        )


def _demand_gates(steps: tuple[Step, ...]) -> None:
    for step in steps:
        with suppress(LookupError):
            if gates_of(step.operation):
                continue
        raise CheckFailedError(
            f"{step.id} has no gate, so that nothing would keep it from running.",
            facts=[step.id],
            remedy="It is a bug in emc: please report it.",
        )
