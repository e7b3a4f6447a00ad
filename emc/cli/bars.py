"""How does something look that takes long?

A bar on a terminal, a line now and then elsewhere, nothing in JSON mode.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from emc.cli.terminal import Terminal
from emc.cli.wording import in_words
from emc.dialects.answers import Progress as Headway
from emc.execute import StepEvent, described

SILENCE = 30.0
"""Seconds after which a line of progress is due, however little has happened."""


def bars(terminal: Terminal, *, passing: bool = False) -> Progress:
    """Live bars, once it is entered.

    :param passing: they vanish when they are done.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=terminal.console, transient=passing)


class Rate(ProgressColumn):
    """What is done per second."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        unit = task.fields.get("unit", "rows")
        return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else "", "dim")


class Statement:
    """The statement of a step that is under way: one bar on a terminal, lines elsewhere."""

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self.terminal = terminal
        self.clock = clock
        self._bars: Progress | None = None
        self._task = TaskID(0)
        self._shown: tuple[str, str, tuple[str, ...]] | None = None
        """Step, what the server did, and for whom it waited, when something was last shown."""
        self._tenths = 0
        self._said = 0.0

    def hear(self, event: StepEvent) -> None:
        """Show how far it is."""
        found = event.progress
        if found is None:
            return
        waits_for = tuple(one.session for one in found.waits_for)
        what = (event.step.id, found.doing, waits_for)
        if self.terminal.is_interactive:
            self._draw(what, found)
        else:
            self._say(what, found, event.seconds)

    def end(self) -> None:
        """It is through, one way or the other."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._shown = None, None

    def _draw(self, what: tuple[str, str, tuple[str, ...]], found: Headway) -> None:
        if self._bars is None:
            self._bars = bars(self.terminal, passing=True)
            self._bars.start()
            self._task = self._bars.add_task("")
        if what[:2] != (self._shown or what)[:2]:
            # Each thing that the server does is counted from its own beginning.
            self._bars.reset(self._task)
        if found.waits_for and what != self._shown:
            self._bars.console.print(Text(waiting(found), "yellow"), soft_wrap=True)
        self._bars.update(
            self._task,
            description=f"  {found.doing}",
            # Without a total the bar runs to and fro.
            total=found.total if found.done is not None and found.total else None,
            completed=found.done or 0,
            unit=found.unit,
        )
        self._shown = what

    def _say(self, what: tuple[str, str, tuple[str, ...]], found: Headway, seconds: float) -> None:
        tenths = 10 * (found.done or 0) // found.total if found.total else 0
        now = self.clock()
        if what == self._shown and tenths == self._tenths and now - self._said < SILENCE:
            return
        if self._shown is None or what[:2] != self._shown[:2] or not found.waits_for:
            self.terminal.say(f"  {far(found)}; {in_words(seconds)}")
        if found.waits_for:
            self.terminal.say(waiting(found), "yellow")
        self._shown, self._tenths, self._said = what, tenths, now


def far(found: Headway) -> str:
    """What the server does, and how much of it is done."""
    if not found.total:
        return found.doing
    if found.done is None:
        return f"{found.doing}: about {found.total:,} {found.unit}"
    return f"{found.doing}: {found.done:,} of {found.total:,} {found.unit}"


def waiting(found: Headway) -> str:
    """For whom the server waits."""
    return "\n".join(f"    waits for {described(one, in_words)}" for one in found.waits_for)
