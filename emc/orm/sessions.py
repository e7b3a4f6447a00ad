"""Whose events does a person mean by a session, a factory of sessions or a class of them?"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy.orm import Session, scoped_session, sessionmaker

from emc.errors import ConfigurationError


def listens_to(on: Any) -> Any:
    """What SQLAlchemy's session events are to be listened for on.

    An asynchronous session has none of its own, but a synchronous one inside that has. A factory or class that shares
    the class of these with all the others gets one of its own, so that only its sessions are listened to.

    :raises ConfigurationError: *on* makes no sessions.
    """
    if isinstance(on, Session | sessionmaker | scoped_session):
        return on
    if isinstance(on, type) and issubclass(on, Session):
        return on
    # Whoever has one of its sessions has imported it; without greenlet it cannot be.
    asynchronous = sys.modules.get("sqlalchemy.ext.asyncio")
    if asynchronous is not None:
        if isinstance(on, asynchronous.async_scoped_session):
            on = on.session_factory
        if isinstance(on, asynchronous.AsyncSession):
            return on.sync_session
        if isinstance(on, asynchronous.async_sessionmaker):
            given = on.kw.get("sync_session_class")
            if given is None:
                given = _own(on.class_.sync_session_class)
                on.configure(sync_session_class=given)
            return given
        if isinstance(on, type) and issubclass(on, asynchronous.AsyncSession):
            its: Any = on
            if its is not asynchronous.AsyncSession and "sync_session_class" not in vars(its):
                its.sync_session_class = _own(its.sync_session_class)
            return its.sync_session_class
    raise ConfigurationError(
        f"on={on!r} is neither a session nor something that makes sessions.",
        remedy="Give your sessionmaker, async_sessionmaker, scoped_session, a class of sessions, or one session.",
    )


def _own(given: Any) -> Any:
    """A class of sessions that is used by nobody else, and does as *given* does."""
    return type(given.__name__, (given,), {}) if isinstance(given, type) else given
