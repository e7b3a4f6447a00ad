"""Which words do several commands share?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emc.cli.terminal import Terminal
from emc.commands.telling import gate_lines
from emc.gates import Verdict
from emc.phases import Phase
from emc.planning import Plan
from emc.state.failures import FailedRow

_FAILED = 10
"""Rows of one data migration that are shown to a person."""
HEADINGS: Mapping[Phase, str] = {
    Phase.EXPAND: "EXPAND: before the new code is deployed",
    Phase.MIGRATE: "MIGRATE: while old and new code run side by side",
    Phase.CONTRACT: "CONTRACT: when the old code is gone, and the gates are open",
    Phase.UNDO: "UNDO: when the new code is gone, and nothing was contracted",
}


def headline(plan: Plan) -> str:
    """What the plan is for."""
    return (
        f"Upgrade to release {plan.release} on {plan.dialect}"
        if plan.release
        else f"Upgrade on {plan.dialect}"
    )


def failed_rows(name: str, failed: Sequence[FailedRow]) -> Iterator[str]:
    """A line for each of the rows that data migration *name* could not migrate, if there are few."""
    for row in failed[:_FAILED]:
        yield f"{name}: row {one_line(row.key)} failed: {row.error}"
    if len(failed) > _FAILED:
        yield f"{name}: {len(failed) - _FAILED:,} more rows failed; --format json has them all"


def in_words(seconds: float) -> str:
    """A length of time for a person: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def one_line(value: Any) -> str:
    """A value in one line: the parts of a key, a fact of the ledger."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {one_line(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(one_line(item) for item in value)
    return " ".join(str(value).split())


def say_gates(terminal: Terminal, verdicts: Mapping[str, Sequence[Verdict]]) -> None:
    """Steps with their gates that do not let pass, then what opens those; ready to be copied.

    :param verdicts: by the id of the step.
    """
    for line, is_shut in gate_lines(verdicts):
        if is_shut:
            terminal.say(line, "red")
        else:
            terminal.say(line)
