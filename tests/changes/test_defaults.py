"""May every insert of the old release get the new default of a column?"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, func

import emc
from emc.errors import PlanRefusedError


def models(default: Any, *constraints: Any, **options: Any) -> MetaData:
    """A table whose column may have a server default and a rule."""
    metadata = MetaData()
    Table("parents", metadata, Column("id", Integer, primary_key=True))
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "code", Integer if constraints else String(40), *constraints, server_default=default, **options
        ),
    )
    return metadata


@pytest.mark.parametrize("rule", ["unique", "foreign-key"])
def test_a_default_that_a_rule_refuses_is_refused(engine: Engine, rule: str) -> None:
    """The second old insert that leaves the column out would be a duplicate, or have no parent."""
    constraints = [ForeignKey("parents.id")] if rule == "foreign-key" else []
    options = {"unique": True} if rule == "unique" else {}
    old = models(None, *constraints, **options)
    old.create_all(engine)
    constraints = [ForeignKey("parents.id")] if rule == "foreign-key" else []
    with pytest.raises(PlanRefusedError, match="server default") as caught:
        emc.plan(emc.Upgrade(models("1", *constraints, **options)), engine)
    [refusal] = caught.value.refusals
    assert refusal.target == "users.code"


def test_a_default_of_its_own_for_each_row_is_not(engine: Engine) -> None:
    """A function gives each row its own value, which a unique constraint takes; without a rule any default goes."""
    models(None, unique=True).create_all(engine)
    random = {
        "postgresql": func.gen_random_uuid(),
        "sqlite": func.hex(func.randomblob(16)),
        "mariadb": func.uuid(),
    }[engine.dialect.name]
    report = emc.plan(emc.Upgrade(models(random, unique=True)), engine)
    assert [step.id for step in report.plan.expand] == ["set-default:users.code"]
