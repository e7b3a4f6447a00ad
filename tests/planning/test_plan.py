"""What does a whole plan promise, on a real database?"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, Table, create_engine

import emc
from emc.commands.jsonable import plan_json
from emc.errors import DeclarationError, ExitCode, PlanRefusedError
from emc.testing.wire import writes
from tests.changes.sorting import modelled, users
from tests.lifecycle.pairs import Pair
from tests.lifecycle.pairs_mixed import PAIRS, SHOP
from tests.lifecycle.ritual import build_old, planned, upgrade_of
from tests.mariadb_server import execute, make_account
from tests.servers import make_role

C = partial(partial, Column)


def test_same_inputs_give_the_same_plan(engine: Engine) -> None:
    """Models made anew, on a new connection: the plan is the same, byte for byte."""
    build_old(SHOP, engine)
    texts = {json.dumps(planned(SHOP, engine)[1]) for _ in range(5)}
    assert len(texts) == 1


def test_planning_leaves_the_models_alone(engine: Engine) -> None:
    """Planning adds nothing to the MetaData of the models, so the second plan of a process is the first one."""
    build_old(SHOP, engine)
    upgrade = upgrade_of(SHOP)

    def constraints() -> dict[str, int]:
        return {
            table.name: len(table.constraints) + len(table.indexes)
            for metadata in upgrade.metadata
            for table in metadata.tables.values()
        }

    before = constraints()
    first = json.dumps(plan_json(emc.plan(upgrade, engine), engine.dialect))
    assert constraints() == before
    assert json.dumps(plan_json(emc.plan(upgrade, engine), engine.dialect)) == first


def test_planning_writes_nothing(engine: Engine) -> None:
    """A plan leaves no statement behind that writes and is not rolled back, before expand and after it."""
    build_old(SHOP, engine)
    with writes(engine) as written:
        emc.plan(upgrade_of(SHOP), engine)
        emc.status(upgrade_of(SHOP), engine)
        assert emc.history(engine) == ()
    assert written == []


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_reader_sees_the_same_steps(database_url: str, expanded: bool) -> None:
    """A role that may only read gets the same plan as the owner."""
    owner = create_engine(database_url)
    build_old(SHOP, owner)
    if expanded:
        emc.expand(upgrade_of(SHOP), owner)
    if owner.dialect.name == "postgresql":
        reader = create_engine(make_role(database_url, "emc_plan_reader", "reader"))
    else:
        # A view whose text cannot be seen may speak of anything, and CHECKs are compared in a scratch database.
        reader = create_engine(make_account(database_url, "emc_plan_reader", "reader", "SHOW VIEW"))
        execute(
            database_url,
            r"GRANT SELECT, CREATE, DROP, INDEX, ALTER ON `emc\_scratch\_%`.* TO emc_plan_reader",
        )
    for engine, other in ((owner, reader), (reader, owner)):
        mine, theirs = planned(SHOP, engine)[1], planned(SHOP, other)[1]
        assert _ids(mine) == _ids(theirs)
    for engine in (owner, reader):
        engine.dispose()


def _ids(plan: Any) -> dict[str, list[str]]:
    return {phase: [step["id"] for step in steps] for phase, steps in plan["phases"].items()}


def test_refused_plan_changes_nothing(engine: Engine) -> None:
    """Where something is refused, every command says so, with every remedy at once, and nothing is touched."""
    modelled(users(C("a", String(9)), C("b", String(9)))).create_all(engine)
    upgrade = emc.Upgrade(modelled(users(C("a", Integer), C("b", Integer), C("c", Integer))))
    with writes(engine) as written:
        for command in (emc.plan, emc.expand, emc.migrate, emc.contract, emc.status):
            with pytest.raises(PlanRefusedError) as caught:
                command(upgrade, engine)
            assert [refusal.target for refusal in caught.value.refusals] == ["users.a", "users.b"]
            assert all(refusal.remedy in str(caught.value.remedy) for refusal in caught.value.refusals)
    assert written == []


@pytest.mark.parametrize(
    ("old", "new", "target"),
    [
        (["id"], ["id", "a"], "users"),
        (["id", "a"], ["id"], "users"),
        (["id"], ["a"], "users"),
    ],
)
def test_primary_key_changed_is_refused(engine: Engine, old: list[str], new: list[str], target: str) -> None:
    """Another primary key is refused, with the way around it."""

    def build(keys: list[str]) -> Any:
        return lambda m: Table(
            "users",
            m,
            *(Column(name, Integer, primary_key=name in keys, autoincrement=False) for name in ("id", "a")),
        )

    modelled(build(old)).create_all(engine)
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(emc.Upgrade(modelled(build(new))), engine)
    assert target in {refusal.target for refusal in caught.value.refusals}
    assert "data_migration" in str(caught.value.remedy)


def test_several_metadata(engine: Engine) -> None:
    """Tables of several MetaData make one plan; a table that two of them hold is an error with the place."""
    modelled(users()).create_all(engine)
    first, second = modelled(users(C("a", Integer))), modelled(users(name="others"))
    report = emc.plan(emc.Upgrade([first, second]), engine)
    assert [step.id for step in report.plan.expand] == ["create-table:others", "add-column:users.a"]
    assert report.plan.unmanaged == ()
    with pytest.raises(DeclarationError) as caught:
        emc.plan(emc.Upgrade([first, modelled(users())]), engine)
    assert "test_plan.py" in caught.value.places[0]


def test_lines_to_paste_make_the_plan_empty_in_the_end(engine: Engine) -> None:
    """Everything that is listed can be declared as it is listed; contract then takes it away, and nothing is left."""
    (pair,) = [one for one in PAIRS if one.name == "unmanaged"]
    build_old(pair, engine)

    def paste(upgrade: emc.Upgrade, _: Any) -> None:
        for line in pair.unmanaged:
            exec(
                line.replace(")", ', reason="theirs is gone")').replace("retire", "discard"),
                {"upgrade": upgrade},
            )

    pasted = Pair(pair.name, pair.promise, pair.old, pair.new, declare=paste)
    emc.expand(upgrade_of(pasted), engine)
    # PostgreSQL counts the uses of the index from the first run on.
    report = emc.contract(upgrade_of(pasted), engine, old_code_gone=True)
    assert report.exit_code is ExitCode.DONE
    plan = emc.plan(upgrade_of(pasted), engine)
    assert plan.is_empty
    assert plan.plan.unmanaged == ()


def test_names_of_a_plan(engine: Engine) -> None:
    """Every step and every data migration can be asked for by its name."""
    build_old(SHOP, engine)
    plan = emc.plan(upgrade_of(SHOP), engine).plan
    names = list(plan.names)
    assert len(set(names)) == len(names)
    assert {"drop-column:customers.fax", "cap_points", "fill:customers.tier"} <= set(names)
