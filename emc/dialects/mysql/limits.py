"""What can the server not do without harm, and what may the role not do?"""

from __future__ import annotations

from typing import Any


def refuse(operation: Any, live: Any, flavour: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError


def missing_privileges(connection: Any, steps: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError
