"""Which phases does an upgrade have, and in which order do they run?"""

from __future__ import annotations

import enum


class Phase(enum.StrEnum):
    """A phase of an upgrade, in the order in which they run.

    The *phase rule* decides where an operation goes: it belongs to :attr:`EXPAND` if and only if no statement that
    the previous release can issue can start to fail because of it. Everything else is :attr:`CONTRACT`.
    """

    EXPAND = "expand"
    """Before the new code is deployed: additive, idempotent, unnoticed by the old release."""
    MIGRATE = "migrate"
    """Old and new code run side by side: data moves in small batches."""
    CONTRACT = "contract"
    """The old release is gone: subtractive operations, each behind its own gates."""
    UNDO = "undo"
    """The way back, in the place of contract: the new release is gone, and what expand did for it is taken back."""


FORWARD = (Phase.EXPAND, Phase.MIGRATE, Phase.CONTRACT)
"""The phases of a plan."""
