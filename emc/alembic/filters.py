"""What of a database do Alembic and emc not get to see?

Alembic emc's own tables, guards and triggers; both what the filters of ``env.py`` leave out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from emc.names import is_own
from emc.upgrade import Upgrade

Filter = Callable[..., bool]


def include_object(also: Filter | None = None) -> Filter:
    """An ``include_object`` that leaves out what is emc's own.

    :param also: that of ``env.py``, asked about everything else.
    """

    def include(found: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if is_own(name) and compare_to is None:
            return False
        return also is None or also(found, name, kind, reflected, compare_to)

    return include


def include_name(also: Filter | None = None) -> Filter:
    """An ``include_name`` that leaves out what is emc's own.

    :param also: that of ``env.py``, asked about everything else.
    """

    def include(name: str | None, kind: str, parent_names: Any) -> bool:
        if kind != "schema" and is_own(name):
            return False
        return also is None or also(name, kind, parent_names)

    return include


def seen(upgrade: Upgrade, name: Filter | None, found: Filter | None) -> Upgrade:
    """*upgrade* as it looks at a database through the filters of ``env.py`` as well as its own.

    :param name: its ``include_name``.
    :param found: its ``include_object``.
    """
    if name is None and found is None:
        return upgrade
    seeing = copy.copy(upgrade)
    seeing.include_name = _both(upgrade.include_name, name)
    seeing.include_object = _both(upgrade.include_object, found)
    return seeing


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    if one is None or other is None:
        return one or other
    return lambda *given: one(*given) and other(*given)
