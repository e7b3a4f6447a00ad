"""JupyterHub's databases as the old release leaves them, for the tests."""

import os
from pathlib import Path

import pytest

from tests.jupyterhub import scenario
from tests.jupyterhub.scenario import Hub, hub_at


@pytest.fixture(scope="session")
def old_python() -> Path:
    """The interpreter of JupyterHub 1.5.1; skips where 6.1.1 is not installed beside emc."""
    if not scenario.new_release_installed():
        reason = f"needs JupyterHub {scenario.NEW_RELEASE}: nox -s jupyterhub"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return scenario.old_python()


@pytest.fixture
def empty_hub(old_python: Path, database_url: str) -> Hub:
    """An empty database that both releases can reach, and emc by the same URL."""
    return hub_at(database_url)


@pytest.fixture
def hub(empty_hub: Hub) -> Hub:
    """A database that the old release made and filled."""
    empty_hub.old_release("create")
    return empty_hub
