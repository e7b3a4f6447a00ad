"""Does a run that is killed on purpose leave everything else alone?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from sqlalchemy import create_engine

from emc.testing import CheckFailedError, check_interruptions, interrupting
from tests.testing.shop import upgrade

CUT_OFF = """
from emc.testing import interrupting

def refuse(*_):
    raise BrokenPipeError

interrupting.json.dump = refuse
try:
    interrupting._run("sqlite://", None, "expand")
finally:
    print("the rest of the tests")
"""


def test_fork_that_is_not_listened_to() -> None:
    """A fork that cannot say how it ended ends all the same, and does not go on with what its parent has to do."""
    ran = subprocess.run([sys.executable, "-c", CUT_OFF], capture_output=True, text=True, check=True)
    assert ran.stdout == "the rest of the tests\n"


def test_parent_that_stops_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit that ends a test ends the run that it waits for, and leaves no zombie."""
    forks: list[int] = []
    fork = os.fork

    def seen() -> int:
        forks.append(fork())
        return forks[-1]

    def too_late(*_: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(os, "fork", seen)
    monkeypatch.setattr(interrupting, "_command", lambda *_: time.sleep(30))
    before = signal.signal(signal.SIGALRM, too_late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(TimeoutError):
            interrupting._run("sqlite://", upgrade(), "expand")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(forks[0], os.WNOHANG)


def test_commands_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order they are named in, each command is interrupted after those that come before it in an upgrade."""
    met: list[str] = []
    monkeypatch.setattr(interrupting, "_interrupt", lambda *given: met.append(given[2]))
    monkeypatch.setattr(interrupting, "_run", lambda *_: interrupting._Run(0))
    check_interruptions(create_engine("sqlite://"), upgrade(), commands=("contract", "expand"))
    assert met == ["expand", "contract"]


def test_work_that_is_done_twice(monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> None:
    """A value that only an interrupted run makes fails the check, also beside one that differs in every run."""

    def ended(counted: int, at: int) -> dict[str, Any]:
        return {"rows": {"visits": [{"id": 1, "counted": counted, "at": at}]}}

    ends = iter([ended(1, at=5), ended(2, at=6), ended(1, at=7)])
    runs = iter([0, 0, -signal.SIGKILL, 0, 0])  # The first is expand.
    monkeypatch.setattr(interrupting, "_everything", lambda *_: next(ends))
    monkeypatch.setattr(interrupting, "_run", lambda *_: interrupting._Run(next(runs), ("UPDATE visits",)))
    engine = create_engine(sqlite_url)
    engine.connect().close()
    with pytest.raises(CheckFailedError, match="ends elsewhere than an undisturbed one") as caught:
        check_interruptions(engine, upgrade(), commands=["migrate"], most=1)
    assert caught.value.facts == (
        "rows.visits: was {'id': 1, 'counted': 1}",
        "rows.visits: is {'id': 1, 'counted': 2}",
    )
