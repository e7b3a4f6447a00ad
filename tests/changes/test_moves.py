"""What may be declared of a column that moves to another table, and on which database?"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

import emc
from emc.errors import DeclarationError, PlanRefusedError
from tests.sync.moving import before, moved, new_tables


def test_there_has_to_be_a_way_back() -> None:
    """Without *down* nobody could tell a row that was deleted from one that is yet to be made."""
    with pytest.raises(DeclarationError, match="has no down="):
        moved(down=None)


def test_rows_have_to_be_matched() -> None:
    """Columns of two tables without *on* are refused with the line to write."""
    with pytest.raises(DeclarationError, match="different tables") as refused:
        moved(on=None)
    assert "on={" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("matched", "names", "word"),
    [
        ("user_id", "groups.id", "names columns of groups"),
        ("user_id", "users.street", "is converted"),
        ("street", "users.id", "is converted"),
    ],
)
def test_what_rows_are_matched_by(matched: str, names: str, word: str) -> None:
    """They are matched by columns of these two tables that are not converted themselves."""
    metadata = new_tables()
    with pytest.raises(DeclarationError, match=word):
        moved(metadata, on={metadata.tables["addresses"].c[matched]: names})


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_refused_where_triggers_could_break_statements(engine: Engine) -> None:
    """MariaDB refuses a statement that uses both tables while triggers write across, so emc refuses before expand."""
    before(engine, [(1, "a")])
    with pytest.raises(PlanRefusedError, match="1442") as refused:
        emc.plan(moved(), engine)
    assert "data_migration" in str(refused.value)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_plan_says_what_becomes_of_it(engine: Engine) -> None:
    """Before expand the plan shows both phases, and that undo loses nothing of what moves."""
    before(engine, [(1, "a")])
    plan = emc.plan(moved(new_tables(nullable=False)), engine).plan
    assert [step.id for step in plan.expand] == ["create-table:addresses", "install-sync:addresses.street"]
    assert [step.id for step in plan.contract] == [
        "set-not-null:addresses.street",
        "drop-sync:addresses.street",
        "drop-column:users.street",
    ]
    assert "users.street" in plan.ways["create-table:addresses"].text
