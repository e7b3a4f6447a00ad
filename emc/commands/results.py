"""What does a command answer?

Values only. :func:`emc.commands.jsonable.plan_json` and the command line turn them into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emc.data import Result
from emc.errors import ExitCode
from emc.gates import Verdict
from emc.phases import Phase
from emc.planning import Plan
from emc.state.failures import FailedRow
from emc.steps import Step


@dataclass(frozen=True, eq=False)
class PlanReport:
    """A plan, with the answers of its gates at the moment of planning."""

    plan: Plan
    verdicts: Mapping[str, tuple[Verdict, ...]]
    """By the id of the contract step."""

    @property
    def is_empty(self) -> bool:
        """Whether models and live schema agree, unmanaged elements aside, and no data work is left."""
        return self.plan.is_empty


@dataclass(frozen=True, eq=False)
class Blocked:
    """A step that its gates did not let pass."""

    step: Step
    verdicts: tuple[Verdict, ...]
    """The gates that are shut."""


@dataclass(frozen=True, eq=False)
class PhaseReport:
    """What ``expand`` or ``contract`` did."""

    phase: Phase
    steps: tuple[Step, ...]
    """What was to be done, in order."""
    done: tuple[str, ...] = ()
    """Ids of the steps that ran, or that were found done."""
    blocked: tuple[Blocked, ...] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """How the command line ends."""
        return ExitCode.GATE_SHUT if self.blocked else ExitCode.DONE


@dataclass(frozen=True, eq=False)
class MigrateReport:
    """What ``migrate`` did."""

    results: tuple[Result, ...]
    exit_code: ExitCode
    dry_run: bool = False


@dataclass(frozen=True, eq=False)
class WorkStatus:
    """How far one data migration is."""

    name: str
    rows_done: int
    rows_left: int | None
    """``None`` while expand has not run, so that the rows cannot be counted."""
    eta_seconds: float | None
    """Seconds until it is complete at the pace so far; ``None`` before it has begun."""
    failed: tuple[FailedRow, ...] = ()
    """Rows that could not be migrated when it last ran."""
    reason: str | None = None
    """Why it cannot run yet."""

    @property
    def complete(self) -> bool:
        """Whether no row is left."""
        return self.rows_left == 0


@dataclass(frozen=True, eq=False)
class StatusReport:
    """Where the upgrade stands."""

    report: PlanReport
    work: tuple[WorkStatus, ...]
    holder: str | None
    """Who is at work on the database right now, in one clause."""
    next: str
    """What to do next: a command, or what has to happen first."""
    extra: Mapping[str, str] = field(default_factory=dict)
