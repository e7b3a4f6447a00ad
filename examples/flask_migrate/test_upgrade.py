"""The upgrade to the second release keeps what emc promises, and the revisions in `migrations` are that upgrade."""

from collections.abc import Iterator

import pytest
from alembic.config import Config
from flask import current_app
from shop import create_app

from emc.testing.checks import *  # noqa: F403  # Every check, in one line.


@pytest.fixture
def emc_alembic_config(emc_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """Flask-Migrate's, which it has within an application only."""
    monkeypatch.setenv("DATABASE_URL", emc_database_url)
    with create_app().app_context():
        yield current_app.extensions["migrate"].migrate.get_config()
