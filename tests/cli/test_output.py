"""What do the commands answer?"""

import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest

from tests.cli.conftest import Project

LONG = "a_very_long_name_that_somebody_gave_to_an_index_of_the_users_tbl"


def test_plan_as_json(project: Project) -> None:
    """The plan as JSON has the documented shape, with stable ids, gates and the SQL."""
    plan = project.json("plan")
    assert (plan["release"], plan["unmanaged"]) == ("2", [])
    ids = {phase: [step["id"] for step in steps] for phase, steps in plan["phases"].items()}
    assert set(ids["expand"]) == {"add-column:users.name", "add-column:users.tz"}
    assert set(ids["migrate"]) == {"fill:users.tz", "nick_to_name"}
    assert {"drop-column:users.nick", "set-not-null:users.tz"} <= set(ids["contract"])
    keys = {"id", "kind", "target", "phase", "description", "sql", "hazards", "gates", "reversible"}
    for steps in plan["phases"].values():
        assert all(keys <= set(step) for step in steps)
    [drop] = [step for step in plan["phases"]["contract"] if step["id"] == "drop-column:users.nick"]
    assert {"name", "open", "reason", "remedy"} <= set(drop["gates"][0])


def test_plan_as_table(project: Project) -> None:
    """The table names each step, what it does, its hazards and its gates; piped, it has no colour and is not cut."""
    lines = project.emc("plan").stdout
    for piece in (
        "EXPAND",
        "MIGRATE",
        "CONTRACT",
        "add-column:users.tz",
        "shut data-elsewhere",
        "loses-data",
    ):
        assert piece in lines
    assert "\x1b" not in lines
    assert max(map(len, lines.splitlines())) <= 120


def test_columns_of_a_pipe(sqlite_project: Project) -> None:
    """COLUMNS says how wide a table is that goes into a pipe; however narrow, no word is cut off or broken."""
    sqlite_project.execute(f"CREATE INDEX {LONG} ON users (id)")
    declared = sqlite_project.directory.joinpath("app.py").read_text()
    sqlite_project.write("app.py", f'{declared}\nupgrade.retire("users.{LONG}")\n')
    wide = sqlite_project.emc("plan", COLUMNS="200").stdout
    assert f"drop-index:users.{LONG}" in wide
    answers = [sqlite_project.emc("plan", COLUMNS=columns).stdout for columns in ("20", "60", "160")]
    for narrow in answers:
        assert sorted(narrow.split()) == sorted(wide.split())
    assert max(map(len, answers[-1].splitlines())) <= 160


def test_unmanaged_lines_can_be_pasted(sqlite_project: Project) -> None:
    """The line that declares an unmanaged element stands by itself, unwrapped, as JSON has it."""
    sqlite_project.execute(f"CREATE INDEX {LONG} ON users (id)")
    [declared] = [
        one["declare"] for one in sqlite_project.json("plan", "--upgrade", "app:upgrade")["unmanaged"]
    ]
    assert LONG in declared
    assert declared in sqlite_project.emc("plan", COLUMNS="40").stdout.splitlines()


def test_plan_as_sql(sqlite_project: Project) -> None:
    """What `plan --sql` prints for SQLite runs as it is, and leads to the new schema."""
    script = sqlite_project.emc("plan", "--sql").stdout
    connection = sqlite3.connect(sqlite_project.directory.parent / "emc.db", isolation_level=None)
    connection.executescript("\n".join(script.split("-- CONTRACT")[:1]))
    connection.close()
    assert sqlite_project.json("plan")["phases"]["expand"] == []


def test_empty_plan(sqlite_project: Project) -> None:
    """A plan with nothing in it says so."""
    sqlite_project.execute("DROP TABLE users")
    sqlite_project.emc("expand")
    assert "Nothing to do" in sqlite_project.emc("plan").stdout
    assert "Nothing to expand" in sqlite_project.emc("expand").stdout
    assert "Nothing to migrate" in sqlite_project.emc("migrate").stdout
    assert "Nothing to contract" in sqlite_project.emc("contract").stdout
    assert "nothing" in sqlite_project.emc("status").stdout


EVERY_FORM = """
from emc.cli import main
for form in (["--format", "table"], ["--format", "json"], ["--sql"]):
    main(["plan", *form], standalone_mode=False)
"""


def test_same_bytes_under_any_hash_seed(project: Project) -> None:
    """The same inputs give the same plan in every form, byte for byte, whatever the seed of Python's hashes."""
    project.execute(
        "CREATE TABLE zebra (id INTEGER NOT NULL PRIMARY KEY, a INTEGER, b INTEGER)",
        "CREATE INDEX i1 ON zebra (a)",
        "CREATE INDEX i2 ON zebra (b)",
        "ALTER TABLE users ADD COLUMN x INTEGER",
        "ALTER TABLE users ADD COLUMN y INTEGER",
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", EVERY_FORM],
            cwd=project.directory,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    }
    assert len(answers) == 1
    assert answers.pop().count(b"add-column:users.tz") >= 3


def test_reading_commands_write_nothing(project: Project) -> None:
    """plan, status and history leave no table behind."""
    for command in ("plan", "status", "history"):
        assert project.emc(command).exit_code == 0
    plan = project.json("plan", "--upgrade", "app:undeclared")
    assert [one["target"] for one in plan["unmanaged"]] == ["users.nick"]
    with pytest.raises(Exception, match="emc_ledger"):
        project.ask("SELECT count(*) FROM emc_ledger")


def test_status(project: Project) -> None:
    """Status tells rows done and left, what each shut gate asks for, and the next command."""
    project.emc("expand")
    project.emc("migrate", "--max-count", "2")
    status = project.json("status")
    [work] = [one for one in status["progress"] if one["id"] == "nick_to_name"]
    assert (work["rows_done"], work["rows_left"], work["complete"]) == (2, 1, False)
    assert status["next"] == "emc migrate"
    text = project.emc("status").stdout
    assert "Next: emc migrate" in text
    assert "  emc migrate --only nick_to_name" in text.splitlines()


def test_blocked_steps_are_explained(project: Project) -> None:
    """A blocked step is shown with its gate, the reason, the rows in the way, their first keys, and the remedy."""
    project.emc("expand")
    result = project.emc("contract", "--old-code-gone", "--only", "drop-column:users.nick")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert any("shut data-elsewhere:users.nick: " in line for line in lines)
    assert any("3 rows in the way" in line and "id=1" in line for line in lines)
    assert "  emc migrate --only nick_to_name" in lines
    [blocked] = project.json("contract", "--old-code-gone", "--only", "drop-column:users.nick")["blocked"]
    assert {gate["name"]: gate["rows"] for gate in blocked["gates"]}["data-elsewhere:users.nick"] == 3


def test_expand_tells_each_step(project: Project) -> None:
    """Expand says when a step begins and when it is done, and sums up at the end."""
    dry = project.emc("expand", "--dry-run").stdout
    assert "would run add-column:users.tz" in dry
    assert "expand: 2 would run." in dry
    lines = project.emc("expand").stdout.splitlines()
    assert any(line.startswith("  done: add-column:users.tz") for line in lines)
    assert "expand: 2 done." in lines


@pytest.mark.parametrize(("one", "other"), [("name", "tz"), ("tz", "name")])
def test_only_one_step(project: Project, one: str, other: str) -> None:
    """--only runs what it names and nothing else, of steps that share a statement too, whichever has it."""
    report = project.json("expand", "--only", f"add-column:users.{one}")
    assert report["done"] == [f"add-column:users.{one}"]
    assert [step["id"] for step in project.json("plan")["phases"]["expand"]] == [f"add-column:users.{other}"]


def test_migrate_answers(project: Project) -> None:
    """Migrate sums up rows done and left for each data migration; a dry run does nothing."""
    project.emc("expand")
    assert "nick_to_name: 3 rows left" in project.emc("migrate", "--dry-run").stdout
    assert project.json("migrate", "--dry-run")["dry_run"] is True
    assert project.ask("SELECT count(*) FROM users WHERE name IS NULL") == 3
    [result] = project.json("migrate", "--only", "nick_to_name", "--max-time", "30m", "--fast")["results"]
    assert (result["id"], result["outcome"], result["rows_done"]) == ("nick_to_name", "complete", 3)


def test_history(project: Project) -> None:
    """History shows what was done in order, newest last; JSON has all of it, and --limit the newest."""
    assert "nothing" in project.emc("history").stdout
    project.emc("expand")
    project.emc("migrate")
    project.emc("contract", "--old-code-gone")
    entries = project.json("history")
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    assert {"add-column:users.tz", "drop-column:users.nick"} <= {entry["operation"] for entry in entries}
    text = " ".join(project.emc("history").stdout.split())
    assert "drop-column:users.nick" in text
    # Proved in one go, or row by row behind a guard.
    assert re.search(
        r"data-elsewhere: (data migration nick_to_name|no rows of users that nick_to_name has left)", text
    )
    assert project.json("history", "--limit", "1") == entries[-1:]


def test_history_needs_no_upgrade(sqlite_project: Project) -> None:
    """The ledger belongs to the database: no upgrade has to be configured to read it."""
    sqlite_project.configure(url=sqlite_project.url)
    assert sqlite_project.emc("history").exit_code == 0


def test_brackets_are_no_markup(sqlite_project: Project) -> None:
    """Names with brackets are shown as they are, not taken for a style."""
    sqlite_project.execute('ALTER TABLE users ADD COLUMN "[red]x[/red]" INTEGER')
    plan = sqlite_project.emc("plan", "--upgrade", "app:undeclared")
    assert "[red]x[/red]" in plan.stdout


def test_json_is_alone_on_stdout(sqlite_project: Project) -> None:
    """In JSON mode the commands that run write one document, and no line of progress."""
    for command in (["expand"], ["migrate"], ["contract", "--old-code-gone"]):
        result = sqlite_project.emc(*command, "--format", "json")
        assert json.loads(result.stdout)["phase"] == command[0]
        assert result.stderr == ""
