"""Does the same command finish what was killed at any statement?

Each run is a fork of the test's process that kills itself right before a statement is sent, or a transaction is
committed; so also right after whatever was sent before.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

import emc
from emc.data import BatchPolicy
from emc.errors import EmcError, ExitCode
from emc.testing.copying import copies
from emc.testing.failures import CheckFailedError, UnprovedWarning, missing
from emc.testing.snapshots import differences, everything
from emc.testing.wire import SCRATCH, WRITING
from emc.upgrade import Upgrade

__tracebackhide__ = True

COMMANDS: Final = ("expand", "migrate", "contract")
_COMMIT: Final = "COMMIT"
_CRASHED: Final = 70
"""Exit code of a run that raised what no person should see."""


@dataclass(frozen=True)
class _Run:
    """How a run ended."""

    status: int
    """Its exit code; of one that was killed, the signal with a minus."""
    moments: tuple[str, ...] = ()
    """The statements before which it could have been killed, cut short; ``COMMIT`` for the end of a transaction."""
    output: str = ""
    """What went wrong, if something did."""


def check_interruptions(
    engine: Engine, upgrade: Upgrade, *, commands: Sequence[str] = COMMANDS, most: int | None = 4
) -> None:
    """A run that is killed at a statement is finished by the same command, and ends like an undisturbed one.

    Columns that two undisturbed runs fill differently, with the time or a random number, are not compared; an
    :class:`UnprovedWarning` names them.

    :param engine: a database as the old release has it, with rows. Each run works on a copy of it.
    :param commands: which to interrupt, of expand, migrate and contract; those before them are run undisturbed.
    :param most: at how many moments each command is killed, spread evenly over those around a write; ``None``: at
        every one.
    :raises CheckFailedError: a rerun fails, or ends elsewhere; or the models name schemas that are not copied.
    :raises unittest.SkipTest: the operating system knows no fork.
    """
    if not hasattr(os, "fork"):
        missing(
            "this system cannot fork, so no run can be killed", remedy="Run this check on Linux or macOS."
        )
    elsewhere = [name for name in upgrade.schema_names if name is not None]
    if elsewhere and engine.dialect.name != "postgresql":
        raise CheckFailedError(
            f"A copy of this database does not hold {', '.join(elsewhere)}, so all runs would change the same tables.",
            facts=elsewhere,
            remedy="Elsewhere than on PostgreSQL a schema is a database of its own: check it there.",
        )
    url = engine.url
    for command in COMMANDS[: max(map(COMMANDS.index, commands)) + 1]:
        engine.dispose()  # A database is copied while nobody is connected to it.
        if command in commands:
            _interrupt(url, upgrade, command, most)
        ran = _run(url, upgrade, command)
        if ran.status == ExitCode.GATE_SHUT:
            break
        _demand_end(ran, command)


def _interrupt(url: URL, upgrade: Upgrade, command: str, most: int | None) -> None:
    shown = url.render_as_string(hide_password=False)
    with tempfile.TemporaryDirectory() as directory, copies(shown, Path(directory)) as copy:
        undisturbed = copy()
        whole = _run(undisturbed, upgrade, command)
        _demand_end(whole, command)
        later = time.monotonic() + 1
        expected = _everything(undisturbed, upgrade)
        restless: frozenset[tuple[str, str]] | None = None
        for moment in _chosen(whole.moments, most):
            one = copy()
            told = f"killed before statement {moment + 1} of {len(whole.moments)}: {whole.moments[moment]}"
            # In another second, so that what is filled with the time differs always, and not once in a while.
            time.sleep(max(0.0, later - time.monotonic()))
            killed = _run(one, upgrade, command, moment)
            if killed.status != -signal.SIGKILL:
                raise CheckFailedError(
                    f"emc {command} sends other statements in every run, so it was not {told}.\n{killed.output}",
                    facts=[whole.moments[moment]],
                    remedy="A function of a data migration that is not the same each time (the clock, a random number) "
                    "makes reruns differ: let it depend on its row alone.",
                )
            again = _run(one, upgrade, command)
            if again.status != whole.status:
                raise CheckFailedError(
                    f"emc {command}, {told}, is not finished by the same command:\n{again.output}",
                    facts=[whole.moments[moment]],
                    remedy="Please report it, unless a function of a data migration writes elsewhere by a connection of"
                    " its own: it has to use the one that it is given.",
                )
            found = _everything(one, upgrade)
            if differences(expected, found) and restless is None:
                other = copy()
                _demand_end(_run(other, upgrade, command), command)
                restless = _restless(expected, _everything(other, upgrade))
            changed = differences(_without(restless or (), expected), _without(restless or (), found))
            if changed:
                raise CheckFailedError(
                    f"emc {command}, {told}, and then run again, ends elsewhere than an undisturbed one:\n"
                    + "\n".join(f"  {line}" for line in changed),
                    facts=changed,
                    remedy="A data migration whose where= still holds for a row that is done does it twice.",
                )
    if restless:
        listed = ", ".join(sorted(f"{table}.{column}" for table, column in restless))
        warnings.warn(
            f"emc {command} gives {listed} other values in every run, be it the clock or a random number: that these"
            " end as they should after an interruption is not shown.",
            UnprovedWarning,
            stacklevel=3,
        )


def _restless(one: Mapping[str, Any], other: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Columns, behind their tables, whose values differ though both runs were undisturbed."""

    def values(ended: Mapping[str, Any], table: str, column: str) -> list[str]:
        return sorted(repr(row.get(column)) for row in ended["rows"].get(table, ()))

    return frozenset(
        (table, column)
        for table, rows in one["rows"].items()
        for column in {name for row in rows for name in row}
        if values(one, table, column) != values(other, table, column)
    )


def _without(columns: Collection[tuple[str, str]], ended: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a run *ended*, but for the values of *columns*."""
    rows = {
        table: sorted(
            ({name: value for name, value in row.items() if (table, name) not in columns} for row in rows),
            key=repr,
        )
        for table, rows in ended["rows"].items()
    }
    return {**ended, "rows": rows}


def _demand_end(ran: _Run, command: str) -> None:
    if ran.status not in (ExitCode.DONE, ExitCode.GATE_SHUT):
        raise CheckFailedError(f"emc {command} fails:\n{ran.output}", facts=[command])


_SCRATCH: Final = (SCRATCH, "pg_temp.")
"""Part of what is built only to see how the server spells it, and taken back."""


def _chosen(moments: Sequence[str], most: int | None) -> list[int]:
    """Moments around what changes something; all of them if *most* is ``None``."""
    if most is None:
        return list(range(len(moments)))
    near = {
        at + after
        for at, label in enumerate(moments)
        if label == _COMMIT or (label.startswith(WRITING) and not any(one in label for one in _SCRATCH))
        for after in (0, 1)
        if at + after < len(moments)
    }
    chosen = sorted(near)
    count = min(most, len(chosen))
    # In the middle of as many parts: the first ones of all are before anything has been done.
    return [chosen[(2 * number + 1) * len(chosen) // (2 * count)] for number in range(count)]


def _everything(url: str, upgrade: Upgrade) -> dict[str, Any]:
    with _engine(url) as engine:
        return everything(engine, upgrade.schema_names)


@contextmanager
def _engine(url: str | URL) -> Iterator[Engine]:
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    engine.dispose()


def _run(url: str | URL, upgrade: Upgrade, command: str, moment: int | None = None) -> _Run:
    """Run *command* in a fork, which is killed at a *moment*, counted from 0."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; of their locks only Python's own are taken here, which it frees.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _be_run(url, upgrade, command, moment, (reading, writing))
    try:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
    except BaseException:  # A time limit of the test, or Ctrl-C: nothing is to go on behind its back.
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, waited = os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(said) if said else {"moments": [], "output": ""}
    return _Run(os.waitstatus_to_exitcode(waited), tuple(answer["moments"]), answer["output"])


def _be_run(
    url: str | URL, upgrade: Upgrade, command: str, moment: int | None, ends: tuple[int, int]
) -> NoReturn:
    """Be the fork: run *command*, write into the pipe with these *ends* what is to say of it, and end."""
    status, output = _CRASHED, ""
    moments: list[str] = []
    reading, writing = ends
    try:
        os.close(reading)
        try:
            with _engine(url) as engine:
                _listen(engine, moments, moment)
                status = _command(command, upgrade, engine)
        except EmcError as error:
            status, output = int(error.exit_code), str(error)
        except BaseException:  # noqa: BLE001  # The parent shows it; this process ends either way.
            output = traceback.format_exc()
        with os.fdopen(writing, "w") as pipe:
            json.dump({"moments": moments, "output": output}, pipe)
    finally:
        # Also if the parent reads no more: its stack, with tests to come and servers to stop, is not to run twice.
        os._exit(status)


def _listen(engine: Engine, moments: list[str], moment: int | None) -> None:
    main = threading.main_thread()

    def meet(label: str) -> None:
        if threading.current_thread() is not main:
            return  # The heartbeat of the lease comes when it comes.
        if len(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        moments.append(label)

    @event.listens_for(engine, "before_cursor_execute")
    def sent(_: Connection, __: Any, statement: str, *___: Any) -> None:
        meet(" ".join(statement.split())[:80])

    @event.listens_for(engine, "commit")
    def committed(_: Connection) -> None:
        meet(_COMMIT)


def _command(command: str, upgrade: Upgrade, engine: Engine) -> int:
    if command == "expand":
        return int(emc.expand(upgrade, engine).exit_code)
    if command == "migrate":
        return int(emc.migrate(upgrade, engine, batch=BatchPolicy(fast=True)).exit_code)
    return int(emc.contract(upgrade, engine, old_code_gone=True).exit_code)
