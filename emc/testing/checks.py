"""Every check, as tests for pytest: ``from emc.testing.checks import *`` in a test module turns them on.

Whoever wants some of them imports these by name. They take the fixtures of :mod:`emc.pytest_plugin`, which a
project may override.
"""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from sqlalchemy import Engine

import emc
from emc.testing.comparing import check_create_all_is_in_step, check_models_match
from emc.testing.expanding import check_expand_is_additive, check_expand_twice, check_old_release_works
from emc.testing.failures import told
from emc.testing.gating import check_every_contract_has_a_gate
from emc.testing.interrupting import check_interruptions
from emc.testing.releases import OldRelease
from emc.testing.revisions import check_revisions_match
from emc.testing.undoing import check_undo
from emc.upgrade import Upgrade

__all__ = [
    "test_create_all_is_in_step",
    "test_every_contract_has_a_gate",
    "test_expand_is_additive",
    "test_expand_twice_writes_nothing",
    "test_interrupted_runs_converge",
    "test_models_match_after_the_upgrade",
    "test_old_release_works_during_the_upgrade",
    "test_revisions_match_the_models",
    "test_undo_leaves_what_was_there",
]


def test_create_all_is_in_step(emc_engine: Engine, emc_upgrade: Upgrade) -> None:
    """A plan after ``create_all`` is empty."""
    check_create_all_is_in_step(emc_engine, emc_upgrade)


def test_expand_is_additive(emc_old_engine: Engine, emc_upgrade: Upgrade) -> None:
    """Expand sends nothing subtractive."""
    check_expand_is_additive(emc_old_engine, emc_upgrade)


def test_expand_twice_writes_nothing(emc_old_engine: Engine, emc_upgrade: Upgrade) -> None:
    """Expand, run once more, writes nothing."""
    check_expand_twice(emc_old_engine, emc_upgrade)


def test_old_release_works_during_the_upgrade(
    emc_old_engine: Engine, emc_upgrade: Upgrade, emc_old_release: OldRelease
) -> None:
    """Whatever the old release sends works on the expanded schema."""
    check_old_release_works(emc_old_engine, emc_upgrade, emc_old_release)


def test_every_contract_has_a_gate(emc_old_engine: Engine, emc_upgrade: Upgrade) -> None:
    """Every operation of contract has a gate, which is shut while data is unfinished."""
    check_every_contract_has_a_gate(emc_old_engine, emc_upgrade)


def test_undo_leaves_what_was_there(emc_old_engine: Engine, emc_upgrade: Upgrade) -> None:
    """After expand and undo, schema and rows are what they were."""
    check_undo(emc_old_engine, emc_upgrade)


def test_interrupted_runs_converge(
    emc_old_engine: Engine, emc_upgrade: Upgrade, emc_moments: int | None
) -> None:
    """A run that is killed is finished by the same command."""
    check_interruptions(emc_old_engine, emc_upgrade, most=emc_moments)


def test_models_match_after_the_upgrade(emc_old_engine: Engine, emc_upgrade: Upgrade) -> None:
    """Models and live schema agree after expand, migrate and contract."""
    with told("The upgrade does not end"):
        emc.expand(emc_upgrade, emc_old_engine)
        emc.migrate(emc_upgrade, emc_old_engine)
        emc.contract(emc_upgrade, emc_old_engine, old_code_gone=True)
    check_models_match(emc_old_engine, emc_upgrade)


def test_revisions_match_the_models(
    emc_engine: Engine, emc_upgrade: Upgrade, emc_alembic_config: Config | Path
) -> None:
    """Alembic's revisions make of an empty database what the models say."""
    check_revisions_match(emc_engine, emc_upgrade, emc_alembic_config)
