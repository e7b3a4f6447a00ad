"""What is seen of a migration while it runs?"""

import io
import os
import pty
import subprocess
import sys
from typing import Any

from rich.console import Console

from emc.cli.bars import SILENCE, Statement
from emc.cli.migrating import Lines
from emc.cli.terminal import Terminal
from emc.data import Notice, ProgressEvent
from emc.dialects.answers import Blocker, Progress
from emc.execute import StepEvent, StepState
from emc.state.control import State
from tests.cli.conftest import Project
from tests.execute.course import step


class Written(Terminal):
    """A terminal that keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str = "", style: str = "") -> None:
        """Keep it."""
        self.lines.append(text)


def event(work: str, done: int, total: int, *, failed: int = 0, eta: float | None = None) -> ProgressEvent:
    """A batch that was committed."""
    return ProgressEvent(
        work,
        rows_done=done,
        rows_total=total,
        batch_rows=1,
        batch_size=1,
        batch_seconds=0.1,
        pass_number=1,
        failed=failed,
        eta_seconds=eta,
    )


def test_lines_for_each_tenth() -> None:
    """In a log a migration of 10,000 batches is about a dozen lines, not 10,000."""
    terminal = Written()
    lines = Lines(terminal, clock=lambda: 0.0)
    for done in range(1, 10_001):
        lines.hear(event("a", done, 10_000))
    assert len(terminal.lines) == 11
    assert terminal.lines[-1] == "a: 10,000 of 10,000 rows"


def test_a_line_after_silence() -> None:
    """However slow a migration is, a log hears of it every half minute, with the rows that failed."""
    terminal = Written()
    now = [0.0]
    lines = Lines(terminal, clock=lambda: now[0])
    lines.hear(event("a", 1, 1_000_000))
    lines.hear(event("a", 2, 1_000_000))
    assert len(terminal.lines) == 1
    now[0] = SILENCE
    lines.hear(event("a", 3, 1_000_000, failed=2))
    assert terminal.lines[1:] == ["a: 3 of 1,000,000 rows, 2 failed"]


def test_lines_tell_the_time_that_is_left_and_what_holds_a_run_up() -> None:
    """A log says how long it will take once there is a pace, and why nothing happens when nothing does."""
    terminal = Written()
    lines = Lines(terminal, clock=lambda: 0.0)
    lines.hear(event("a", 1, 10))
    lines.hear(event("a", 2, 10, eta=200.0))
    lines.notice(Notice(State.THROTTLED, "replica standby1 is 14 s behind"))
    lines.notice(Notice(State.RUNNING, "goes on"))
    assert terminal.lines == [
        "a: 1 of 10 rows",
        "a: 2 of 10 rows, 3 min 20 s left",
        "throttled: replica standby1 is 14 s behind",
        "goes on",
    ]


def test_each_migration_begins_with_a_line() -> None:
    """A migration that follows another one has lines of its own from its first batch on."""
    terminal = Written()
    lines = Lines(terminal, clock=lambda: 0.0)
    lines.hear(event("a", 5, 10))
    lines.hear(event("b", 5, 10))
    assert [line.partition(":")[0] for line in terminal.lines] == ["a", "b"]


def test_a_bar_on_a_terminal(sqlite_project: Project) -> None:
    """On a terminal there is a live bar with rows done and in all; in a pipe there is none."""
    sqlite_project.emc("expand")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "emc", "migrate"],
        cwd=sqlite_project.directory,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                seen += chunk
        except OSError:
            pass  # Linux says so when the other side is closed.
        os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[" in seen
    assert b"3/3" in seen


STEP = step("name", "CREATE INDEX CONCURRENTLY …", holds="SELECT true")
READER = Blocker("4711", "ann", 90.0, "SELECT * FROM users")
WAITS = Progress("waiting for old snapshots", 0, 1, "transactions", (READER,))


def running(progress: Progress, seconds: float = 5.0) -> StepEvent:
    """A look at a statement."""
    return StepEvent(StepState.RUNNING, STEP, seconds=seconds, progress=progress)


def scanned(done: int) -> Progress:
    """A table of 10,000 blocks is being read."""
    return Progress("building index: scanning table", done, 10_000, "blocks")


def test_lines_of_a_build() -> None:
    """In a log a build of any length is a line for each thing that it does, for each tenth, and for each wait."""
    terminal, now = Written(), [0.0]
    statement = Statement(terminal, clock=lambda: now[0])
    for done in range(0, 10_001, 5):
        statement.hear(running(scanned(done)))
    assert len(terminal.lines) == 11
    assert terminal.lines[5] == "  building index: scanning table: 5,000 of 10,000 blocks; 5 s"
    terminal.lines.clear()
    for _ in range(9):
        statement.hear(running(WAITS, 65.0))
    assert terminal.lines == [
        "  waiting for old snapshots: 0 of 1 transactions; 1 min 5 s",
        "    waits for session 4711 of ann, in a transaction for 1 min 30 s: SELECT * FROM users",
    ]
    now[0] = SILENCE
    statement.hear(running(WAITS))
    assert len(terminal.lines) == 3


def test_lines_of_what_cannot_be_counted() -> None:
    """Of a validation a log tells what is known, and says again now and then that it goes on."""
    terminal, now = Written(), [0.0]
    statement = Statement(terminal, clock=lambda: now[0])
    for seconds in range(1, 61):
        now[0] = seconds
        statement.hear(running(Progress("looking at every row", None, 2_000_000, "rows"), seconds))
    assert terminal.lines == [
        "  looking at every row: about 2,000,000 rows; 1 s",
        "  looking at every row: about 2,000,000 rows; 31 s",
    ]


def drawn(*events: StepEvent) -> str:
    """What *events* look like on a terminal."""
    terminal: Any = Terminal()
    terminal.console = Console(file=io.StringIO(), force_terminal=True, width=100)
    terminal.is_interactive = True
    statement = Statement(terminal)
    for one in events:
        statement.hear(one)
    statement.end()
    return str(terminal.console.file.getvalue())


def test_a_bar_of_a_build() -> None:
    """On a terminal a build has the bar that backfills have, and says once for whom it waits."""
    seen = drawn(running(scanned(10)), running(scanned(5000)), running(WAITS), running(WAITS))
    assert "building index: scanning table" in seen
    assert "waiting for old snapshots" in seen
    assert seen.count("waits for session 4711 of ann") == 1


def test_a_build_is_silent_in_json_mode(capsys: Any) -> None:
    """One JSON document stays one."""
    statement = Statement(Terminal(as_json=True))
    statement.hear(running(WAITS))
    statement.end()
    assert capsys.readouterr().out == ""
