"""What need nobody hear of while emc works within an Alembic command?"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from sqlalchemy.exc import SAWarning

_CHATTY = ("autogenerate", "runtime.migration", "runtime.plugins")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Alembic says of comparisons out of the log: emc compares each time that it derives a plan."""
    loggers = [logging.getLogger(f"alembic.{name}") for name in _CHATTY]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(max(one.getEffectiveLevel(), logging.WARNING))
    try:
        with warnings.catch_warnings():
            # SQLAlchemy warns of types of the models that it cannot cache; that is the models' business.
            warnings.filterwarnings("ignore", message=".*will not produce a cache key", category=SAWarning)
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
