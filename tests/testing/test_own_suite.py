"""emc's own suite turns the checks on as a project does: by a line, and fixtures in the place of the plugin's."""

from __future__ import annotations

import pytest

from emc.testing import OldRelease, release_of
from emc.testing.checks import (
    test_every_contract_has_a_gate,
    test_expand_is_additive,
    test_expand_twice_writes_nothing,
    test_interrupted_runs_converge,
    test_old_release_works_during_the_upgrade,
    test_undo_leaves_what_was_there,
)
from emc.upgrade import Upgrade
from tests.testing.shop import old_metadata, upgrade

__all__ = [
    "test_every_contract_has_a_gate",
    "test_expand_is_additive",
    "test_expand_twice_writes_nothing",
    "test_interrupted_runs_converge",
    "test_old_release_works_during_the_upgrade",
    "test_undo_leaves_what_was_there",
]


@pytest.fixture(autouse=True)
def kind_that_is_asked_for(emc_database_kind: str, pytestconfig: pytest.Config) -> None:
    """``--kinds`` counts here too."""
    if emc_database_kind not in pytestconfig.getoption("--kinds"):
        pytest.skip("another kind was asked for")


@pytest.fixture(scope="session")
def emc_upgrade() -> Upgrade:
    """A good one."""
    return upgrade()


@pytest.fixture(scope="session")
def emc_old_release() -> OldRelease:
    """Whose rows are made from the models."""
    return release_of(old_metadata())


@pytest.fixture(scope="session")
def emc_moments() -> int:
    """As few as may be: tests/lifecycle/test_interruptions.py tries many."""
    return 1
