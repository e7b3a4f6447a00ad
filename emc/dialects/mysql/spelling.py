"""How would the server show the tables of the models?"""

from __future__ import annotations

from typing import Any


def spell(connection: Any, tables: Any, live: Any, flavour: Any) -> Any:
    """Placeholder: being written."""
    raise NotImplementedError
