"""Is everything that the command line offers written down?"""

from pathlib import Path

import click
import pytest

from emc.cli import main
from emc.errors import ExitCode

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.rst"
NAMES = [
    "plan",
    "status",
    "expand",
    "migrate",
    "pause",
    "resume",
    "stop",
    "contract",
    "undo",
    "history",
    "quickstart",
]


def section(name: str) -> str:
    """The section of the reference about a command."""
    _, found, rest = REFERENCE.read_text().partition(f"\nemc {name}\n---")
    assert found, f"emc {name} has no section"
    lines = rest.splitlines()
    end = next((at for at, line in enumerate(lines) if at and set(line) == {"-"}), len(lines) + 1)
    return "\n".join(lines[: end - 1])


def test_commands() -> None:
    """The command line has exactly the commands that this test knows, so none escapes it."""
    assert sorted(main.commands) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_is_documented(name: str) -> None:
    """The reference has a section for each command, with each of its own options and arguments."""
    command = main.commands[name]
    common = {"--upgrade", "--url", "--format", "--traceback"}
    text = section(name)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            if not common & set(parameter.opts):
                assert f"``{parameter.opts[0]}" in text, f"emc {name} {parameter.opts[0]}"
        else:
            assert f"``{str(parameter.name).upper()}``" in text


def test_common_options_are_documented() -> None:
    """The options that every command takes are documented once."""
    text = REFERENCE.read_text()
    for option in ("--upgrade", "--url", "--format", "--traceback", "--version"):
        assert f"``{option}" in text


def test_exit_codes_are_documented() -> None:
    """The reference lists every exit code."""
    text = REFERENCE.read_text()
    for code in ExitCode:
        assert f"   * - {int(code)}\n" in text


@pytest.mark.parametrize("name", NAMES)
def test_help_tells_exit_codes(name: str) -> None:
    """--help of each command says how it ends."""
    command = main.commands[name]
    assert "Exit code" in (command.help or "")
    assert command.short_help
