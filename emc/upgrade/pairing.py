"""How does a person declare that a column is renamed, converted, split or merged?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from sqlalchemy import Column

from emc.errors import DeclarationError
from emc.names import TableKey, dotted
from emc.upgrade.declarations import Fill
from emc.upgrade.declared import Declared
from emc.upgrade.given import key_of, name_of, parts_of, soak_of
from emc.upgrade.parallel import (
    Conversion,
    Convert,
    Parallel,
    Rename,
    Renamed,
    Superseded,
    identity,
    superseded,
)
from emc.upgrade.targets import caller, column_of


class Pairing(Declared):
    """The declarations of columns that are kept in step with others while both releases run."""

    def rename(
        self, source: str, *, to: Any, since: str | None = None, soak: str | dt.timedelta = "0s"
    ) -> None:
        """Say that a column goes on under another name.

        The new column is added beside the old one, and triggers keep the two equal while both releases run.

        :param source: dotted name of the column that the models no longer have: ``"users.name"``.
        :param to: the mapped attribute or Column of the models that takes its place, in the same table.
        :param since: the release whose models no longer had the old column.
        :param soak: how long its gates have to stay open before the old column goes, e.g. ``"24h"``.
        :raises DeclarationError: *source* is no column's name, *to* is not in the models or of another table, or
            either of the two is spoken of by another declaration that contradicts this one.
        """
        self._pair(Rename, Renamed, [source], [to], identity, identity, since, soak)

    def convert(
        self,
        sources: str | Sequence[str],
        *,
        to: Any,
        up: Conversion,
        down: Conversion | None = None,
        on: Mapping[Any, str] | None = None,
        since: str | None = None,
        soak: str | dt.timedelta = "0s",
    ) -> None:
        """Say that a column goes on in another form, or that one is split into several or several are merged.

        The new columns are added beside the old ones, and triggers keep the two sides in step while both releases run.

        :param sources: dotted name of the column that the models no longer have, or names of several of one table.
        :param to: the mapped attribute or Column of the models that takes its place, or several of them.
        :param up: given the old columns, answers the new ones' values as SQL expressions of their row alone: one
            expression, or for several columns a tuple in the order of *to* or a dictionary by name.
        :param down: given the new columns, answers the old ones' values likewise. Without it there is no way back: the
            old columns become read-only, and what the new release writes is not in them. Needed with *on*.
        :param on: where *to* is in another table: which row of it belongs to which row of the old columns,
            ``{Address.user_id: "users.id"}``. One row to each at most, by a unique key on either side, and with a
            foreign key that is ON DELETE CASCADE. A row of the old release that has something to say gets one made.
        :param since: as for :meth:`rename`.
        :param soak: as for :meth:`rename`.
        :raises DeclarationError: as for :meth:`rename`; or *up* or *down* is no function.
        """
        names = list(sources) if isinstance(sources, (list, tuple)) else [sources]
        targets = list(to) if isinstance(to, (list, tuple)) else [to]
        self._pair(Convert, Superseded, names, targets, up, down, since, soak, on or {})

    def _pair(
        self,
        kind: type[Parallel],
        going: type[Superseded],
        names: Sequence[Any],
        given: Sequence[Any],
        up: Conversion,
        down: Conversion | None,
        since: str | None,
        soak: str | dt.timedelta,
        on: Mapping[Any, str] = MappingProxyType({}),
    ) -> None:
        place = caller()
        targets = tuple(self._known(column_of(one, place), place) for one in given)
        key, sources = _sources(names, kind.verb, place)
        matched = {self._known(column_of(one, place), place): name for one, name in on.items()}
        _demand_targets(targets, key, sources, kind.verb, place, is_matched=bool(matched))
        pairs = _pairs(matched, targets, key, sources, place)
        if pairs and down is None:
            raise DeclarationError(
                f"convert of {name_of(targets[0])}, which is in another table, has no down=.",
                places=[place],
                remedy="Give one: without it nobody could tell a row that the new release has deleted from one that is "
                "yet to be made.",
            )
        for what, function in (("up", up), ("down", down)):
            if not callable(function) and (what == "up" or function is not None):
                raise DeclarationError(
                    f"{what}={function!r} is not a function.",
                    places=[place],
                    remedy=f"Give a function of the columns that answers SQL expressions: {what}=lambda old: old * 100",
                )
        target, length = name_of(targets[0]), soak_of(soak, place)
        removals = tuple(
            superseded(
                going,
                tuple(part for part in (key.schema, key.name, source) if part is not None),
                target,
                place=place,
                since=since,
                soak=length,
            )
            for source in sources
        )
        declared = kind(
            place=place,
            key=key,
            sources=sources,
            targets=targets,
            up=up,
            down=down,
            superseded=removals,
            on=pairs,
        )
        for removal in removals:
            self._demand_unnamed(removal)
        for fill in self.fills:
            if any(fill.column is one for one in targets):
                self._demand_unfilled(fill, declared)
        self._declarations.append(declared)

    def _demand_unfilled(self, fill: Fill, declared: Parallel) -> NoReturn:
        raise DeclarationError(
            f"{name_of(fill.column)} gets its values from {_listed(declared)} and from a fill.",
            places=[fill.place, declared.place],
            remedy="Take the fill away, and let up= answer a value where there was none: "
            "up=lambda old: func.coalesce(old, ...)",
        )

    def _known(self, column: Column[Any], place: str) -> Column[Any]:
        raise NotImplementedError


def _sources(names: Sequence[Any], verb: str, place: str) -> tuple[TableKey, tuple[str, ...]]:
    """The table and the columns that *names* name."""
    keys, columns = [], []
    for name in names:
        if not isinstance(name, str):
            raise DeclarationError(
                f"{name!r} is not the name of a column.",
                places=[place],
                remedy='Give the dotted name of a column that the models no longer have: "users.name".',
            )
        parts = parts_of(name, place)
        if len(parts) < 2:
            raise DeclarationError(
                f"{name!r} names a table and no column.",
                places=[place],
                remedy=f'upgrade.{verb}("{name}.column", …)   # tables are not renamed while they are in use',
            )
        keys.append(TableKey(parts[0] if len(parts) == 3 else None, parts[-2]))
        columns.append(parts[-1])
    if not columns or len(set(keys)) > 1 or len(set(columns)) < len(columns):
        raise DeclarationError(
            f"{', '.join(names) or 'Nothing'} is not one or more columns of one table.",
            places=[place],
            remedy='Name columns of the same table, each once: ["users.first", "users.last"].',
        )
    return keys[0], tuple(columns)


def _pairs(
    matched: Mapping[Column[Any], str],
    targets: Sequence[Column[Any]],
    key: TableKey,
    sources: Sequence[str],
    place: str,
) -> tuple[tuple[str, str], ...]:
    """The columns by which rows of the two tables belong together."""
    if not matched:
        return ()
    theirs, names = _sources(list(matched.values()), "convert", place)
    mine = {column.table for column in matched}
    problem = None
    if theirs != key:
        problem = f"names columns of {theirs}, and the old ones are those of {key}"
    elif mine != {targets[0].table}:
        problem = f"has to give columns of {key_of(targets[0].table)}, where the new ones are"
    elif any(column in targets for column in matched) or set(names) & set(sources):
        problem = "names a column that is converted, which cannot say at the same time to what it belongs"
    elif key_of(targets[0].table) == key:
        problem = "is for columns that move to another table, and these stay in theirs"
    if problem is not None:
        raise DeclarationError(
            f"on= of convert {name_of(targets[0])} {problem}.",
            places=[place],
            remedy="Give each column of the new table with that of the old one which it equals: "
            f'on={{Address.user_id: "{dotted(key.schema, key.name, "id")}"}}.',
        )
    return tuple((column.name, name) for column, name in zip(matched, names, strict=True))


def _demand_targets(
    targets: Sequence[Column[Any]],
    key: TableKey,
    sources: Sequence[str],
    verb: str,
    place: str,
    *,
    is_matched: bool,
) -> None:
    if not targets or len({column.table for column in targets}) > 1 or len(set(targets)) < len(targets):
        raise DeclarationError(
            f"to= of {verb} has to be one or more columns of one table, each once.",
            places=[place],
            remedy="Give a mapped attribute such as User.full_name, or a list of some: [User.first, User.last].",
        )
    target_key = key_of(targets[0].table)
    if target_key != key and not is_matched:
        raise DeclarationError(
            f"{dotted(key.schema, key.name, sources[0])} and {name_of(targets[0])} are columns of different tables.",
            places=[place],
            remedy=f"Name the old column as the models name the table ({target_key}); or, where it moves to another "
            f'table, upgrade.convert(…, on={{…: "{key}.id"}}, up=…, down=…), which says whose row belongs to whose.',
        )
    for column in targets:
        why = None
        if column.name in sources and not is_matched:
            why = "is named as old and as new, and a column that keeps its name keeps its meaning"
        elif column.primary_key:
            why = (
                "belongs to the primary key, which foreign keys, replication and the old release all rely on"
            )
        elif column.computed is not None or column.identity is not None:
            why = "is computed by the database, so nothing can be written to it"
        if why is not None:
            raise DeclarationError(
                f"{name_of(column)} {why}.",
                places=[place],
                remedy="Add an ordinary column under a new name to the models, and give that as to=.",
            )


def _listed(declared: Parallel) -> str:
    return ", ".join(dotted(declared.key.schema, declared.key.name, name) for name in declared.sources)
