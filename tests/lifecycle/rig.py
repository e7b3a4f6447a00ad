"""Runs commands of emc that are killed, or cut off, at a chosen moment: ``python -m tests.lifecycle.rig``.

A moment is right before a statement is sent, or right before a transaction is committed; so it is also right after
whatever was sent before. A process is killed there, or its session is, by the server: before the statement, or once
it has been carried out and before emc hears of it. Each command runs in a fork of this process, which has everything
imported already. Orders come as lines of JSON on standard input, and answers go as lines of JSON to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

import emc
from emc.data import BatchPolicy
from emc.errors import EmcError
from emc.testing.wire import commits_by_itself
from tests.lifecycle.pairs import Pair
from tests.lifecycle.pairs_mixed import SHOP
from tests.lifecycle.ritual import enforce_foreign_keys, upgrade_of

COMMIT = "COMMIT"
ALONE = "alone: "
"""What the name of a moment begins with where the statement commits by itself."""

KILLED = "killed"
CUT_OFF = "cut off"
CUT_OFF_AFTER = "cut off after"
INTERRUPTIONS = (KILLED, CUT_OFF, CUT_OFF_AFTER)
CRASHED = 70
"""Exit code of a command that raised what no person should see."""


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    """Its exit code; of one that was killed, the signal with a minus."""
    moments: tuple[str, ...]
    """The statements before which it could have been killed, cut short; ``COMMIT`` for the end of a transaction."""
    output: str
    """What went wrong, if something did."""


def run_command(pair: Pair, command: str, engine: Engine) -> int:
    """Run one phase; answer the exit code."""
    upgrade = upgrade_of(pair)
    if command == "expand":
        return int(emc.expand(upgrade, engine).exit_code)
    if command == "migrate":
        return int(emc.migrate(upgrade, engine, batch=BatchPolicy(fast=True)).exit_code)
    if command == "undo":
        return int(emc.undo(upgrade, engine, new_code_gone=True).exit_code)
    return int(emc.contract(upgrade, engine, old_code_gone=True).exit_code)


def cut_off(connection: Connection) -> None:
    """Let the server end the session of *connection*."""
    raw: Any = connection.connection.dbapi_connection
    postgresql = connection.dialect.name == "postgresql"
    kill = f"SELECT pg_terminate_backend({raw.info.backend_pid})" if postgresql else f"KILL {raw.thread_id()}"
    other = create_engine(connection.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with other.connect() as operator:
        operator.exec_driver_sql(kill)


def _obey(order: dict[str, Any], moments: list[str]) -> int:
    engine = create_engine(order["url"])
    enforce_foreign_keys(engine)
    main = threading.main_thread()

    def moment(label: str, connection: Connection, carry_out: Callable[[], object]) -> None:
        if threading.current_thread() is not main:
            return  # The heartbeat of the lease comes when it comes.
        interruption = order["interruption"] if len(moments) == order["moment"] else None
        moments.append(label)
        if interruption == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if interruption == CUT_OFF_AFTER:
            carry_out()
        if interruption is not None:
            cut_off(connection)

    @event.listens_for(engine, "before_cursor_execute")
    def sent(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        alone = ALONE if commits_by_itself(connection) else ""

        def carry_out() -> None:
            if many:
                cursor.executemany(statement, parameters)
            elif context is not None and not parameters and context.execution_options.get("no_parameters"):
                cursor.execute(statement)
            else:
                cursor.execute(statement, parameters)

        moment(alone + " ".join(statement.split())[:80], connection, carry_out)

    @event.listens_for(engine, "commit")
    def committed(connection: Connection) -> None:
        moment(COMMIT, connection, connection.connection.commit)

    try:
        return run_command(SHOP, order["command"], engine)
    finally:
        engine.dispose()


def _in_a_fork(order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        moments: list[str] = []
        status, output = CRASHED, ""
        try:
            status = _obey(order, moments)
        except EmcError as error:
            status, output = int(error.exit_code), f"{error.name}: {error}"
        except BaseException:  # noqa: BLE001  # The parent shows it; this process ends either way.
            output = traceback.format_exc()
        with os.fdopen(writing, "w") as pipe:
            json.dump({"moments": moments, "output": output}, pipe)
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, waited = os.waitpid(child, 0)
    return {"moments": [], "output": "", **(json.loads(text) if text else {})} | {
        "status": os.waitstatus_to_exitcode(waited)
    }


class Rig:
    """The process that runs commands, from the outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, url: str, command: str, moment: int | None = None, interruption: str = KILLED) -> None:
        """Let *command* begin.

        Args:
            url: the database.
            command: ``expand``, ``migrate``, ``contract`` or ``undo``.
            moment: when it is interrupted, counted from 0; ``None``: it is left alone.
            interruption: what happens then, one of `INTERRUPTIONS`.
        """
        assert self._process.stdin is not None
        order = {"url": url, "command": command, "moment": moment, "interruption": interruption}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self) -> Answer:
        """Wait until the command that was started has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line)
        return Answer(answer["status"], tuple(answer["moments"]), answer["output"])

    def run(self, url: str, command: str, moment: int | None = None, interruption: str = KILLED) -> Answer:
        """Run *command*, see `start`, to its end."""
        self.start(url, command, moment, interruption)
        return self.end()


@contextmanager
def rig() -> Iterator[Rig]:
    """A process that runs commands, while the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lifecycle.rig"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Rig(process)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_in_a_fork(json.loads(line))), flush=True)  # noqa: T201  # The answer.
