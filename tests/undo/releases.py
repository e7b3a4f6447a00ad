"""Two releases of a service, and what an operator sees who goes back from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table

import emc
from emc.commands import UndoReport
from emc.gates import Verdict
from emc.testing.snapshots import shape
from emc.upgrade import Upgrade

Declare = Callable[[Upgrade, Any], object]


def table(metadata: MetaData, *columns: Any, name: str = "users") -> Table:
    """A table with a key."""
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns)


def users(*columns: Callable[[], Any]) -> Callable[[MetaData], object]:
    """Models with one table, whose columns *columns* make anew each time."""
    return lambda metadata: table(metadata, Column("name", String(20)), *(one() for one in columns))


class Service:
    """A database, the release that runs on it, and the one to come.

    Args:
        engine: an empty database.
        old: adds the tables of the old release to a MetaData.
        new: adds those of the new release.
        declare: what a person says.
    """

    def __init__(
        self,
        engine: Engine,
        old: Callable[[MetaData], object],
        new: Callable[[MetaData], object],
        declare: Declare = lambda *_: None,
        release: str | None = "2",
    ) -> None:
        self.engine = engine
        self._new = new
        self._declare = declare
        self.release = release
        metadata = MetaData()
        old(metadata)
        metadata.create_all(engine)
        self.before = shape(engine)

    @property
    def upgrade(self) -> Upgrade:
        """The upgrade, made anew."""
        metadata = MetaData()
        self._new(metadata)
        upgrade = Upgrade(metadata, release=self.release)
        self._declare(upgrade, metadata.tables)
        return upgrade

    def send(self, *statements: str) -> None:
        """Send *statements*, as either release or a person would."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What *query* answers."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def expand(self) -> None:
        """Run expand."""
        emc.expand(self.upgrade, self.engine)

    def undo(self, **options: Any) -> UndoReport:
        """Run undo, once the new release is gone."""
        return emc.undo(self.upgrade, self.engine, **{"new_code_gone": True, **options})

    def is_as_before(self) -> bool:
        """Whether the schema is that of the old release again."""
        return shape(self.engine) == self.before


def shut(report: UndoReport) -> dict[str, Verdict]:
    """The gates that are shut, by name."""
    return {verdict.gate: verdict for one in report.blocked for verdict in one.verdicts}
