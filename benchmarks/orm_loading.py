"""What does it cost an application to convert old rows as it loads them?

Loads the same 10,000 rows by the same statement as objects of like classes, in sessions without and with emc.orm, in
turn, and prints the best of several runs, the queries sent, and the median of the ratios.

    python -m benchmarks.orm_loading [--rows 10000] [--runs 15] [--url postgresql+psycopg://…]

Without a URL it starts a PostgreSQL server of its own. The database has to be empty: tables are made and dropped.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import emc.orm
from benchmarks.plan_in_sync import database
from emc.upgrade import Upgrade


def account() -> type[Any]:
    """A class of ten columns; a full name takes the place of two that the models no longer have."""

    class Base(DeclarativeBase):
        """Of its own, so that what listens to one class does not listen to the others."""

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        full_name: Mapped[str | None] = mapped_column(sa.String(80))
        email: Mapped[str]
        city: Mapped[str]
        zone: Mapped[str]
        state: Mapped[str]
        credit: Mapped[int]
        limit: Mapped[int]
        visits: Mapped[int]
        notes: Mapped[str]

    return Account


TEXTS = ("email", "city", "zone", "state", "notes")
NUMBERS = ("credit", "limit", "visits")


def name(row: Any) -> dict[str, Any]:
    """The conversion."""
    return {"full_name": f"{row.first} {row.last}"}


@dataclass(frozen=True)
class Loading:
    """One way to load."""

    label: str
    model: type[Any]
    sessions: sessionmaker[Session]

    @classmethod
    def of(cls, engine: sa.Engine, label: str, where: Callable[[Any], Any] | None = None) -> Loading:
        """Sessions that convert what *where* says is old; ``None``: that do not."""
        model, sessions = account(), sessionmaker(engine)
        if where is not None:
            upgrade = Upgrade(model.metadata)
            upgrade.data_migration(model, where=where)(name)
            emc.orm.convert(upgrade, on=sessions)
        return cls(label, model, sessions)


def ways(engine: sa.Engine) -> list[Loading]:
    """What is compared, the first with all others."""
    return [
        Loading.of(engine, "without emc.orm"),
        Loading.of(engine, "as the objects themselves can say", lambda t: t.c.full_name.is_(None)),
        Loading.of(
            engine,
            "as only the database can say",
            lambda t: t.c.full_name.is_distinct_from(t.c.first + " " + t.c.last),
        ),
    ]


def fill(engine: sa.Engine, rows: int) -> None:
    """Make the table as it is between expand and contract, all rows converted."""
    account().metadata.create_all(engine)
    with engine.begin() as connection:
        for column in ("first", "last"):
            connection.execute(sa.text(f"ALTER TABLE accounts ADD COLUMN {column} VARCHAR(40)"))
        table = sa.Table("accounts", sa.MetaData(), autoload_with=connection)
        for start in range(0, rows, 1000):
            some = [
                {
                    "id": at,
                    "first": f"First{at}",
                    "last": f"Last{at}",
                    "full_name": f"First{at} Last{at}",
                    **{name: f"{name} of {at}" for name in TEXTS},
                    **dict.fromkeys(NUMBERS, at),
                }
                for at in range(start + 1, min(start + 1000, rows) + 1)
            ]
            connection.execute(sa.insert(table), some)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    with database(arguments.url) as url:
        engine = sa.create_engine(url)
        fill(engine, arguments.rows)
        compared = ways(engine)
        print(f"{arguments.rows} rows as objects of ten columns: best of {arguments.runs}, median ratio")
        print(f"{'':48} {'ms':>7} {'queries':>8} {'ratio':>6}")
        show("converted rows, ", measured(engine, compared, arguments))
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE accounts SET full_name = NULL"))
        show("old rows, ", measured(engine, compared, arguments))
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE accounts"))
        engine.dispose()


Measured = dict[str, tuple[float, int, float]]


def show(rows: str, found: Measured) -> None:
    """Print what was measured on some *rows*."""
    for label, (seconds, queries, ratio) in found.items():
        print(f"{rows + label:48} {seconds * 1000:7.1f} {queries:8} {ratio:6.2f}")


def measured(engine: sa.Engine, compared: Sequence[Loading], arguments: argparse.Namespace) -> Measured:
    """The best seconds, the queries of a run, and the median ratio, by what loads.

    All take turns, and a ratio is that of one turn, so that good and bad moments of the machine are shared.
    """
    turns = [[once(engine, one, arguments.rows) for one in compared] for _ in range(arguments.runs + 1)]
    # The first run compiles statements, and looks at the schema.
    del turns[0]
    return {
        one.label: (
            min(turn[at][0] for turn in turns),
            turns[0][at][1],
            median(turn[at][0] / turn[0][0] for turn in turns),
        )
        for at, one in enumerate(compared)
    }


def once(engine: sa.Engine, loading: Loading, rows: int) -> tuple[float, int]:
    """Load all rows in a new session."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    gc.collect()
    with loading.sessions() as session:
        begun = time.perf_counter()
        found = session.scalars(sa.select(loading.model)).all()
        seconds = time.perf_counter() - begun
        assert len(found) == rows
    sa.event.remove(engine, "before_cursor_execute", note)
    return seconds, len(sent)


if __name__ == "__main__":
    main()
