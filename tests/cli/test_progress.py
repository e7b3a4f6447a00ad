"""What is seen of a migration while it runs?"""

import os
import pty
import subprocess
import sys

from emc.cli.migrating import SILENCE, Lines
from emc.cli.terminal import Terminal
from emc.data import ProgressEvent
from tests.cli.conftest import Project


class Written(Terminal):
    """A terminal that keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str = "", style: str = "") -> None:
        """Keep it."""
        self.lines.append(text)


def event(work: str, done: int, total: int, *, failed: int = 0) -> ProgressEvent:
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
