"""Which phase does each difference belong to? By its content, never by its kind alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from emc.changes import Classified, Past, classify
from emc.errors import DeclarationError
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Operation, UnsupportedDifferenceOp
from emc.phases import Phase
from emc.schema import LiveSchema
from emc.upgrade import Upgrade
from tests.changes.sorting import ids, live_table, modelled, phases, sort_directives, sorted_out, users
from tests.lifecycle.pairs import retiring

C = partial(partial, Column)
"""`C("a", Integer)` makes the column when it is called: a Column belongs to one table only."""
U = partial(partial, UniqueConstraint)
FK = partial(partial, ForeignKeyConstraint)
CK = partial(partial, CheckConstraint)
IX = partial(partial, Index)


def operation(classified: Classified, name: str) -> Operation:
    """The one operation of that id."""
    (found,) = [one for one in classified.operations if one.id == name]
    return found


# -- columns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expand", "contract"),
    [
        ({}, ["add-column:users.a"], []),
        ({"server_default": "0"}, ["add-column:users.a"], []),
        ({"server_default": "0", "nullable": False}, ["add-column:users.a"], []),
        ({"nullable": False}, ["add-column:users.a"], ["set-not-null:users.a"]),
        ({"nullable": False, "default": 0}, ["add-column:users.a"], ["set-not-null:users.a"]),
    ],
)
def test_added_column(options: dict[str, Any], expand: list[str], contract: list[str]) -> None:
    """A column that old inserts leave out is added at once; a default in Python does not help the old release."""
    found = sorted_out(users(), users(C("a", Integer, **options)))
    assert phases(found) == (expand, contract)


def test_added_column_is_nullable_for_now() -> None:
    """A new NOT NULL column is added nullable; the models' own column stays as it is."""
    found = sorted_out(users(), users(C("a", Integer, nullable=False)))
    added: Any = operation(found, "add-column:users.a").directive
    assert added.column.nullable
    assert not found.situation.models[TableKey(None, "users")].c.a.nullable


@pytest.mark.parametrize(
    ("column", "value", "is_temporary_default"),
    [
        (C("a", String, nullable=False), "it's", True),
        (C("a", Integer, nullable=False), lambda row: row.id, False),
        (C("a", Integer, nullable=False), Column("id", Integer) + 1, False),
        (C("a", LargeBinary, nullable=False), b"\x00", None),
        # The second insert of the old release would be a duplicate.
        (C("a", Integer, nullable=False, unique=True), 7, False),
    ],
)
def test_constant_fill_is_a_temporary_default(
    column: Any, value: object, is_temporary_default: bool | None
) -> None:
    """A constant that can be written down serves old inserts too, until contract; nothing else does."""
    found = sorted_out(users(), users(column), lambda upgrade, t: upgrade.fill(t["users"].c.a, value))
    added: Any = operation(found, "add-column:users.a").directive
    dropped = "drop-default:users.a" in ids(found, Phase.CONTRACT)
    assert (added.column.server_default is not None) is dropped
    if is_temporary_default is not None:
        assert dropped is is_temporary_default


def test_retired_column_is_relaxed_only_where_inserts_must_name_it() -> None:
    """NOT NULL goes in expand where nothing else fills the column."""
    old = users(
        C("must", Integer, nullable=False),
        C("filled", Integer, nullable=False, server_default="1"),
        C("free", Integer),
    )
    found = sorted_out(
        old,
        users(),
        retiring("users.must", "users.filled", "users.free"),
    )
    assert phases(found) == (
        ["drop-not-null:users.must"],
        ["drop-column:users.filled", "drop-column:users.free", "drop-column:users.must"],
    )
    assert "inserts would fail" in str(operation(found, "drop-not-null:users.must").because)


@pytest.mark.parametrize(
    ("check", "goes"),
    [
        ("a > 0", False),  # NULL passes.
        ("a > 0 OR b > 0", True),
        ("a IS NOT NULL", True),
        ("coalesce(a, 0) > 0", True),
        ("b > 0", False),
    ],
)
def test_checks_of_a_retired_column(check: str, goes: bool) -> None:
    """A CHECK goes in expand where NULL in the retired column would not pass it for certain."""
    both = (C("b", Integer),)
    found = sorted_out(
        users(*both, C("a", Integer), CK(check, name="ck")),
        users(*both, *([CK(check, name="ck")] if check == "b > 0" else [])),
        lambda upgrade, _: upgrade.retire("users.a"),
    )
    assert ids(found, Phase.EXPAND) == (["drop-check:users.ck"] if goes else [])
    assert found.unmanaged == ()


def test_what_is_built_on_a_retired_column_goes_with_it() -> None:
    """Whoever names a column has named its indexes and constraints; the plan says which they are."""
    found = sorted_out(
        users(C("a", Integer), C("b", Integer), IX("ix", "b", "a"), U("a", name="uq")),
        users(C("b", Integer)),
        lambda upgrade, _: upgrade.retire("users.a"),
    )
    assert phases(found) == ([], ["drop-column:users.a"])
    assert found.unmanaged == ()
    described = operation(found, "drop-column:users.a").description
    assert "index ix" in described
    assert "unique uq" in described


def test_a_mere_likeness_of_names_is_nothing() -> None:
    """An index on another column is no business of a retired column whose name its own begins with."""
    found = sorted_out(
        users(C("a", Integer), C("a_b", Integer), IX("ix", "a_b")),
        users(C("a_b", Integer)),
        lambda upgrade, _: upgrade.retire("users.a"),
    )
    assert [one.declare for one in found.unmanaged] == ['upgrade.retire("users.ix")']


@pytest.mark.parametrize(
    ("old", "new", "expand", "contract"),
    [
        ({}, {"nullable": False}, [], ["set-not-null:users.a"]),
        ({"nullable": False}, {}, ["drop-not-null:users.a"], []),
        ({}, {"server_default": "x"}, ["set-default:users.a"], []),
        ({"server_default": "y"}, {"server_default": "x"}, ["set-default:users.a"], []),
        ({"server_default": "x"}, {}, [], ["drop-default:users.a"]),
        (
            {"server_default": "x"},
            {"nullable": False},
            [],
            ["drop-default:users.a", "set-not-null:users.a"],
        ),
    ],
)
def test_altered_column(
    old: dict[str, Any], new: dict[str, Any], expand: list[str], contract: list[str]
) -> None:
    """What loosens a column goes now, what tightens it goes later, each by itself."""
    found = sorted_out(users(C("a", String(9), **old)), users(C("a", String(9), **new)))
    assert phases(found) == (expand, contract)


# -- unique, foreign key, check ----------------------------------------------------------------------------------


def parents(m: MetaData) -> Table:
    """A table to refer to."""
    return Table("parents", m, Column("id", Integer, primary_key=True), Column("x", Integer))


def test_unique_on_new_columns_only_is_additive() -> None:
    """Old rows have NULL in new columns, and NULLs do not collide; one old column in the rule, and they may."""
    old = users(C("a", Integer))
    new = users(
        C("a", Integer),
        C("b", Integer),
        C("c", Integer),
        C("d", Integer, server_default="0"),
        U("b", "c", name="uq_new"),
        U("a", name="uq_old"),
        # Every row has the default, those that the old release inserts too.
        U("d", name="uq_default"),
        IX("ix_new", "b", unique=True),
        IX("ix_mixed", "a", "b", unique=True),
    )
    found = sorted_out(old, new)
    assert ids(found, Phase.CONTRACT) == [
        "add-unique:users.uq_default",
        "add-unique:users.uq_old",
        "create-index:users.ix_mixed",
    ]
    assert {"add-unique:users.uq_new", "create-index:users.ix_new"} <= set(ids(found, Phase.EXPAND))


def test_nulls_that_collide_wait() -> None:
    """Where NULLs count as equal, a unique rule over new columns is broken by the second old row."""
    new = modelled(users(C("a", Integer)))
    live = [live_table(modelled(users()).tables["users"])]
    directives = [
        ops.CreateUniqueConstraintOp("uq", "users", ["a"], postgresql_nulls_not_distinct=True),
        ops.CreateIndexOp("ix", "users", ["a"], unique=True, postgresql_nulls_not_distinct=True),
    ]
    assert phases(sort_directives(directives, new, live)) == (
        [],
        ["add-unique:users.uq", "create-index:users.ix"],
    )


@pytest.mark.parametrize(
    ("columns", "match", "safe"),
    [
        (["old"], None, False),
        (["new"], None, True),
        (["new", "old"], None, True),
        (["new", "old"], "FULL", False),
    ],
)
def test_foreign_key_through_a_new_column(columns: list[str], match: str | None, safe: bool) -> None:
    """One NULL is enough for a row to pass a foreign key, unless it is MATCH FULL."""
    new = modelled(users(C("old", Integer), C("new", Integer)))
    parents(new)
    live = [live_table(modelled(users(C("old", Integer))).tables["users"])]
    directive = ops.CreateForeignKeyOp(
        "fk", "users", "parents", columns, ["id", "x"][: len(columns)], match=match
    )
    expand, contract = phases(sort_directives([directive], new, live))
    assert (expand if safe else contract) == ["add-foreign-key:users.fk"]
    assert (contract if safe else expand) == []


@pytest.mark.parametrize(
    ("check", "columns", "waits"),
    [
        ("a > 0", [C("a", Integer)], False),
        ("a IN (0, 1)", [C("a", Integer)], False),
        ("length(a) > 3 AND (a <> 'it''s NULL' OR a LIKE 'x%')", [C("a", String(9))], False),
        ("a < b", [C("a", Integer), C("b", Integer)], False),
        # NULL is filled in, or asked about.
        ("a > 0", [C("a", Integer, server_default="0")], True),
        ("a IS NOT NULL", [C("a", Integer)], True),
        ("coalesce(a, 0) > 0", [C("a", Integer)], True),
        ("CASE WHEN a > 0 THEN 1 ELSE 0 END = 1", [C("a", Integer)], True),
        ("a IN (1, NULL)", [C("a", Integer)], True),
        # The old release writes the other column.
        ("a > old", [C("a", Integer)], True),
        ("old > 0", [C("a", Integer)], True),
        ("1 = 0", [C("a", Integer)], True),
    ],
)
def test_check_on_new_columns(check: str, columns: list[Any], waits: bool) -> None:
    """A CHECK on new columns alone, which NULL passes, comes with them; others are for the data to show."""
    old = [C("old", Integer)]
    found = sorted_out(users(*old), users(*old, *columns, CK(check, name="ck")))
    assert ids(found, Phase.CONTRACT) == (["add-check:users.ck"] if waits else [])
    assert ("add-check:users.ck" in ids(found, Phase.EXPAND)) is not waits


def test_check_on_a_filled_column_waits() -> None:
    """A constant fill reaches what the old release inserts, and whether it passes a CHECK is for the data to show."""
    new = users(C("a", Integer, nullable=False), CK("a > 0", name="ck"))
    found = sorted_out(users(), new, lambda upgrade, t: upgrade.fill(t["users"].c.a, 0))
    assert "add-check:users.ck" in ids(found, Phase.CONTRACT)


def test_check_of_a_new_table_comes_along() -> None:
    """No old statement can name a new table."""
    new = users(C("a", Integer), CK("a IS NOT NULL", name="ck"), name="others")
    assert phases(sorted_out(users(), lambda m: [users()(m), new(m)])) == (["create-table:others"], [])


@pytest.mark.parametrize(
    ("kind", "element", "phase"),
    [
        (CK("a > 0", name="x"), "drop-check:users.x", Phase.EXPAND),
        (FK(["a"], ["parents.id"], name="x"), "drop-foreign-key:users.x", Phase.EXPAND),
        (U("a", name="x"), "drop-unique:users.x", Phase.CONTRACT),
        (IX("x", "a"), "drop-index:users.x", Phase.CONTRACT),
        (IX("x", "a", unique=True), "drop-index:users.x", Phase.CONTRACT),
    ],
)
def test_retired_rules(kind: Any, element: str, phase: Phase) -> None:
    """Without a CHECK or foreign key nothing fails; an upsert of the old release needs its unique rule."""
    found = sorted_out(
        lambda m: [parents(m), users(C("a", Integer), kind)(m)],
        lambda m: [parents(m), users(C("a", Integer))(m)],
        lambda upgrade, _: upgrade.retire("users.x"),
    )
    assert {one.id: one.phase for one in found.operations} == {element: phase}


ACTIONS = (None, "CASCADE", "SET NULL", "RESTRICT")


@pytest.mark.parametrize("before", ACTIONS)
@pytest.mark.parametrize("after", ACTIONS)
def test_redefined_ondelete(before: str | None, after: str | None) -> None:
    """A foreign key that lets more deletes pass replaces the old one now, one that lets fewer pass does so later."""

    def children(action: str | None) -> Any:
        return lambda m: [
            parents(m),
            users(C("a", Integer), FK(["a"], ["parents.id"], name="fk", ondelete=action))(m),
        ]

    found = sorted_out(children(before), children(after))
    blocks = (None, "RESTRICT")
    if before == after:
        assert phases(found) == ([], [])
    elif before not in blocks and after in blocks:
        assert phases(found) == ([], ["replace-constraint:users.fk"])
    else:
        assert phases(found) == (["replace-constraint:users.fk"], [])


def test_redefined_foreign_key_and_check_give_way_first() -> None:
    """The new release may write what the old definition refuses, so that goes in expand; the new one waits."""

    def build(parent: str, check: str) -> Any:
        return lambda m: [
            parents(m),
            users(name="others")(m),
            users(C("a", Integer), FK(["a"], [f"{parent}.id"], name="fk"), CK(check, name="ck"))(m),
        ]

    found = sorted_out(build("parents", "a < 9"), build("others", "a > 0"))
    assert phases(found) == (
        ["drop-check:users.ck", "drop-foreign-key:users.fk"],
        ["add-check:users.ck", "add-foreign-key:users.fk"],
    )


def test_redefined_index_is_built_beside() -> None:
    """An index that cannot fail old statements is built beside the old one; one that can waits."""
    old = users(C("a", Integer), C("b", Integer), IX("ix", "a"), IX("ux", "a"), IX("wx", "a", unique=True))
    new = users(
        C("a", Integer),
        C("b", Integer),
        IX("ix", "b"),
        IX("ux", "a", unique=True),
        IX("wx", "a", "b", unique=True),
    )
    assert phases(sorted_out(old, new)) == (
        ["create-index:users.emc_new_ix", "create-index:users.emc_new_wx"],
        ["replace-index:users.ix", "replace-index:users.ux", "replace-index:users.wx"],
    )


# -- enumerated types ---------------------------------------------------------------------------------------------


def mood(before: tuple[str, ...], after: tuple[str, ...]) -> Classified:
    """An enumerated type of its own."""
    return sort_directives([AlterEnumOp("mood", None, before, after, ())], MetaData())


def test_enum_labels_come_now_and_go_later() -> None:
    """A label is added before the new release writes it and removed when nobody writes it any more."""
    found = mood(("a", "gone", "c"), ("a", "b", "c"))
    assert phases(found) == (["add-enum-value:mood"], ["remove-enum-value:mood"])
    added: Any = operation(found, "add-enum-value:mood").directive
    removed: Any = operation(found, "remove-enum-value:mood").directive
    assert (added.before, set(added.after)) == (("a", "gone", "c"), {"a", "b", "gone", "c"})
    assert added.after.index("a") < added.after.index("b") < added.after.index("c")
    assert removed.removed == ("gone",)
    assert removed.added == ()


def test_enum_that_is_not_there_is_created() -> None:
    """An enumerated type that is missing altogether is created in expand."""
    assert phases(mood((), ("a", "b"))) == (["create-enum:mood"], [])


# -- refused ------------------------------------------------------------------------------------------------------


def test_all_refusals_at_once() -> None:
    """A person sees everything that is refused, each with a remedy, and not the first of it."""
    found = sorted_out(
        users(C("kind", String(9)), C("left", Integer), C("legacy", Integer, nullable=False)),
        users(C("kind", Integer), C("left", Integer), C("joined", Integer, primary_key=True)),
    )
    targets = {refusal.target for refusal in found.refusals}
    assert {"users.kind", "users.legacy"} <= targets
    assert targets & {"users", "users.joined"}
    assert all(refusal.remedy for refusal in found.refusals)


@pytest.mark.parametrize("what", ["primary key", "identity", "computed", "partitioning", "something new"])
def test_unsupported_differences_are_refused(what: str) -> None:
    """What no phase can make up for is refused with a recipe."""
    element = Element(ElementKind.COLUMN, TableKey(None, "users"), "a")
    found = sort_directives([UnsupportedDifferenceOp(element, what, "this", "that")], MetaData())
    (refusal,) = found.refusals
    assert refusal.target == "users.a"
    assert "this" in refusal.reason
    assert "that" in refusal.reason
    assert "{target}" not in refusal.remedy
    assert refusal.remedy
    assert found.operations == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (C("a", Integer, Computed("id + 1")), C("a", Integer, Computed("id + 2"))),
        (C("a", Integer), C("a", Integer, Computed("id + 2"))),
    ],
)
def test_computed_column_changed_is_refused(old: Any, new: Any) -> None:
    """A generated column does not change its expression."""
    found = sorted_out(users(old), users(new))
    assert [refusal.target for refusal in found.refusals] == ["users.a"]
    assert found.operations == ()


def test_new_identity_column_is_added_as_it_is() -> None:
    """A new column that the server fills by itself needs no fill."""
    new = modelled(users(C("a", Integer, Identity(), nullable=False)))
    live = [live_table(modelled(users()).tables["users"])]
    found = sort_directives([ops.AddColumnOp("users", new.tables["users"].c.a)], new, live)
    assert phases(found) == (["add-column:users.a"], [])


def test_retired_primary_key_column_is_refused() -> None:
    """A column of the primary key cannot be taken away."""
    found = sorted_out(
        lambda m: Table(
            "t", m, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True)
        ),
        lambda m: Table("t", m, Column("a", Integer, primary_key=True)),
        lambda upgrade, _: upgrade.discard("t.b", reason="x"),
    )
    assert found.refusals
    assert {refusal.target.split(".")[0] for refusal in found.refusals} == {"t"}
    assert ids(found, Phase.CONTRACT) == []


def test_table_whose_name_is_taken_is_refused() -> None:
    """A view of the same name stands in the way of a new table."""
    metadata = modelled(users())
    upgrade = Upgrade(metadata)
    live = LiveSchema({}, names_taken={TableKey(None, "users"): "view users"})
    directive = ops.CreateTableOp.from_table(metadata.tables["users"])
    found = classify([directive], upgrade, live, upgrade.tables)
    assert [refusal.target for refusal in found.refusals] == ["users"]
    assert "view users" in found.refusals[0].reason


# -- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ondelete", "nullable", "released"),
    [
        (None, True, True),
        ("RESTRICT", True, True),
        ("CASCADE", True, False),
        ("SET NULL", True, False),
        ("SET NULL", False, True),
    ],
)
def test_retired_child_table_lets_go_of_its_parents(
    ondelete: str | None, nullable: bool, released: bool
) -> None:
    """A foreign key that would keep the new release from deleting a parent goes in expand; a cascading one stays."""
    found = sorted_out(
        lambda m: [
            parents(m),
            users(
                C("a", Integer, nullable=nullable), FK(["a"], ["parents.id"], name="fk", ondelete=ondelete)
            )(m),
        ],
        parents,
        lambda upgrade, _: upgrade.retire("users"),
    )
    assert phases(found) == (["drop-foreign-key:users.fk"] if released else [], ["drop-table:users"])


def test_new_tables_come_in_the_order_of_their_foreign_keys() -> None:
    """A parent is created before its child, whatever the names; a cycle is tied afterwards."""

    def new(m: MetaData) -> None:
        Table("a_child", m, Column("id", Integer, primary_key=True), Column("p", Integer))
        Table("z_parent", m, Column("id", Integer, primary_key=True), Column("q", Integer))
        m.tables["a_child"].append_constraint(ForeignKeyConstraint(["p"], ["z_parent.id"], name="fk"))

    found = sorted_out(lambda _: None, new)
    assert [one.id for one in found.operations] == ["create-table:z_parent", "create-table:a_child"]

    def cycle(m: MetaData) -> None:
        new(m)
        m.tables["z_parent"].append_constraint(ForeignKeyConstraint(["q"], ["a_child.id"], name="back"))

    found = sorted_out(lambda _: None, cycle)
    assert phases(found) == (
        [
            "add-foreign-key:a_child.fk",
            "add-foreign-key:z_parent.back",
            "create-table:a_child",
            "create-table:z_parent",
        ],
        [],
    )


# -- what an interrupted expand has left ----------------------------------------------------------------------------


def test_column_added_for_this_release_is_still_new() -> None:
    """A rule over a column that this upgrade has added is additive; over one that was there before it is not."""
    new = modelled(users(C("a", Integer), U("a", name="uq")))
    live = LiveSchema({table.key: table for table in [live_table(new.tables["users"])]})
    upgrade = Upgrade(new, release="2")
    directive = ops.CreateUniqueConstraintOp("uq", "users", ["a"])
    for past, expected in (
        (Past(added=frozenset({"add-column:users.a"})), (["add-unique:users.uq"], [])),
        (Past(added=frozenset({"create-table:users"})), (["add-unique:users.uq"], [])),
        (Past(added=frozenset({"add-column:users.b"})), ([], ["add-unique:users.uq"])),
        (None, ([], ["add-unique:users.uq"])),
    ):
        assert phases(classify([directive], upgrade, live, upgrade.tables, past)) == expected


def test_index_that_becomes_a_constraint_is_not_unmanaged() -> None:
    """A unique index that was built for a constraint, which a crash kept from being made of it, is nobody else's."""
    new = modelled(users(C("a", Integer)))
    directives = [
        ops.CreateUniqueConstraintOp("uq", "users", ["a"]),
        ops.DropIndexOp("uq", "users"),
        ops.DropIndexOp("ix", "users"),
    ]
    found = sort_directives(directives, new, [live_table(new.tables["users"])])
    assert [one.declare for one in found.unmanaged] == ['upgrade.retire("users.ix")']


# -- names ----------------------------------------------------------------------------------------------------------


def test_a_literal_is_no_column() -> None:
    """A CHECK or index that only holds the name of a retired column as a literal stays, and is nobody's to drop."""
    kinds = partial(CheckConstraint, "kind IN ('email', 'phone')", name="ck_kind")
    found = sorted_out(
        users(C("kind", String(9)), C("email", String(9)), kinds),
        users(C("kind", String(9)), kinds),
        retiring("users.email"),
    )
    assert phases(found) == ([], ["drop-column:users.email"])


def test_a_check_that_the_models_keep_stays() -> None:
    """What the new release asks for too is not dropped, even where its text seems to speak of a retired column."""
    check = partial(CheckConstraint, "kind <> '' /* or email */", name="ck_kind")
    found = sorted_out(
        users(C("kind", String(9)), C("email", String(9)), check),
        users(C("kind", String(9)), check),
        retiring("users.email"),
    )
    assert phases(found) == ([], ["drop-column:users.email"])


def test_columns_with_another_key() -> None:
    """Columns go by their names in the database, whatever the models call them."""
    found = sorted_out(
        users(C("a b", Integer)),
        users(C("a b", Integer, key="ab", nullable=False), C("c d", Integer, key="cd", nullable=False)),
    )
    assert phases(found) == (
        ['add-column:users."c d"'],
        ['set-not-null:users."a b"', 'set-not-null:users."c d"'],
    )


def test_a_foreign_key_of_a_table_that_nobody_named_is_not_dropped() -> None:
    """A retired table that another team's table refers to is refused; once that is named too, both may go."""

    def old(m: MetaData) -> None:
        Table("parents", m, Column("id", Integer, primary_key=True))
        Table(
            "theirs",
            m,
            Column("id", Integer, primary_key=True),
            Column("parent_id", Integer),
            ForeignKeyConstraint(["parent_id"], ["parents.id"], name="fk_theirs"),
        )

    def both(upgrade: Upgrade, _: Any) -> None:
        upgrade.retire("parents")
        upgrade.retire("theirs")

    found = sorted_out(old, lambda _: None, retiring("parents"))
    assert phases(found) == ([], [])
    (refusal,) = found.refusals
    assert "fk_theirs of table theirs" in str(refusal)
    assert sorted_out(old, lambda _: None, both).refusals == ()


def test_a_schema_called_like_a_table_needs_the_kind() -> None:
    """A line that named a column does not name a table of that schema once the column is gone."""
    metadata = modelled(users())
    drop = ops.DropTableOp("name", schema="users")
    with pytest.raises(DeclarationError, match="ambiguous"):
        sort_directives([drop], metadata, (), lambda upgrade: upgrade.discard("users.name", reason="done"))
