"""Pairs of models in which the types of columns change."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, Enum, Integer, MetaData, Numeric, String, Table, Text, func

import emc
from emc.steps import Hazard
from tests.lifecycle.pairs import MARIADB, POSTGRESQL, SQLITE, Pair, add, change, key


def things(*more: Any) -> Any:
    """The table that every pair here has."""
    return lambda m: Table("things", m, key(), *(column._copy() for column in more))


def _moods(*labels: str, native: bool = True) -> Any:
    def build(m: MetaData) -> None:
        kind = Enum(*labels, name="mood", native_enum=native, create_constraint=not native)
        Table("things", m, key(), Column("mood", kind))
        Table("others", m, key(), Column("mood", kind, server_default=labels[0]))

    return build


def _shorten(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.data_migration(
        t.things,
        name="shorten",
        where=func.length(t.things.c.label) > 5,
        values={t.things.c.label: func.substr(t.things.c.label, 1, 5)},
    )


def _calm_down(upgrade: emc.Upgrade, t: Any) -> None:
    for name in ("things", "others"):
        upgrade.data_migration(
            t[name],
            name=f"calm_{name}",
            where=lambda live: live.c.mood.cast(String) == "gone",
            values={"mood": "calm"},
        )


PAIRS = (
    Pair(
        "type-string-widened",
        "A longer VARCHAR holds what the old release writes, so it is applied in expand.",
        things(Column("label", String(5))),
        things(Column("label", String(50))),
        rows={"things": [{"id": 1, "label": "a"}]},
        old_work=lambda t, n: [add(t.things, id=n, label="old")],
        new_work=lambda t, n: [add(t.things, id=n, label="more than five")],
        expand=["alter-type:things.label"],
        hazards={
            "alter-type:things.label": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK],
                MARIADB: [Hazard.EXCLUSIVE_LOCK],
            }
        },
    ),
    Pair(
        "type-string-unbounded",
        "TEXT holds what a VARCHAR holds, so it is applied in expand.",
        things(Column("label", String(5), nullable=False, server_default="-")),
        things(Column("label", Text, nullable=False, server_default="-")),
        rows={"things": [{"id": 1, "label": "a"}]},
        old_work=lambda t, n: [add(t.things, id=n)],
        new_work=lambda t, n: [add(t.things, id=n, label="more than five")],
        # PostgreSQL writes the type of a default down: '-'::text instead of '-'::character varying.
        expand={
            SQLITE: ["alter-type:things.label"],
            POSTGRESQL: ["alter-type:things.label", "set-default:things.label"],
            MARIADB: ["alter-type:things.label"],
        },
    ),
    Pair(
        "type-integer-widened",
        "A wider integer is applied in expand where the table is small enough to be rewritten under a lock.",
        things(Column("amount", Integer)),
        things(Column("amount", BigInteger)),
        rows={"things": [{"id": 1, "amount": 1}]},
        old_work=lambda t, n: [add(t.things, id=n, amount=2)],
        new_work=lambda t, n: [add(t.things, id=n, amount=2**40)],
        expand=["alter-type:things.amount"],
        hazards={
            "alter-type:things.amount": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE],
                MARIADB: [Hazard.BLOCKS_WRITES, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "type-numeric-widened",
        "A wider NUMERIC of the same scale is applied in expand.",
        things(Column("amount", Numeric(6, 2))),
        things(Column("amount", Numeric(12, 2))),
        rows={"things": [{"id": 1, "amount": Decimal("1.50")}]},
        old_work=lambda t, n: [add(t.things, id=n, amount=Decimal("9999.99"))],
        new_work=lambda t, n: [add(t.things, id=n, amount=Decimal("123456.75"))],
        expand=["alter-type:things.amount"],
    ),
    Pair(
        "type-string-narrowed",
        "A shorter VARCHAR waits until no value is too long for it.",
        things(Column("label", String(50))),
        things(Column("label", String(5))),
        rows={
            "things": [
                {"id": 1, "label": "short"},
                {"id": 2, "label": "much longer"},
                {"id": 3, "label": None},
            ]
        },
        declare=_shorten,
        old_work=lambda t, n: [add(t.things, id=n, label="longer again")],
        new_work=lambda t, n: [add(t.things, id=n, label="new")],
        migrate=["shorten"],
        contract=["alter-type:things.label"],
        shut={"fits-type:things.label": 3},
        rewritten=["things.label"],
    ),
    Pair(
        "enum-value-added",
        "A new label is added in expand.",
        _moods("calm", "merry"),
        _moods("calm", "brisk", "merry"),
        rows={"things": [{"id": 1, "mood": "merry"}], "others": [{"id": 1}]},
        old_work=lambda t, n: [add(t.things, id=n, mood="merry"), add(t.others, id=n)],
        # The old release could not read a label that it does not know; writing it is for after contract.
        new_work=lambda t, n: [add(t.things, id=n, mood="brisk"), change(t.things, n, mood="calm")],
        expand={
            POSTGRESQL: ["add-enum-value:mood"],
            SQLITE: [],
            MARIADB: ["alter-type:others.mood", "alter-type:things.mood"],
        },
    ),
    Pair(
        "enum-value-added-check",
        "A CHECK that lists one label more gives way in expand and returns in contract.",
        _moods("calm", "merry", native=False),
        _moods("calm", "brisk", "merry", native=False),
        rows={"things": [{"id": 1, "mood": "merry"}], "others": [{"id": 1}]},
        old_work=lambda t, n: [add(t.things, id=n, mood="merry"), add(t.others, id=n)],
        new_work=lambda t, n: [add(t.things, id=n, mood="brisk"), change(t.things, n, mood="calm")],
        expand=["drop-check:others.mood", "drop-check:things.mood"],
        contract=["add-check:others.mood", "add-check:things.mood"],
    ),
    Pair(
        "enum-value-removed",
        "A label that the models no longer have goes when no row has it.",
        _moods("calm", "merry", "gone"),
        _moods("calm", "merry"),
        rows={
            "things": [{"id": 1, "mood": "merry"}, {"id": 2, "mood": "gone"}],
            "others": [{"id": 1, "mood": "gone"}],
        },
        declare=_calm_down,
        old_work=lambda t, n: [add(t.things, id=n, mood="gone")],
        new_work=lambda t, n: [add(t.things, id=n, mood="merry"), add(t.others, id=n)],
        migrate=["calm_things", "calm_others"],
        contract=["remove-enum-value:mood"],
        shut={"value-unused:mood": 4},
        rewritten=["things.mood", "others.mood"],
        unreadable=True,
        databases=[POSTGRESQL],
    ),
)
