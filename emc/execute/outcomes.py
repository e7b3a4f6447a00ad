"""What may a unit come to, besides done and failed?"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from emc.dialects.answers import Blocker
from emc.errors import EmcError
from emc.steps import Step

FOUND_DONE = "found done after a lost connection"
"""The outcome that the ledger keeps when a connection was lost, and the statements had run all the same."""


FOUND_DONE_WHEN_REFUSED = "found done when the server refused to do it again"
"""The outcome that the ledger keeps when the statements of an earlier attempt, or of an emc that was killed, came to
their end while they were sent again."""


class PutOffError(Exception):
    """A build has to wait for its beginning: it would be lost to long transactions, or another one is under way."""

    def __init__(self, blockers: Sequence[Blocker], *, building: bool = False) -> None:
        self.blockers = tuple(blockers)
        self.building = building
        """Whether *blockers* build something on the same table: what is left to do depends on their end."""
        super().__init__()


class StartOverError(EmcError):
    """What the steps rest on is gone, and they are not done; whoever made them has to make them again."""


def holds(connection: Connection, step: Step) -> bool:
    """Whether the catalog shows the result of *step*."""
    probe = step.postcondition.sql
    return bool(connection.exec_driver_sql(probe, execution_options={"no_parameters": True}).scalar())
