"""Engines on one kind of database each."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tests.servers import make_role


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


@pytest.fixture
def reader(postgresql_url: str, postgresql: Engine) -> Iterator[Engine]:
    """The database of `postgresql`, as a role that may create nothing."""
    url = make_role(postgresql_url, "emc_diff_reader", "reader")
    with postgresql.begin() as connection:
        connection.exec_driver_sql(f'REVOKE TEMPORARY ON DATABASE "{postgresql.url.database}" FROM PUBLIC')
    engine = create_engine(url)
    yield engine
    engine.dispose()
