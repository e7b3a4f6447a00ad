"""Asynchronous projects, as ``alembic init --template async`` makes them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from emc.dialects import dialect_of
from emc.state.lease import acquire, holder
from tests.alembic.running import Project

DRIVERS = {"sqlite://": "sqlite+aiosqlite://", "postgresql+psycopg://": "postgresql+asyncpg://"}


@pytest.mark.parametrize("url", ["sqlite_url", "postgresql_url"])
def test_an_async_project_goes_through_emc(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """On an asynchronous driver, expand adds, a shut gate stops contract, and an open one lets it drop."""
    plain: str = request.getfixturevalue(url)
    spelled = plain
    for driver, other in DRIVERS.items():
        spelled = spelled.replace(driver, other)
    assert spelled != plain
    project = Project(tmp_path / "project", plain, template="async", env_url=spelled)
    try:
        project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
        project.contract('op.drop_column("users", "name")')
        stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
        assert "shut data-elsewhere:users.name" in stopped.said, stopped.said
        assert project.columns() == {"id", "name", "email", "tz"}
        project.send("UPDATE users SET name = NULL")
        done = project.run("-x", "old-code-gone", "upgrade", "heads")
        assert done.is_done, done.said
        assert project.columns() == {"id", "email", "tz"}
    finally:
        project.engine.dispose()


def test_the_lease_is_renewed_beside_an_async_driver(postgresql_url: str) -> None:
    """While a long statement runs on an asynchronous driver, the lease is renewed by a thread that has its own loop."""

    def work(connection: Connection) -> None:
        engine = connection.engine
        dialect = dialect_of(engine)
        with acquire(engine, dialect, command="test", renew_every=0.1):
            found = holder(connection)
            connection.commit()
            assert found is not None
            until = time.monotonic() + 60
            while (now := holder(connection)) is not None and now.renewed_at == found.renewed_at:
                connection.commit()
                assert time.monotonic() < until, "nobody has renewed the lease"
            assert now is not None

    async def run() -> None:
        engine = create_async_engine(
            postgresql_url.replace("postgresql+psycopg:", "postgresql+asyncpg:"), poolclass=NullPool
        )
        async with engine.connect() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(run())


def test_a_pool_of_an_async_driver_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    """Emc's threads cannot share connections with another event loop, so env.py has to do without a pool."""
    project = Project(
        tmp_path / "project",
        sqlite_url,
        template="async",
        env_url=sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"),
    )
    project.change_env(("poolclass=pool.NullPool", "poolclass=pool.AsyncAdaptedQueuePool"))
    project.expand("pass")
    assert "poolclass=pool.NullPool" in project.alembic("upgrade", "heads").said
    project.engine.dispose()
