"""How does a plan look as a SQL script for a DBA?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Dialect, delete, true, update
from sqlalchemy.exc import CompileError

from emc.commands.results import PlanReport
from emc.literally import literally
from emc.phases import FORWARD, Phase
from emc.steps import Step, Transaction
from emc.work import DeleteRow, NotReady, Report, SetElsewhere, SetValues, Work


def work_sql(work: Work | NotReady, render: Callable[[ClauseElement], str]) -> list[str]:
    """What a data migration sends, without its batches; empty where Python does the work, or values have no literal.

    :param render: writes a statement with its values.
    """
    if isinstance(work, NotReady):
        return []
    statements: list[Any]
    if isinstance(work.action, SetValues):
        statements = [update(work.table).where(work.pending).values(dict(work.action.values))]
    elif isinstance(work.action, SetElsewhere):
        statements = list(work.action.statements(true()))
    elif isinstance(work.action, DeleteRow) and work.action.merge is None:
        statements = [delete(work.table).where(work.pending)]
    else:
        return []
    try:
        return [render(statement) for statement in statements]
    except (CompileError, NotImplementedError):
        return []


def in_python(work: Work | NotReady) -> list[str]:
    """What a script says in the place of statements."""
    if isinstance(work, Work) and isinstance(work.action, Report):
        return comment("left to a person: emc migrate --dry-run counts the rows and names the first of them")
    return comment("done by emc migrate, row by row")


def rendering(dialect: Dialect) -> Callable[[ClauseElement], str]:
    """Writes statements as they look when they are sent; a value that has no literal (bytes) is a parameter.

    :param dialect: SQLAlchemy's dialect object.
    """

    def render(statement: ClauseElement) -> str:
        try:
            return literally(statement, dialect)
        except (CompileError, NotImplementedError):
            return str(statement.compile(dialect=dialect))

    return render


def plan_sql(report: PlanReport, dialect: Dialect, phases: Sequence[Phase] = FORWARD) -> str:
    """The whole plan as valid SQL with comments.

    :param dialect: SQLAlchemy's dialect object, to render with.
    :param phases: those that it holds.
    """
    plan = report.plan
    lines = [*heading(report)]
    if Phase.EXPAND in phases:
        lines += ["", "-- EXPAND: before the new code is deployed", *_steps(plan.steps(Phase.EXPAND), report)]
    if Phase.MIGRATE in phases:
        lines += [
            "",
            "-- MIGRATE: while old and new code run side by side; emc migrate does it in small batches",
        ]
        for work in plan.work:
            lines += [
                "",
                *comment(f"{work.name}: {work.reason if isinstance(work, NotReady) else work.description}"),
            ]
            statements = work_sql(work, rendering(dialect))
            lines += [f"{one};" for one in statements] or in_python(work)
    if Phase.CONTRACT in phases:
        lines += ["", "-- CONTRACT: once the old release is gone, and the gates are open"]
        lines += _steps(plan.steps(Phase.CONTRACT), report)
    return "\n".join([*lines, *unmanaged_sql(report)]) + "\n"


def heading(report: PlanReport) -> list[str]:
    """The first line of a script."""
    plan = report.plan
    return [f"-- emc plan for {plan.dialect}" + (f", release {plan.release}" if plan.release else "")]


def unmanaged_sql(report: PlanReport) -> list[str]:
    """The last lines of a script: what it leaves alone."""
    if not report.plan.unmanaged:
        return []
    lines = ["", "-- UNMANAGED: left alone; paste a line to let it go"]
    return lines + [f"--   {one.declare}" for one in report.plan.unmanaged]


def _steps(steps: Iterable[Step], report: PlanReport) -> list[str]:
    lines: list[str] = []
    open_unit: Step | None = None
    for step in [one for last in steps for one in (*last.beforehand, last)]:
        if open_unit is not None and step.unit != open_unit.unit:
            lines += _ending(open_unit)
            open_unit = None
        lines += ["", *comment(f"{step.id}: {step.operation.description}")]
        if step.operation.because:
            lines += comment(f"because {step.operation.because}")
        if step.hazards:
            lines += comment(f"hazards: {', '.join(step.hazards)}")
        for verdict in report.verdicts.get(step.id, ()):
            state = "open" if verdict.open else "SHUT"
            lines += comment(f"gate {verdict.gate} is {state}: {verdict.reason}")
        if not step.statements:
            lines += comment("done by the statements above")
            continue
        if open_unit is None:
            lines += _beginning(step)
            open_unit = step
        lines += [_statement(one, step) for one in step.statements]
    if open_unit is not None:
        lines += _ending(open_unit)
    return lines


def _statement(sql: str, step: Step) -> str:
    """*sql* as a client of its database takes it from a script."""
    sql = sql.rstrip().rstrip(";")
    if step.transaction is Transaction.LOCKED and ";" in sql:
        # The clients of MySQL and MariaDB would send what is before the first one; mysqldump writes it so, too.
        return f"DELIMITER ;;\n{sql};;\nDELIMITER ;"
    return f"{sql};"


def _beginning(step: Step) -> list[str]:
    return {
        Transaction.TOGETHER: ["BEGIN;"],
        Transaction.AUTOCOMMIT: [],
        Transaction.LOCKED: [],
        Transaction.REBUILD: [
            "PRAGMA foreign_keys=OFF;",
            "PRAGMA legacy_alter_table=ON;",
            "BEGIN IMMEDIATE;",
        ],
    }[step.transaction]


def _ending(step: Step) -> list[str]:
    return {
        Transaction.TOGETHER: ["COMMIT;"],
        Transaction.AUTOCOMMIT: [],
        Transaction.LOCKED: ["UNLOCK TABLES;"],
        Transaction.REBUILD: ["COMMIT;", "PRAGMA legacy_alter_table=OFF;", "PRAGMA foreign_keys=ON;"],
    }[step.transaction]


def comment(text: str) -> list[str]:
    """*text* as comments."""
    return [f"-- {line}" for line in text.splitlines()]
