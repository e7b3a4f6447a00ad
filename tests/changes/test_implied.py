"""What becomes of the index that the database made by itself for a foreign key, when that goes?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, ForeignKeyConstraint, Index, Integer, MetaData, Table

from emc.changes import Classified, Past, classify
from emc.names import TableKey
from emc.schema import LiveSchema
from emc.upgrade import Upgrade
from tests.changes.sorting import Build, live_table, modelled, phases, users
from tests.lifecycle.pairs import discarding, retiring

C = partial(partial, Column)
TIED = users(C("group_id", Integer), C("other_id", Integer))
DROP_INDEX = "drop-index:users.fk"
DROPPED = Past(dropped=frozenset({"users.fk"}), unkeyed=frozenset({"users.fk"}))


def foreign_key(column: str = "group_id", parent: str = "groups") -> ops.CreateForeignKeyOp:
    """Adds the foreign key, always under the same name."""
    return ops.CreateForeignKeyOp("fk", "users", parent, [column], ["id"])


def drop_foreign_key() -> ops.DropConstraintOp:
    """Drops it."""
    constraint = ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk")
    Table("groups", metadata := MetaData(), Column("id", Integer))
    Table("users", metadata, Column("group_id", Integer), constraint)
    return ops.DropConstraintOp.from_constraint(constraint)


def index() -> Any:
    """The index that the database made, as it shows it."""
    return {"name": "fk", "column_names": ["group_id"], "unique": False}


def reflected() -> Any:
    """The foreign key, as the database shows it."""
    return {
        "name": "fk",
        "constrained_columns": ["group_id"],
        "referred_schema": None,
        "referred_table": "groups",
        "referred_columns": ["id"],
        "options": {},
    }


def sorted_out(
    directives: list[ops.MigrateOperation],
    new: Build,
    declare: Callable[[Upgrade, Any], object],
    past: Past | None = None,
    *,
    stands: bool = True,
) -> Classified:
    """What becomes of *directives* while the foreign key stands, or once it is gone."""
    upgrade = Upgrade(modelled(new))
    declare(upgrade, None)
    facts: dict[str, Any] = (
        {"foreign_keys": [reflected()], "implied": {"fk": index()}} if stands else {"indexes": [index()]}
    )
    tables = modelled(lambda m: [TIED(m), users(name="groups")(m)]).tables
    live = LiveSchema(
        {
            TableKey(None, "users"): live_table(tables["users"], **facts),
            TableKey(None, "groups"): live_table(tables["groups"]),
        }
    )
    return classify(directives, upgrade, live, upgrade.tables, past)


def both(m: MetaData) -> None:
    """The models of the new release, which tie nothing together."""
    TIED(m)
    users(name="groups")(m)


def test_it_waits_for_contract() -> None:
    """The foreign key goes now, and the index later: the old release's queries use it."""
    found = sorted_out([drop_foreign_key()], both, retiring("users.fk"))
    assert phases(found) == (["drop-foreign-key:users.fk"], [DROP_INDEX])


def test_it_is_named_with_its_foreign_key() -> None:
    """Once the foreign key is gone, the same declaration names the index, whichever kind it says."""
    for kind in (None, "foreign-key"):

        def declare(upgrade: Upgrade, _: Any, kind: str | None = kind) -> None:
            upgrade.retire("users.fk", kind=kind)

        found = sorted_out([ops.DropIndexOp("fk", "users")], both, declare, DROPPED, stands=False)
        assert phases(found) == ([], [DROP_INDEX])
        assert found.unmanaged == ()


def test_it_goes_with_its_column() -> None:
    """Where the column goes too, it takes the index along, before and after the foreign key is gone."""
    new = users(C("other_id", Integer))
    drops = [ops.DropColumnOp("users", "group_id")]
    declare = discarding("users.group_id", reason="x")
    found = sorted_out([drop_foreign_key(), *drops], lambda m: [new(m), users(name="groups")(m)], declare)
    assert phases(found) == (["drop-foreign-key:users.fk"], ["drop-column:users.group_id"])
    later = sorted_out(
        [ops.DropIndexOp("fk", "users"), *drops],
        lambda m: [new(m), users(name="groups")(m)],
        declare,
        DROPPED,
        stands=False,
    )
    assert phases(later) == ([], ["drop-column:users.group_id"])
    assert (found.unmanaged, later.unmanaged) == ((), ())


def test_it_is_let_go_with_a_retired_parent() -> None:
    """The foreign key to a retired table goes although nobody named it, and so does its index."""
    drops = [drop_foreign_key(), ops.DropTableOp("groups")]
    found = sorted_out(drops, TIED, discarding("groups", reason="x"))
    assert phases(found) == (["drop-foreign-key:users.fk"], [DROP_INDEX, "drop-table:groups"])
    assert found.unmanaged == ()
    later = sorted_out(
        [ops.DropIndexOp("fk", "users"), ops.DropTableOp("groups")],
        TIED,
        discarding("groups", reason="x"),
        DROPPED,
        stands=False,
    )
    assert phases(later) == ([], [DROP_INDEX, "drop-table:groups"])
    assert later.unmanaged == ()


def test_it_stays_for_a_foreign_key_that_returns() -> None:
    """One that is defined anew uses the index again: it is neither dropped meanwhile nor listed as a stranger's."""
    found = sorted_out([drop_foreign_key(), foreign_key(parent="users")], both, lambda *_: None)
    assert phases(found) == (["drop-foreign-key:users.fk"], ["add-foreign-key:users.fk"])
    later = sorted_out(
        [ops.DropIndexOp("fk", "users"), foreign_key(parent="users")],
        both,
        lambda *_: None,
        DROPPED,
        stands=False,
    )
    assert phases(later) == ([], ["add-foreign-key:users.fk"])
    assert later.unmanaged == ()


def test_it_is_none_if_the_models_have_it() -> None:
    """An index of the models that happens to bear the name of the foreign key stays."""

    def new(m: MetaData) -> None:
        both(m)
        Index("fk", m.tables["users"].c.group_id)

    def declare(upgrade: Upgrade, _: Any) -> None:
        upgrade.retire("users.fk", kind="foreign-key")

    assert phases(sorted_out([drop_foreign_key()], new, declare)) == (["drop-foreign-key:users.fk"], [])


def test_strangers_index_of_that_name_stays() -> None:
    """Where no foreign key of emc's went, an index is nobody's to drop."""
    found = sorted_out([ops.DropIndexOp("fk", "users")], both, lambda *_: None, stands=False)
    assert phases(found) == ([], [])
    assert [one.declare for one in found.unmanaged] == ['upgrade.retire("users.fk")']
