"""Objects that are loaded and saved by asynchronous sessions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, selectinload, sessionmaker

import emc.orm
from emc.errors import ConversionError
from tests.orm.support import Declared, Team, User, do, expanded, settings_of

DRIVERS = [
    ("sqlite", "sqlite+aiosqlite"),
    ("postgresql", "postgresql+psycopg"),
    ("postgresql", "postgresql+asyncpg"),
]


@pytest.fixture(params=DRIVERS, ids=[driver for _, driver in DRIVERS])
def asynchronous(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, str]]:
    """A database with three old rows, and its URL for an asynchronous driver."""
    kind, driver = request.param
    if kind not in request.config.getoption("--kinds"):
        pytest.skip(f"not among --kinds: {kind}")
    url = request.getfixturevalue(f"{kind}_url")
    engine = create_engine(url)
    expanded(engine)
    yield engine, make_url(url).set(drivername=driver).render_as_string(hide_password=False)
    engine.dispose()


def run(url: str, work: Callable[[async_sessionmaker[AsyncSession]], Awaitable[None]]) -> None:
    """Let *work* have sessions."""

    async def main() -> None:
        async with _sessions(url) as sessions:
            await work(sessions)

    asyncio.run(main())


@asynccontextmanager
async def _sessions(url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_async_engine(url)
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


def test_asynchronous_sessions_convert_what_they_load_and_save(asynchronous: tuple[Engine, str]) -> None:
    """Eager and streamed loads look converted, a save converts, and all of it is awaited where it should be."""
    engine, url = asynchronous
    declared = Declared()

    async def work(sessions: async_sessionmaker[AsyncSession]) -> None:
        conversion = emc.orm.convert(declared.upgrade, on=sessions)
        async with sessions() as session:
            team = (await session.scalars(select(Team).options(selectinload(Team.users)))).one()
            assert [user.prefs for user in team.users] == [{"n": 1}, {"n": 2}, {"n": 3}]
            team.users[1].email = "new"
            await session.commit()
            assert team.users[1].prefs == {"n": 2}
        async with sessions() as session:
            streamed = await session.stream_scalars(
                select(User).order_by(User.id).execution_options(yield_per=2)
            )
            assert [user.prefs async for user in streamed] == [{"n": 1}, {"n": 2}, {"n": 3}]
            user = await session.get_one(User, 1)
            await session.refresh(user)
            assert user.prefs == {"n": 1}
        conversion.stop()
        async with sessions() as session:
            assert (await session.get_one(User, 1)).prefs is None

    run(url, work)
    assert [settings_of(engine, key) for key in (1, 2, 3)] == [None, {"n": 2}, None]


def test_a_transaction_survives_a_column_that_was_dropped(asynchronous: tuple[Engine, str]) -> None:
    """What contract drops meanwhile costs one question in vain, apart from the transaction."""
    engine, url = asynchronous
    declared = Declared()

    async def work(sessions: async_sessionmaker[AsyncSession]) -> None:
        conversion = emc.orm.convert(declared.upgrade, on=sessions)
        async with sessions() as session:
            assert (await session.get_one(User, 1)).prefs == {"n": 1}
        do(engine, "ALTER TABLE users DROP COLUMN preferences")
        async with sessions() as session:
            user = await session.get_one(User, 1)
            assert user.prefs is None
            user.email = "new"
            await session.commit()
        conversion.stop()

    run(url, work)


def test_a_function_that_fails_is_told_to_whoever_awaits(asynchronous: tuple[Engine, str]) -> None:
    """The error arrives at the load, and the session goes on."""
    engine, url = asynchronous
    do(engine, "UPDATE users SET preferences = 'no json' WHERE id = 2")
    declared = Declared()

    async def work(sessions: async_sessionmaker[AsyncSession]) -> None:
        conversion = emc.orm.convert(declared.upgrade, on=sessions)
        async with sessions() as session:
            with pytest.raises(ConversionError, match="id=2"):
                await session.scalars(select(User))
            assert (await session.get_one(User, 3)).prefs == {"n": 3}
        conversion.stop()

    run(url, work)


def test_all_kinds_of_asynchronous_factories_are_listened_to(sqlite_url: str) -> None:
    """A registry, a class, a session or a factory over a class of one's own will do; other sessions are left alone."""
    engine = create_engine(sqlite_url)
    expanded(engine, rows=1)
    declared = Declared()

    class OwnSession(AsyncSession):
        pass

    async def work(sessions: async_sessionmaker[AsyncSession]) -> None:
        bind = sessions.kw["bind"]
        own = sessionmaker(class_=Session)
        over = async_sessionmaker(bind, sync_session_class=own)
        scoped = async_scoped_session(async_sessionmaker(bind), scopefunc=asyncio.current_task)
        single = AsyncSession(bind)
        cases: list[tuple[Any, Callable[[], AsyncSession]]] = [
            (OwnSession, lambda: OwnSession(bind)),
            (over, over),
            (scoped, scoped),
            (single, lambda: single),
        ]
        for on, make in cases:
            conversion = emc.orm.convert(declared.upgrade, on=on)
            async with make() as session:
                assert (await session.get_one(User, 1)).prefs == {"n": 1}
            async with AsyncSession(bind) as session:
                assert (await session.get_one(User, 1)).prefs is None
            conversion.stop()

    run(sqlite_url.replace("sqlite", "sqlite+aiosqlite", 1), work)
    engine.dispose()
