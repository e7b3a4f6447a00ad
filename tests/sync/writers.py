"""Applications of two releases that write the same table, each in a process of its own.

The old one knows ``name`` and ``price``, the new one ``full_name`` and ``cents``. Each inserts, updates and deletes,
one row or several in a statement, names columns or leaves them out, and writes NULLs.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

COLUMNS = {"old": ("name", "price"), "new": ("full_name", "cents")}
"""By release: the text and the number that both releases mean by other columns."""
KINDS = (
    *("insert", "omit", "null-insert", "several", "text", "number", "both"),
    *("null", "unrelated", "range", "swap", "delete", "own-delete"),
)
"""What a writer may send."""
_OWN_IDS = 10_000_000
"""How many ids each writer has for what it inserts."""


@dataclass
class Told:
    """What one writer did."""

    statements: dict[str, int] = field(default_factory=dict)
    """How many took effect, by kind."""
    given_way: int = 0
    """How many lost to a lock or deadlock, as applications have to expect."""
    errors: list[str] = field(default_factory=list)
    """What no application expects."""


def engine_for(url: str) -> Engine:
    """An engine as an application has it: patient, and on SQLite without a flush for each commit."""
    if not url.startswith("sqlite"):
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": 120})

    @event.listens_for(engine, "connect")
    def quickly(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    return engine


def _statements(
    release: str, number: int, rows: int, chance: random.Random
) -> Iterator[tuple[str, str, Any]]:
    """One statement after the other: its kind, its text and its parameters."""
    name, price = COLUMNS[release]
    own = number * _OWN_IDS
    while True:
        value = {"t": f"{release} {chance.randrange(1000)}", "n": chance.randrange(1000) * 100}
        # Half of them meet at a few rows.
        hot = chance.random() < 0.5
        at = {"id": chance.randrange(1, 1 + (min(rows, 50) if hot else rows))}
        last = at["id"] + chance.randrange(20)
        kind = chance.choice(KINDS)
        match kind:
            case "insert":
                own += 1
                yield (
                    kind,
                    f"INSERT INTO items (id, {name}, {price}) VALUES (:id, :t, :n)",
                    {"id": own, **value},
                )
            case "omit":
                own += 1
                yield kind, f"INSERT INTO items (id, {name}) VALUES (:id, :t)", {"id": own, "t": value["t"]}
            case "null-insert":
                own += 1
                yield (
                    kind,
                    f"INSERT INTO items (id, {name}, {price}) VALUES (:id, NULL, :n)",
                    {
                        "id": own,
                        "n": value["n"],
                    },
                )
            case "several":
                own += 3
                yield (
                    kind,
                    f"INSERT INTO items (id, {name}, {price}) VALUES (:a, :t, :n), (:b, NULL, :n), (:c, :t, NULL)",
                    {"a": own - 2, "b": own - 1, "c": own, **value},
                )
            case "text":
                yield kind, f"UPDATE items SET {name} = :t WHERE id = :id", {**at, "t": value["t"]}
            case "number":
                yield kind, f"UPDATE items SET {price} = :n WHERE id = :id", {**at, "n": value["n"]}
            case "both":
                yield kind, f"UPDATE items SET {name} = :t, {price} = :n WHERE id = :id", {**at, **value}
            case "null":
                yield kind, f"UPDATE items SET {name} = NULL, {price} = NULL WHERE id = :id", at
            case "unrelated":
                yield kind, "UPDATE items SET visits = visits + 1 WHERE id = :id", at
            case "range":
                yield (
                    kind,
                    f"UPDATE items SET {name} = :t WHERE id BETWEEN :id AND :last",
                    {**at, "last": last, "t": value["t"]},
                )
            case "swap":
                yield (
                    kind,
                    f"UPDATE items SET {name} = UPPER({name}), {price} = {price} + 100 WHERE id = :id",
                    at,
                )
            case "delete":
                yield kind, "DELETE FROM items WHERE id = :id", at
            case _:
                yield kind, "DELETE FROM items WHERE id = :id", {"id": max(own - chance.randrange(20), 1)}


_LOST = {1020, 1205, 1213, "40001", "40P01", "55P03", "database is locked"}
"""How servers call a lock that is not to be had and a deadlock."""


def _loses(error: DBAPIError) -> bool:
    arguments = error.orig.args if error.orig is not None else ()
    return bool(_LOST & {*arguments[:1], getattr(error.orig, "sqlstate", None)})


def _write(url: str, release: str, number: int, rows: int, least: int, pipe: Pipe) -> None:
    engine, told = engine_for(url), Told()
    chance = random.Random(number)
    done = 0
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT 1")).close()
        pipe.send("started")
        for kind, statement, parameters in _statements(release, number, rows, chance):
            try:
                connection.execute(text(statement), parameters)
            except DBAPIError as error:
                if _loses(error):
                    told.given_way += 1
                else:
                    told.errors.append(f"{statement} {parameters}: {error.orig}")
            else:
                told.statements[kind] = told.statements.get(kind, 0) + 1
            done += 1
            if (pipe.poll() and done >= least) or len(told.errors) > 10:
                break
    pipe.send(told)
    engine.dispose()


class Writers:
    """Three of the old release and three of the new one.

    :param rows: ids from 1 to this are there for all of them.
    :param least: how many statements each sends at least.
    """

    def __init__(self, url: str, *, rows: int, least: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes = []
        self.told: list[Told] = []
        for number, release in enumerate(("old", "new") * 3, start=1):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_write, args=(url, release, number, rows, least, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            assert pipe.recv() == "started"

    def stop(self) -> list[Told]:
        """End them, and answer what each of them did."""
        for pipe in self._pipes:
            pipe.send("stop")
        self.told = [pipe.recv() for pipe in self._pipes]
        for process in self._processes:
            process.join()
        return self.told


@contextmanager
def writing(url: str, *, rows: int, least: int) -> Iterator[Writers]:
    """Six writers, as long as the block lasts."""
    writers = Writers(url, rows=rows, least=least)
    try:
        yield writers
    finally:
        if not writers.told:
            writers.stop()
