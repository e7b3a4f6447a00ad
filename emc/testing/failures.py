"""How does a check say that it failed, and what becomes of it where something is not installed?"""

from __future__ import annotations

import os
import unittest
from collections.abc import Sequence
from typing import NoReturn

from emc.errors import EmcError

__tracebackhide__ = True


class CheckFailedError(EmcError, AssertionError):
    """The upgrade does not do what it has to.

    Reads like every message of emc: cause, who is affected, remedy. ``facts`` names the elements, steps or statements
    that it is about.
    """

    def __init__(self, message: str, *, facts: Sequence[str] = (), remedy: str | None = None) -> None:
        self.facts: tuple[str, ...] = tuple(facts)
        super().__init__(message, remedy=remedy)


class MissingSoftwareError(CheckFailedError):
    """Something that a test needs is not installed, and ``CI=true`` says that it has to be."""


class UnprovedWarning(UserWarning):
    """A check could not make the rows or statements that it needs, so that a part of its promise is not shown."""


def missing(reason: str, *, remedy: str | None = None) -> NoReturn:
    """End a test that needs something which is not here: skip it on a laptop, fail it where ``CI=true``.

    :param reason: what is missing.
    :param remedy: how to get it.
    :raises MissingSoftwareError: where the environment says ``CI=true``.
    :raises unittest.SkipTest: elsewhere; pytest takes it for a skip too.
    """
    if os.environ.get("CI") == "true":
        raise MissingSoftwareError(reason, remedy=remedy)
    raise unittest.SkipTest(f"{reason}. {remedy}" if remedy else reason)


class told:  # noqa: N801  # Reads as what it does: with told("emc expand fails").
    """Let an error of emc fail the check instead, with what was being done.

    Its message says it all: a traceback of emc's own would hide it. No generator, since pytest would show that.

    :param doing: what fails then, as a clause.
    :raises CheckFailedError: emc raised an error meanwhile.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Say it in the check's words."""
        if isinstance(error, EmcError) and not isinstance(error, CheckFailedError):
            raise CheckFailedError(
                f"{self._doing}: {error.message}", facts=[error.name], remedy=error.remedy
            ) from None
