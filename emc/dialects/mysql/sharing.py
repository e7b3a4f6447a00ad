"""Which operations share one ALTER TABLE?

The server looks at a table once for all that is asked of it in one statement: three indexes in one are one look at the
rows, three NOT NULLs one new table. But the slowest of the changes decides the algorithm for all, and two that are fast
alone may be slow together (ADD COLUMN and ADD INDEX: a new table; seen with MariaDB 10.11.19). So only neighbours share
that are expected to be done the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emc.dialects.mysql.clauses import columns_named, is_plain
from emc.dialects.mysql.ground import Alteration, Part
from emc.operations import Kind

_SHARING = frozenset(
    {
        Kind.ADD_COLUMN,
        Kind.SET_NOT_NULL,
        Kind.DROP_NOT_NULL,
        Kind.ALTER_TYPE,
        Kind.SET_DEFAULT,
        Kind.SET_COMMENT,
        Kind.CREATE_INDEX,
        Kind.ADD_UNIQUE,
        Kind.ADD_CHECK,
    }
)
"""Kinds that take nothing away. What does goes alone, right behind its own gates."""


def shared(parts: Sequence[Part]) -> list[list[Part]]:
    """*parts* in their order, those side by side that share a statement."""
    groups: list[list[Part]] = []
    for part in _riders_behind(parts):
        if groups and (_rides(part, groups[-1]) or all(_may_share(other, part) for other in groups[-1])):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _riders_behind(parts: Sequence[Part]) -> list[Part]:
    """*parts* with each that rides with another right behind that one."""
    found: list[Part] = []
    for part in parts:
        if part.rides_with is None:
            found.append(part)
            found += [rider for rider in parts if rider.rides_with == part.operation.id]
    return found


def _rides(part: Part, group: Sequence[Part]) -> bool:
    return any(part.rides_with == one.operation.id for one in group)


def together(parts: Sequence[Part]) -> Alteration:
    """The one ALTER TABLE of *parts* that share it."""
    alterations = [alteration for part in parts if (alteration := _only(part)) is not None]
    return dataclasses.replace(
        alterations[0],
        clauses=tuple(clause for one in alterations for clause in one.clauses),
        may_block=all(one.may_block for one in alterations),
    )


def _only(part: Part) -> Alteration | None:
    """The alteration of *part*, where there is just one."""
    if len(part.changes) != 1 or isinstance(part.changes[0], str):
        return None
    return part.changes[0]


def _may_share(one: Part, other: Part) -> bool:
    if one.rides_with is not None:
        return True  # It is where it is for the sake of another one of the group.
    first, second = _only(one), _only(other)
    if first is None or second is None:
        return False
    kinds = one.operation.kind, other.operation.kind
    if not _SHARING.issuperset(kinds) or one.operation.phase is not other.operation.phase:
        return False
    # What is sent in expand is judged by the kind of its step, but for what plainly adds.
    if kinds[0] != kinds[1] and not all(is_plain(clause) for clause in (*first.clauses, *second.clauses)):
        return False
    named = [columns_named(clause) for clause in (*first.clauses, *second.clauses)]
    return (first.key, first.expected, first.unchecked, first.may_block) == (
        second.key,
        second.expected,
        second.unchecked,
        second.may_block,
    ) and len(frozenset().union(*named)) == sum(map(len, named))
