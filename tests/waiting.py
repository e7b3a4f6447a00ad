"""Waiting for what another session or process brings about."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 50.0
"""How long is waited, in seconds, before the test fails."""


def until(asked: Callable[[], Any], every: float = 0.05) -> Any:
    """What is *asked*, as soon as it is so; it is asked *every* so many seconds."""
    last = time.monotonic() + PATIENCE
    while not (answer := asked()):
        assert time.monotonic() < last, "it never became so"
        time.sleep(every)
    return answer
