"""Why are statements sent that emc cannot read?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from emc.alembic.running.errors import RefusedStatementError

REASONS: list[str] = []
"""Why statements that emc cannot read are sent all the same, innermost last."""
ALLOW = (
    "If no statement of the old release can start to fail because of it, say so:\n"
    '  with emc.alembic.allow("who has looked at it, and why the old release does not notice"):'
)
"""The remedy where nothing but a reason is missing."""


@contextlib.contextmanager
def allow(reason: str) -> Iterator[None]:
    """Let a revision send, within the block, what emc cannot read or does not know.

    What it can read and what takes something away is refused all the same: there are gates for that.

    :param reason: why no statement of the old release can start to fail because of it; kept in the ledger.
    :raises emc.errors.EmcError: no reason is given.
    """
    if not reason.strip():
        raise RefusedStatementError(
            "emc.alembic.allow() gives no reason.",
            statement="",
            revision="",
            remedy='with emc.alembic.allow("who has looked at it, and why the old release does not notice"):',
        )
    REASONS.append(reason)
    try:
        yield
    finally:
        REASONS.pop()
