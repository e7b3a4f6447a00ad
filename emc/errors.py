"""What can go wrong, who is affected, and what to do about it?

Every error that a user can meet derives from :class:`EmcError`. The docstring of a class is its default message; the
facts are attributes, so that callers and tests compare facts and not prose.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class ExitCode(enum.IntEnum):
    """How the command line ends."""

    DONE = 0
    """Done, or nothing to do."""
    WORK_REMAINS = 1
    """``migrate --max-count`` or ``--max-time`` reached; ``check`` found a difference."""
    ERROR = 2
    """Bad input, bad configuration, unclassifiable difference, failed statement."""
    GATE_SHUT = 3
    """At least one gate kept an operation from running."""
    LOCK_BUDGET = 4
    """The database, or another emc, did not let go of a lock in time; nothing is broken: run the command again."""
    PAUSED = 5
    """Paused by throttling or by a stop request; run the command again to continue."""


class EmcError(Exception):
    """emc cannot go on."""

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.message: str = message or inspect.cleandoc(type(self).__doc__ or "")
        """Cause, and who is affected."""
        self.remedy: str | None = remedy
        """What to do next: a command or a line to paste."""
        super().__init__(self.message)

    @property
    def name(self) -> str:
        """The stable name of the error in JSON output, e.g. ``declaration-error``."""
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return words.lstrip("-")

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class ConfigurationError(EmcError):
    """The configuration does not name an upgrade and a database."""


class DatabaseUnavailableError(EmcError):
    """The database cannot be reached."""


class UnsupportedDatabaseError(EmcError):
    """emc does not know this database."""


class PrivilegeError(EmcError):
    """The role that emc connects as lacks a privilege that the plan needs; nothing was changed."""


class DeclarationError(EmcError):
    """A declaration of the upgrade cannot be followed.

    ``places`` names every source line involved.
    """

    def __init__(self, message: str, *, places: Sequence[str] = (), remedy: str | None = None) -> None:
        self.places: tuple[str, ...] = tuple(places)
        if places:
            message += "\n" + "\n".join(f"  declared at {place}" for place in places)
        super().__init__(message, remedy=remedy)


@dataclass(frozen=True)
class Refusal:
    """One difference that emc refuses to act on."""

    target: str
    """The dotted name of the element."""
    reason: str
    """Why, and who would be affected."""
    remedy: str
    """The declaration or recipe that settles it."""

    def __str__(self) -> str:
        return f"{self.target}: {self.reason}\n  {self.remedy}"


class PlanRefusedError(EmcError):
    """The plan holds differences that emc refuses to act on; nothing was changed."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals: tuple[Refusal, ...] = tuple(refusals)
        listed = "\n".join(f"- {refusal.target}: {refusal.reason}" for refusal in refusals)
        remedies = list(dict.fromkeys(refusal.remedy for refusal in refusals))
        super().__init__(
            f"emc refuses to plan this upgrade; nothing was changed.\n{listed}", remedy="\n".join(remedies)
        )


class CannotUndoError(EmcError):
    """The upgrade cannot be taken back; nothing was changed."""


class UnknownOperationError(EmcError):
    """``--only`` or ``--override`` names nothing that the plan holds."""

    def __init__(self, message: str, *, known: Sequence[str] = (), remedy: str | None = None) -> None:
        self.known: tuple[str, ...] = tuple(known)
        super().__init__(message, remedy=remedy)


class NothingRunningError(EmcError):
    """No emc migrate or emc undo is at work on this database, or none that could be asked for anything."""


class StatementFailedError(EmcError):
    """The database refused a statement of a step."""

    def __init__(
        self, message: str, *, step: str, statement: str, remedy: str | None = None, violated: bool = False
    ) -> None:
        self.step: str = step
        self.statement: str = statement
        self.violated: bool = violated
        """Whether rows are in the way of a constraint that the statement puts in force."""
        super().__init__(message, remedy=remedy)


class PostconditionError(EmcError):
    """The statements of a step ran, but the catalog does not show their result."""

    def __init__(self, message: str, *, step: str, remedy: str | None = None) -> None:
        self.step: str = step
        super().__init__(message, remedy=remedy)


class LockBudgetError(EmcError):
    """A lock could not be had within the budget; everything done so far is kept."""

    exit_code = ExitCode.LOCK_BUDGET

    def __init__(
        self,
        message: str | None = None,
        *,
        step: str | None = None,
        attempts: int = 0,
        blockers: Sequence[Any] = (),
        remedy: str | None = None,
    ) -> None:
        self.step: str | None = step
        self.attempts: int = attempts
        """How often it was tried."""
        self.blockers: tuple[Any, ...] = tuple(blockers)
        """Who held the locks, as :class:`emc.dialects.answers.Blocker`."""
        super().__init__(message, remedy=remedy)


class _LeaseError(LockBudgetError):
    """Another emc is at work on this database."""

    def __init__(self, message: str | None = None, *, holder: Any = None, remedy: str | None = None) -> None:
        self.holder: Any = holder
        """Who, with what command and since when, as :class:`emc.state.Holder`."""
        super().__init__(message, remedy=remedy)


class LeaseHeldError(_LeaseError):
    """Another emc is at work on this database."""


class LeaseLostError(_LeaseError):
    """Another emc has taken over this run, so this one stopped; nothing was committed after that."""


class ConversionError(EmcError):
    """A function of a data migration failed on a row that the application loads or saves."""

    def __init__(
        self,
        message: str | None = None,
        *,
        work: str,
        table: str,
        key: Mapping[str, Any],
        remedy: str | None = None,
    ) -> None:
        self.work: str = work
        """The name of the data migration."""
        self.table: str = table
        self.key: Mapping[str, Any] = key
        """The key of the row, by column."""
        super().__init__(message, remedy=remedy)
