"""Can columns be moved to another table, row by row, without the old release noticing?

Triggers make a row over there for each that has something to say, in the name of a release that does not know that
table. So nothing about the table may keep such a row from being made, changed, or from going with its owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import CheckConstraint, Column, Table, UniqueConstraint

from emc.changes.base import Situation
from emc.errors import Refusal
from emc.names import TableKey, attribute, dotted, mapped_class
from emc.schema import LiveTable
from emc.sync import Elsewhere, Sync
from emc.work.tables import unique_keys

_BY_HAND = (
    "or move the data with @upgrade.data_migration(...), and let the new release write both until contract"
)


def cannot_move(sync: Sync, situation: Situation) -> Iterator[Refusal]:
    """Why the targets of *sync* cannot be kept in step over there."""
    there = sync.elsewhere
    assert there is not None
    for look in (_not_one_to_one, _outlives_its_owner, _cannot_be_made, _refuses_values):
        for problem in look(sync, there, situation):
            yield Refusal(sync.name, f"it moves to another table, and {problem.reason}", problem.remedy)


class _Problem(NamedTuple):
    reason: str
    """As a clause: ``addresses may have several rows for one of users``."""
    remedy: str


_Found = Iterator[_Problem]


def _not_one_to_one(sync: Sync, there: Elsewhere, situation: Situation) -> _Found:
    """Whether a row could belong to several."""
    own = {name for _, name in there.on}
    source = situation.live.tables[sync.key]
    unknown = sorted(own - source.columns.keys())
    if unknown:
        yield _Problem(
            f"on= names {_named(sync.key, unknown)}, which the database does not have",
            f"Name columns that {sync.key} has: {', '.join(source.columns)}.",
        )
        return
    primary = set((source.primary_key or {"constrained_columns": []})["constrained_columns"])
    is_complete = own == primary or all(not source.columns[name]["nullable"] for name in own)
    if not is_complete or not any(set(key) == own for key in unique_keys(source)):
        yield _Problem(
            f"{_named(sync.key, sorted(own))} does not tell one row of {sync.key} from all others",
            f"Match by the primary key of {sync.key}, or by all columns of a unique key that is NOT NULL; {_BY_HAND}.",
        )
    its = {name for name, _ in there.on}
    live, model = situation.live.table(there.key), situation.models.get(there.key)
    keys = [set(key) for key in unique_keys(live)] if live is not None else _unique(model)
    if its not in keys:
        columns = ", ".join(attribute(there.key, name) for name in sorted(its))
        yield _Problem(
            f"{there.key} may have several rows for one of {sync.key}: no unique key is made of "
            f"{_named(there.key, sorted(its))}",
            f"Make {columns} unique (unique=True, or UniqueConstraint)"
            f"{', and let that be contracted before' if live is not None else ''}; {_BY_HAND}.",
        )


def _unique(model: Table | None) -> list[set[str]]:
    if model is None:
        return []
    uniques = [one.columns for one in model.constraints if isinstance(one, UniqueConstraint)]
    uniques += [one.columns for one in model.indexes if one.unique and not _is_partial(one)]
    return [{column.name for column in columns} for columns in (model.primary_key.columns, *uniques)]


def _is_partial(index: object) -> bool:
    options = getattr(index, "dialect_kwargs", {})
    return any(str(name).endswith("_where") and value is not None for name, value in options.items())


def _outlives_its_owner(sync: Sync, there: Elsewhere, situation: Situation) -> _Found:
    """Whether a row that was made would be left over, or keep the old release from deleting its owner."""
    wanted = dict(there.on)
    found = [
        (gone, changed) for pairs, gone, changed in _foreign_keys(sync, there, situation) if pairs == wanted
    ]
    primary = situation.live.tables[sync.key].primary_key
    # What is no primary key gets another value now and then.
    changes = primary is None or set(wanted.values()) != set(primary["constrained_columns"])
    if not found:
        problem = "no foreign key says that its rows go with theirs"
    elif any(gone != "CASCADE" for gone, _ in found):
        problem = (
            f"its foreign key is not ON DELETE CASCADE: a row that emc makes would keep the old release, which does "
            f"not know it, from deleting rows of {sync.key}"
        )
    elif changes and any(changed != "CASCADE" for _, changed in found):
        problem = (
            f"its foreign key is not ON UPDATE CASCADE: a row that emc makes would keep the old release, which does "
            f"not know it, from changing {_named(sync.key, sorted(wanted.values()))}"
        )
    else:
        return
    its = next(iter(wanted))
    onupdate = ', onupdate="CASCADE"' if changes else ""
    yield _Problem(
        problem,
        f'{mapped_class(there.key)}.{its} = mapped_column(ForeignKey("{sync.key}.{wanted[its]}", ondelete="CASCADE"'
        f"{onupdate}), unique=True); {_BY_HAND}.",
    )


def _foreign_keys(
    sync: Sync, there: Elsewhere, situation: Situation
) -> Iterator[tuple[dict[str, str], str, str]]:
    """Those to the table of the sources: pairs of columns, and what becomes of a row when its owner goes or changes."""
    live, model = situation.live.table(there.key), situation.models.get(there.key)
    if live is not None:
        for one in live.foreign_keys:
            if TableKey(one["referred_schema"], one["referred_table"]) == sync.key:
                pairs = zip(one["constrained_columns"], one["referred_columns"], strict=True)
                options = one.get("options") or {}
                yield dict(pairs), _action(options.get("ondelete")), _action(options.get("onupdate"))
    elif model is not None:
        for constraint in sorted(model.foreign_key_constraints, key=lambda one: tuple(one.column_keys)):
            # By its text: the models may have no table of that name any more.
            named = [element.target_fullname.rsplit(".", 1) for element in constraint.elements]
            if {table for table, _ in named} == {dotted(sync.key.schema, sync.key.name)}:
                own = [column.name for column in constraint.columns]
                yield (
                    dict(zip(own, (name for _, name in named), strict=True)),
                    _action(constraint.ondelete),
                    _action(constraint.onupdate),
                )


def _action(given: object) -> str:
    return str(given or "NO ACTION").upper()


def _cannot_be_made(sync: Sync, there: Elsewhere, situation: Situation) -> _Found:
    """Columns that nothing gives a value when a trigger makes a row."""
    live = situation.live.table(there.key)
    given = {*sync.targets, *(its for its, _ in there.on)}
    if live is not None:
        demanding = [name for name in live.columns if name not in given and _must_be_named(live, name)]
    else:
        model = situation.models[there.key]
        demanding = [one.name for one in model.columns if one.name not in given and _demands(one, model)]
    if demanding:
        yield _Problem(
            f"{_named(there.key, demanding)} is NOT NULL without a default of the server, so no row can be made for "
            "the old release",
            f"Give {', '.join(attribute(there.key, name) for name in demanding)} a server_default, or let it "
            f"be NULL in this release; {_BY_HAND}.",
        )


def _must_be_named(live: LiveTable, name: str) -> bool:
    column = live.columns[name]
    generated = column.get("autoincrement") is True or column.get("identity") or column.get("computed")
    return not (column["nullable"] or column.get("default") is not None or generated or _is_rowid(live, name))


def _is_rowid(live: LiveTable, name: str) -> bool:
    """Whether it is the only column of a key of whole numbers, which SQLite fills by itself."""
    key = (live.primary_key or {"constrained_columns": []})["constrained_columns"]
    return list(key) == [name] and str(live.columns[name]["type"]).upper() == "INTEGER"


def _demands(column: Column[object], model: Table) -> bool:
    is_given = column.server_default is not None or column.computed is not None or column.identity is not None
    return not (column.nullable or is_given or column is model.autoincrement_column)


def _refuses_values(sync: Sync, there: Elsewhere, situation: Situation) -> _Found:
    """What would refuse a value that the old release may write."""
    live, model = situation.live.table(there.key), situation.models[there.key]
    strict = [
        name
        for name in sync.targets
        if live is not None and name in live.columns and not live.columns[name]["nullable"]
    ]
    if strict:
        yield _Problem(
            f"{_named(there.key, strict)} is NOT NULL, which a row of {sync.key} need not be",
            f"Let it be NULL in this release: {attribute(there.key, strict[0])} = mapped_column(nullable=True); "
            f"{_BY_HAND}.",
        )
    uniques = [set(key) for key in unique_keys(live)] if live is not None else []
    shared = [key for key in (*uniques, *_unique(model)) if key & set(sync.targets)]
    checks = [
        one
        for one in model.constraints
        if isinstance(one, CheckConstraint) and not getattr(one, "_type_bound", False)
    ]
    bound = [one for one in model.foreign_key_constraints if set(one.column_keys) & set(sync.targets)]
    shared += [] if live is None else [key for key in uniques if _collides(live, key, sync, there)]
    refusing: Sequence[object] = checks if live is None else _may_refuse(live, sync)
    what = "a unique key" if shared else "a CHECK" if refusing else "a foreign key" if bound else None
    if what is not None:
        yield _Problem(
            f"{what} of {there.key} may refuse what the old release writes to {_named(sync.key, sync.sources)}",
            f"Leave it out of the models in this release, and add it in the next one; {_BY_HAND}.",
        )


def _collides(live: LiveTable, key: set[str], sync: Sync, there: Elsewhere) -> bool:
    """Whether all rows that are made would have the same values in unique columns: those of their defaults."""
    defaults = [str(live.columns[name].get("default") or "") for name in key]
    return key.isdisjoint({*sync.targets, *dict(there.on)}) and all(
        default and "(" not in default for default in defaults
    )


def _may_refuse(live: LiveTable, sync: Sync) -> list[str]:
    """The CHECKs that are there already which a row may break that is made for the old release, or changed by it.

    In such a row all columns are NULL but those that rows are matched by, the targets, and those with a default. What a
    CHECK says of NULLs is unknown, which it lets pass, unless it asks for them.
    """
    targets = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sync.targets))})(?!\w)")
    texts = [one["sqltext"] for one in live.checks]
    return [one for one in texts if _ASKS_FOR_NULL.search(one) or targets.search(one)]


_ASKS_FOR_NULL = re.compile(
    r"\b(?:NULL|ISNULL|NOTNULL|IFNULL|NVL|COALESCE|CASE|DISTINCT|CONCAT\w*|NUM_N\w+)\b", re.IGNORECASE
)


def _named(key: TableKey, columns: Sequence[str]) -> str:
    return ", ".join(dotted(key.schema, key.name, column) for column in columns)


__all__ = ["cannot_move"]
