"""Which statements carry out an operation, and which algorithm does the server have for it?"""

from __future__ import annotations

from typing import Any


def steps(operations: Any, live: Any, flavour: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError
