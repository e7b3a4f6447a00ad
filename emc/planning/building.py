"""What may go from a database that is being built, where each revision of a long history has its turn?

Revisions add what later ones take away again. The declarations of then are long gone from the code, and nobody works
with the database yet: so whatever the models of today do not have may go, as if it were retired. Its gates ask rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from sqlalchemy import Connection

from emc.changes import classify
from emc.changes.removals import names
from emc.dialects.base import Dialect
from emc.diff import compare
from emc.names import ElementKind
from emc.sync import is_kept
from emc.upgrade import Declaration, Removal, Upgrade


def letting_go(connection: Connection, upgrade: Upgrade, dialect: Dialect) -> Upgrade:
    """*upgrade*, with everything retired that the database has, the models do not have, and nobody has named."""
    diff = compare(connection, upgrade, dialect)
    # What declarations name that is yet to come, or that has gone, looks misspelt beside what they do not name.
    found = classify(
        diff.directives,
        _with(upgrade, [one for one in upgrade.declarations if not isinstance(one, Removal)]),
        diff.live,
        diff.models,
        None,
        dialect.fit,
        lambda sync: is_kept(sync, diff.live, dialect.sync_parts),
    )
    building = _with(upgrade, upgrade.declarations)
    for one in found.unmanaged:
        if any(names(removal, one.element, diff.live) for removal in upgrade.removals):
            continue
        if one.element.name or one.element.kind is ElementKind.TABLE:
            building.retire(str(one.element), kind=str(one.element.kind))
    return building


def _with(upgrade: Upgrade, declarations: Iterable[Declaration]) -> Upgrade:
    """*upgrade* with *declarations* in the place of its own."""
    other = copy.copy(upgrade)
    other._declarations = list(declarations)  # noqa: SLF001  # Nobody else has need of half of them.
    return other
