"""What has gone while a revision ran, and not by emc?

A revision may have sent it where nobody hears it: by an engine of its own, a command of the system, a program that
nobody can read.
"""

from __future__ import annotations

from collections.abc import Collection

from emc.names import Element, ElementKind
from emc.schema import LiveSchema


def vanished(before: LiveSchema, now: LiveSchema, taken: Collection[Element]) -> list[str]:
    """The tables and columns that were there *before* and are not there *now*, by their dotted names.

    :param taken: what emc has taken away itself.
    """
    found: list[str] = []
    for key, table in sorted(before.tables.items(), key=lambda item: item[0].sort_key):
        if Element(ElementKind.TABLE, key) in taken:
            continue
        if key not in now.tables:
            found.append(str(key))
            continue
        elements = (Element(ElementKind.COLUMN, key, name) for name in table.columns)
        found += [
            str(one) for one in elements if str(one.name) not in now.tables[key].columns and one not in taken
        ]
    return found
