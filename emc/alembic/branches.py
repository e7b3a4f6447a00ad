"""Which phase does a revision belong to, and behind which one does the next of a phase come?

A revision belongs to the branch whose label it bears, or one that it descends from. What Alembic makes of labels is of
no use here: the label of a branch spreads downwards too, over a linear history as far as its first branch point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, to_tuple

from emc.errors import ConfigurationError
from emc.phases import Phase

LABELS: Mapping[str, Phase] = {Phase.EXPAND.value: Phase.EXPAND, Phase.CONTRACT.value: Phase.CONTRACT}
"""The labels of the branches."""


def phase_of(script: Script, scripts: ScriptDirectory) -> Phase | None:
    """The phase of a revision; ``None``: it is on neither branch, as a linear history from before emc is.

    :raises CommandError: it is on both.
    """
    found = {LABELS[label] for one in _lineage(script, scripts) for label in _labels(one) if label in LABELS}
    if len(found) > 1:
        raise CommandError(
            f"Revision {script.revision} descends from the branches expand and contract, so nobody can tell what it "
            "may do.\nLet it descend from one, and depend on the other (depends_on)."
        )
    return found.pop() if found else None


def roots(scripts: ScriptDirectory) -> list[Script]:
    """The first revision of each branch."""
    return [one for one in scripts.walk_revisions() if set(_labels(one)) & LABELS.keys()]


def refuse_stray(script: Script, scripts: ScriptDirectory) -> None:
    """Make sure that a revision on no branch is history: one from before emc, that the branches grow from.

    What a later revision of a branch depends on is none.

    :raises ConfigurationError: it is not.
    """
    labelled = [one for one in scripts.walk_revisions() if phase_of(one, scripts) is not None]
    if not labelled or any(script.revision in ancestors(one, scripts) for one in roots(scripts)):
        return
    raise ConfigurationError(
        f"Revision {script.revision} is neither on the branch expand nor on contract, so nobody can tell what it may "
        "do while the old release runs.",
        remedy="Make it anew on the branch that it belongs to: alembic revision --head expand@head -m '…'",
    )


def ancestors(script: Script, scripts: ScriptDirectory) -> set[str]:
    """What has to run before *script*, by itself or as a dependency."""
    found: set[str] = set()
    pending = [script]
    while pending:
        one = pending.pop()
        below = (*to_tuple(one.down_revision, default=()), *to_tuple(one.dependencies, default=()))
        for name in below:
            lower = _get(name, scripts)
            if lower.revision not in found:
                found.add(lower.revision)
                pending.append(lower)
    return found


def _labels(script: Script) -> tuple[str, ...]:
    """The labels that stand in the file itself."""
    return tuple(to_tuple(getattr(script.module, "branch_labels", None), default=()))


def _lineage(script: Script, scripts: ScriptDirectory) -> list[Script]:
    """*script*, what it revises, and so on down to the first revision."""
    found: dict[str, Script] = {}
    pending = [script]
    while pending:
        one = pending.pop()
        if one.revision not in found:
            found[one.revision] = one
            pending += [_get(name, scripts) for name in to_tuple(one.down_revision, default=())]
    return list(found.values())


def _get(name: str, scripts: ScriptDirectory) -> Script:
    script = scripts.get_revision(name)
    assert script is not None
    return script


@dataclass(frozen=True)
class Place:
    """Where the next revision of a phase goes."""

    head: str
    """What it revises: a revision, or ``base``."""
    splice: bool
    """Whether that has a successor already, so that a branch begins there."""
    label: str | None
    """The label of its branch, if it is the first on it."""


def heads(scripts: ScriptDirectory) -> dict[Phase | None, Script]:
    """The last revision of each branch that there is; that of ``None`` is the end of a linear history.

    :raises CommandError: a branch has several ends.
    """
    found: dict[Phase | None, Script] = {}
    for script in scripts.walk_revisions():
        if not script.is_head:
            continue
        phase = phase_of(script, scripts)
        if phase in found:
            names = " ".join(sorted((found[phase].revision, script.revision)))
            raise CommandError(
                f"There are two heads on the same branch: {names}.\nalembic merge -m 'merge' {names}"
            )
        found[phase] = script
    return found


def place(phase: Phase, scripts: ScriptDirectory) -> Place:
    """Where the next revision of *phase* goes.

    Behind the last of its branch. The first one goes behind the end of a linear history, or, where the other branch
    grows from there already, to where that begins.

    :raises CommandError: a revision has been written that is on neither branch.
    """
    ends = heads(scripts)
    labelled = [end for its_phase, end in ends.items() if its_phase is not None]
    if labelled and None in ends:
        stray = ends[None].revision
        raise CommandError(
            f"Revision {stray} is neither on the branch expand nor on contract, and nothing tells what it may do.\n"
            f"Make it anew: alembic revision --autogenerate, or alembic revision --head expand@head -m '...'"
        )
    if phase in ends:
        return Place(ends[phase].revision, splice=False, label=None)
    label = phase.value
    if not labelled:
        return Place(ends[None].revision if None in ends else "base", splice=False, label=label)
    roots = [one for one in _lineage(labelled[0], scripts) if set(_labels(one)) & LABELS.keys()]
    below = to_tuple(roots[-1].down_revision, default=())
    if len(below) > 1:
        raise CommandError(
            f"Revision {roots[-1].revision} merges several histories, so the branch {label} cannot begin where it "
            f"does.\nMake the first one yourself: alembic revision --branch-label {label} --splice --head ..."
        )
    return Place(below[0], splice=True, label=label) if below else Place("base", splice=False, label=label)
