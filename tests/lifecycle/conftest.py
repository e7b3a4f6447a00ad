"""Which pairs go with which databases?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lifecycle.pairs import Pair

KINDS = {"postgresql18": "postgresql"}
"""Kinds of database that are another one in a newer version."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for another database, before a database is made for it."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        pair, kind = parameters.get("pair"), parameters.get("database_url")
        fits = not isinstance(pair, Pair) or kind is None or KINDS.get(kind, kind) in pair.databases
        (kept if fits else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
