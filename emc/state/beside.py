"""How does a thread of emc's own work on an engine whose driver is asynchronous?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.util import greenlet_spawn


def beside(engine: Engine, work: Callable[[], None]) -> None:
    """Do *work*, in a thread of its own, with connections that it makes of *engine*.

    An asynchronous driver waits in an event loop, and that of the main thread is busy with what emc does there. So the
    thread has one of its own. A pool would hand it connections that belong to the other: :mod:`emc.alembic` demands
    that there is none.
    """
    if engine.dialect.is_async:
        asyncio.run(_spawned(work))
    else:
        work()


async def _spawned(work: Callable[[], None]) -> None:
    await greenlet_spawn(work)
