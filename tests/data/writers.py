"""Applications that write while rows are migrated, and know what has to come of it."""

import random
import threading
from collections.abc import Sequence
from typing import Any, Self

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool


class Owner:
    """Threads that insert, change and delete rows of their own, and remember what they wrote.

    Each row is written to by one of them, so what it was last is what it has to be in the end, as far as the
    application is concerned: its name, and a size that the migration counts up once.
    """

    def __init__(self, url: str, rows: Sequence[tuple[int, str, int]], threads: int = 3) -> None:
        self.url = url
        self.expected = {number: (name, size) for number, name, size in rows}
        self.resized: set[int] = set()
        """Rows that were work a second time, or may have been."""
        self.writes = 0
        self.problems: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one, threads)) for one in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int, threads: int) -> None:
        engine = create_engine(self.url, poolclass=NullPool)
        choose = random.Random(number)
        own = [row for row in self.expected if row % threads == number]
        fresh = max(self.expected) // threads * threads + threads + number
        try:
            # So many times a second: an application leaves the processors to others, too.
            while not self._over.wait(0.005):
                fresh += threads
                self._write(engine, choose, own, fresh)
        except BaseException as error:  # noqa: BLE001  # Told to the test, which fails.
            self.problems.append(error)
        finally:
            engine.dispose()

    def _write(self, engine: Engine, choose: random.Random, own: list[int], fresh: int) -> None:
        some = choose.choice(own)
        name = f"w{choose.randrange(10**6)}"
        what = choose.choice(["rename", "rename", "resize", "insert", "insert", "delete"])
        if what == "rename":
            self._send(engine, "UPDATE items SET name = :name WHERE id = :id", id=some, name=name)
            self.expected[some] = (name, self.expected[some][1])
        elif what == "resize":
            # Such as an old release would: the row is work again.
            self.resized.add(some)
            self._send(engine, "UPDATE items SET size = :size WHERE id = :id", id=some, size=fresh % 7)
            self.expected[some] = (self.expected[some][0], fresh % 7)
        elif what == "insert":
            values = {"id": fresh, "name": name, "size": fresh % 5}
            self._send(engine, "INSERT INTO items (id, name, size) VALUES (:id, :name, :size)", **values)
            self.expected[fresh] = (name, fresh % 5)
            own.append(fresh)
        else:
            self._send(engine, "DELETE FROM items WHERE id = :id", id=some)
            own.remove(some)
            del self.expected[some]

    def _send(self, engine: Engine, statement: str, **values: Any) -> None:
        while True:
            try:
                with engine.begin() as connection:
                    connection.execute(text(statement), values)
            except OperationalError as error:
                # SQLite has one writer, and MariaDB ends one of two that wait for each other: applications try again.
                if engine.dialect.name == "postgresql" or self._over.is_set():
                    raise
                if not any(said in str(error.orig) for said in ("locked", "1205", "1213")):
                    raise
            else:
                self.writes += 1
                return
