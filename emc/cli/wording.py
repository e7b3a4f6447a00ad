"""Which words do several commands share?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emc.cli.terminal import Terminal
from emc.gates import Verdict
from emc.phases import Phase
from emc.planning import Plan

HEADINGS: Mapping[Phase, str] = {
    Phase.EXPAND: "EXPAND: before the new code is deployed",
    Phase.MIGRATE: "MIGRATE: while old and new code run side by side",
    Phase.CONTRACT: "CONTRACT: when the old code is gone, and the gates are open",
}


def headline(plan: Plan) -> str:
    """What the plan is for."""
    return (
        f"Upgrade to release {plan.release} on {plan.dialect}"
        if plan.release
        else f"Upgrade on {plan.dialect}"
    )


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


def kind_of(verdict: Verdict) -> str:
    """The kind of a gate: its full name without the element."""
    return verdict.gate.partition(":")[0]


def shut_for_all(verdicts: Mapping[str, Sequence[Verdict]]) -> dict[str, Verdict]:
    """By kind, the gates that are shut at every one of several steps, for the same reason: said once, they are read.

    :param verdicts: by the id of the step.
    """
    if len(verdicts) < 2:
        return {}
    first, *others = verdicts.values()
    return {
        kind_of(verdict): verdict
        for verdict in first
        if not verdict.lets_pass and all(any(_is_like(verdict, other) for other in its) for its in others)
    }


def _is_like(verdict: Verdict, other: Verdict) -> bool:
    return (kind_of(verdict), verdict.reason, verdict.lets_pass) == (
        kind_of(other),
        other.reason,
        other.lets_pass,
    )


def say_gates(terminal: Terminal, verdicts: Mapping[str, Sequence[Verdict]]) -> None:
    """Steps with their gates that do not let pass, then what opens those; ready to be copied.

    :param verdicts: by the id of the step.
    """
    remedies: dict[str, None] = {}
    common = shut_for_all(verdicts)
    for verdict in common.values():
        terminal.say(f"  every step: shut {kind_of(verdict)}: {verdict.reason}", "red")
        if verdict.remedy:
            remedies[verdict.remedy] = None
    for step, its in verdicts.items():
        shut = [verdict for verdict in its if not verdict.lets_pass and kind_of(verdict) not in common]
        terminal.say(f"  {step}" + ("" if shut or common else ": its gates are open"))
        for verdict in shut:
            terminal.say(f"    shut {verdict.gate}: {verdict.reason}", "red")
            if verdict.rows is not None:
                first = f"; the first: {'; '.join(verdict.keys)}" if verdict.keys else ""
                rows = "1 row" if verdict.rows == 1 else f"{verdict.rows:,} rows"
                terminal.say(f"      {rows} in the way{first}")
            if verdict.remedy:
                remedies[verdict.remedy] = None
    if remedies:
        # One remedy often opens many gates.
        terminal.say("What opens the gates:")
        for remedy in remedies:
            terminal.say(f"  {remedy}")
