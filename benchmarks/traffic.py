"""How long does an application wait while the schema changes under it?

Readers and writers, each in a process of its own, each sending its next statement as soon as the last one is answered.
Every statement is noted down with the moment at which it was sent, and every error: both are what users notice.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool


@dataclass
class Waits:
    """What one kind of session went through."""

    begun: array[float] = field(default_factory=lambda: array("d"))
    """When each statement was sent, by the clock of :func:`time.perf_counter`, which processes of one host share."""
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """How long each of them took."""
    errors: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """Seconds that the slowest statement took."""
        return max(self.seconds, default=0.0)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Moment and length of each statement."""
        return zip(self.begun, self.seconds, strict=True)

    def add(self, other: Waits) -> None:
        """Put what another session of the same kind went through to this."""
        self.begun.extend(other.begun)
        self.seconds.extend(other.seconds)
        self.errors.extend(other.errors)


def _loop(url: str, sql: str, rows: int, pause: float, seed: int, pipe: Pipe) -> None:
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    chance = random.Random(seed)
    statement = sa.text(sql)
    waits = Waits()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).close()
        pipe.send("started")
        while not pipe.poll(pause):
            begun = time.perf_counter()
            try:
                connection.execute(statement, {"id": chance.randint(1, rows)}).close()
            except sa.exc.DBAPIError as error:
                waits.errors.append(str(error.orig))
            waits.begun.append(begun)
            waits.seconds.append(time.perf_counter() - begun)
    engine.dispose()
    pipe.send(waits)


def _start(*arguments: Any) -> tuple[BaseProcess, Pipe]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_loop, args=(*arguments, there), daemon=True
    )
    process.start()
    there.close()
    return process, here


@contextmanager
def traffic(
    url: str, kinds: Mapping[str, str], *, rows: int, sessions: int = 2, pause: float = 0.0
) -> Iterator[dict[str, Waits]]:
    """Run an application while the block lasts; what it went through is in the dictionary afterwards.

    :param kinds: a statement for each kind of session, with ``:id`` for a random key.
    :param rows: keys go from 1 to this number.
    :param sessions: how many of each kind.
    :param pause: seconds between an answer and the next statement. Without any the processors are what everybody
        waits for.
    """
    answer = {kind: Waits() for kind in kinds}
    running = [
        (kind, *_start(url, sql, rows, pause, number))
        for kind, sql in kinds.items()
        for number in range(sessions)
    ]
    for _, _, pipe in running:
        pipe.recv()
    try:
        yield answer
    finally:
        for _, _, pipe in running:
            pipe.send("stop")
        for kind, process, pipe in running:
            answer[kind].add(pipe.recv())
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
