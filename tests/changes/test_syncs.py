"""Columns that are renamed or converted: what may be declared, and what each phase does about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    case,
    create_engine,
    func,
    select,
)

import emc
from emc.changes import Past, classify
from emc.dialects import dialect_of
from emc.diff import compare
from emc.errors import DeclarationError
from emc.phases import Phase
from emc.sync import Sync
from tests.changes.sorting import Build, ids, modelled, phases, sorted_out, users

C = partial(partial, Column)
Declare = Callable[[emc.Upgrade, Any], object]


def renaming(upgrade: emc.Upgrade, t: Any) -> None:
    """users.name has become users.title."""
    upgrade.rename("users.name", to=t["users"].c.title)


def converting(up: Any = lambda old: old, down: Any = lambda new: new, source: Any = "users.name") -> Declare:
    """users.name has become users.title, in another form."""
    return lambda upgrade, t: upgrade.convert(source, to=t["users"].c.title, up=up, down=down)


def error_of(declare: Declare, old: Build | None = None, new: Build | None = None) -> DeclarationError:
    """What a declaration is refused with."""
    before = old or users(C("name", String(9)))
    after = new or users(C("title", String(9)))
    with pytest.raises(DeclarationError) as caught:
        sorted_out(before, after, declare)
    assert any("test_syncs.py:" in place for place in caught.value.places), caught.value.places
    assert caught.value.remedy
    return caught.value


# -- what may be declared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("users", "no column"),
        ("users.", "dotted"),
        ("a.b.c.d", "three parts"),
        (5, "not the name"),
        ([], "Nothing"),
        (["users.name", "groups.name"], "one table"),
        (["users.name", "users.name"], "one table"),
        ("groups.name", "different tables"),
        ("users.title", "as old and as new"),
    ],
    ids=["table", "no-name", "deep", "number", "none", "tables", "twice", "other-table", "new"],
)
def test_sources_are_columns_of_one_table(source: Any, word: str) -> None:
    """What names no column, columns of several tables, or the new column itself, is refused with what to write."""
    assert word in str(error_of(converting(source=source)))


def test_unknown_source_is_an_error() -> None:
    """A name that the database does not have is an error that lists those that it has, unless it was dropped before."""
    error = error_of(converting(source="users.nmae"))
    assert "users.nmae" in str(error)
    assert "name" in str(error.remedy)


def test_source_that_the_models_still_have() -> None:
    """Both sides in the models is a contradiction."""
    both = users(C("name", String(9)), C("title", String(9)))
    error = error_of(renaming, users(C("name", String(9))), both)
    assert "the models still have" in str(error)


@pytest.mark.parametrize(
    ("declare", "word"),
    [
        pytest.param(lambda u, _: u.retire("users.name"), "retire", id="retire"),
        pytest.param(lambda u, _: u.discard("users.name", reason="old"), "discard", id="discard"),
        pytest.param(lambda u, t: u.rename("users.name", to=t["users"].c.title), "rename", id="rename"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_named_twice(declare: Declare, word: str, first: bool) -> None:
    """A column that another declaration speaks of too is refused with both places, in whichever order."""

    def both(upgrade: emc.Upgrade, t: Any) -> None:
        for one in (renaming, declare) if first else (declare, renaming):
            one(upgrade, t)

    error = error_of(both)
    assert len(error.places) == 2
    assert word in str(error)


@pytest.mark.parametrize("first", [True, False])
def test_filled_and_renamed(first: bool) -> None:
    """A column that gets its values from an old one is not filled besides."""

    def fill(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.fill(t["users"].c.title, "x")

    def both(upgrade: emc.Upgrade, t: Any) -> None:
        for one in (renaming, fill) if first else (fill, renaming):
            one(upgrade, t)

    error = error_of(both, new=users(C("title", String(9), nullable=False)))
    assert len(error.places) == 2
    assert "coalesce" in str(error.remedy)


@pytest.mark.parametrize(
    "column",
    [C("title", String(9), primary_key=True), C("title", String(9), Computed("upper('a')"))],
    ids=["key", "computed"],
)
def test_target_is_an_ordinary_column(column: Any) -> None:
    """Keys and what the database computes cannot be written by triggers."""
    assert "ordinary column" in str(error_of(renaming, new=users(column)).remedy)


WRONG: dict[str, tuple[Any, str]] = {
    "constant": (lambda _: 5, "no SQL expression"),
    "none": (lambda _: None, "no SQL expression"),
    "too-many": (lambda old: (old, old), "2 values for 1"),
    "other-column": (lambda old: {"other": old}, "other"),
    "no-such-attribute": (lambda old: old.nothing, "failed with AttributeError"),
    "no-argument": (lambda: 1, "failed with TypeError"),
    "clock": (lambda _: func.now(), "something else each time"),
    "subquery": (lambda old: select(func.max(old)).scalar_subquery(), "subquery"),
    "own-side": (lambda old: old.table.c.title, "reads title"),
    "other-table": (lambda _: Table("x", MetaData(), Column("y", Integer)).c.y, "speaks of x.y"),
    "text": ("upper", "not a function"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("side", ["up", "down"])
def test_conversions_are_sql_of_the_row(case: str, side: str) -> None:
    """What a trigger cannot compute from the columns of its row is refused, in whichever direction."""
    up, word = WRONG[case]
    if word == "reads title" and side == "down":
        up, word = (lambda new: new.table.c.name), "reads name"
    assert word in str(error_of(converting(**{side: up})))


def test_answers_by_column() -> None:
    """For several columns the answer may be a tuple or a dictionary, and keys may be the columns themselves."""
    old = users(C("amount", Integer))
    new = users(C("euros", Integer), C("cents", Integer))

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        euros, cents = t["users"].c.euros, t["users"].c.cents
        upgrade.convert(
            "users.amount",
            to=[euros, cents],
            up=lambda amount: {"cents": amount % 100, euros: amount // 100},
            down=lambda euros, cents: euros * 100 + cents,
        )

    (sync,) = sorted_out(old, new, declare).situation.syncs.values()
    assert list(sync.up) == ["euros", "cents"]
    assert "%" in str(sync.up["cents"])


# -- what each phase does ---------------------------------------------------------------------------------------------


def test_rename() -> None:
    """Add, keep in step, relax; then triggers and column go as one."""
    found = sorted_out(
        users(C("name", String(9), nullable=False)),
        users(C("title", String(9), nullable=False, server_default="x")),
        renaming,
    )
    assert phases(found) == (
        ["add-column:users.title", "drop-not-null:users.name", "install-sync:users.title"],
        [
            "drop-column:users.name",
            "drop-sync:users.title",
            "set-default:users.title",
            "set-not-null:users.title",
        ],
    )
    assert found.unmanaged == ()
    assert found.hints == ()
    (added,) = [one for one in found.operations if one.kind == "add-column"]
    column = added.directive.column  # type: ignore[attr-defined]
    assert column.nullable
    assert column.server_default is None
    marks = {one.id: one.together for one in found.operations if one.together}
    assert marks.keys() == {"drop-column:users.name", "drop-sync:users.title", "set-default:users.title"}
    assert len(set(marks.values())) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (String(9), String(20)),
        (String(20), String(9)),
        (String(9), Integer()),
        (Integer(), Numeric(10, 2)),
        (Numeric(10, 2), Numeric(10, 4)),
    ],
    ids=["wider", "narrower", "number", "decimal", "scale"],
)
def test_rename_to_another_type(old: Any, new: Any) -> None:
    """A rename to a type that does not hold the same values both ways is refused, with the convert line."""
    found = sorted_out(users(C("name", old)), users(C("title", new)), renaming)
    refused = [one for one in found.refusals if one.target == "users.title"]
    assert len(refused) == 1
    assert 'upgrade.convert("users.name"' in refused[0].remedy


def test_target_that_is_there_with_a_default() -> None:
    """A column that is there already with a default is refused: its default would pass for a value."""
    both = users(C("name", String(9)), C("title", String(9), server_default="x"))
    found = sorted_out(both, users(C("title", String(9))), renaming)
    assert [one.target for one in found.refusals] == ["users.title"]
    assert "DROP DEFAULT" in found.refusals[0].remedy


def test_no_way_back_is_said() -> None:
    """Before anything is expanded the plan says what has no way back, and what becomes read-only."""
    found = sorted_out(users(C("name", String(9))), users(C("title", String(9))), converting(down=None))
    (hint,) = found.hints
    assert hint.kind == "no-way-back"
    assert "users.name" in hint.text
    assert "refused" in hint.text


def test_what_is_unique_stays_unique() -> None:
    """The unique constraint of a renamed column is built at once, since the new release may upsert on it."""
    unique = C("title", String(9), unique=True)
    was = users(C("name", String(9), unique=True))
    assert any(
        one.startswith("add-unique") for one in ids(sorted_out(was, users(unique), renaming), Phase.EXPAND)
    )
    for found in (
        sorted_out(was, users(unique), converting(func.lower)),
        sorted_out(users(C("name", String(9))), users(unique), renaming),
    ):
        assert any(one.startswith("add-unique") for one in ids(found, Phase.CONTRACT))


def _referring(column: str, **options: Any) -> Build:
    def build(m: MetaData) -> None:
        Table("groups", m, Column("id", Integer, primary_key=True))
        fk = ForeignKey("groups.id", name=f"fk_{column}", **options)
        Table("users", m, Column("id", Integer, primary_key=True), Column(column, Integer, fk))

    return build


@pytest.mark.parametrize(("before", "phase"), [("CASCADE", Phase.EXPAND), (None, Phase.CONTRACT)])
def test_foreign_key_of_a_renamed_column(before: str | None, phase: Phase) -> None:
    """The same foreign key on the new name is there at once, and the old one stays; another one waits."""

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.rename("users.gid", to=t["users"].c.group_id)

    found = sorted_out(
        _referring("gid", ondelete=before), _referring("group_id", ondelete="CASCADE"), declare
    )
    assert "add-foreign-key:users.fk_group_id" in ids(found, phase)
    assert ("drop-foreign-key:users.fk_gid" in ids(found, Phase.EXPAND)) is (before is None)


def test_gone_sources_leave_an_idle_declaration() -> None:
    """Once the old column is gone, the declaration asks for nothing, and that is said."""
    now = users(C("title", String(9)))
    found = sorted_out(now, now, renaming)
    assert found.operations == ()
    assert [hint.kind for hint in found.hints] == ["nothing-left"]


def test_releases_may_be_skipped() -> None:
    """Two old names of one column may be declared; the one that the database has counts, and both are an error."""

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.rename("users.nick", to=t["users"].c.title)
        upgrade.rename("users.name", to=t["users"].c.title)

    new = users(C("title", String(9)))
    with_name, both = (
        users(C("title", String(9)), C("name", String(9))),
        users(C("name", String(9)), C("nick", String(9))),
    )
    assert "install-sync:users.title" in ids(sorted_out(with_name, new, declare), Phase.EXPAND)
    assert "the database has both" in str(error_of(declare, both, new))


def test_half_gone_sources() -> None:
    """One of several old columns that is gone is an error, unless emc has dropped it: then the rest may follow."""
    engine = create_engine("sqlite://")
    modelled(users(C("first", Integer), C("title", Integer))).create_all(engine)
    metadata = modelled(users(C("title", Integer)))
    upgrade = emc.Upgrade(metadata)
    upgrade.convert(
        ["users.first", "users.last"],
        to=metadata.tables["users"].c.title,
        up=lambda first, last: first + last,
    )
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        diff = compare(connection, upgrade, dialect)
    with pytest.raises(DeclarationError, match=r"users\.last"):
        classify(diff.directives, upgrade, diff.live, diff.models)
    past = Past(dropped=frozenset({"users.last"}))
    found = classify(diff.directives, upgrade, diff.live, diff.models, past)
    assert phases(found) == ([], ["drop-column:users.first"])


def test_what_stands_is_not_installed_again() -> None:
    """Expand is idempotent: what stands as it should is left alone, and still has to go in contract."""
    engine = create_engine("sqlite://")
    modelled(users(C("name", String(9)), C("title", String(9)))).create_all(engine)
    metadata = modelled(users(C("title", String(9))))
    upgrade = emc.Upgrade(metadata)
    upgrade.convert(
        "users.name",
        to=metadata.tables["users"].c.title,
        up=lambda old: case((old == "a", "b"), else_=old),
        down=lambda new: new,
    )
    dialect = dialect_of(engine)
    asked: list[Sync] = []

    def stands(sync: Sync) -> bool:
        asked.append(sync)
        return True

    with dialect.reading(engine) as connection:
        diff = compare(connection, upgrade, dialect)
    found = classify(diff.directives, upgrade, diff.live, diff.models, stands=stands)
    assert phases(found) == ([], ["drop-column:users.name", "drop-sync:users.title"])
    assert [sync.name for sync in asked] == ["users.title"]


def test_unique_over_several_columns() -> None:
    """A unique constraint over a renamed column and others is built at once where the old one was the same."""

    def unique(name: str) -> Build:
        return users(
            C(name, String(9)), C("kind", Integer), partial(UniqueConstraint, name, "kind", name=f"uq_{name}")
        )

    found = sorted_out(unique("name"), unique("title"), renaming)
    assert "add-unique:users.uq_title" in ids(found, Phase.EXPAND)
