"""How does migrate look while rows move, and when it ends?"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from rich.progress import Progress, TaskID
from rich.text import Text

from emc import commands
from emc.cli.bars import SILENCE, bars
from emc.cli.durations import duration
from emc.cli.options import Session, command
from emc.cli.stopping import stop_on_signals
from emc.cli.terminal import Terminal, grid
from emc.cli.wording import failed_rows, in_words, one_line
from emc.commands.jsonable import migrate_json
from emc.commands.results import MigrateReport
from emc.data import BatchPolicy, Notice, Outcome, ProgressEvent
from emc.errors import ExitCode
from emc.state.control import State
from emc.work import Preview

_STOPPING = "Stopping after this batch; Ctrl-C again to interrupt it."


@command("migrate", short_help="While old and new code run: move the data.")
@click.option("--only", multiple=True, metavar="NAME", help="Run this data migration only; may be repeated.")
@click.option("--max-count", type=click.IntRange(min=1), metavar="N", help="Stop after N rows altogether.")
@click.option("--max-time", type=duration, metavar="TIME", help="Stop after so long: seconds, or e.g. 30m.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")
@click.option("--fast", is_flag=True, help="No pauses between batches, and larger ones.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="So many batches at once, in ranges of keys.",
)
@click.option(
    "--patience", type=duration, metavar="TIME", help="End when held up for so long in one go. [1h]"
)
@click.option("--no-throttle", is_flag=True, help="Go on, however much the database has to bear.")
def migrate(
    session: Session,
    *,
    only: tuple[str, ...],
    max_count: int | None,
    max_time: dt.timedelta | None,
    dry_run: bool,
    fast: bool,
    workers: int,
    patience: dt.timedelta | None,
    no_throttle: bool,
) -> ExitCode:
    """Move the data in small batches, each committed with how far it got, while everybody goes on working.

    Running it again goes on where it ended. SIGTERM and Ctrl-C end it after the current batch, and so does emc stop
    from elsewhere; a second Ctrl-C at once, with that batch rolled back. emc pause holds it up until emc resume. While
    the database has too much to bear no batch begins.

    Exit code: 0 no row is left; 1 --max-count or --max-time reached, rows are left; 2 error, or rows that cannot be
    migrated; 3 the schema is not there yet; 4 rows stayed locked; 5 stopped on request, or held up for too long.
    """
    terminal = session.terminal
    upgrade, engine = session.upgrade, session.engine
    throttle = None if no_throttle else session.throttle
    if throttle is not None and patience is not None:
        throttle = replace(throttle, patience=patience / dt.timedelta(seconds=1))
    with (
        _showing(terminal) as (hear, notice),
        stop_on_signals(_STOPPING) as stop,
    ):
        report = commands.migrate(
            upgrade,
            engine,
            only=only,
            max_count=max_count,
            max_time=max_time / dt.timedelta(seconds=1) if max_time is not None else None,
            dry_run=dry_run,
            stop=stop,
            report=hear,
            notice=notice,
            batch=BatchPolicy(fast=fast),
            workers=workers,
            throttle=throttle,
        )
    terminal.answer(migrate_json(report))
    _end(terminal, report)
    return report.exit_code


def _end(terminal: Terminal, report: MigrateReport) -> None:
    if not report.results:
        terminal.say("Nothing to migrate.")
        return
    if report.dry_run:
        for result in report.results:
            foreseen = report.previews.get(result.name)
            if foreseen is not None:
                _foresee(terminal, foreseen)
            else:
                terminal.say(f"{result.name}: not yet: {result.reason}")
        return
    table = grid("data migration", "outcome", "rows done", "rows left", numbers=(2, 3))
    for result in report.results:
        left = "?" if result.rows_left is None else f"{result.rows_left:,}"
        style = "green" if result.outcome is Outcome.COMPLETE else "yellow"
        table.add_row(Text(result.name), Text(str(result.outcome), style), f"{result.rows_done:,}", left)
    terminal.show(table)
    for result in report.results:
        for line in failed_rows(result.name, result.failed):
            terminal.say(line, "red")
        if result.reason:
            terminal.say(f"{result.name}: {result.reason}")
        if result.remedy:
            terminal.say(f"  {result.remedy}")


def _foresee(terminal: Terminal, preview: Preview) -> None:
    """What a data migration would do to the rows that are there now."""
    rows = "1 row" if preview.rows == 1 else f"{preview.rows:,} rows"
    among = "" if preview.groups is None else f" in {preview.groups:,} group{'s' * (preview.groups != 1)}"
    terminal.say(f"{preview.work}: {rows}{among} left: {preview.does}")
    for sample in preview.samples:
        terminal.say(f"  {one_line(sample)}")
    if len(preview.samples) < preview.rows and preview.samples:
        terminal.say("  …")
    for reference in preview.references:
        terminal.say(f"  {reference}", "yellow")


@contextmanager
def _showing(
    terminal: Terminal,
) -> Iterator[tuple[Callable[[ProgressEvent], None], Callable[[Notice], None]]]:
    """Whoever hears the batches, and what holds them up: a bar on a terminal, lines elsewhere, nobody in JSON mode."""
    if not terminal.is_interactive:
        lines = Lines(terminal)
        yield lines.hear, lines.notice
        return
    with bars(terminal) as progress:
        shown = _Bars(progress)
        yield shown.hear, shown.notice


def _noticed(notice: Notice) -> tuple[str, str]:
    """A line, and its style."""
    if notice.state is State.RUNNING:
        return notice.text, ""
    return f"{notice.state}: {notice.text}", "yellow"


class _Bars:
    """A bar per data migration."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def hear(self, event: ProgressEvent) -> None:
        """Move the bar."""
        task = self.tasks.get(event.work)
        if task is None:
            task = self.tasks[event.work] = self.progress.add_task(event.work, total=event.rows_total)
        # Rows that other releases wrote meanwhile are done as well, so there may be more than at the beginning.
        self.progress.update(task, completed=event.rows_done, total=max(event.rows_total, event.rows_done))

    def notice(self, notice: Notice) -> None:
        """Say it above the bars."""
        text, style = _noticed(notice)
        self.progress.console.print(Text(text, style), soft_wrap=True)


class Lines:
    """A line at the beginning, for each tenth of the rows, and now and then."""

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self.terminal = terminal
        self.clock = clock
        self._name = ""
        self._tenths = -1
        self._said = 0.0

    def hear(self, event: ProgressEvent) -> None:
        """Say how far it is, if it is time."""
        tenths = 10 * event.rows_done // max(1, event.rows_total)
        now = self.clock()
        if event.work == self._name and tenths == self._tenths and now - self._said < SILENCE:
            return
        self._name, self._tenths, self._said = event.work, tenths, now
        failed = f", {event.failed:,} failed" if event.failed else ""
        again = f", pass {event.pass_number}" if event.pass_number > 1 else ""
        eta = f", {in_words(event.eta_seconds)} left" if event.eta_seconds else ""
        self.terminal.say(
            f"{event.work}: {event.rows_done:,} of {event.rows_total:,} rows{failed}{again}{eta}"
        )

    def notice(self, notice: Notice) -> None:
        """Say it."""
        self.terminal.say(*_noticed(notice))
