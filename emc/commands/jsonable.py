"""How do results look as JSON?

The shapes are part of the public interface: keys are only ever added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Dialect

from emc.commands.controlling import Asked
from emc.commands.results import MigrateReport, PhaseReport, PlanReport, StatusReport, UndoReport
from emc.commands.sql import rendering, work_sql
from emc.data import Result
from emc.errors import EmcError
from emc.gates import Verdict
from emc.phases import Phase
from emc.planning import WayBack
from emc.state.control import Standing
from emc.state.failures import FailedRow
from emc.state.ledger import Entry
from emc.steps import Hazard, Step
from emc.work import NotReady, Preview, Work


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A gate's answer."""
    return {
        "name": verdict.gate,
        "open": verdict.open,
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "rows": verdict.rows,
        "keys": list(verdict.keys),
        "overridden": verdict.overridden,
    }


def step_json(step: Step, verdicts: Sequence[Verdict] = (), way: WayBack | None = None) -> dict[str, Any]:
    """A schema step.

    :param way: what undo makes of it.
    """
    operation = step.operation
    return {
        "id": operation.id,
        "kind": operation.kind,
        "target": str(operation.element),
        "phase": str(operation.phase),
        "description": operation.description,
        "because": operation.because,
        "sql": [sql for one in (*step.beforehand, step) for sql in one.statements],
        "transaction": str(step.transaction),
        "unit": step.unit,
        "hazards": [str(hazard) for hazard in step.hazards],
        "gates": [verdict_json(verdict) for verdict in verdicts],
        "reversible": operation.reversible if way is None else way.is_there,
        "way_back": way.text if way is not None else None,
    }


def work_json(work: Work | NotReady, dialect: Dialect, way: WayBack | None = None) -> dict[str, Any]:
    """A data migration, in the shape of a step.

    :param way: what undo makes of it.
    """
    return {
        "id": work.name,
        "kind": work.kind,
        "target": str(work.key),
        "phase": str(Phase.MIGRATE),
        "description": work.reason if isinstance(work, NotReady) else work.description,
        "because": work.reason if isinstance(work, NotReady) else None,
        "sql": work_sql(work, rendering(dialect)),
        "transaction": "batches",
        "unit": work.name,
        "hazards": [Hazard.LOSES_DATA.value] if isinstance(work, Work) and work.deletes else [],
        "references": list(work.consequences.values()) if isinstance(work, Work) else [],
        "gates": [],
        "reversible": way is not None and way.is_there,
        "way_back": way.text if way is not None else None,
    }


def plan_json(report: PlanReport, dialect: Dialect) -> dict[str, Any]:
    """A plan.

    :param dialect: SQLAlchemy's dialect object, to render the statements of data migrations with.
    """
    plan = report.plan
    return {
        "dialect": plan.dialect,
        "release": plan.release,
        "phases": {
            "expand": [step_json(step, (), plan.ways.get(step.id)) for step in plan.expand],
            "migrate": [work_json(work, dialect, plan.ways.get(work.name)) for work in plan.work],
            "contract": [step_json(step, report.verdicts.get(step.id, ())) for step in plan.contract],
        },
        "unmanaged": [
            {"kind": str(one.element.kind), "target": str(one.element), "declare": one.declare}
            for one in plan.unmanaged
        ],
        "notes": [{"kind": note.kind, "target": note.target, "text": note.text} for note in plan.notes],
    }


def status_json(status: StatusReport, dialect: Dialect) -> dict[str, Any]:
    """A plan with progress."""
    return {
        **plan_json(status.report, dialect),
        "progress": [
            {
                "id": work.name,
                "complete": work.complete,
                "rows_done": work.rows_done,
                "rows_left": work.rows_left,
                "eta_seconds": work.eta_seconds,
                "failed": [_failed_json(row) for row in work.failed],
                "reason": work.reason,
            }
            for work in status.work
        ],
        "running": status.holder,
        "run": standing_json(status.run),
        "next": status.next,
        "way_back": status.back,
    }


def standing_json(standing: Standing | None) -> dict[str, Any] | None:
    """How a run stands, as it said last."""
    if standing is None:
        return None
    return {
        "state": str(standing.state),
        "since": standing.since.isoformat(),
        "reason": standing.reason,
        "id": standing.work,
        "rows_done": standing.rows_done,
        "rows_total": standing.rows_total,
        "eta_seconds": standing.eta_seconds,
        "workers": standing.workers,
        "unread": list(standing.unread),
    }


def asked_json(asked: Asked) -> dict[str, Any]:
    """What was asked of a run."""
    return {
        "asked": str(asked.wish),
        "new": asked.is_new,
        "runner": asked.runner,
        "command": asked.command,
        "since": asked.since.isoformat(),
        "run": standing_json(asked.standing),
    }


def phase_json(report: PhaseReport) -> dict[str, Any]:
    """What expand or contract did."""
    return {
        "phase": str(report.phase),
        "dry_run": report.dry_run,
        "exit_code": int(report.exit_code),
        "steps": [step_json(step) for step in report.steps],
        "done": list(report.done),
        "blocked": [
            {"id": blocked.step.id, "gates": [verdict_json(verdict) for verdict in blocked.verdicts]}
            for blocked in report.blocked
        ],
        "cleaned": [_result_json(result) for result in report.cleaned],
    }


def undo_json(report: UndoReport) -> dict[str, Any]:
    """What undo did."""
    return {
        **phase_json(report),
        "back": list(report.back),
        "results": [_result_json(result) for result in report.results],
        "stays": [{"id": note.target, "text": note.text} for note in report.stays],
        "stopped": report.stopped,
    }


def migrate_json(report: MigrateReport) -> dict[str, Any]:
    """What migrate did."""
    return {
        "phase": str(Phase.MIGRATE),
        "dry_run": report.dry_run,
        "exit_code": int(report.exit_code),
        "results": [_result_json(result) for result in report.results],
        "previews": [_preview_json(preview) for preview in report.previews.values()],
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "id": result.name,
        "outcome": str(result.outcome),
        "rows_found": result.rows_found,
        "rows_done": result.rows_done,
        "rows_left": result.rows_left,
        "failed": [_failed_json(row) for row in result.failed],
        "reason": result.reason,
        "remedy": result.remedy,
    }


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "id": preview.work,
        "does": preview.does,
        "rows": preview.rows,
        "groups": preview.groups,
        "samples": list(preview.samples),
        "references": list(preview.references),
    }


def _failed_json(row: FailedRow) -> dict[str, Any]:
    return {"key": [str(part) for part in row.key], "error": row.error}


def entry_json(entry: Entry) -> dict[str, Any]:
    """A line of the ledger."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "release": entry.release,
        "phase": entry.phase,
        "operation": entry.operation,
        "event": str(entry.event),
        "runner": entry.runner,
        "server": entry.server,
        "details": dict(entry.details),
    }


def error_json(error: EmcError) -> dict[str, Any]:
    """An error."""
    return {"error": error.name, "message": error.message, "remedy": error.remedy}
