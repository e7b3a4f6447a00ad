"""Where are the columns of a table in the objects of a class?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import InstanceState, LoaderCallableStatus, Mapper
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import UnmappedColumnError

from emc.names import TableKey

_CONVERTED = "emc.orm"


def converted(state: InstanceState[Any]) -> frozenset[str]:
    """The attributes that an object shows converted, while its row is not known to be."""
    info = vars(state).get("info")  # Else each object would get a dictionary.
    return info.get(_CONVERTED, frozenset()) if info else frozenset()


def mark(state: InstanceState[Any], attributes: Iterable[str]) -> None:
    """An object shows *attributes* converted, and its row is not."""
    state.info[_CONVERTED] = converted(state) | frozenset(attributes)


def unmark(state: InstanceState[Any]) -> None:
    """An object shows its row as it is."""
    if converted(state):
        del state.info[_CONVERTED]


@dataclass(frozen=True, eq=False)
class Mapped:
    """A table in the objects of one class."""

    mapper: Mapper[Any]
    table: Table
    """That of the models."""
    attributes: Mapping[str, str]
    """The attribute of each column that the class maps, by the name that the database has for the column."""
    key: tuple[str, ...]
    """The columns that tell the rows of the table apart."""

    def key_of(
        self, state: InstanceState[Any], known: Mapping[str, Any] | None = None
    ) -> tuple[Any, ...] | None:
        """The key of the row behind an object; ``None`` while it has none.

        :param known: values of the row by attribute, if they are others than the object has.
        """
        loaded = state.dict if known is None else known
        values = tuple([loaded.get(self.attributes[name], _MISSING) for name in self.key])
        if _MISSING not in values:
            return values
        identity = state.identity
        if identity is None:
            return None
        by_attribute = {
            self.mapper.get_property_by_column(column).key: value
            for column, value in zip(self.mapper.primary_key, identity, strict=True)
        }
        found = tuple(by_attribute.get(self.attributes[name], _MISSING) for name in self.key)
        return None if _MISSING in found else found

    def unchanged(self, state: InstanceState[Any]) -> dict[str, Any]:
        """What an object has loaded of its row and not changed since, by attribute."""
        return {name: value for name, value in state.dict.items() if name not in state.committed_state}

    def before(self, state: InstanceState[Any]) -> Mapping[str, Any]:
        """What an object had loaded of its row, whether it was changed since or not, by attribute."""
        if not state.committed_state:
            return state.dict
        values = {**state.dict, **state.committed_state}
        # Attributes can be set without having been loaded.
        return {name: value for name, value in values.items() if not isinstance(value, LoaderCallableStatus)}

    def changed(self, state: InstanceState[Any]) -> set[str]:
        """The columns to which a flush writes what the application has set.

        It writes nothing where that is what had been loaded.
        """
        set_ = state.committed_state
        return {
            name
            for name, attribute in self.attributes.items()
            if attribute in set_ and state.attrs[attribute].history.has_changes()
        }

    def loaded(self, state: InstanceState[Any]) -> dict[str, Any]:
        """What an object has loaded of its row and not changed since, by column."""
        return {
            name: state.dict[attribute]
            for name, attribute in self.attributes.items()
            if attribute in state.dict and attribute not in state.committed_state
        }

    @property
    def version(self) -> Column[Any] | None:
        """The column by which a flush tells whether somebody else has written to a row, if the server sets it."""
        column = self.mapper.version_id_col
        if not isinstance(column, Column) or column.table is not self.table:
            return None
        return column if self.mapper.version_id_generator is False else None

    @property
    def table_key(self) -> TableKey:
        """The key of the table."""
        return TableKey(self.table.schema, self.table.name)

    def put(self, state: InstanceState[Any], values: Mapping[str, Any], *, saved: bool = False) -> None:
        """Let an object have *values* of its row, by column, as if they had been loaded.

        Related objects that a column refers to are loaded again when they are asked for.

        :param saved: whether what the application has changed is in the row, too; else it keeps that.
        """
        instance = state.obj()
        if instance is None:
            return
        mine = {self.attributes[name]: value for name, value in values.items() if name in self.attributes}
        fresh = {name: value for name, value in mine.items() if saved or name not in state.committed_state}
        for attribute, value in fresh.items():
            set_committed_value(instance, attribute, value)
        if not fresh:
            return
        # sqlalchemy.ext.mutable, for one, wraps what was loaded when it hears of it.
        state.manager.dispatch.refresh(state, None, list(fresh))
        self._forget_parents(state, set(fresh))

    def _forget_parents(self, state: InstanceState[Any], attributes: set[str]) -> None:
        stale = [
            relationship.key
            for relationship in self.mapper.relationships
            if relationship.key in state.dict
            and relationship.key not in state.committed_state
            and any(self.attributes.get(column.name) in attributes for column in relationship.local_columns)
        ]
        if stale and state.session is not None:
            state.session.expire(state.obj(), stale)


_MISSING: Any = object()


def mapped(mapper: Mapper[Any], table: Table) -> Mapped | None:
    """How the class of *mapper* maps *table*; ``None`` if it does not, or none of what tells its rows apart."""
    if table not in mapper.tables:
        return None
    attributes: dict[str, str] = {}
    for column in table.columns:
        try:
            attributes[column.name] = mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
    key = [column.name for column in table.primary_key.columns]
    if not key:
        key = [column.name for column in mapper.primary_key if column.table is table]
    if not key or not all(name in attributes for name in key):
        return None
    return Mapped(mapper, table, attributes, tuple(key))
