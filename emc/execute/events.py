"""What happens to a step while it is carried out, for whoever shows it?"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from emc.dialects.answers import Blocker, Progress
from emc.steps import Step


class StepState(enum.StrEnum):
    """What has become of a step."""

    STARTED = "started"
    """Its first statement is about to be sent."""
    RUNNING = "running"
    """A statement that takes long is under way. Heard once a second, from a thread of emc's own while yours waits for
    the database; never two events at once."""
    WAITING = "waiting"
    """A lock was not to be had, or the connection was lost: it is tried again after a pause."""
    DONE = "done"
    """The catalog shows its result."""
    SKIPPED = "skipped"
    """The catalog showed its result before anything was sent."""
    CLEANED = "cleaned"
    """Rows came late that are in its way. They were cleaned up, or have gone by themselves, and it is tried again."""
    FAILED = "failed"
    """It is given up; the error that is raised says why."""


@dataclass(frozen=True)
class StepEvent:
    """One thing that happened to one step."""

    state: StepState
    step: Step
    attempt: int = 1
    """Which attempt, counted from 1."""
    blockers: tuple[Blocker, ...] = ()
    """While waiting: the sessions in the way, once that has been looked up."""
    pause: float = 0.0
    """While waiting: seconds until the next attempt."""
    seconds: float = 0.0
    """When done: how long the attempt took that did it. While running: how long the statement has been under way. While
    waiting: how long a build had run whose work is lost."""
    reason: str = ""
    """When waiting or failed: what the database said, in one line. When cleaned: what was."""
    progress: Progress | None = None
    """While running: how far it is."""
