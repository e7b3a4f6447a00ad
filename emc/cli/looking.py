"""How do plan, status and history look?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import click
from rich.table import Table
from rich.text import Text

from emc import commands
from emc.cli.options import Session, command
from emc.cli.terminal import Terminal, grid
from emc.cli.wording import (
    HEADINGS,
    failed_rows,
    headline,
    in_words,
    one_line,
    say_gates,
)
from emc.commands.jsonable import entry_json, plan_json, status_json
from emc.commands.results import PlanReport, WorkStatus
from emc.commands.telling import kind_of, shut_for_all
from emc.errors import ExitCode
from emc.gates import Verdict
from emc.phases import FORWARD, Phase
from emc.state.control import Standing
from emc.state.ledger import Entry
from emc.steps import Step
from emc.work import NotReady, Work


@command("plan", short_help="Show what each phase would do.")
@click.option("--sql", "as_sql", is_flag=True, help="Answer a SQL script with comments, for a DBA.")
@click.option(
    "--phase",
    type=click.Choice([*FORWARD]),
    help="With --sql: the script of this phase alone.",
    metavar="PHASE",
)
def plan(session: Session, *, as_sql: bool, phase: Phase | None) -> ExitCode:
    """Show what each phase would do, derived from models, declarations and database as they are now.

    Never writes; a role that may only read is enough.

    Exit code: 0; 2 if the plan is refused.
    """
    if as_sql and session.terminal.as_json:
        raise click.UsageError("--sql and --format json are two different answers; give one of them.")
    if phase is not None and not as_sql:
        raise click.UsageError(
            "--phase says which script --sql answers; without --sql the plan shows every phase."
        )
    terminal = session.terminal
    if as_sql:
        phases = FORWARD if phase is None else (phase,)
        terminal.say(commands.script(session.upgrade, session.engine, phases).rstrip("\n"))
        return ExitCode.DONE
    report = commands.plan(session.upgrade, session.engine)
    terminal.answer(plan_json(report, session.engine.dialect))
    _show_plan(terminal, report)
    return ExitCode.DONE


def _show_plan(terminal: Terminal, report: PlanReport) -> None:
    derived = report.plan
    terminal.say(headline(derived))
    for phase in FORWARD:
        rows: Sequence[Step | Work | NotReady] = (
            derived.work if phase is Phase.MIGRATE else derived.steps(phase)
        )
        if rows:
            terminal.say()
            terminal.say(HEADINGS[phase], "bold")
            common = shut_for_all(report.verdicts) if phase is Phase.CONTRACT else {}
            for verdict in common.values():
                terminal.say(f"Every step is shut by {kind_of(verdict)}: {verdict.reason}", "red")
            terminal.show(_steps(rows, report, common))
    if derived.notes:
        terminal.say()
        terminal.say("Notes", "bold")
        for note in derived.notes:
            terminal.say(f"- {note.target}: {note.text}")
    if derived.unmanaged:
        terminal.say()
        terminal.say(
            "Unmanaged: in the database, not in the models, left alone. Paste a line to let it go:", "bold"
        )
        for one in derived.unmanaged:
            terminal.say(one.declare)
    if report.is_empty:
        terminal.say()
        terminal.say("Nothing to do: models and database agree.", "green")


_TACIT = frozenset({"expand-done", "migrate-done", "soaked"})
"""Gates that say nothing of interest about a step when they are open."""


def _steps(rows: Iterable[Step | Work | NotReady], report: PlanReport, common: Container[str]) -> Table:
    table = grid("step", "what it does")
    for row in rows:
        if isinstance(row, Step):
            name, what = row.id, Text(row.operation.description)
            verdicts = report.verdicts.get(row.id, ())
            if row.operation.because and not verdicts:
                what.append(f"\nbecause {row.operation.because}", "dim")
            if row.hazards:
                what.append(f"\nhazards: {', '.join(row.hazards)}", "yellow")
            for verdict in verdicts:
                kind = kind_of(verdict)
                if kind not in common and not (verdict.open and kind in _TACIT):
                    what.append("\n").append(_gate(verdict))
        else:
            name, what = (
                row.name,
                Text(f"not yet: {row.reason}" if isinstance(row, NotReady) else row.description),
            )
            for reference in row.consequences.values() if isinstance(row, Work) else ():
                what.append(f"\n{reference}", "yellow")
        way = report.plan.ways.get(name)
        if way is not None and not way.is_there:
            what.append(f"\nno way back: {way.text}", "yellow")
        table.add_row(Text(name, "cyan"), what)
    return table


def _gate(verdict: Verdict) -> Text:
    # The element is that of the step; the full name is in what `contract` and JSON say.
    state = Text("open ", "green") if verdict.open else Text("shut ", "red")
    return state.append(f"{kind_of(verdict)}: {verdict.reason}", "default")


@command("status", short_help="Show where the upgrade stands.")
def status(session: Session) -> ExitCode:
    """Show where the upgrade stands: what is left of each phase, which gates are shut, and what to do next.

    Never writes; a role that may only read is enough.

    Exit code: 0; 2 if the plan is refused.
    """
    found = commands.status(session.upgrade, session.engine)
    terminal = session.terminal
    terminal.answer(status_json(found, session.engine.dialect))
    derived = found.report.plan
    terminal.say(headline(derived))
    terminal.say()
    terminal.say(_left("expand", len(derived.expand)), "bold")
    for step in derived.expand:
        terminal.say(f"  {step.id}")
    terminal.say(_left("migrate", len(derived.work)), "bold")
    if found.work:
        terminal.show(_progress(found.work))
    for work in found.work:
        for line in failed_rows(work.name, work.failed):
            terminal.say(f"  {line}")
    terminal.say(_left("contract", len(derived.contract)), "bold")
    say_gates(terminal, {step.id: found.report.verdicts.get(step.id, ()) for step in derived.contract})
    for note in derived.notes:
        if note.kind == "guard":
            terminal.say(f"Guard on {note.target}: {note.text}", "yellow")
    if found.holder is not None:
        terminal.say()
        terminal.say(f"At work: {found.holder}")
        if found.run is not None:
            _say_run(terminal, found.run)
    terminal.say()
    if found.back is not None:
        terminal.say(f"Way back: {found.back}")
    terminal.say(f"Next: {found.next}")
    return ExitCode.DONE


def _say_run(terminal: Terminal, run: Standing) -> None:
    if run.reason is not None:
        terminal.say(f"  {run.state} since {run.since:%H:%M:%S} UTC: {run.reason}", "yellow")
    if run.work is not None:
        by = f" by {run.workers} workers" if run.workers > 1 else ""
        terminal.say(f"  {run.work}: {run.rows_done:,} of {run.rows_total:,} rows{by}")
    for one in run.unread:
        terminal.say(f"  not looked at: {one}")


def _left(phase: str, steps: int) -> str:
    return f"{phase}: {steps} left" if steps else f"{phase}: done"


def _progress(every: Sequence[WorkStatus]) -> Table:
    table = grid("  data migration", "rows done", "rows left", "time left", numbers=(1, 2))
    for work in every:
        left = "?" if work.rows_left is None else f"{work.rows_left:,}"
        eta = in_words(work.eta_seconds) if work.eta_seconds is not None else ""
        table.add_row(Text(f"  {work.name}"), f"{work.rows_done:,}", left, Text(work.reason or eta))
    return table


@command("history", short_help="Show what emc did.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N entries.")
def history(session: Session, *, limit: int | None) -> ExitCode:
    """Show the ledger: what emc did to this database, and what it had proved when it did it; newest entry last.

    Never writes. Needs no upgrade, only the database.

    Exit code: 0.
    """
    entries = commands.history(session.engine, limit=limit)
    terminal = session.terminal
    terminal.answer([entry_json(entry) for entry in entries])
    if not entries:
        terminal.say("emc has done nothing to this database yet.")
        return ExitCode.DONE
    table = grid("at (UTC)", "release", "phase", "event", "what", "who", wraps=4)
    for entry in entries:
        what = Text(entry.operation or "", "cyan")
        for line in _details(entry):
            what.append("\n" if what else "").append(line, "default")
        at = Text(f"{entry.at:%Y-%m-%d %H:%M:%S}")
        words = [Text(word or "") for word in (entry.release, entry.phase, str(entry.event))]
        table.add_row(at, *words, what, Text(entry.runner or ""))
    terminal.show(table)
    return ExitCode.DONE


_AT_LENGTH = frozenset({"attempts", "before", "expects", "run", "statement", "statements"})
"""Details that only JSON shows: they are long, and for a program or a court."""


def _details(entry: Entry) -> Iterable[str]:
    for key, value in entry.details.items():
        if key == "evidence" and isinstance(value, Mapping):
            for gate, facts in value.items():
                yield f"{gate.partition(':')[0]}: {one_line(facts.get('overridden') or facts['reason'])}"
        elif key not in _AT_LENGTH:
            yield f"{key}: {one_line(value)}"
