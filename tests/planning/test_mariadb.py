"""What does a plan refuse on MariaDB, and with which words to paste?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Computed,
    Engine,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)
from sqlalchemy.dialects import mysql

import emc
from emc.errors import PlanRefusedError


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """A fresh MariaDB database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


def models(*columns: Column[Any]) -> MetaData:
    """One table of *columns* besides its key."""
    metadata = MetaData()
    Table("things", metadata, Column("id", Integer, primary_key=True), *columns)
    return metadata


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (String(20), String(20, collation="utf8mb4_bin")),
        (Integer(), mysql.INTEGER(unsigned=True)),
        (mysql.DATETIME(), mysql.TIMESTAMP()),
        (mysql.BINARY(4), mysql.BINARY(8)),
        (Enum("a", "b"), mysql.SET("a", "b")),
        (String(20), Boolean()),
    ],
    ids=repr,
)
def test_types_that_cannot_share_a_column_are_refused(engine: Engine, old: Any, new: Any) -> None:
    """Other collations find other values equal, other types hold other values: a new column is called for."""
    models(Column("it", old)).create_all(engine)
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(emc.Upgrade(models(Column("it", new))), engine)
    (refusal,) = caught.value.refusals
    assert refusal.target == "things.it"
    assert 'upgrade.discard("things.it"' in str(refusal.remedy)


def test_a_column_that_another_is_computed_from_is_refused_until_both_go(engine: Engine) -> None:
    """The server could not compute the other one any more; the refusal names it."""
    nick = Column("nick", String(20))
    shout = Column("shout", String(20), Computed("upper(nick)"))
    models(nick, shout).create_all(engine)
    kept = models(Column("shout", String(20), Computed("upper(nick)")))
    upgrade = emc.Upgrade(kept)
    upgrade.discard("things.nick", reason="of no use")
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(upgrade, engine)
    assert [refusal.target for refusal in caught.value.refusals] == ["things.nick"]
    assert "shout" in str(caught.value)
    both = emc.Upgrade(models())
    both.discard("things.nick", reason="of no use")
    both.discard("things.shout", reason="of no use")
    plan = emc.plan(both, engine).plan
    assert [step.id for step in plan.contract] == ["drop-column:things.shout", "drop-column:things.nick"]


def test_generation_that_changes_is_refused(engine: Engine) -> None:
    """Another expression, or one that is kept from now on, would compute every row anew."""
    models(Column("a", Integer), Column("b", Integer, Computed("a + 1", persisted=False))).create_all(engine)
    for computed in (Computed("a + 2", persisted=False), Computed("a + 1", persisted=True)):
        with pytest.raises(PlanRefusedError) as caught:
            emc.plan(emc.Upgrade(models(Column("a", Integer), Column("b", Integer, computed))), engine)
        assert [refusal.target for refusal in caught.value.refusals] == ["things.b"]


def test_an_unmanaged_column_that_inserts_must_name_is_refused(engine: Engine) -> None:
    """Strict mode refuses the inserts of the new release; an enumeration takes its first label instead."""
    columns = [Column("must", Integer, nullable=False), Column("mood", Enum("a", "b"), nullable=False)]
    models(*columns).create_all(engine)
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(emc.Upgrade(models()), engine)
    assert [refusal.target for refusal in caught.value.refusals] == ["things.must"]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE things DROP COLUMN must"))
        connection.execute(text("INSERT INTO things (id) VALUES (1)"))
        assert connection.execute(text("SELECT mood FROM things")).scalar_one() == "a"
    unmanaged = emc.plan(emc.Upgrade(models()), engine).plan.unmanaged
    assert [one.declare for one in unmanaged] == ['upgrade.retire("things.mood")']
