"""A FastAPI application on asynchronous SQLAlchemy. Its second release has time zones, and no nicknames."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import emc


class Base(DeclarativeBase):
    """The models."""


class User(Base):
    """Whoever buys something."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    tz: Mapped[str] = mapped_column(String(40))


upgrade = emc.Upgrade(Base.metadata, release="2")
upgrade.fill(User.tz, "UTC")
upgrade.discard("users.nickname", reason="nobody has shown it for a year")

URL = os.environ["DATABASE_URL"]
session_of = async_sessionmaker(create_async_engine(URL))
app = FastAPI()


async def session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with session_of() as opened:
        yield opened


@app.get("/users")
async def users(opened: Annotated[AsyncSession, Depends(session)]) -> list[str]:
    """Who they are, and where."""
    return [f"{user.email} ({user.tz})" for user in await opened.scalars(select(User))]
