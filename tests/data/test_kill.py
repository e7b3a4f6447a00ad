"""A run that is killed at any moment goes on where its last commit was."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import Engine, create_engine, insert, text

from emc.dialects import dialect_of
from emc.state.progress import load
from emc.state.ranges import ranges
from tests.data.killed import ITEMS, upgrade
from tests.data.support import column, execute, migrate, only_work, rows
from tests.data.writers import Owner

ROWS = 1500
KILLS = int(os.environ.get("EMC_KILLS", "3"))
"""How often a run is killed beside writers; the nox session ``interruptions`` does it fifty times."""


def filled(engine: Engine, count: int = ROWS) -> None:
    """The table before the migration."""
    ITEMS.metadata.create_all(engine)
    execute(engine, "CREATE TABLE log (id INTEGER)")
    with engine.begin() as connection:
        connection.execute(insert(ITEMS), [{"id": n, "name": f"n{n}", "size": n % 7} for n in range(count)])


def run_until(
    database_url: str, how: str, batches: int | None = None, seconds: float = 0.0, workers: int = 1
) -> int:
    """Run the migration in a process of its own; kill it so many seconds after so many batches."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.data.killed", database_url, how, str(workers)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    with process.stdout:
        if batches is None:
            process.communicate()
            return process.returncode
        for _ in range(batches):
            process.stdout.readline()
        # Not to wait for anything, but to hit any part of the next batch.
        time.sleep(seconds)
        process.kill()
        return process.wait(timeout=120)


@pytest.mark.parametrize("how", ["sql", "function"])
def test_a_killed_run_ends_like_an_undisturbed_one(engine: Engine, database_url: str, how: str) -> None:
    """Killed at random moments again and again, every row is done exactly once, here and where a function wrote."""
    filled(engine)
    moments = random.Random(database_url)
    url = engine.url.render_as_string(hide_password=False)
    for _ in range(4):
        assert run_until(url, how, moments.randint(1, 12), moments.uniform(0, 0.02)) != 0
    assert run_until(url, how) == 0
    assert rows(engine, "SELECT id, size FROM items ORDER BY id") == [(n, n % 7 + 1000) for n in range(ROWS)]
    if how == "function":
        assert column(engine, "SELECT id FROM log ORDER BY id") == list(range(ROWS))
    with engine.connect() as connection:
        progress = load(connection, "m")
    assert progress is not None
    assert (progress.rows_done, progress.finished) == (ROWS, True)
    assert migrate(engine, only_work(upgrade(how), engine)).rows_done == 0


class Writers:
    """Threads that go on like an old release: they insert, change and delete rows until they are told to end."""

    def __init__(self, url: str, count: int) -> None:
        self.url = url
        self.over = threading.Event()
        self.problems: list[BaseException] = []
        self.threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _write(self, number: int) -> None:
        engine = create_engine(self.url)
        choose = random.Random(number)
        try:
            for turn in range(500):
                if self.over.is_set():
                    break
                some = choose.randrange(ROWS)
                statement = choose.choice(
                    [
                        "UPDATE items SET name = name || '!' WHERE id = :some",
                        "UPDATE items SET size = 5000 WHERE id = :some",
                        "DELETE FROM items WHERE id = :some AND id % 10 = 3",
                        "INSERT INTO items VALUES (:new, 'new', 1)",
                    ]
                )
                values: dict[str, Any] = {"some": some, "new": ROWS + turn * 10 + number}
                with engine.begin() as connection:
                    connection.execute(
                        text(statement), {k: v for k, v in values.items() if f":{k}" in statement}
                    )
        except BaseException as error:  # noqa: BLE001  # Told to the test, which fails.
            self.problems.append(error)
        finally:
            engine.dispose()


@pytest.mark.parametrize("how", ["sql", "function"])
def test_writers_notice_nothing_and_lose_nothing(postgresql_url: str, how: str) -> None:
    """While three connections write, no write of theirs fails or is lost, and no row is done twice or left out."""
    engine = create_engine(postgresql_url)
    filled(engine)
    work = only_work(upgrade(how), engine)
    with Writers(postgresql_url, 3) as writers:
        migrate(engine, work, small=50, max_time=10)
    assert writers.problems == []
    result = migrate(engine, work)
    assert result.outcome == "complete"
    sizes = rows(engine, "SELECT id, size FROM items WHERE size <> 5000")
    assert sizes
    # Whatever was inserted meanwhile began at 1.
    assert all(size == (number % 7 if number < ROWS else 1) + 1000 for number, size in sizes)
    assert column(engine, "SELECT count(*) FROM items WHERE size < 1000") == [0]
    engine.dispose()


@pytest.mark.parametrize("how", ["sql", "function"])
def test_killed_workers_end_like_an_undisturbed_one(engine: Engine, database_url: str, how: str) -> None:
    """With several workers, another number of them each time, killed again and again, every row is done once."""
    if not dialect_of(engine).concurrent_sessions:
        pytest.skip("one writer at a time")
    filled(engine)
    moments = random.Random(database_url)
    url = engine.url.render_as_string(hide_password=False)
    for workers in (3, 2, 4):
        assert run_until(url, how, moments.randint(3, 20), moments.uniform(0, 0.02), workers) != 0
    assert run_until(url, how, workers=2) == 0
    assert rows(engine, "SELECT id, size FROM items ORDER BY id") == [(n, n % 7 + 1000) for n in range(ROWS)]
    if how == "function":
        assert column(engine, "SELECT id FROM log ORDER BY id") == list(range(ROWS))
    with engine.connect() as connection:
        progress = load(connection, "m")
        assert ranges(connection, "m") == ()
    assert progress is not None
    assert (progress.rows_done, progress.finished) == (ROWS, True)


@pytest.mark.parametrize("how", ["sql", "function"])
def test_killed_beside_writers_it_ends_like_an_undisturbed_one(engine: Engine, how: str) -> None:
    """However often a run is killed while others write, each row is as its application left it, and migrated once."""
    count = 60 * KILLS
    filled(engine, count)
    moments = random.Random(how)
    url = engine.url.render_as_string(hide_password=False)
    kills = 0
    with Owner(url, [(n, f"n{n}", n % 7) for n in range(count)]) as owner:
        while kills < KILLS and not owner.problems:
            ended = run_until(url, how, moments.randint(0, 3), moments.uniform(0, 0.05))
            kills += ended == -signal.SIGKILL
    assert owner.problems == []
    assert owner.writes
    assert run_until(url, how) == 0
    found = {number: (name, size) for number, name, size in rows(engine, "SELECT id, name, size FROM items")}
    assert found == {number: (name, size + 1000) for number, (name, size) in owner.expected.items()}
    if how == "function":
        # What it wrote elsewhere is there once for each row, too.
        logged = Counter(column(engine, "SELECT id FROM log"))
        assert [n for n in owner.expected if n not in owner.resized and logged[n] != 1] == []
