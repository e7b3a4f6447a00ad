"""How does a failure of the database outside a step become a message?

Steps and batches have messages of their own; what is left is reading the catalog, asking gates, and keeping emc's own
tables.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emc.dialects import dialect_of
from emc.dialects.answers import Failure
from emc.errors import (
    DatabaseUnavailableError,
    EmcError,
    LockBudgetError,
    PrivilegeError,
    StatementFailedError,
)
from emc.execute import first_line

_P = ParamSpec("_P")
_R = TypeVar("_R")


def plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """A command that raises an :class:`EmcError` where the database fails it; it takes the ``engine`` to name."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except DBAPIError as error:
            raise as_error(error, signature.bind(*args, **kwargs).arguments["engine"]) from error

    return told


def as_error(error: DBAPIError, engine: Engine) -> EmcError:
    """What *error* means for a person. The URL hides its password."""
    said, statement = first_line(error), " ".join((error.statement or "").split())[:200]
    where = engine.url.render_as_string(hide_password=True)
    failure = dialect_of(engine).failure(error)
    if failure is Failure.FORBIDDEN:
        return PrivilegeError(
            f"The role that emc connects to {where} as may not do that: {said}\n  {statement}",
            remedy="Grant what is missing, or connect as the role that owns the tables; then run the command again.",
        )
    if failure is Failure.DISCONNECTED:
        return DatabaseUnavailableError(
            f"The connection to {where} was lost: {said}",
            remedy="Run the command again when the database is back: it looks first, then goes on.",
        )
    if failure is Failure.LOCKED:
        return LockBudgetError(
            f"Another session holds what emc needs to go on: {said}\n  {statement}",
            remedy="Run the command again; what was done so far is kept.",
        )
    return StatementFailedError(
        f"The database refused a statement: {said}\n  {statement}",
        step="",
        statement=error.statement or "",
        remedy="What was done so far is kept. Remove the cause, then run the command again.",
    )
