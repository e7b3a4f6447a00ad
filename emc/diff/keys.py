"""Is a key of the database an index or a constraint, where the database does not tell?

To MariaDB and MySQL a unique constraint is a unique index, and a foreign key makes an index for itself unless there is
one. A snapshot tells the first as a constraint that duplicates an index, and the second apart from the other indexes.
What the models call them decides; what they do not know stays as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from emc.diff.pairs import final_name
from emc.schema import LiveTable


def as_models_call(live: LiveTable, model: Table, dialect: SQLAlchemyDialect) -> LiveTable:
    """*live* with those keys as indexes that *model* knows as indexes."""
    if not live.implied and not any(one.get("duplicates_index") for one in live.uniques):
        return live
    named = {final_name(index, dialect) for index in model.indexes}
    moved: list[Any] = [
        {"name": one["name"], "column_names": one["column_names"], "unique": True}
        for one in live.uniques
        if one.get("duplicates_index") and one["name"] in named
    ]
    moved += [index for index in live.implied.values() if index["name"] in named]
    if not moved:
        return live
    return dataclasses.replace(
        live,
        indexes=(*live.indexes, *moved),
        uniques=tuple(
            one for one in live.uniques if not (one.get("duplicates_index") and one["name"] in named)
        ),
        implied={by: index for by, index in live.implied.items() if index["name"] not in named},
    )
