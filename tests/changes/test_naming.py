"""Nothing is taken away that nobody has named, and whoever names something is understood or told why not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

import emc
from emc.changes import Past, classify
from emc.errors import DeclarationError
from emc.names import TableKey
from emc.phases import Phase
from emc.schema import LiveSchema
from tests.changes.sorting import ids, live_table, modelled, phases, sorted_out, users

C = partial(partial, Column)


def theirs(m: MetaData) -> None:
    """A table with everything that a stranger can add, and a table of the stranger's own."""
    users(
        C("name", String(9)),
        C("code", String(9)),
        partial(Index, "ix", "name"),
        partial(UniqueConstraint, "name", name="uq"),
        partial(CheckConstraint, "name <> ''", name="ck"),
    )(m)
    Table("strange", m, Column("id", Integer, primary_key=True), Column("u", ForeignKey("users.id")))


OURS = users(C("name", String(9)))


def test_unnamed_elements_are_listed_and_left() -> None:
    """Every element that only the database has is listed once, with the line that names it."""
    found = sorted_out(theirs, OURS)
    assert found.operations == ()
    assert found.refusals == ()
    assert {(str(one.element.kind), one.declare) for one in found.unmanaged} == {
        ("table", 'upgrade.retire("strange")'),
        ("column", 'upgrade.retire("users.code")'),
        ("index", 'upgrade.retire("users.ix")'),
        ("unique", 'upgrade.retire("users.uq")'),
        ("check", 'upgrade.retire("users.ck")'),
    }


def test_every_line_to_paste_works() -> None:
    """Pasting all the lines names all the elements, and nothing more is listed."""
    lines = [one.declare for one in sorted_out(theirs, OURS).unmanaged]

    def paste(upgrade: emc.Upgrade, t: Any) -> None:
        for line in lines:
            exec(line, {"upgrade": upgrade})

    found = sorted_out(theirs, OURS, paste)
    assert found.unmanaged == ()
    assert phases(found) == (
        ["drop-check:users.ck"],
        ["drop-column:users.code", "drop-index:users.ix", "drop-table:strange", "drop-unique:users.uq"],
    )


@pytest.mark.parametrize(
    "name", ["it's", 'say "hi"', "a.b", "with blank", "back\\slash", 'it\'s "both"', "Ünïcode"]
)
def test_lines_to_paste_with_odd_names(name: str) -> None:
    """A name with quotes, dots or blanks in it can be pasted too."""
    old = users(C("name", String(9)), C(name, Integer))
    (one,) = sorted_out(old, OURS).unmanaged
    found = sorted_out(old, OURS, lambda upgrade, _: exec(one.declare, {"upgrade": upgrade}))
    assert found.unmanaged == ()
    assert [operation.element.name for operation in found.operations] == [name]


def test_elements_of_the_same_name_are_told_apart() -> None:
    """A name that two elements share needs a kind: the lines to paste have one, and a line without is refused."""
    old = users(C("name", String(9)), C("both", Integer), partial(Index, "both", "name"))
    found = sorted_out(old, OURS)
    assert sorted(one.declare for one in found.unmanaged) == [
        'upgrade.retire("users.both", kind="column")',
        'upgrade.retire("users.both", kind="index")',
    ]
    with pytest.raises(DeclarationError, match="ambiguous") as caught:
        sorted_out(old, OURS, lambda upgrade, _: upgrade.retire("users.both"))
    assert len(caught.value.places) == 1
    assert 'kind="' in str(caught.value.remedy)
    named = sorted_out(old, OURS, lambda upgrade, _: upgrade.retire("users.both", kind="index"))
    assert phases(named) == ([], ["drop-index:users.both"])


def called_like_their_column(m: MetaData) -> object:
    """What MariaDB makes of Column("code", unique=True) and Column("name", CheckConstraint(…))."""
    return users(
        C("name", String(9)),
        C("code", String(9)),
        partial(CheckConstraint, "name <> ''", name="name"),
        partial(UniqueConstraint, "code", "name", name="code"),
    )(m)


def test_what_goes_with_a_column_may_be_called_like_it() -> None:
    """The name of a column means the column, and what is built on it, and bears its name, goes with it."""
    new = users(C("name", String(9)), partial(CheckConstraint, "name <> ''", name="name"))
    found = sorted_out(called_like_their_column, new, lambda upgrade, _: upgrade.retire("users.code"))
    assert phases(found) == ([], ["drop-column:users.code"])
    assert found.unmanaged == ()


def test_name_that_the_models_have_too_needs_a_kind() -> None:
    """What is called like a column that stays is named with its kind: later the line would name the column."""
    new = users(C("name", String(9)), C("code", String(9)))
    found = sorted_out(called_like_their_column, new)
    assert sorted(one.declare for one in found.unmanaged) == [
        'upgrade.retire("users.code", kind="unique")',
        'upgrade.retire("users.name", kind="check")',
    ]
    with pytest.raises(DeclarationError, match="ambiguous") as caught:
        sorted_out(called_like_their_column, new, lambda upgrade, _: upgrade.retire("users.code"))
    assert 'kind="unique"' in str(caught.value.remedy)

    def paste(upgrade: emc.Upgrade, t: Any) -> None:
        for one in found.unmanaged:
            exec(one.declare, {"upgrade": upgrade})

    named = sorted_out(called_like_their_column, new, paste)
    assert phases(named) == (["drop-check:users.name"], ["drop-unique:users.code"])
    assert sorted_out(new, new, paste).operations == ()


def test_unmanaged_column_that_breaks_inserts_is_refused_until_it_is_declared() -> None:
    """A NOT NULL column without default that the models lack would fail every insert of the new release."""
    old = users(C("name", String(9)), C("must", Integer, nullable=False))
    found = sorted_out(old, OURS)
    (refusal,) = found.refusals
    assert refusal.target == "users.must"
    settled = sorted_out(old, OURS, lambda upgrade, _: exec(refusal.remedy, {"upgrade": upgrade}))
    assert settled.refusals == ()
    assert phases(settled) == (["drop-not-null:users.must"], ["drop-column:users.must"])


@pytest.mark.parametrize("kind", [None, "unique", "index"])
def test_unique_constraint_that_is_an_index_may_be_called_either(kind: str | None) -> None:
    """To MariaDB a unique index and a unique constraint are one: whoever made the one need not name the other."""
    upgrade = emc.Upgrade(modelled(OURS))
    upgrade.retire("users.uq", kind=kind)
    facts: Any = {"uniques": [{"name": "uq", "column_names": ["name"], "duplicates_index": "uq"}]}
    live = LiveSchema({TableKey(None, "users"): live_table(modelled(OURS).tables["users"], **facts)})
    found = classify([ops.DropConstraintOp("uq", "users", "unique")], upgrade, live, upgrade.tables)
    assert phases(found) == ([], ["drop-unique:users.uq"])


def test_unmanaged_enumeration_of_mysql_breaks_nothing() -> None:
    """A column that inserts leave out gets the first label of an enumeration that is part of it."""
    old = users(C("name", String(9)), C("mood", mysql.ENUM("a", "b"), nullable=False))
    upgrade = emc.Upgrade(modelled(OURS))
    live = LiveSchema({TableKey(None, "users"): live_table(modelled(old).tables["users"])})
    found = classify([ops.DropColumnOp("users", "mood")], upgrade, live, upgrade.tables)
    assert found.refusals == ()
    assert [one.declare for one in found.unmanaged] == ['upgrade.retire("users.mood")']


def test_unmanaged_column_of_an_unmanaged_table_breaks_nothing() -> None:
    """What another team's table demands is its own business."""
    found = sorted_out(lambda m: [OURS(m), users(C("must", Integer, nullable=False), name="theirs")(m)], OURS)
    assert found.refusals == ()
    assert [one.declare for one in found.unmanaged] == ['upgrade.retire("theirs")']


@pytest.mark.parametrize("verb", ["retire", "discard"])
@pytest.mark.parametrize("target", ["users", "users.name", "users.ix"])
def test_what_the_models_still_have_cannot_be_named(verb: str, target: str) -> None:
    """A removal that contradicts the models is an error that names both places."""
    new = users(C("name", String(9)), partial(Index, "ix", "name"))
    reason = {"reason": "x"} if verb == "discard" else {}
    with pytest.raises(DeclarationError) as caught:
        sorted_out(new, new, lambda upgrade, _: getattr(upgrade, verb)(target, **reason))
    declared, in_models = caught.value.places
    assert "test_naming.py" in declared
    assert "users" in in_models
    assert caught.value.remedy


def test_removal_that_looks_misspelt_is_an_error() -> None:
    """A name that nothing has, but something nearly has, is an error that says what was meant."""
    with pytest.raises(DeclarationError) as caught:
        sorted_out(theirs, OURS, lambda upgrade, _: upgrade.retire("users.cod"))
    assert 'upgrade.retire("users.code")' in str(caught.value.remedy)


def test_removal_that_is_known_to_be_done_is_never_misspelt() -> None:
    """What emc has dropped is done, however much the name of something that is left looks like its own."""
    metadata = modelled(OURS)
    upgrade = emc.Upgrade(metadata)
    upgrade.retire("users.cod")
    live = LiveSchema({TableKey(None, "users"): live_table(modelled(theirs).tables["users"])})
    directives = [ops.DropColumnOp("users", "code")]
    with pytest.raises(DeclarationError):
        classify(directives, upgrade, live, upgrade.tables)
    found = classify(directives, upgrade, live, upgrade.tables, Past(dropped=frozenset({"users.cod"})))
    assert [(hint.kind, hint.target) for hint in found.hints] == [("nothing-left", "users.cod")]


def test_removal_that_is_done_is_a_note() -> None:
    """A declaration whose element is gone has nothing left to do, and says so."""
    found = sorted_out(OURS, OURS, lambda upgrade, _: upgrade.retire("sessions"))
    assert [(hint.kind, hint.target) for hint in found.hints] == [("nothing-left", "sessions")]
    assert found.operations == ()


def test_migration_that_is_not_declared_is_an_error() -> None:
    """`after=` has to name a data migration of the upgrade."""
    with pytest.raises(DeclarationError) as caught:
        sorted_out(theirs, OURS, lambda upgrade, _: upgrade.retire("users.code", after=["nothing"]))
    assert len(caught.value.places) == 1


def test_elements_of_a_retired_table_go_with_it() -> None:
    """Whoever names a table has named its columns and indexes; naming one of them as well changes nothing."""

    def both(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.retire("strange")
        upgrade.retire("users.code")

    found = sorted_out(theirs, OURS, both)
    assert "drop-table:strange" in ids(found, Phase.CONTRACT)
    assert not [one for one in found.unmanaged if one.element.table.name == "strange"]


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ([C("name", String(9))], [C("title", String(20))], True),
        ([C("name", String(9))], [C("title", Integer)], False),
        ([C("name", String(9)), C("code", String(9))], [C("title", String(20))], False),
        ([C("name", String(9))], [C("title", String(20)), C("label", String(20))], False),
    ],
)
def test_look_alike_of_a_rename_is_pointed_out(old: list[Any], new: list[Any], alike: bool) -> None:
    """One column gone and one like it new may be a rename: that is said, and nothing is done about it."""
    found = sorted_out(users(*old), users(*new))
    hints = [hint for hint in found.hints if hint.kind == "looks-like-rename"]
    assert bool(hints) is alike
    assert not [one for one in found.operations if one.phase is Phase.CONTRACT]


@pytest.mark.parametrize(("length", "verb"), [(9, "rename"), (20, "convert")])
def test_line_of_the_rename_works(length: int, verb: str) -> None:
    """The line that the look-alike offers can be pasted: both columns are kept in step, then the old one goes."""
    old, new = users(C("name", String(9))), users(C("title", String(length)))
    (hint,) = sorted_out(old, new).hints
    line = hint.text[hint.text.index("upgrade.") :]
    assert line.startswith(f"upgrade.{verb}(")

    def paste(upgrade: emc.Upgrade, t: Any) -> None:
        exec(line, {"upgrade": upgrade, "User": t["users"].c})

    found = sorted_out(old, new, paste)
    assert phases(found) == (
        ["add-column:users.title", "install-sync:users.title"],
        ["drop-column:users.name", "drop-sync:users.title"],
    )
    assert found.hints == ()
