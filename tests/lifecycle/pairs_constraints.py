"""Pairs of models in which constraints come, go, and get other definitions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

import emc
from emc.steps import Hazard
from tests.lifecycle.pairs import MARIADB, POSTGRESQL, SQLITE, Pair, Row, add, change, key, remove, retiring


def things(m: MetaData, *more: Any) -> Table:
    """Table things with *more* constraints."""
    return Table(
        "things",
        m,
        key(),
        Column("code", String(10)),
        Column("part", Integer),
        Column("amount", Integer),
        *more,
    )


def unique(*columns: str) -> Any:
    """A unique constraint, always under the same name."""
    return lambda m: things(m, UniqueConstraint(*columns, name="uq_things"))


def check(condition: str) -> Any:
    """A CHECK, always under the same name."""
    return lambda m: things(m, CheckConstraint(condition, name="ck_things"))


def children(
    *, tied: bool = True, ondelete: str | None = None, nullable: bool = True, to: str = "parents"
) -> Any:
    """Tables parents, others and children, whose foreign key has always the same name."""

    def build(m: MetaData) -> None:
        Table("parents", m, key())
        Table("others", m, key())
        foreign_key = ForeignKeyConstraint(["parent_id"], [f"{to}.id"], name="fk_children", ondelete=ondelete)
        Table(
            "children",
            m,
            key(),
            Column("parent_id", Integer, nullable=nullable),
            *([foreign_key] if tied else []),
        )

    return build


THINGS: list[Row] = [
    {"id": 1, "code": "a", "part": 1, "amount": 1},
    {"id": 2, "code": "b", "part": 2, "amount": 2},
    {"id": 3, "code": None, "part": None, "amount": None},
]
TWINS: list[Row] = [*THINGS, {"id": 4, "code": "a", "part": 4, "amount": -4}]
CHILDREN = {
    "parents": [{"id": 1}, {"id": 2}],
    "others": [{"id": 1}, {"id": 2}],
    "children": [{"id": 1, "parent_id": 1}, {"id": 2, "parent_id": 2}],
}
ORPHANS = {**CHILDREN, "children": [*CHILDREN["children"], {"id": 3, "parent_id": 99}]}


def old_things(t: Any, n: int) -> Any:
    """The old release writes what no new rule allows."""
    return [add(t.things, id=n, code="a", part=n, amount=-1), change(t.things, n, code="a")]


def old_tidy_things(t: Any, n: int) -> Any:
    """The old release writes what its own rules allow."""
    return [add(t.things, id=n, code=str(n), part=n, amount=1), change(t.things, n, code=f"o{n}")]


def new_things(t: Any, n: int) -> Any:
    """The new release writes what its own rules allow."""
    return [add(t.things, id=n, code=str(n), part=n, amount=1), change(t.things, n, code=f"n{n}")]


def old_children(t: Any, n: int) -> Any:
    """The old release deletes a parent first and its children never."""
    return [
        add(t.parents, id=n),
        add(t.children, id=n, parent_id=n),
        remove(t.parents, n),
        add(t.children, id=n + 1, parent_id=1),
    ]


def new_children(t: Any, n: int) -> Any:
    """The new release keeps parents."""
    return [add(t.parents, id=n), add(t.children, id=n, parent_id=n)]


def old_kept_children(t: Any, n: int) -> Any:
    """An old release that has the foreign key keeps parents too."""
    return [
        add(t.parents, id=n),
        add(t.children, id=n, parent_id=n),
        add(t.parents, id=n + 1),
        remove(t.parents, n + 1),
    ]


def _repair_amounts(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.data_migration(
        t.things, name="repair", where=t.things.c.amount <= 0, values={t.things.c.amount: 1}
    )


def _old_cascade(t: Any, n: int) -> Any:
    return [add(t.parents, id=n), add(t.children, id=n, parent_id=n), remove(t.parents, n)]


PAIRS = (
    Pair(
        "check-added",
        "A CHECK on existing columns waits until no row violates it.",
        things,
        check("amount > 0"),
        rows={"things": TWINS},
        declare=_repair_amounts,
        old_work=old_things,
        new_work=new_things,
        migrate=["repair"],
        contract=["add-check:things.ck_things"],
        shut={"no-violations:things.ck_things": 3},
        rewritten=["things.amount"],
        hazards={
            "add-check:things.ck_things": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE],
                MARIADB: [Hazard.BLOCKS_WRITES, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "check-retired",
        "A retired CHECK goes in expand, since nothing fails without it.",
        check("amount > 0"),
        things,
        rows={"things": THINGS},
        declare=retiring("things.ck_things"),
        old_work=old_tidy_things,
        new_work=lambda t, n: [add(t.things, id=n, amount=-1)],
        expand=["drop-check:things.ck_things"],
    ),
    Pair(
        "check-redefined",
        "A CHECK with another definition gives way in expand and returns when the data allows it.",
        check("amount < 10"),
        check("amount > 0"),
        rows={"things": TWINS},
        declare=_repair_amounts,
        old_work=old_things,
        new_work=lambda t, n: [add(t.things, id=n, amount=11)],
        expand=["drop-check:things.ck_things"],
        migrate=["repair"],
        contract=["add-check:things.ck_things"],
        shut={"no-violations:things.ck_things": 3},
        rewritten=["things.amount"],
    ),
    Pair(
        "unique-added",
        "A unique constraint on existing columns waits until no value is there twice.",
        things,
        unique("code"),
        rows={"things": TWINS},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=old_things,
        new_work=new_things,
        migrate=["deduplicate:things.code"],
        contract=["add-unique:things.uq_things"],
        shut={"no-duplicates:things.uq_things": 3},
        lost={"things": [4]},
        hazards={
            "add-unique:things.uq_things": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "unique-added-several-columns",
        "A unique constraint over several columns lets rows pass that have NULL in one of them.",
        things,
        unique("code", "part"),
        rows={"things": [*TWINS, {"id": 5, "code": "a", "part": 1, "amount": 1}, {"id": 6, "code": "a"}]},
        declare=lambda upgrade, t: upgrade.deduplicate(
            t.things.c.code, t.things.c.part, keep=t.things.c.id.desc()
        ),
        old_work=lambda t, n: [add(t.things, id=n, code="z", part=1), add(t.things, id=n + 1, code="a")],
        new_work=new_things,
        migrate=["deduplicate:things.code,part"],
        contract=["add-unique:things.uq_things"],
        shut={"no-duplicates:things.uq_things": 2},
        lost={"things": [1]},
    ),
    Pair(
        "unique-retired",
        "A retired unique constraint stays until the old release, which may upsert on it, is gone.",
        unique("code"),
        things,
        rows={"things": THINGS},
        declare=retiring("things.uq_things"),
        old_work=old_tidy_things,
        new_work=new_things,
        contract=["drop-unique:things.uq_things"],
    ),
    Pair(
        "unique-redefined",
        "A unique constraint over other columns takes the place of the old one in contract.",
        unique("code"),
        unique("part"),
        rows={"things": [*THINGS, {"id": 4, "code": "d", "part": 1, "amount": 4}]},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.part, keep=t.things.c.id.asc()),
        old_work=lambda t, n: [add(t.things, id=n, code=str(n), part=7)],
        new_work=new_things,
        migrate=["deduplicate:things.part"],
        contract=["replace-constraint:things.uq_things"],
        shut={"no-duplicates:things.uq_things": 2},
        lost={"things": [4]},
    ),
    Pair(
        "foreign-key-added-null",
        "A foreign key on an existing column waits until orphans refer to nothing.",
        children(tied=False),
        children(),
        rows=ORPHANS,
        declare=lambda upgrade, t: upgrade.orphans(t.children.c.parent_id, action="set null"),
        old_work=old_children,
        new_work=new_children,
        migrate=["orphans:children.parent_id"],
        contract=["add-foreign-key:children.fk_children"],
        shut={"no-orphans:children.fk_children": 3},
        rewritten=["children.parent_id"],
        hazards={
            "add-foreign-key:children.fk_children": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "foreign-key-added-delete",
        "A foreign key on an existing column waits until orphans are deleted.",
        children(tied=False, nullable=False),
        children(nullable=False),
        rows=ORPHANS,
        declare=lambda upgrade, t: upgrade.orphans(t.children.c.parent_id, action="delete"),
        old_work=old_children,
        new_work=new_children,
        migrate=["orphans:children.parent_id"],
        contract=["add-foreign-key:children.fk_children"],
        shut={"no-orphans:children.fk_children": 3},
        lost={"children": [3]},
    ),
    Pair(
        "foreign-key-retired",
        "A retired foreign key goes in expand, since nothing fails without it.",
        children(),
        children(tied=False),
        rows=CHILDREN,
        declare=retiring("children.fk_children"),
        old_work=old_kept_children,
        new_work=lambda t, n: [add(t.children, id=n, parent_id=99)],
        expand=["drop-foreign-key:children.fk_children"],
        # The index that the server made for it serves the old release.
        contract={MARIADB: ["drop-index:children.fk_children"]},
    ),
    Pair(
        "foreign-key-redefined",
        "A foreign key to another table gives way in expand and returns when no row is without a parent.",
        children(),
        children(to="others"),
        rows={
            **CHILDREN,
            "parents": [{"id": 1}, {"id": 2}, {"id": 3}],
            "children": [{"id": 1, "parent_id": 3}],
        },
        declare=lambda upgrade, t: upgrade.orphans(t.children.c.parent_id, action="set null"),
        old_work=old_kept_children,
        new_work=lambda t, n: [add(t.others, id=n + 500), add(t.children, id=n, parent_id=n + 500)],
        expand=["drop-foreign-key:children.fk_children"],
        migrate=["orphans:children.parent_id"],
        contract=["add-foreign-key:children.fk_children"],
        shut={"no-orphans:children.fk_children": 3},
        rewritten=["children.parent_id"],
    ),
    Pair(
        "foreign-key-loosened",
        "A foreign key that lets more pass takes the place of the old one in expand.",
        children(),
        children(ondelete="CASCADE"),
        rows=CHILDREN,
        old_work=old_kept_children,
        new_work=lambda t, n: [*new_children(t, n), remove(t.parents, n)],
        expand=["replace-constraint:children.fk_children"],
    ),
    Pair(
        "foreign-key-tightened",
        "A foreign key that lets less pass waits until the old release, which relies on the old one, is gone.",
        children(ondelete="CASCADE"),
        children(),
        rows=CHILDREN,
        old_work=_old_cascade,
        new_work=new_children,
        contract=["replace-constraint:children.fk_children"],
    ),
)
