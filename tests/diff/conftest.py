"""Engines on one kind of database each."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.schema import DropSchema

from tests.mariadb_server import make_account
from tests.servers import make_role


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Engine]:
    """A fresh PostgreSQL database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[Engine]:
    """A fresh MariaDB database; others that a test makes go with it."""
    engine = create_engine(mariadb_url)
    before = _databases(engine)
    yield engine
    with engine.connect() as connection:
        connection.exec_driver_sql("SET foreign_key_checks = 0")
        for name in _databases(engine) - before:
            connection.execute(DropSchema(name))
    engine.dispose()


def _databases(engine: Engine) -> set[str]:
    return set(inspect(engine).get_schema_names())


@pytest.fixture
def mariadb_reader(mariadb_url: str) -> Iterator[Engine]:
    """The database of `mariadb`, as an account that may create nothing."""
    engine = create_engine(make_account(mariadb_url, "emc_diff_reader", "reader"))
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
