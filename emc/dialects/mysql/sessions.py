"""How long may a session wait, what does its failure mean, and who is in its way?"""

from __future__ import annotations

from typing import Any


def opened(engine: Any, transaction: Any, locks: Any, lock_timeout: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def reading(engine: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def lock(connection: Any, keys: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def failure(error: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def blockers(connection: Any, keys: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def server_version(connection: Any, flavour: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def now(connection: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError
