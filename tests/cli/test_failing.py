"""What does a person see when something goes wrong?"""

import json
import os
import subprocess
import sys

import pytest

from emc.errors import LockBudgetError
from tests.cli.conftest import Project


def test_a_bug_is_one_line(sqlite_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that emc did not expect is one line that says so; its traceback is there for whoever asks."""

    def fail(*arguments: object) -> None:
        raise LookupError("no change for\nSomethingOp")

    monkeypatch.setattr("emc.commands.plan", fail)
    result = sqlite_project.emc("plan")
    assert result.exit_code == 2
    assert "bug in emc: LookupError: no change for SomethingOp" in result.stderr
    assert "Traceback" not in result.output
    assert "Traceback" in sqlite_project.emc("plan", "--traceback").stderr
    assert "Traceback" in sqlite_project.emc("plan", EMC_DEBUG="1").stderr
    assert json.loads(sqlite_project.emc("plan", "--format", "json").stderr)["error"] == "bug-error"


@pytest.mark.parametrize("kind", [LookupError, LockBudgetError, KeyboardInterrupt])
def test_what_an_error_leaves_behind_is_said(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """A guard that could not be taken away on the way out of an error, or of Ctrl-C, is told with it."""

    def fail(*arguments: object) -> None:
        error = kind("no lock")
        error.add_note("Guard emc_guard_1 may be in place still")
        raise error

    monkeypatch.setattr("emc.commands.plan", fail)
    assert "Guard emc_guard_1 may be in place still" in sqlite_project.emc("plan").stderr
    said = json.loads(sqlite_project.emc("plan", "--format", "json").stderr.strip())
    assert said["message"].endswith("Guard emc_guard_1 may be in place still")


def test_a_statement_that_the_database_refuses(project: Project) -> None:
    """What a database refuses is no bug of emc's: the error says what the database said."""
    project.execute("CREATE TABLE emc_ledger (id INTEGER)")
    result = project.emc("history", "--format", "json")
    assert result.exit_code == 2
    error = json.loads(result.stderr)
    assert error["error"] == "statement-failed-error"
    assert "emc_ledger" in error["message"]


def test_refused_plans(project: Project) -> None:
    """A plan that is refused ends with 2, with every refusal and its remedy on stderr."""
    project.execute(
        "DROP TABLE users", "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, age INTEGER NOT NULL)"
    )
    result = project.emc("plan", "--upgrade", "app:undeclared", "--format", "json")
    error = json.loads(result.stderr)
    assert result.exit_code == 2
    assert error["error"] == "plan-refused-error"
    assert 'upgrade.retire("users.age"' in error["remedy"]


def test_nobody_reads_on(sqlite_project: Project) -> None:
    """When the reader of a pipe goes away (`emc migrate | head -1`), the work is done all the same, quietly."""
    sqlite_project.execute(*(f"INSERT INTO users VALUES ({n}, 'nick {n}')" for n in range(4, 3001)))
    assert sqlite_project.process("expand").returncode == 0
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "emc", "migrate"],
        cwd=sqlite_project.directory,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(write)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert sqlite_project.ask("SELECT count(*) FROM users WHERE name IS NULL") == 0


def test_a_terminal_that_cannot_show_every_character(sqlite_project: Project) -> None:
    """On a terminal with a narrow encoding, characters that it lacks are replaced; nothing fails."""
    sqlite_project.execute('ALTER TABLE users ADD COLUMN "größe…" INTEGER')
    result = sqlite_project.process("plan", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 0
    assert "gr??e?" in result.stdout
