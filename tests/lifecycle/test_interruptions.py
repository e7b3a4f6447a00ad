"""A run that is killed at any moment is finished by the same command, and ends like an undisturbed one."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

import emc
from emc.errors import ExitCode
from emc.testing.copying import copies
from emc.testing.snapshots import everything
from tests.lifecycle.pairs_mixed import SHOP
from tests.lifecycle.rig import ALONE, COMMIT, CUT_OFF, CUT_OFF_AFTER, INTERRUPTIONS, KILLED, Rig, rig
from tests.lifecycle.ritual import (
    Release,
    build_old,
    enforce_foreign_keys,
    modelled,
    upgrade_of,
)

COMMANDS = ("expand", "migrate", "contract")
"""In their order."""
UNDO = "undo"
"""Which comes after expand, in the place of the others."""
UNCHECKED = "SET STATEMENT foreign_key_checks=0 FOR "
"""How a statement begins on MariaDB that looks at no row."""
WRITING = ("CREATE", "ALTER", "DROP", "COMMENT", "DO", "INSERT", "UPDATE", "DELETE", "LOCK")
STRIDE = 60
"""Every how-manieth other moment is tried; all of them with ``EMC_ALL_MOMENTS=1``."""
MOST = {"mariadb": 5, "postgresql": 4, "sqlite": 8}
"""How many are tried, spread evenly, since each takes seconds; all as above."""
FEW = 6
"""So many kinds of statement meet each of the interruptions."""
SHAPES = ("postgresql",)
"""Databases on which statements that differ in names only count as one, and each meets one of the interruptions;
all as above."""

OWN_TABLES = re.compile(r"emc_(?!guard_|new_|nn_)")
"""What belongs to emc itself in a statement, and not to the user's schema."""


@contextmanager
def connected(url: str) -> Iterator[Engine]:
    """An engine that leaves no connection behind."""
    engine = create_engine(url, poolclass=NullPool)
    enforce_foreign_keys(engine)
    yield engine
    engine.dispose()


def state(url: str) -> dict[str, Any]:
    """Everything that a run is to bring about: the schema, and every row that is not emc's own."""
    with connected(url) as engine:
        return everything(engine)


def shape_of(label: str) -> str:
    """The statement without its names and values."""
    return " ".join(re.findall(r"alone:|\b[A-Z]{2,}\b", label))


def moments_to_try(moments: tuple[str, ...], url: str, interruption: str) -> list[int]:
    """Every moment before and after a statement that changes the schema or the data, and some of the others.

    After a statement of a transaction is before the COMMIT: nothing that a crash could keep happens in between.
    """
    database = make_url(url).get_backend_name()
    if os.environ.get("EMC_ALL_MOMENTS"):
        return list(range(len(moments)))

    def changes(label: str) -> bool:
        # emc's own tables are among the others, and so is what is built to learn its spelling and taken away again.
        verb = label.removeprefix(ALONE).removeprefix(UNCHECKED).split(" ", maxsplit=1)[0].upper()
        return verb in WRITING and "pg_temp" not in label and OWN_TABLES.search(label) is None

    tried = set(range(0, len(moments), STRIDE))
    pending = False
    for position, label in enumerate(moments):
        if changes(label):
            tried.add(position)
            if label.startswith(ALONE):
                tried.add(position + 1)
            else:
                pending = True
        elif label == COMMIT and pending:
            tried |= {position, position + 1}
            pending = False
    chosen = sorted(position for position in tried if position < len(moments))
    if database in SHAPES:
        # By what came before as well, which is what a crash there could spoil.
        shapes = {
            (shape_of(moments[position]), shape_of(moments[position - 1])): position
            for position in reversed(chosen)
            if position % STRIDE
        }
        chosen = sorted(shapes.values())
        if len(chosen) > FEW:
            chosen = chosen[INTERRUPTIONS.index(interruption) :: len(INTERRUPTIONS)]
    most = min(MOST.get(database, len(chosen)), len(chosen))
    return [chosen[number * len(chosen) // most] for number in range(most)]


def prepared(url: str, command: str, process: Rig) -> None:
    """Bring the database to where *command* is the next one."""
    with connected(url) as engine:
        build_old(SHOP, engine)
        Release(modelled(SHOP.old), SHOP.old_work).exercise(engine, 1000)
    for earlier in ("expand",) if command == UNDO else COMMANDS[: COMMANDS.index(command)]:
        assert process.run(url, earlier).status == ExitCode.DONE


def assert_old_release_works(url: str) -> None:
    """Whatever a crash has left, the old release goes on working on it."""
    old = Release(modelled(SHOP.old), SHOP.old_work)
    with connected(url) as engine, engine.connect() as connection:
        for statement in old.work(old.tables, 7000):
            connection.execute(statement)
        connection.rollback()


@pytest.mark.parametrize("command", [*COMMANDS, UNDO])
def test_killed_at_any_moment(database_url: str, command: str, tmp_path: Path) -> None:
    """Killed right before any statement or commit, the run is finished by the same command, to the same end."""
    with rig() as process, copies(database_url, tmp_path) as copy:
        prepared(database_url, command, process)
        undisturbed = copy()
        answer = process.run(undisturbed, command)
        assert (answer.status, answer.output) == (ExitCode.DONE, "")
        expected = state(undisturbed)
        tried = moments_to_try(answer.moments, database_url, KILLED)
        assert len(tried) > 2
        for moment in tried:
            url = copy()
            told = f"killed at {moment} of {len(answer.moments)}, before {answer.moments[moment]}"
            assert process.run(url, command, moment).status == -signal.SIGKILL, told
            if command != "contract":
                assert_old_release_works(url)
            again = process.run(url, command)
            assert (again.status, again.output) == (ExitCode.DONE, ""), told
            assert state(url) == expected, told
            if moment % STRIDE == 0 or moment == tried[0]:
                with connected(url) as engine:
                    nothing_left_of(command, engine)


@pytest.mark.parametrize("interruption", [CUT_OFF, CUT_OFF_AFTER])
@pytest.mark.parametrize("command", [*COMMANDS, UNDO])
def test_cut_off_at_any_moment(database_url: str, command: str, interruption: str, tmp_path: Path) -> None:
    """Cut off by the server before or after any statement, the run ends well, or says why and a rerun finishes it."""
    if make_url(database_url).get_backend_name() == "sqlite":
        pytest.skip("no server stands between emc and SQLite")
    with rig() as process, copies(database_url, tmp_path) as copy:
        prepared(database_url, command, process)
        undisturbed = copy()
        answer = process.run(undisturbed, command)
        assert (answer.status, answer.output) == (ExitCode.DONE, "")
        expected = state(undisturbed)
        tried = moments_to_try(answer.moments, database_url, interruption)
        assert len(tried) > 2
        for moment in tried:
            url = copy()
            told = f"{interruption} at {moment} of {len(answer.moments)}: {answer.moments[moment]}"
            first = process.run(url, command, moment, interruption)
            assert first.status in (ExitCode.DONE, ExitCode.ERROR, ExitCode.LOCK_BUDGET), (told, first.output)
            assert (first.status == ExitCode.DONE) is (first.output == ""), told
            if first.status != ExitCode.DONE:
                again = process.run(url, command)
                assert (again.status, again.output) == (ExitCode.DONE, ""), told
            assert state(url) == expected, told


def nothing_left_of(command: str, engine: Engine) -> None:
    """The plan has nothing left for *command*."""
    if command == UNDO:
        assert emc.undo(upgrade_of(SHOP), engine, new_code_gone=True, dry_run=True).steps == ()
        return
    plan = emc.plan(upgrade_of(SHOP), engine).plan
    assert plan.expand == ()
    if command != "expand":
        assert plan.work == ()
    if command == "contract":
        assert plan.contract == ()
