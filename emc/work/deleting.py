"""What do deletes leave behind for other work to clean up?"""

from __future__ import annotations

from collections.abc import Sequence

from emc.work.values import NotReady, Work

ORPHANS, DEDUPLICATE = "orphans", "deduplicate"


def parents_first(every: Sequence[Work | NotReady]) -> list[Work | NotReady]:
    """*every* in the given order, except that clean-ups of constraints come behind the deletes that concern them.

    Orphans are looked for when the deletes are done that make orphans of rows which had a parent. Which of several
    equal rows stays is decided when those are gone that go for want of a parent: else the last of them might be one.
    Where that goes round in circles, the order is as given.
    """
    ordered: dict[str, Work | NotReady] = {}

    def place(work: Work | NotReady, waiting: tuple[str, ...]) -> None:
        if work.name in ordered or work.name in waiting:
            return
        for other in every:
            if other is not work and _goes_before(other, work):
                place(other, (*waiting, work.name))
        ordered[work.name] = work

    for work in every:
        place(work, ())
    return list(ordered.values())


def may_reopen(work: Work | NotReady, other: Work | NotReady) -> bool:
    """Whether *work*, which deletes rows, may leave rows behind that *other* has to clean up."""
    return isinstance(work, Work) and isinstance(other, Work) and _makes_orphans(work, other)


def _goes_before(one: Work | NotReady, other: Work | NotReady) -> bool:
    if not isinstance(one, Work) or not isinstance(other, Work):
        return False
    spares_winners = (
        one.kind == ORPHANS and one.deletes and other.kind == DEDUPLICATE and one.key == other.key
    )
    return spares_winners or _makes_orphans(one, other)


def _makes_orphans(one: Work, other: Work) -> bool:
    return other.kind == ORPHANS and any(reference.child == other.key for reference in one.references)
