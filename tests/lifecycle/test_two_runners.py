"""Of two runners that start the same command at once, one works, and the end is that of one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from emc.errors import ExitCode
from tests.lifecycle.copies import copies
from tests.lifecycle.rig import rig
from tests.lifecycle.test_interruptions import COMMANDS, connected, nothing_left_of, prepared, state


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
            statuses = sorted(answer.status for answer in answers)
            assert statuses in ([ExitCode.DONE, ExitCode.DONE], [ExitCode.DONE, ExitCode.LOCK_BUDGET]), (
                answers
            )
            for answer in answers:
                if answer.status == ExitCode.LOCK_BUDGET:
                    assert answer.output.startswith("lease-held-error: ")
            assert state(url) == expected
            with connected(url) as engine:
                nothing_left_of(command, engine)
