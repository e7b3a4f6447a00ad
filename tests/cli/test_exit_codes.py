"""How does each command end?"""

import json
import os
import signal

import pytest

from emc.dialects import dialect_of
from emc.state.lease import acquire
from tests.cli.conftest import Project


def test_the_whole_way(project: Project) -> None:
    """From the first plan to the last, every command ends with the exit code that the design gives it."""
    assert project.emc("plan").exit_code == 0
    assert project.emc("contract").exit_code == 3
    assert project.emc("expand").exit_code == 0
    assert project.emc("expand").exit_code == 0
    assert project.emc("contract", "--old-code-gone", "--only", "drop-column:users.nick").exit_code == 3
    assert project.emc("migrate", "--max-count", "1").exit_code == 1
    assert project.ask("SELECT count(*) FROM users WHERE name IS NOT NULL") == 1
    assert project.emc("migrate").exit_code == 0
    assert project.emc("migrate").exit_code == 0
    assert project.emc("status").exit_code == 0
    assert project.emc("contract", "--old-code-gone").exit_code == 0
    final = project.json("plan")
    assert final["phases"] == {"expand": [], "migrate": [], "contract": []}
    assert project.ask("SELECT min(name) FROM users") == "nick 1"
    assert project.ask("SELECT min(tz) FROM users") == "UTC"


def test_rows_that_cannot_be_migrated_end_with_2(project: Project) -> None:
    """A row that fails is named with its error, the others are done, and the exit code is 2."""
    project.execute("UPDATE users SET nick = 'bad' WHERE id = 2")
    project.emc("expand")
    result = project.emc("migrate")
    assert result.exit_code == 2
    assert "row 2 failed" in result.stdout
    assert "cannot be a name" in result.stdout
    assert project.ask("SELECT count(*) FROM users WHERE name IS NOT NULL") == 2


def test_migrate_before_expand_ends_with_3(project: Project) -> None:
    """Where the schema is not there yet, migrate does nothing, says what comes first, and ends with 3."""
    result = project.emc("migrate")
    assert result.exit_code == 3
    assert "emc expand" in result.stdout


@pytest.mark.parametrize("command", ["expand", "contract", "migrate"])
def test_another_emc_at_work_ends_with_4(project: Project, command: str) -> None:
    """While another emc holds the lease, a command that would write changes nothing and ends with 4."""
    if command != "expand":
        assert project.emc("expand").exit_code == 0
    before = project.json("plan")
    with project.engine() as engine, acquire(engine, dialect_of(engine), command="emc test"):
        result = project.process(*([command, "--old-code-gone"] if command == "contract" else [command]))
    assert result.returncode == 4
    assert "emc test" in result.stderr
    assert project.json("plan") == before


def test_sigterm_ends_the_batch_and_then_5(project: Project) -> None:
    """SIGTERM in the middle of a batch lets it end and commit; nothing after it is begun, and the exit code is 5."""
    project.execute(*(f"INSERT INTO users VALUES ({n}, 'nick {n}')" for n in range(4, 1501)))
    project.emc("expand")
    result = project.process("migrate", TEST_SIGNALS="SIGTERM")
    assert result.returncode == 5
    assert "Stopping after this batch" in result.stderr
    assert project.ask("SELECT count(*) FROM users WHERE name IS NOT NULL") == 1000
    assert project.process("migrate").returncode == 0
    assert project.ask("SELECT count(*) FROM users WHERE name IS NULL") == 0


def test_a_second_sigint_interrupts_the_batch(project: Project) -> None:
    """A second Ctrl-C ends at once: the batch is rolled back, the lease is free again, and nobody sees a traceback."""
    project.emc("expand")
    result = project.process("migrate", TEST_SIGNALS="SIGINT SIGINT")
    assert result.returncode == 5
    assert "Traceback" not in result.stderr
    assert project.ask("SELECT count(*) FROM users WHERE name IS NOT NULL") == 0
    assert project.process("migrate").returncode == 0


def test_sigterm_interrupts_expand(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends expand and contract with 5, and gives the lease back."""

    def die(self: object, event: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr("emc.cli.running.Live.hear", die)
        result = project.emc("expand")
    assert result.exit_code == 5
    assert "Run the command again" in result.stderr
    assert project.emc("expand").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["plan", "--nonsense"],
        ["plan", "--format", "xml"],
        ["migrate", "--max-count", "0"],
        ["migrate", "--max-time", "soon"],
        ["contract", "--soak", "a while"],
        ["contract", "--override", "no-nulls:users.tz"],
        ["contract", "--reason", "because"],
        [
            "contract",
            "--override",
            "a",
            "--override",
            "b",
            "--override",
            "c",
            "--reason",
            "x",
            "--reason",
            "y",
        ],
        ["plan", "--sql", "--format", "json"],
        ["plan", "--phase", "expand"],
        ["history", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_usage_errors_end_with_2(sqlite_project: Project, arguments: list[str]) -> None:
    """A command line that makes no sense ends with 2 and a message on stderr, and stdout stays empty."""
    result = sqlite_project.emc(*arguments)
    assert result.exit_code == 2
    assert result.stderr
    assert not result.stdout


def test_usage_errors_as_json(sqlite_project: Project) -> None:
    """With --format json a usage error too is one JSON object on stderr."""
    result = sqlite_project.emc("migrate", "--format", "json", "--max-count", "many")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["error"] == "usage-error"


@pytest.mark.parametrize("command", ["expand", "migrate", "contract"])
def test_unknown_names_end_with_2(sqlite_project: Project, command: str) -> None:
    """--only with a name that the plan does not hold ends with 2, and says which names it holds."""
    result = sqlite_project.emc(command, "--only", "no-such-thing")
    assert result.exit_code == 2
    assert "nick_to_name" in result.stderr


def test_overrides_share_or_pair_reasons(sqlite_project: Project) -> None:
    """One reason serves several overrides, several pair with them, and the ledger keeps each with its gate."""
    sqlite_project.emc("expand")
    only = ["--only", "drop-column:users.nick"]
    [blocked] = sqlite_project.json("contract", *only, "--dry-run")["blocked"]
    gates = [gate["name"] for gate in blocked["gates"]]
    assert len(gates) >= 2
    overrides = [word for gate in gates for word in ("--override", gate)]
    paired = [word for gate in gates for word in ("--reason", f"because of {gate}")]
    assert sqlite_project.emc("contract", *only, *overrides, *paired, "--dry-run").exit_code == 0
    result = sqlite_project.emc("contract", *only, *overrides, "--reason", "agreed in the meeting")
    assert result.exit_code == 0
    found = {
        entry["details"]["gate"]: entry["details"]["reason"]
        for entry in sqlite_project.json("history")
        if entry["event"] == "overridden"
    }
    assert found == dict.fromkeys(gates, "agreed in the meeting")
