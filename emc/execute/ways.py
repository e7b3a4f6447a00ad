"""Which statements are to be sent, and what in their place where the server cannot do it that way?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from emc.steps import LockPolicy, Step, Way


@dataclass(frozen=True)
class Statement:
    """One statement, with what it belongs to."""

    step: Step
    sql: str
    policy: LockPolicy
    instead: tuple[Way, ...] = ()
    """What is left to try where the server cannot do it this way."""

    @property
    def lower(self) -> Statement | None:
        """The next way to have the same effect, if there is one."""
        if not self.instead:
            return None
        way, *others = self.instead
        return dataclasses.replace(self, sql=way.sql, policy=way.locks, instead=tuple(others))


def statements_of(steps: Sequence[Step]) -> list[Statement]:
    """What *steps* send, in order, each in the way that is asked for first."""
    return [
        Statement(step, sql, policy, step.instead.get(sql, ()))
        for step in steps
        for sql, policy in zip(step.statements, step.policies, strict=True)
    ]
