"""How do expand and contract look while they run, and when they end?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Self

import click

from emc import commands
from emc.cli.bars import Statement
from emc.cli.durations import duration
from emc.cli.options import Session, command
from emc.cli.stopping import interrupt_on_signals
from emc.cli.terminal import Terminal
from emc.cli.wording import in_words, say_gates
from emc.commands.jsonable import phase_json
from emc.commands.results import PhaseReport
from emc.errors import ExitCode
from emc.execute import StepEvent, StepState, described, hints

_only = click.option("--only", multiple=True, metavar="NAME", help="Run this step only; may be repeated.")
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")


@command("expand", short_help="Before the new code is deployed: add what it needs.")
@_only
@_dry_run
def expand(session: Session, *, only: tuple[str, ...], dry_run: bool) -> ExitCode:
    """Add what the new release needs. Nothing that the previous release does can start to fail because of it.

    Running it again when it is done writes nothing.

    Exit code: 0 done or nothing to do; 2 error; 4 a lock was not to be had in time; 5 interrupted. What was done is
    kept, and running the command again goes on from there.
    """
    with interrupt_on_signals(), Live(session.terminal) as live:
        report = commands.expand(
            session.upgrade, session.engine, only=only, dry_run=dry_run, report=live.hear
        )
    session.terminal.answer(phase_json(report))
    end(session.terminal, report, "Nothing to expand.")
    if not dry_run and not only:
        session.terminal.say("The new release can be deployed. Then: emc migrate")
    return report.exit_code


def reasoned(override: Sequence[str], reason: Sequence[str]) -> Mapping[str, str]:
    """The reason for each gate that is overridden.

    :raises click.UsageError: their numbers do not fit.
    """
    if len(reason) not in (1, len(override)) or (reason and not override):
        raise click.UsageError(
            f"{len(override)} --override and {len(reason)} --reason: give one reason for each, or one for all."
        )
    reasons = reason if len(reason) == len(override) else [*reason] * len(override)
    return dict(zip(override, reasons, strict=True))


@command("contract", short_help="When the old code is gone: take away what nobody needs.")
@click.option(
    "--old-code-gone", is_flag=True, help="Your word that no process of the previous release runs any more."
)
@click.option(
    "--override", multiple=True, metavar="GATE", help="Pass this shut gate; needs --reason; may be repeated."
)
@click.option("--reason", multiple=True, metavar="TEXT", help="Why: one for each --override, or one for all.")
@_only
@click.option(
    "--soak", type=duration, metavar="TIME", help="Replaces the soak of the declarations, e.g. 0 or 24h."
)
@_dry_run
def contract(
    session: Session,
    *,
    old_code_gone: bool,
    override: tuple[str, ...],
    reason: tuple[str, ...],
    only: tuple[str, ...],
    soak: dt.timedelta | None,
    dry_run: bool,
) -> ExitCode:
    """Take away what is no longer needed, and apply what only the new release keeps to.

    Each step stands behind gates, which open when the database proves that nothing is lost. Your word and your
    overrides are kept in the ledger.

    Exit code: 0 done or nothing to do; 2 error; 3 at least one step is blocked by a gate, the others are done; 4 a
    lock was not to be had in time; 5 interrupted.
    """
    overrides = reasoned(override, reason)
    with interrupt_on_signals(), Live(session.terminal) as live:
        report = commands.contract(
            session.upgrade,
            session.engine,
            old_code_gone=old_code_gone,
            overrides=overrides,
            only=only,
            soak=soak,
            dry_run=dry_run,
            report=live.hear,
        )
    session.terminal.answer(phase_json(report))
    end(session.terminal, report, "Nothing to contract.")
    return report.exit_code


def end(terminal: Terminal, report: PhaseReport, nothing: str) -> None:
    """Say what was done, and what is blocked by what."""
    if not report.steps:
        terminal.say(nothing)
        return
    blocked = {one.step.id for one in report.blocked}
    if report.dry_run:
        for step in report.steps:
            if step.id not in blocked:
                terminal.say(f"would run {step.id}: {step.operation.description}")
    for result in report.cleaned:
        number = (result.rows_left or 0) if report.dry_run else result.rows_done
        rows = "1 row" if number == 1 else f"{number:,} rows"
        does = "would clean up" if report.dry_run else "cleaned up"
        terminal.say(f"{result.name}: {does} {rows} that came since it was complete")
    if report.blocked:
        terminal.say("Blocked by gates:", "bold")
        say_gates(terminal, {one.step.id: one.verdicts for one in report.blocked})
    steps = len(report.done) if not report.dry_run else len(report.steps) - len(blocked)
    word = "would run" if report.dry_run else "done"
    said = [f"{steps} {word}", *([f"{len(blocked)} blocked"] if blocked else [])]
    terminal.say(f"{report.phase}: {', '.join(said)}.", "bold")


class Live:
    """One line for whatever happens to a step, and a bar for what takes long, while the block runs."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.statement = Statement(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.statement.end()

    def hear(self, event: StepEvent) -> None:
        """Say it."""
        if event.state is StepState.RUNNING:
            self.statement.hear(event)
            return
        self.statement.end()
        step = event.step.id
        if event.state is StepState.STARTED:
            if event.attempt == 1:
                self.terminal.say(f"{step}: {event.step.operation.description}")
        elif event.state is StepState.WAITING:
            self.terminal.say(
                f"  waiting: {event.reason}; attempt {event.attempt} failed, the next one in {event.pause:.1f} s",
                "yellow",
            )
            if event.seconds:
                self.terminal.say(f"    {in_words(event.seconds)} of building are lost", "yellow")
            for one in event.blockers:
                how = "blocked" if one.sure else "perhaps blocked"
                self.terminal.say(f"    {how} by {described(one, in_words)}")
            for hint in hints(event.blockers):
                self.terminal.say(f"      {hint}")
        elif event.state is StepState.DONE:
            self.terminal.say(f"  done: {step} ({event.seconds:.2f} s)", "green")
        elif event.state is StepState.SKIPPED:
            self.terminal.say(f"  there already: {step}")
        elif event.state is StepState.CLEANED:
            self.terminal.say(f"  {step}: late rows: {event.reason}", "yellow")
        else:
            self.terminal.say(f"  failed: {step}", "red")
