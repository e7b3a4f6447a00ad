"""Which words do all faces share about gates that are shut?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import indent

from emc.gates import Verdict


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


def gate_lines(verdicts: Mapping[str, Sequence[Verdict]]) -> Iterator[tuple[str, bool]]:
    """Steps with their gates that do not let pass, then what opens those, ready to be copied.

    :param verdicts: by the id of the step.
    :returns: each line, and whether it says that something is shut.
    """
    remedies: dict[str, None] = {}
    common = shut_for_all(verdicts)
    for verdict in common.values():
        yield f"  every step: shut {kind_of(verdict)}: {verdict.reason}", True
        if verdict.remedy:
            remedies[verdict.remedy] = None
    for step, its in verdicts.items():
        shut = [verdict for verdict in its if not verdict.lets_pass and kind_of(verdict) not in common]
        yield f"  {step}" + ("" if shut or common else ": its gates are open"), False
        for verdict in shut:
            yield f"    shut {verdict.gate}: {verdict.reason}", True
            if verdict.rows is not None:
                first = f"; the first: {'; '.join(verdict.keys)}" if verdict.keys else ""
                rows = "1 row" if verdict.rows == 1 else f"{verdict.rows:,} rows"
                yield f"      {rows} in the way{first}", False
            if verdict.remedy:
                remedies[verdict.remedy] = None
    if remedies:
        # One remedy often opens many gates.
        yield "What opens the gates:", False
        for remedy in remedies:
            yield indent(remedy, "  "), False
