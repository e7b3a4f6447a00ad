"""How long does an application wait while the schema changes under it?

Readers and writers in a process of their own, each sending its next statement as soon as the last one is answered. The
worst wait is kept, and every error: both are what users notice.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool


@dataclass
class Waits:
    """What one kind of session went through."""

    statements: int = 0
    worst: float = 0.0
    """Seconds that the slowest statement took."""
    errors: list[str] = field(default_factory=list)


def _loop(url: str, sql: str, rows: int, stop: Any, waits: Waits, seed: int) -> None:
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    chance = random.Random(seed)
    statement = sa.text(sql)
    with engine.connect() as connection:
        while not stop.is_set():
            begun = time.perf_counter()
            try:
                connection.execute(statement, {"id": chance.randint(1, rows)}).close()
            except sa.exc.DBAPIError as error:
                waits.errors.append(str(error.orig))
            waits.statements += 1
            waits.worst = max(waits.worst, time.perf_counter() - begun)
    engine.dispose()


def _serve(url: str, kinds: Mapping[str, str], sessions: int, rows: int, pipe: Pipe) -> None:
    stop = threading.Event()
    found: dict[str, list[Waits]] = {}
    threads = []
    for kind, sql in kinds.items():
        for number in range(sessions):
            waits = Waits()
            found.setdefault(kind, []).append(waits)
            threads.append(threading.Thread(target=_loop, args=(url, sql, rows, stop, waits, number)))
    for thread in threads:
        thread.start()
    pipe.send("started")
    pipe.recv()
    stop.set()
    for thread in threads:
        thread.join()
    merged = {
        kind: Waits(
            sum(one.statements for one in several),
            max(one.worst for one in several),
            [error for one in several for error in one.errors],
        )
        for kind, several in found.items()
    }
    pipe.send(merged)


@contextmanager
def traffic(
    url: str, kinds: Mapping[str, str], *, rows: int, sessions: int = 2
) -> Iterator[dict[str, Waits]]:
    """Run an application while the block lasts; what it went through is in the dictionary afterwards.

    :param kinds: a statement for each kind of session, with ``:id`` for a random key.
    :param rows: keys go from 1 to this number.
    :param sessions: how many of each kind.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(url, dict(kinds), sessions, rows, there), daemon=True
    )
    process.start()
    here.recv()
    answer: dict[str, Waits] = {}
    try:
        yield answer
    finally:
        here.send("stop")
        answer.update(here.recv())
        process.join()


@contextmanager
def long_transaction(url: str, sql: str, seconds: float) -> Iterator[None]:
    """A report that has read the table and keeps its transaction open, for *seconds* or until the block ends."""
    engine = sa.create_engine(url, poolclass=NullPool)
    opened, over = threading.Event(), threading.Event()

    def report() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text(sql)).close()
            opened.set()
            over.wait(seconds)

    thread = threading.Thread(target=report)
    thread.start()
    opened.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
        engine.dispose()
