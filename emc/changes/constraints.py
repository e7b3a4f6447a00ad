"""Is a constraint added, taken away, or defined anew under its name?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from alembic.operations import ops

from emc.changes.base import Change, RefusedError, Situation, because_old_code, operation
from emc.changes.columns import primary_key_refusal, temporary_default
from emc.changes.companions import passed_by_null
from emc.changes.indexes import nulls_not_distinct, untouched_by_old_code
from emc.changes.syncs import is_kept_referring
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation, ReplaceOp, constraint_kind, table_key
from emc.phases import Phase

ADDS = {
    ElementKind.UNIQUE: Kind.ADD_UNIQUE,
    ElementKind.CHECK: Kind.ADD_CHECK,
    ElementKind.FOREIGN_KEY: Kind.ADD_FOREIGN_KEY,
    ElementKind.EXCLUSION: Kind.ADD_EXCLUSION,
}
DROPS = {
    ElementKind.UNIQUE: Kind.DROP_UNIQUE,
    ElementKind.CHECK: Kind.DROP_CHECK,
    ElementKind.FOREIGN_KEY: Kind.DROP_FOREIGN_KEY,
    ElementKind.EXCLUSION: Kind.DROP_EXCLUSION,
}
_BREAKS = {
    ElementKind.UNIQUE: "write duplicates",
    ElementKind.CHECK: "write rows that the check refuses",
    ElementKind.FOREIGN_KEY: "write rows without a parent",
    ElementKind.EXCLUSION: "write rows that exclude each other",
}


def constraint_element(directive: ops.AddConstraintOp | ops.DropConstraintOp) -> Element:
    """The element of a constraint; one without a name is called by its columns or text, in parentheses."""
    kind, key = constraint_kind(directive), table_key(directive)
    name = cast(
        "str | None", cast(Any, directive).constraint_name
    )  # AddConstraintOp leaves it to its subclasses
    if name is None:
        added = directive.reverse() if isinstance(directive, ops.DropConstraintOp) else directive
        name = f"({','.join(constraint_columns(added)) or _check_text(added)})"
    return Element(kind, key, str(name))


def constraint_columns(directive: Any) -> tuple[str, ...]:
    """The columns of a unique constraint or foreign key; empty for the others."""
    columns = getattr(directive, "local_cols", None) or getattr(directive, "columns", None) or ()
    return tuple(str(column) for column in columns)


def _check_text(directive: Any) -> str:
    return str(getattr(directive, "condition", ""))


def _described(element: Element) -> str:
    return f"{element.kind.value.replace('-', ' ')} {element.name} of {element.table}"


@dataclass(frozen=True, eq=False)
class ConstraintAdded(Change):
    """The models have a constraint that the database does not have."""

    directive: ops.AddConstraintOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """Now, where neither old rows nor old statements can break it; later otherwise."""
        element = constraint_element(self.directive)
        if element.kind is ElementKind.PRIMARY_KEY:
            raise RefusedError(primary_key_refusal(element.table, "it is added"))
        safe = cannot_trip_old_code(self.directive, situation)
        yield operation(
            self.directive,
            ADDS[element.kind],
            element,
            Phase.EXPAND if safe else Phase.CONTRACT,
            f"add {_described(element)}",
            because=None if safe else because_old_code(_BREAKS[element.kind]),
        )


@dataclass(frozen=True, eq=False)
class ConstraintRetired(Change):
    """A person has named a constraint that the models no longer have."""

    directive: ops.DropConstraintOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """A CHECK or foreign key goes now: nothing fails without it. A unique one later."""
        element = constraint_element(self.directive)
        if element.kind is ElementKind.PRIMARY_KEY:
            raise RefusedError(primary_key_refusal(element.table, "it is taken away"))
        relaxes = element.kind in (ElementKind.CHECK, ElementKind.FOREIGN_KEY)
        yield operation(
            self.directive,
            DROPS[element.kind],
            element,
            Phase.EXPAND if relaxes else Phase.CONTRACT,
            f"drop {_described(element)}",
            because=None if relaxes else because_old_code("upsert on it"),
        )


@dataclass(frozen=True, eq=False)
class ConstraintRedefined(Change):
    """The models define a constraint anew under its name."""

    drop: ops.DropConstraintOp
    create: ops.AddConstraintOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """A CHECK or foreign key gives way now and returns when the data allows it.

        A unique one stays until its successor can take its place.
        """
        element = constraint_element(self.create)
        if element.kind is ElementKind.PRIMARY_KEY:
            raise RefusedError(primary_key_refusal(element.table, "it is defined anew"))
        replacement = ReplaceOp(self.drop, self.create)
        described = f"put the new definition of {_described(element)} in the place of the old one"
        if element.kind is ElementKind.FOREIGN_KEY and _only_loosens(self.drop, self.create):
            yield operation(replacement, Kind.REPLACE_CONSTRAINT, element, Phase.EXPAND, described)
        elif element.kind in (ElementKind.CHECK, ElementKind.FOREIGN_KEY) and not _same_shape(
            self.drop, self.create
        ):
            yield operation(
                self.drop,
                DROPS[element.kind],
                element,
                Phase.EXPAND,
                f"drop {_described(element)}, which has another definition in the models",
                because="the new release can write rows that the old definition refuses",
            )
            yield operation(
                self.create,
                ADDS[element.kind],
                element,
                Phase.CONTRACT,
                f"add {_described(element)}",
                because=because_old_code(_BREAKS[element.kind]),
            )
        else:
            yield operation(
                replacement,
                Kind.REPLACE_CONSTRAINT,
                element,
                Phase.EXPAND if _implied(self.drop, self.create) else Phase.CONTRACT,
                described,
                because=None
                if _implied(self.drop, self.create)
                else because_old_code("rely on the old definition"),
            )


def _unique_trips(directive: Any, situation: Situation, key: TableKey) -> bool:
    return not untouched_by_old_code(situation, key, constraint_columns(directive), directive.kw)


def _foreign_key_trips(directive: Any, situation: Situation, key: TableKey) -> bool:
    # One NULL among its columns is enough for a row to pass (MATCH SIMPLE).
    full = str(directive.kw.get("match") or "").upper() == "FULL"
    columns = constraint_columns(directive)
    held = [situation.old_code_leaves_null(key, column) for column in columns]
    if all(held) if full else any(held):
        return False
    return full or not is_kept_referring(
        situation,
        key,
        columns,
        TableKey(directive.kw.get("referent_schema"), directive.referent_table),
        [str(column) for column in directive.remote_cols],
        directive.kw.get("ondelete"),
        directive.kw.get("onupdate"),
    )


def _check_trips(directive: Any, situation: Situation, key: TableKey) -> bool:
    """Whether rows with a value, or with a NULL that the CHECK asks about, are for the data to show."""
    model = situation.models.get(key)
    if model is None:
        return True
    untouched = (
        column.name
        for column in model.columns
        if situation.old_code_leaves_null(key, column.name)
        and temporary_default(situation, key, column) is None
    )
    return not passed_by_null(_check_text(directive), untouched)


def _always_trips(directive: Any, situation: Situation, key: TableKey) -> bool:
    return True


_TRIPS: Mapping[ElementKind, Callable[[Any, Situation, TableKey], bool]] = {
    ElementKind.UNIQUE: _unique_trips,
    ElementKind.FOREIGN_KEY: _foreign_key_trips,
    ElementKind.CHECK: _check_trips,
    ElementKind.EXCLUSION: _always_trips,
}


def cannot_trip_old_code(directive: ops.AddConstraintOp, situation: Situation) -> bool:
    """Whether a new constraint can be broken neither by old rows nor by what the old release writes."""
    key = table_key(directive)
    if situation.is_new_table(key):
        return True
    return not _TRIPS[constraint_kind(directive)](directive, situation, key)


_ACTIONS = {None: 0, "NO ACTION": 0, "RESTRICT": 0, "CASCADE": 1, "SET NULL": 1, "SET DEFAULT": 1}


def _same_shape(drop: ops.DropConstraintOp, create: Any) -> bool:
    """Whether two foreign keys tie the same columns together, and differ in what happens on delete or update only."""
    old: Any = drop.reverse()
    if not isinstance(create, ops.CreateForeignKeyOp) or not isinstance(old, ops.CreateForeignKeyOp):
        return False
    return (
        list(old.local_cols) == list(create.local_cols)
        and list(old.remote_cols) == list(create.remote_cols)
        and old.referent_table == create.referent_table
        and old.kw.get("referent_schema") == create.kw.get("referent_schema")
    )


def _only_loosens(drop: ops.DropConstraintOp, create: Any) -> bool:
    """Whether every statement that passes the old foreign key passes the new one too."""
    if not _same_shape(drop, create):
        return False
    old: Any = drop.reverse()

    def action(directive: Any, name: str) -> int:
        return _ACTIONS.get(str(directive.kw[name]).upper() if directive.kw.get(name) else None, 0)

    actions_loosen = all(action(create, name) >= action(old, name) for name in ("ondelete", "onupdate"))
    deferral_loosens = bool(create.kw.get("deferrable")) >= bool(old.kw.get("deferrable"))
    match_loosens = str(create.kw.get("match") or "").upper() != "FULL"
    return actions_loosen and deferral_loosens and match_loosens


def _implied(drop: ops.DropConstraintOp, create: Any) -> bool:
    """Whether whatever the old unique constraint allows, the new one allows too: it has more columns."""
    if constraint_kind(create) is not ElementKind.UNIQUE or nulls_not_distinct(create.kw):
        return False
    old = set(constraint_columns(drop.reverse()))
    # Not implied in expand: the old release may upsert on the old columns, which needs the old constraint.
    return bool(old) and old == set(constraint_columns(create)) and not create.kw
