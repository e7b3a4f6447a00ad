"""In which order do the operations of a phase run, and when has one to wait for a later phase?"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Table, UniqueConstraint

from emc.changes import classify
from emc.operations import Kind
from emc.phases import Phase
from emc.planning.order import _RANKS, after_their_keys, in_order
from emc.schema import LiveSchema
from emc.upgrade import Upgrade
from tests.changes.sorting import ids, modelled, sorted_out, users
from tests.lifecycle.pairs import retiring

C = partial(partial, Column)


def test_every_kind_has_a_place_in_a_phase() -> None:
    """No kind of operation is without a place in the order."""
    kinds = {value for name, value in vars(Kind).items() if name.isupper()}
    assert kinds == {*_RANKS[Phase.EXPAND], *_RANKS[Phase.CONTRACT]}


def old(m: MetaData) -> None:
    """Much to take away."""
    Table("a", m, Column("id", Integer, primary_key=True), Column("b", ForeignKey("b.id")))
    Table("b", m, Column("id", Integer, primary_key=True), Column("c", ForeignKey("c.id")))
    Table("c", m, Column("id", Integer, primary_key=True))
    users(C("x", Integer), C("y", Integer), partial(UniqueConstraint, "x", name="uq_x"))(m)


def test_order_does_not_depend_on_where_it_comes_from() -> None:
    """However the operations come, their order is the same."""
    found = sorted_out(
        old,
        users(C("z", Integer, nullable=False), partial(UniqueConstraint, "z", name="uq_z")),
        retiring("a", "b", "c", "users.x", "users.y"),
    )
    operations = list(found.operations)
    orders = set()
    for seed in range(20):
        random.Random(seed).shuffle(operations)
        orders.add(tuple(one.id for one in in_order(operations, Phase.CONTRACT, found.situation.live)))
    assert orders == {
        (
            "set-not-null:users.z",
            "drop-column:users.x",
            "drop-column:users.y",
            "drop-table:a",
            "drop-table:b",
            "drop-table:c",
        )
    }


def test_tables_in_a_ring_are_dropped_all_the_same() -> None:
    """A ring of foreign keys has no order, and keeps no table from being dropped."""

    def ring(m: MetaData) -> None:
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
            Table(
                name,
                m,
                Column("id", Integer, primary_key=True),
                Column("r", Integer),
                ForeignKeyConstraint(["r"], [f"{other}.id"], name=f"fk_{name}", use_alter=name != "d"),
            )

    found = sorted_out(ring, lambda _: None, retiring(*"abcd"))
    ordered = [one.id for one in in_order(found.operations, Phase.CONTRACT, found.situation.live)]
    assert sorted(ordered) == [f"drop-table:{name}" for name in "abcd"]
    assert ordered.index("drop-table:d") < ordered.index("drop-table:a")


@pytest.mark.parametrize("by_index", [False, True])
def test_foreign_key_waits_for_the_unique_key_that_it_refers_to(by_index: bool) -> None:
    """A new foreign key to a key that comes only in contract comes after it, and the plan says why."""

    def build(*, new: bool) -> Any:
        def build(m: MetaData) -> None:
            more = [Column("code", Integer, unique=not by_index and new, index=by_index and new)]
            parent = Table("parents", m, Column("id", Integer, primary_key=True), *more)
            for index in parent.indexes:
                index.unique = True
            for constraint in parent.constraints:
                if isinstance(constraint, UniqueConstraint):
                    constraint.name = "uq"
            users(
                *([C("p", Integer)] if new else []),
                *([partial(ForeignKeyConstraint, ["p"], ["parents.code"], name="fk")] if new else []),
            )(m)

        return build

    found = sorted_out(build(new=False), build(new=True))
    assert "add-foreign-key:users.fk" in ids(found, Phase.EXPAND)
    moved = after_their_keys(found.operations, found.situation.live, found.situation.models)
    (foreign_key,) = [one for one in moved if one.kind == Kind.ADD_FOREIGN_KEY]
    assert foreign_key.phase is Phase.CONTRACT
    assert "parents" in str(foreign_key.because)
    ordered = [one.id for one in in_order(moved, Phase.CONTRACT, found.situation.live)]
    assert ordered[-1] == "add-foreign-key:users.fk"


def test_foreign_key_to_a_key_that_is_there_does_not_wait() -> None:
    """Where the database has the key already, nothing is moved."""
    parents = users(C("code", Integer), partial(UniqueConstraint, "code", name="uq"), name="parents")
    found = sorted_out(
        lambda m: [parents(m), users()(m)],
        lambda m: [
            parents(m),
            users(C("p", Integer), partial(ForeignKeyConstraint, ["p"], ["parents.code"], name="fk"))(m),
        ],
    )
    moved = after_their_keys(found.operations, found.situation.live, found.situation.models)
    assert all(one.phase is Phase.EXPAND for one in moved)


def test_new_tables_keep_the_order_in_which_they_come() -> None:
    """New tables are created in the order of their foreign keys, which is that of the directives."""
    metadata = modelled(lambda m: [users(name="z")(m), users(name="a")(m)])
    upgrade = Upgrade(metadata)
    directives = [ops.CreateTableOp.from_table(metadata.tables[name]) for name in ("z", "a")]
    found = classify(directives, upgrade, LiveSchema({}), upgrade.tables)
    assert {one.id for one in found.operations} == {"create-table:a", "create-table:z"}
    given = [one.id for one in found.operations]
    assert [one.id for one in in_order(found.operations, Phase.EXPAND, LiveSchema({}))] == given
