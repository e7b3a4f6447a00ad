"""Which tables and elements may the comparison look at?"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from sqlalchemy import Table

from emc.names import TableKey, is_own
from emc.upgrade import Upgrade

VERSION_TABLE = "alembic_version"
"""Alembic's own: its name unless a project chooses another."""


class Scope:
    """The user's filters and emc's own, asked as one.

    What a name filter hides in the database is hidden in the models too: to Alembic it would look as if it had yet to
    be created.
    """

    def __init__(self, upgrade: Upgrade) -> None:
        self._include_name = upgrade.include_name
        self._include_object = upgrade.include_object
        self._hidden: set[tuple[str | None, str, str | None, str | None]] = set()
        self._schemas: dict[str | None, bool] = {}
        self.rejected: set[TableKey] = set()
        """Tables of the models that the object filter left out."""

    def accepts_table(self, key: TableKey) -> bool:
        """Whether a table is looked at at all, on whichever side."""
        if is_own(key.name) or key.name == VERSION_TABLE:
            return False
        if self._include_name is None:
            return True
        if key.schema not in self._schemas:
            self._schemas[key.schema] = bool(self._include_name(key.schema, "schema", {}))
        return self._schemas[key.schema] and bool(
            self._include_name(
                key.name,
                "table",
                {"schema_name": key.schema, "schema_qualified_table_name": _qualified(key)},
            )
        )

    def accepts_in_step(self, table: Table) -> bool:
        """Whether a table that equals its live counterpart survives the object filter.

        No object of the live table is built for it: that of the models says the same.
        """
        return self.accepts_object(table, table.name, "table", False, table)

    def accepts_name(
        self, name: str | None, type_: str, parent_names: MutableMapping[str, str | None]
    ) -> bool:
        """Alembic's ``include_name``."""
        if type_ in ("schema", "table"):
            return True  # sorted out before: Alembic sees what survived
        if is_own(name):
            return False
        key = TableKey(parent_names.get("schema_name"), str(parent_names.get("table_name")))
        parent_names.setdefault("schema_qualified_table_name", _qualified(key))
        if self._include_name is None or self._include_name(name, type_, parent_names):
            return True
        self._hidden.add((key.schema, key.name, type_, name))
        return False

    def accepts_object(
        self, object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
    ) -> bool:
        """Alembic's ``include_object``."""
        if type_ != "table":
            if reflected and is_own(name):
                return False
            # A CHECK of a column belongs to the column.
            table = getattr(getattr(object_, "parent", None), "table", None)
            if not isinstance(table, Table):
                table = object_.table
            if (table.schema, table.name, type_, name) in self._hidden:
                return False
        if self._include_object is None or self._include_object(object_, name, type_, reflected, compare_to):
            return True
        if type_ == "table" and not reflected:
            self.rejected.add(TableKey(object_.schema, object_.name))
        return False


def _qualified(key: TableKey) -> str:
    return f"{key.schema}.{key.name}" if key.schema else key.name
