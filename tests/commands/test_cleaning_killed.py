"""A contract that is killed in the middle of a clean-up is finished by the same command."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

import emc
from emc.errors import ExitCode
from tests.commands.cleaning import build, contract, upgrade


def run(engine: Engine, what: str, moment: int | None = None) -> subprocess.CompletedProcess[str]:
    """Contract in a process of its own, which kills itself at *moment*."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.commands.cleaning", url, what]
    return subprocess.run(
        command if moment is None else [*command, str(moment)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def state(engine: Engine) -> Any:
    """Every row, every index and every foreign key."""
    look = inspect(engine)
    with engine.connect() as connection:
        rows = [
            [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))]
            for table in ("users", "orders")
        ]
    indexes = sorted((one["name"], one["unique"]) for t in ("users", "orders") for one in look.get_indexes(t))
    return rows, indexes, [one["name"] for one in look.get_foreign_keys("orders")]


@pytest.mark.parametrize("what", ["merge", "orphans"])
@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_a_clean_up_that_is_killed_is_finished(request: pytest.FixtureRequest, kind: str, what: str) -> None:
    """Killed half-way through a group that is merged, or through orphans, it ends like an undisturbed run."""
    engine = create_engine(request.getfixturevalue(kind))
    build(engine, what)
    undisturbed = run(engine, what)
    assert undisturbed.returncode == ExitCode.DONE
    moments, expected = int(undisturbed.stdout), state(engine)
    if what == "merge":
        # The visits of all four, and their orders, are those of the newest.
        assert [visits for _, _, visits in expected[0][0]] == [4] * 11
        assert {order[1] for order in expected[0][1]} == {user[0] for user in expected[0][0]}
    else:
        assert {order[1] for order in expected[0][1]} == {None}
    # Behind some write, behind the next or the commit of its batch, and when the last row is done.
    for moment in (moments // 2, moments // 2 + 1, moments):
        build(engine, what)
        assert run(engine, what, moment).returncode < 0
        assert not emc.plan(upgrade(what), engine).is_empty
        assert contract(engine, what) == ExitCode.DONE
        assert state(engine) == expected
        assert emc.plan(upgrade(what), engine).is_empty
    engine.dispose()
