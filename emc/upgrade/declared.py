"""What has been declared so far?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from emc.errors import DeclarationError
from emc.names import TableKey
from emc.upgrade.declarations import (
    Allow,
    DataMigration,
    Declaration,
    Deduplicate,
    Fill,
    Orphans,
    Removal,
)
from emc.upgrade.given import key_of
from emc.upgrade.parallel import Parallel

_D = TypeVar("_D", bound=Declaration)


class Declared:
    """Declarations in the order in which they were made."""

    def __init__(self) -> None:
        self._declarations: list[Declaration] = []

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """Every declaration, in the order in which they were made."""
        return tuple(self._declarations)

    def _of(self, kind: type[_D]) -> Iterator[_D]:
        return (declaration for declaration in self._declarations if isinstance(declaration, kind))

    @property
    def removals(self) -> tuple[Removal, ...]:
        """Every ``retire`` and ``discard``, and what every ``rename`` and ``convert`` lets go."""
        along = (removal for parallel in self.parallels for removal in parallel.superseded)
        return (*self._of(Removal), *along)

    @property
    def parallels(self) -> tuple[Parallel, ...]:
        """Every ``rename`` and ``convert``."""
        return tuple(self._of(Parallel))

    @property
    def data_migrations(self) -> tuple[DataMigration, ...]:
        """Every ``data_migration``."""
        return tuple(self._of(DataMigration))

    def fill_of(self, key: TableKey, column: str) -> Fill | None:
        """The ``fill`` of a column, if there is one."""
        for fill in self._of(Fill):
            if key_of(fill.column.table) == key and fill.column.name == column:
                return fill
        return None

    @property
    def fills(self) -> tuple[Fill, ...]:
        """Every ``fill``."""
        return tuple(self._of(Fill))

    @property
    def deduplications(self) -> tuple[Deduplicate, ...]:
        """Every ``deduplicate``."""
        return tuple(self._of(Deduplicate))

    @property
    def orphan_rules(self) -> tuple[Orphans, ...]:
        """Every ``orphans``."""
        return tuple(self._of(Orphans))

    @property
    def allowances(self) -> tuple[Allow, ...]:
        """Every ``allow``."""
        return tuple(self._of(Allow))

    # -- making them --------------------------------------------------------------------------------------------

    def _migration_name(self, given: Any, place: str) -> str:
        if isinstance(given, str):
            return given
        for migration in self._of(DataMigration):
            if migration.function is given:
                return migration.name
        raise DeclarationError(
            f"after={given!r} is not a data migration of this upgrade.",
            places=[place],
            remedy="Declare it above with @upgrade.data_migration(...), or give its name.",
        )

    def _once(self, declared: Declaration, name: str, others: Mapping[str, Declaration]) -> None:
        if name in others:
            raise DeclarationError(
                f"{declared.verb} {name} is declared twice.",
                places=[others[name].place, declared.place],
                remedy="Keep one of the two, or give one another name.",
            )
        self._declarations.append(declared)

    def _remove(self, removal: Removal) -> None:
        self._demand_unnamed(removal)
        self._declarations.append(removal)

    def _demand_unnamed(self, removal: Removal) -> None:
        for other in self.removals:
            if other.parts == removal.parts and (
                not other.kind or not removal.kind or other.kind is removal.kind
            ):
                raise DeclarationError(
                    f"{removal.target} is named by {other.verb} and by {removal.verb}.",
                    places=[other.place, removal.place],
                    remedy="Keep one of the two; kind= tells elements of the same name apart.",
                )
