"""Of two runners that start the same command at once, one works, and the end is that of one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from emc.errors import ExitCode
from emc.testing.copying import copies
from tests.lifecycle.rig import Answer, rig
from tests.lifecycle.test_interruptions import COMMANDS, connected, nothing_left_of, prepared, state


def assert_done_or_told(answer: Answer) -> None:
    """The command did its work, or said that another one is at work."""
    assert answer.status in (ExitCode.DONE, ExitCode.LOCK_BUDGET), answer
    assert (answer.status == ExitCode.DONE) is (answer.output == ""), answer
    if answer.status == ExitCode.LOCK_BUDGET:
        assert answer.output.startswith("lease-held-error: "), answer


@pytest.mark.parametrize("command", COMMANDS)
def test_two_at_once(database_url: str, command: str, tmp_path: Path) -> None:
    """One works; the other finds the lease held, or nothing left to do. The result is that of an undisturbed run."""
    with rig() as one, rig() as other, copies(database_url, tmp_path) as copy:
        prepared(database_url, command, one)
        undisturbed = copy()
        assert one.run(undisturbed, command).status == ExitCode.DONE
        expected = state(undisturbed)
        for _ in range(3):
            url = copy()
            one.start(url, command)
            other.start(url, command)
            answers = [one.end(), other.end()]
            assert ExitCode.DONE in [answer.status for answer in answers], answers
            for answer in answers:
                assert_done_or_told(answer)
            assert state(url) == expected
            with connected(url) as engine:
                nothing_left_of(command, engine)


TOO_EARLY = (ExitCode.DONE, ExitCode.GATE_SHUT, ExitCode.LOCK_BUDGET)
"""How a command may end that has to wait for another one: with nothing to do, behind a gate, or without the lease."""


@pytest.mark.parametrize(
    ("first", "second"), [("expand", "contract"), ("migrate", "contract"), ("expand", "migrate")]
)
def test_different_commands_at_once(database_url: str, first: str, second: str, tmp_path: Path) -> None:
    """The later phase beside the earlier one finds the lease held, a gate shut, or nothing that it could do yet.

    Whoever comes too early does nothing; the commands in their order bring about the end of an undisturbed upgrade.
    """
    with rig() as one, rig() as other, copies(database_url, tmp_path) as copy:
        prepared(database_url, first, one)
        left = COMMANDS[COMMANDS.index(first) :]
        undisturbed = copy()
        for command in left:
            assert one.run(undisturbed, command).status == ExitCode.DONE
        expected = state(undisturbed)
        url = copy()
        # The one that has to wait for the other begins.
        other.start(url, second)
        one.start(url, first)
        early, answer = other.end(), one.end()
        assert_done_or_told(answer)
        assert early.status in TOO_EARLY, early
        for command in left:
            answer = one.run(url, command)
            assert (answer.status, answer.output) == (ExitCode.DONE, ""), command
        assert state(url) == expected
        with connected(url) as engine:
            nothing_left_of("contract", engine)
