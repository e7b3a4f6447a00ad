"""Do the models and a database agree?"""

from __future__ import annotations

from sqlalchemy import Engine

import emc
from emc.planning import Plan
from emc.testing.failures import CheckFailedError, told
from emc.testing.releases import create_all
from emc.upgrade import Upgrade

__tracebackhide__ = True


def what_is_left(plan: Plan) -> list[str]:
    """The operations and data migrations of *plan*, each behind its phase."""
    phases = {
        "expand": [step.id for step in plan.expand],
        "migrate": [work.name for work in plan.work],
        "contract": [step.id for step in plan.contract],
    }
    return [f"{phase}: {one}" for phase, names in phases.items() for one in names]


def check_models_match(engine: Engine, upgrade: Upgrade) -> None:
    """The live schema is what the models say, unmanaged elements aside, and no data work is left.

    :param engine: the database, after a whole upgrade.
    :raises CheckFailedError: a plan is not empty.
    """
    with told("The plan cannot be derived"):
        found = emc.plan(upgrade, engine).plan
    left = what_is_left(found)
    if left:
        raise CheckFailedError(
            f"Models and database differ, so that a release would meet another schema than its models say:\n"
            f"{_listed(left)}",
            facts=left,
            remedy="Finish the upgrade: emc expand, emc migrate, emc contract. Where nothing was to change, the models "
            "are not what made this database.",
        )


def check_create_all_is_in_step(engine: Engine, upgrade: Upgrade) -> None:
    """A plan after ``create_all`` is empty: no difference of spelling is taken for a change.

    :param engine: an empty database.
    :raises CheckFailedError: it is not.
    """
    for metadata in upgrade.metadata:
        create_all(engine, metadata)
    with told("The plan after create_all cannot be derived"):
        found = emc.plan(upgrade, engine).plan
    left = what_is_left(found)
    if left:
        raise CheckFailedError(
            f"A database that create_all has just made is to be changed, so every upgrade would be:\n{_listed(left)}",
            facts=left,
            remedy="Spell the models as the database shows them: emc plan --sql says what it compares. If they say the "
            "same already, it is a bug in emc: please report the Table and the database's version.",
        )


def _listed(names: list[str]) -> str:
    return "\n".join(f"  {name}" for name in names)
