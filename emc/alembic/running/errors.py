"""How does a failure of emc end an Alembic command?"""

from __future__ import annotations

from collections.abc import Sequence

from alembic.util import CommandError

from emc.commands.results import Blocked
from emc.errors import EmcError, ExitCode


class StoppedError(CommandError):
    """emc stopped an Alembic command.

    A ``CommandError``, since that is what Alembic's command line shows as a message and not as a traceback.
    """

    def __init__(self, error: EmcError) -> None:
        self.error = error
        """What stopped it, with its facts."""
        notes = getattr(error, "__notes__", ())
        super().__init__("\n".join([error.message, *notes, *([error.remedy] if error.remedy else [])]))

    @property
    def exit_code(self) -> ExitCode:
        """How emc's own command line would have ended. Alembic's ends with 255 whatever it was."""
        return self.error.exit_code


class RefusedStatementError(EmcError):
    """A statement of a revision may not be sent in the phase of its branch."""

    def __init__(self, message: str, *, statement: str, revision: str, remedy: str | None = None) -> None:
        self.statement = statement
        self.revision = revision
        super().__init__(message, remedy=remedy)


class GatesShutError(EmcError):
    """An operation of a revision stands behind gates that are shut."""

    exit_code = ExitCode.GATE_SHUT

    def __init__(self, message: str, *, blocked: Sequence[Blocked], remedy: str | None = None) -> None:
        self.blocked = tuple(blocked)
        """The steps, and the gates that keep them from running."""
        super().__init__(message, remedy=remedy)
