"""Engines on one kind of database each."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Engine]:
    """A fresh PostgreSQL database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Engine]:
    """A fresh SQLite database."""
    engine = create_engine(sqlite_url)
    yield engine
    engine.dispose()
