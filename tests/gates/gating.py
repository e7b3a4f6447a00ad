"""How do tests of gates get to a gate?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, Table

import emc
from emc.dialects import dialect_of
from emc.gates import Scope, Verdict, judge
from emc.planning import derive
from emc.steps import Step
from emc.upgrade import Upgrade

Build = Callable[[MetaData], object]


def modelled(build: Build) -> MetaData:
    """The models that *build* makes."""
    metadata = MetaData()
    build(metadata)
    return metadata


def table(*more: Any, name: str = "users") -> Build:
    """A table with a key and what *more* makes, anew each time."""
    return lambda m: Table(name, m, Column("id", Integer, primary_key=True), *(one() for one in more))


def make(engine: Engine, build: Build, **rows: list[dict[str, Any]]) -> None:
    """Make the database of the old release, with rows by table."""
    metadata = modelled(build)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name, several in rows.items():
            for row in several:
                connection.execute(metadata.tables[name].insert().values(**row))


def upgrade_to(build: Build, declare: Callable[[Upgrade, Any], object] | None = None) -> Upgrade:
    """The upgrade to the models of *build*."""
    metadata = modelled(build)
    upgrade = Upgrade(metadata)
    if declare is not None:
        declare(upgrade, metadata.tables)
    return upgrade


def gates(upgrade: Upgrade, engine: Engine, **scope: Any) -> dict[str, Verdict]:
    """The answers of every gate of the contract phase, by the full name of the gate."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        plan = derive(connection, upgrade, dialect)
        asked = Scope(plan, dialect, **scope)
        return {
            verdict.gate: verdict
            for step in plan.contract
            for verdict in judge(step.operation, connection, asked)
        }


def gate(name: str, upgrade: Upgrade, engine: Engine, **scope: Any) -> Verdict:
    """The answer of one gate."""
    return gates(upgrade, engine, **scope)[name]


def contract_steps(upgrade: Upgrade, engine: Engine) -> list[Step]:
    """The steps of the contract phase."""
    return list(emc.plan(upgrade, engine).plan.contract)


def run_sql(engine: Engine, *statements: str) -> None:
    """Send statements and commit."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
