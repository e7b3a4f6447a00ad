"""What can MariaDB or MySQL not do to a table in use without stalling or breaking something?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import CompileError, IdentifierError

from emc.dialects.mysql import privileges
from emc.dialects.mysql.costs import cost
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import Alteration, Ground, Scene
from emc.dialects.mysql.kinship import incoming_keys, is_dropped, needing, outgoing_keys, referred, serves
from emc.dialects.mysql.recipes import part_of
from emc.errors import Refusal
from emc.names import TableKey, dotted
from emc.operations import Kind, Operation, table_of
from emc.schema import LiveSchema
from emc.steps import Step

_LONGEST = 64
"""Characters of a name (MySQL 8.4 manual, "Identifier Length Limits"; 1059 on MariaDB 10.11.19)."""


def refuse(
    operation: Operation, live: LiveSchema, flavour: Flavour, operations: Sequence[Operation]
) -> Refusal | None:
    """Why *operation*, one of the *operations* of its phase, would stall or break a running system."""
    ground = Ground(operation, Scene(live, flavour, operations or (operation,)))
    for look in _LOOKS:
        refusal = look(ground)
        if refusal is not None:
            return refusal
    try:
        part = part_of(ground)
    except (CompileError, IdentifierError) as error:
        return _refusal(ground, str(error), "Change it in the models.")
    alterations = [one for one in part.changes if isinstance(one, Alteration)]
    if any(one.expected.blocks and not one.may_block for one in alterations):
        return cost(operation, ground.table, flavour)
    return None


def missing_privileges(connection: Connection, steps: Sequence[Step], flavour: Flavour) -> Sequence[str]:
    """What the role of *connection* lacks to run *steps*, one clause per privilege."""
    return privileges.missing(connection, steps, flavour)


# -- looks -------------------------------------------------------------------------------------------------------------


def _named_too_long(ground: Ground) -> Refusal | None:
    """A name that the server does not take."""
    if ground.operation.kind not in (Kind.CREATE_TABLE, Kind.ADD_COLUMN):
        return None
    names = [ground.key.name]
    if ground.operation.kind == Kind.CREATE_TABLE:
        names += [column.name for column in table_of(ground.directive).columns]
    else:
        names.append(ground.directive.column.name)
    too_long = next((name for name in names if len(name) > _LONGEST), None)
    if too_long is None:
        return None
    return _refusal(
        ground,
        f"{too_long!r} has {len(too_long)} characters, and {ground.flavour.title} takes at most {_LONGEST}",
        "Give it a shorter name in the models.",
    )


def _filled_with_zeros(ground: Ground) -> Refusal | None:
    """NOT NULL without a default: the server fills the rows that are there with 0 or '' and says nothing."""
    if ground.operation.kind != Kind.ADD_COLUMN or ground.is_new:
        return None
    column = ground.directive.column
    if column.nullable or column.server_default is not None or column.computed or column.identity:
        return None
    return _refusal(
        ground,
        f"the column is NOT NULL and has no default, and {ground.flavour.title} would fill the rows that are there "
        "with zeros or empty text, without a word",
        "Give it a server_default, or add it as nullable.",
    )


def _hangs_on(ground: Ground) -> Refusal | None:
    """Views, triggers and generated columns, which would not work any more, or which the server does not get past."""
    if ground.operation.kind not in (Kind.DROP_COLUMN, Kind.DROP_TABLE):
        return None
    column = None if ground.operation.kind == Kind.DROP_TABLE else ground.operation.element.name
    going = {
        str(one.element.name)
        for one in ground.scene.operations
        if one.kind == Kind.DROP_COLUMN and one.element.table == ground.key
    }
    found = [
        one
        for one in ground.live.dependents.get((ground.key, column), ())
        if not (one.startswith("generated column ") and one.removeprefix("generated column ") in going)
    ]
    if not found:
        return None
    remedies = dict.fromkeys(_remedy(one, ground) for one in found)
    return _refusal(
        ground,
        f"{', '.join(found)} would not work any more, and emc never drops what nobody named",
        " ".join(remedies),
    )


def _remedy(dependent: str, ground: Ground) -> str:
    kind, _, name = dependent.partition(" ")
    if dependent.startswith("generated column "):
        return f'upgrade.retire("{dotted(ground.key.schema, ground.key.name, dependent.split(" ", 2)[2])}")'
    if kind in ("view", "trigger"):
        return f"Once nobody needs it: DROP {kind.upper()} {name.split(' on ')[0]};"
    return "Change that by hand first."


def _tied_by_keys(ground: Ground) -> Refusal | None:
    """Foreign keys that stay, and that the server does not get past."""
    look = _TIES.get(ground.operation.kind)
    if look is None:
        return None
    stay = [(key, one) for key, one in look(ground) if not is_dropped(ground.scene.operations, key, one)]
    if not stay:
        return None
    named = ", ".join(f"{one['name']} of {key}" for key, one in stay)
    retire = "\n".join(
        dict.fromkeys(
            f'upgrade.retire("{dotted(key.schema, key.name, str(one["name"]))}")' for key, one in stay
        )
    )
    if ground.operation.kind == Kind.ALTER_TYPE:
        return _refusal(
            ground,
            f"the column is a part of foreign key {named}, and {ground.flavour.title} does not change the type of "
            "either end (1832, 1833)",
            f"Take the foreign key out of the models of this release, and put it back in the next one:\n{retire}",
        )
    if ground.operation.kind == Kind.SET_NOT_NULL:
        return _refusal(
            ground,
            f"foreign key {named} puts NULL into the column when its parent goes (1830)",
            "Let the column be NULL in the models, or give the foreign key another action.",
        )
    return _refusal(
        ground,
        f"foreign key {named} needs it, and would have nothing to go by without it",
        f"If the foreign key goes too: {retire}. If it stays, whoever owns it has to give it another index first.",
    )


def _type_ties(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    column = str(ground.operation.element.name)
    yield from ((ground.key, one) for one in outgoing_keys(ground, column))
    yield from incoming_keys(ground, column)


def _null_ties(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    for one in outgoing_keys(ground, str(ground.operation.element.name)):
        rules = [str(rule).upper() for rule in one.get("options", {}).values()]
        if "SET NULL" in rules:
            yield ground.key, one


def _column_ties(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    return incoming_keys(ground, str(ground.operation.element.name))


def _table_ties(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    return ((key, one) for key, one in incoming_keys(ground) if key != ground.key)


def _index_ties(ground: Ground) -> Iterator[tuple[TableKey, Any]]:
    """Those of other tables: one of this table gets an index of its own."""
    directive = ground.directive
    drop = getattr(directive, "drop", directive)
    name = str(getattr(drop, "index_name", None) or drop.constraint_name)
    create = getattr(directive, "create", None)
    new = [getattr(one, "name", str(one)) for one in getattr(create, "columns", ())]
    for key, one in needing(ground, name):
        # A foreign key to the same table needs an index at either end; only one of its own is made anew.
        is_own = key == ground.key and referred(key, one) != ground.key
        if not is_own and not serves(new, one["referred_columns"]):
            yield key, one


_TIES: dict[str, Callable[[Ground], Iterator[tuple[TableKey, Any]]]] = {
    Kind.ALTER_TYPE: _type_ties,
    Kind.SET_NOT_NULL: _null_ties,
    Kind.DROP_COLUMN: _column_ties,
    Kind.DROP_TABLE: _table_ties,
    Kind.DROP_INDEX: _index_ties,
    Kind.DROP_UNIQUE: _index_ties,
    Kind.REPLACE_INDEX: _index_ties,
}

_LOOKS: tuple[Callable[[Ground], Refusal | None], ...] = (
    _named_too_long,
    _filled_with_zeros,
    _hangs_on,
    _tied_by_keys,
)


def _refusal(ground: Ground, reason: str, remedy: str) -> Refusal:
    return Refusal(target=str(ground.operation.element), reason=reason, remedy=remedy)
