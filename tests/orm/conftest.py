"""Sessions in the middle of an upgrade."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

import emc.orm
from tests.orm.support import Declared, expanded


@pytest.fixture
def declared() -> Declared:
    """The upgrade of the users."""
    return Declared()


@pytest.fixture
def sessions(engine: Engine, declared: Declared) -> Iterator[sessionmaker[Session]]:
    """Sessions that convert three old rows."""
    expanded(engine)
    sessions = sessionmaker(engine)
    conversion = emc.orm.convert(declared.upgrade, on=sessions)
    yield sessions
    conversion.stop()
