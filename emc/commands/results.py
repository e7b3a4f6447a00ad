"""What does a command answer?

Values only. :func:`emc.commands.jsonable.plan_json` and the command line turn them into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emc.data import Outcome, Result
from emc.errors import ExitCode
from emc.gates import Verdict
from emc.phases import Phase
from emc.planning import Note, Plan
from emc.state.control import Standing
from emc.state.failures import FailedRow
from emc.steps import Step
from emc.work import Preview


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
    cleaned: tuple[Result, ...] = ()
    """The data migrations that had rows to clean up again before a constraint came, in the order of their runs. Of a
    dry run those that would have some, with their numbers as ``rows_left``."""

    @property
    def exit_code(self) -> ExitCode:
        """How the command line ends."""
        return ExitCode.GATE_SHUT if self.blocked else ExitCode.DONE


@dataclass(frozen=True, eq=False)
class UndoReport(PhaseReport):
    """What ``undo`` did."""

    back: tuple[str, ...] = ()
    """Names of the data migrations that were to be taken back."""
    results: tuple[Result, ...] = ()
    """What became of these."""
    stays: tuple[Note, ...] = ()
    """Data migrations that have moved rows and that nothing takes back."""
    stopped: str | None = None
    """Why it has ended before all of its steps, as a clause; ``None`` where it has not."""

    @property
    def exit_code(self) -> ExitCode:
        """How the command line ends: what needs a person first, then what needs another run."""
        outcomes = {result.outcome for result in self.results}
        if outcomes & {Outcome.FAILED, Outcome.STUCK}:
            return ExitCode.ERROR
        if Outcome.PAUSED in outcomes or self.stopped is not None:
            return ExitCode.PAUSED
        if self.blocked:
            return ExitCode.GATE_SHUT
        return ExitCode.WORK_REMAINS if outcomes - {Outcome.COMPLETE} else ExitCode.DONE


@dataclass(frozen=True, eq=False)
class MigrateReport:
    """What ``migrate`` did."""

    results: tuple[Result, ...]
    exit_code: ExitCode
    dry_run: bool = False
    previews: Mapping[str, Preview] = field(default_factory=dict)
    """With ``dry_run``: what each data migration would do, by its name."""


@dataclass(frozen=True, eq=False)
class WorkStatus:
    """How far one data migration is."""

    name: str
    rows_done: int
    rows_left: int | None
    """``None`` while expand has not run, so that the rows cannot be counted."""
    eta_seconds: float | None
    """Seconds until it is complete: at the pace of late where a run is at it, else at that of earlier ones; ``None``
    where there is none, and while the run is held up."""
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
    run: Standing | None = None
    """How the run of ``emc migrate`` stands that is at work right now, as it said last."""
    back: str | None = None
    """Where the way back stands; ``None`` where there is nothing to go back from."""
    extra: Mapping[str, str] = field(default_factory=dict)
