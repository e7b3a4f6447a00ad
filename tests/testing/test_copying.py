"""Is a copy of a database whole, and is nothing dropped but copies?"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, Computed, Integer, MetaData, Table, create_engine, make_url, select
from sqlalchemy.pool import NullPool

from emc.testing import copies
from emc.testing.servers import admin


@pytest.mark.parametrize("name", ["My-App 100%", "m" * 63])
def test_copy(database_url: str, name: str, tmp_path: Path) -> None:
    """A copy has the rows, also of a table with a computed column, whatever the database is called."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        original = url.set(database=str(tmp_path / name))
        _demand_copy(original.render_as_string(hide_password=False), tmp_path)
        return
    engine = admin(url)
    quoted = engine.dialect.identifier_preparer.quote_identifier(name).replace("%%", "%")
    with engine.connect().execution_options(no_parameters=True) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        try:
            _demand_copy(url.set(database=name).render_as_string(hide_password=False), tmp_path)
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {quoted}")


def _demand_copy(url: str, directory: Path) -> None:
    table = Table(
        "numbers",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("twice", Integer, Computed("id * 2", persisted=True)),
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(id=4))
    with copies(url, directory) as copy:
        copied = create_engine(copy(), poolclass=NullPool)
        with copied.connect() as connection:
            assert connection.execute(select(table)).all() == [(4, 8)]


def test_databases_of_others(database_url: str, tmp_path: Path) -> None:
    """Two who copy one database do not meet, and a database that is called like a copy stays."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        pytest.skip("files are copied to a directory of one's own")
    other = f"{url.database}_copy1"
    engine = admin(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {other}")
    try:
        with copies(database_url, tmp_path) as one, copies(database_url, tmp_path) as two:
            assert one() != two()
        create_engine(url.set(database=other), poolclass=NullPool).connect().close()
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {other}")
