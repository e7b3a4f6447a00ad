"""How does undo look while it runs, and when it ends?"""

from __future__ import annotations

import click

from emc import commands
from emc.cli.migrating import Lines
from emc.cli.options import Session, command
from emc.cli.running import Live, end, reasoned
from emc.cli.stopping import interrupt_on_signals
from emc.commands.jsonable import undo_json
from emc.commands.results import UndoReport
from emc.errors import ExitCode
from emc.work.values import UNDO


@command("undo", short_help="When the new code is gone, and nothing was contracted: the way back.")
@click.option(
    "--new-code-gone", is_flag=True, help="Your word that no process of the new release runs any more."
)
@click.option(
    "--override", multiple=True, metavar="GATE", help="Pass this shut gate; needs --reason; may be repeated."
)
@click.option("--reason", multiple=True, metavar="TEXT", help="Why: one for each --override, or one for all.")
@click.option(
    "--keep", multiple=True, metavar="NAME", help="Leave what this step of expand did; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")
def undo(
    session: Session,
    *,
    new_code_gone: bool,
    override: tuple[str, ...],
    reason: tuple[str, ...],
    keep: tuple[str, ...],
    dry_run: bool,
) -> ExitCode:
    """Take back what expand did for this release, with the new release's code, as long as nothing was contracted.

    What the new release has written flows back first, where a data migration says how. Then each step of expand is
    taken back behind gates, which open when the database proves that nothing is lost. Your word and your overrides
    are kept in the ledger. Running it again goes on where it ended. emc pause holds it up before the next batch or
    step, and emc stop ends it there.

    Exit code: 0 done or nothing to do; 1 rows are left to bring back; 2 error, or there is no way back; 3 at least
    one step is blocked by a gate, the others are done; 4 a lock was not to be had in time; 5 interrupted or stopped.
    """
    overrides = reasoned(override, reason)
    terminal = session.terminal
    lines = Lines(terminal)
    with interrupt_on_signals(), Live(terminal) as live:
        report = commands.undo(
            session.upgrade,
            session.engine,
            new_code_gone=new_code_gone,
            overrides=overrides,
            keep=keep,
            dry_run=dry_run,
            report=live.hear,
            progress=lines.hear,
            notice=lines.notice,
        )
    terminal.answer(undo_json(report))
    for name in report.back if dry_run else ():
        terminal.say(f"would bring data back: {name}")
    for result in report.results:
        rows = "1 row" if result.rows_done == 1 else f"{result.rows_done:,} rows"
        terminal.say(f"{result.name}: {rows} brought back, {result.outcome}")
        if result.reason is not None:
            terminal.say(f"  {result.reason}", "red")
        if result.remedy is not None:
            terminal.say(f"  {result.remedy}")
    end(terminal, report, "Nothing to undo.")
    for note in report.stays:
        terminal.say(f"Stays: {note.target}: {note.text}", "yellow")
    if report.stopped is not None:
        terminal.say(f"Ended early: {report.stopped}. To go on: {UNDO}", "yellow")
    _say_next(session, report, all_of_it=not keep)
    return report.exit_code


def _say_next(session: Session, report: UndoReport, *, all_of_it: bool) -> None:
    if report.done and report.exit_code is ExitCode.DONE:
        what = "What expand did for this release" if all_of_it else "All but what was to be kept"
        session.terminal.say(f"{what} is taken back. Should the release come again: emc expand")
