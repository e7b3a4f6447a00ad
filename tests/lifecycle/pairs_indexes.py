"""Pairs of models in which indexes come, go, and get other definitions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, func, text

from emc.steps import Hazard
from tests.lifecycle.pairs import MARIADB, POSTGRESQL, SQLITE, Pair, Row, add, change, key, retiring


def things(*indexes: Any) -> Any:
    """Table things with what *indexes* make of it."""

    def build(m: MetaData) -> None:
        table = Table("things", m, key(), Column("code", String(10)), Column("part", Integer))
        for index in indexes:
            index(table)

    return build


def ix(*columns: str, unique: bool = False, **options: Any) -> Any:
    """An index, always under the same name."""
    return lambda t: Index("ix_things", *(t.c[name] for name in columns), unique=unique, **options)


THINGS: list[Row] = [
    {"id": 1, "code": "a", "part": 1},
    {"id": 2, "code": "b", "part": 2},
    {"id": 3, "code": None},
]
TWINS: list[Row] = [*THINGS, {"id": 4, "code": "a", "part": 4}]


def tidy(t: Any, n: int) -> Any:
    """What breaks no rule."""
    return [add(t.things, id=n, code=str(n), part=n), change(t.things, n, code=f"x{n}")]


def twins(t: Any, n: int) -> Any:
    """One more row of the same code."""
    return [add(t.things, id=n, code="a", part=n), change(t.things, n, code="a")]


PAIRS = (
    Pair(
        "index-added",
        "A plain index is built in expand.",
        things(),
        things(ix("code")),
        rows={"things": TWINS},
        old_work=twins,
        new_work=twins,
        expand=["create-index:things.ix_things"],
        hazards={
            "create-index:things.ix_things": {
                SQLITE: [Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "index-added-partial",
        "A partial index is built in expand, on the rows that its condition names.",
        things(),
        things(
            lambda t: Index("ix_part", t.c.part, postgresql_where=t.c.part > 1, sqlite_where=t.c.part > 1)
        ),
        rows={"things": TWINS},
        old_work=twins,
        new_work=twins,
        expand=["create-index:things.ix_part"],
        databases=[SQLITE, POSTGRESQL],
    ),
    Pair(
        "index-added-expression",
        "Indexes on expressions, descending and with included columns are built in expand.",
        things(),
        things(
            lambda t: Index("ix_lower", func.lower(t.c.code)),
            lambda t: Index("ix_desc", t.c.part.desc()),
            lambda t: Index("ix_include", t.c.code, postgresql_include=["part"]),
            lambda t: Index("ix_hash", t.c.code, postgresql_using="hash"),
        ),
        rows={"things": TWINS},
        old_work=twins,
        new_work=twins,
        expand=[
            "create-index:things.ix_desc",
            "create-index:things.ix_hash",
            "create-index:things.ix_include",
            "create-index:things.ix_lower",
        ],
        databases=[POSTGRESQL],
    ),
    Pair(
        "index-added-unique",
        "A unique index on existing columns waits until no value is there twice.",
        things(),
        things(ix("code", unique=True)),
        rows={"things": TWINS},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=twins,
        new_work=tidy,
        migrate=["deduplicate:things.code"],
        contract=["create-index:things.ix_things"],
        shut={"no-duplicates:things.ix_things": 3},
        lost={"things": [4]},
    ),
    Pair(
        "index-added-unique-partial",
        "A partial unique index concerns the rows that its condition names only.",
        things(),
        things(
            lambda t: Index(
                "ix_things",
                t.c.code,
                unique=True,
                postgresql_where=text("part < 5"),
                sqlite_where=text("part < 5"),
            )
        ),
        rows={"things": TWINS},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=twins,
        new_work=twins,
        migrate=["deduplicate:things.code"],
        contract=["create-index:things.ix_things"],
        shut={"no-duplicates:things.ix_things": 1},
        lost={"things": [4]},
        databases=[SQLITE, POSTGRESQL],
    ),
    Pair(
        "index-retired",
        "A retired index stays until the old release is gone, and no query has used it since.",
        things(ix("code")),
        things(),
        rows={"things": THINGS},
        declare=retiring("things.ix_things"),
        old_work=tidy,
        new_work=tidy,
        contract=["drop-index:things.ix_things"],
        hazards={
            "drop-index:things.ix_things": {
                SQLITE: [],
                POSTGRESQL: [],
                MARIADB: [Hazard.EXCLUSIVE_LOCK],
            }
        },
    ),
    Pair(
        "index-redefined",
        "An index with another definition is built beside the old one and takes its place in contract.",
        things(ix("code")),
        things(ix("code", "part")),
        rows={"things": TWINS},
        old_work=twins,
        new_work=twins,
        expand=["create-index:things.emc_new_ix_things"],
        contract=["replace-index:things.ix_things"],
    ),
    Pair(
        "index-redefined-tighter",
        "An index that is unique from now on takes the place of the old one when no value is there twice.",
        things(ix("code")),
        things(ix("code", unique=True)),
        rows={"things": TWINS},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=twins,
        new_work=tidy,
        migrate=["deduplicate:things.code"],
        contract=["replace-index:things.ix_things"],
        shut={"no-duplicates:things.ix_things": 3},
        lost={"things": [4]},
    ),
    Pair(
        "index-redefined-looser",
        "An index that is no longer unique is built beside the old one, which stays until the old release is gone.",
        things(ix("code", unique=True)),
        things(ix("code")),
        rows={"things": THINGS},
        old_work=tidy,
        new_work=tidy,
        expand=["create-index:things.emc_new_ix_things"],
        contract=["replace-index:things.ix_things"],
    ),
)
