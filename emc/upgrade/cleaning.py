"""What does a person declare about rows that a new constraint would not allow?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from sqlalchemy import Column

from emc.errors import DeclarationError
from emc.upgrade.declarations import Deduplicate, MergeFunction, Orphans
from emc.upgrade.declared import Declared
from emc.upgrade.given import clause_of, name_of
from emc.upgrade.targets import caller

OrphanAction = Literal["set null", "delete", "report"]


class Cleaning(Declared):
    """The declarations that clean up before a constraint is applied."""

    def deduplicate(
        self, *columns: Any, keep: Any, merge: MergeFunction | None = None, after: Sequence[Any] = ()
    ) -> None:
        """Say which row stays where a new unique constraint finds several alike; the others are deleted.

        :param columns: the mapped attributes or Columns of the constraint.
        :param keep: the order within a group of equal rows, as for ORDER BY; the first row stays.
        :param merge: ``f(winner, loser)`` or ``f(winner, loser, connection)``, called for each row before it is
            deleted, in the transaction that deletes it, with both rows locked. With the connection it may point what
            refers to the loser to the winner. It answers values for the winner by column, written once the loser is
            gone, so that a value may be taken over that has to be unique; or ``None``.
        :param after: data migrations (functions or names) that have to be complete before.
        :raises DeclarationError: the columns are unknown to the models or of several tables, or declared already.
        """
        place = caller()
        resolved = self._columns(columns, place)
        if merge is not None and not callable(merge):
            raise DeclarationError(
                f"merge={merge!r} is not a function.",
                places=[place],
                remedy="Give a function of the row that stays and the row that goes: merge=lambda winner, loser: {...}",
            )
        order = tuple(keep) if isinstance(keep, (tuple, list)) else (keep,)
        declared = Deduplicate(
            place=place,
            columns=resolved,
            keep=tuple(clause_of(one, place) for one in order),
            merge=merge,
            after=tuple(self._migration_name(one, place) for one in after),
        )
        self._once(declared, declared.name, {d.name: d for d in self._of(Deduplicate)})

    def orphans(self, *columns: Any, action: OrphanAction, after: Sequence[Any] = ()) -> None:
        """Say what happens to rows that a new foreign key finds without a parent.

        :param columns: the mapped attributes or Columns of the foreign key.
        :param action: ``"set null"``, ``"delete"``, or ``"report"``: nothing is written, ``emc migrate`` tells how many
            rows there are, and the gate of the foreign key stays shut until a person has looked after them.
        :param after: data migrations (functions or names) that have to be complete before.
        :raises DeclarationError: the columns are unknown to the models, cannot be NULL, or are declared already.
        """
        place = caller()
        resolved = self._columns(columns, place)
        if action not in get_args(OrphanAction):
            raise DeclarationError(
                f"orphans(action={action!r}) is not an action.",
                places=[place],
                remedy='Give action="set null", action="delete" or action="report".',
            )
        if action == "set null" and not any(column.nullable for column in resolved):
            raise DeclarationError(
                f"{name_of(resolved[0])} is NOT NULL in the models, so its orphans cannot be set to NULL.",
                places=[place],
                remedy='Give action="delete", or make the column nullable.',
            )
        declared = Orphans(place, resolved, action, tuple(self._migration_name(one, place) for one in after))
        self._once(declared, declared.name, {d.name: d for d in self._of(Orphans)})

    def _columns(self, targets: Sequence[Any], place: str) -> tuple[Column[Any], ...]:
        """The columns of one table of the models that *targets* stand for."""
        raise NotImplementedError
