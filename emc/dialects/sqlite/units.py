"""Which operations does SQLite do by itself, which take a rebuild, and in which order do they run?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from alembic.operations import ops

from emc.dialects.sqlite import render
from emc.dialects.sqlite.catalog import SQLiteSchema
from emc.dialects.sqlite.draft import Draft, applied, column_definition
from emc.dialects.sqlite.edits import column_text, own_constraints
from emc.dialects.sqlite.text import Clause, parse
from emc.dialects.sqlite.tokens import mentions
from emc.names import ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.operations import table_key as table_of

INDEX_KINDS = frozenset({Kind.CREATE_INDEX, Kind.DROP_INDEX, Kind.REPLACE_INDEX})
SYNC_KINDS = frozenset({Kind.INSTALL_SYNC, Kind.DROP_SYNC})
_UNKNOWN = frozenset(
    {
        Kind.CREATE_ENUM,
        Kind.ADD_ENUM_VALUE,
        Kind.REMOVE_ENUM_VALUE,
        Kind.DROP_ENUM,
        Kind.SET_COMMENT,
        Kind.ADD_EXCLUSION,
        Kind.DROP_EXCLUSION,
    }
)


@dataclass
class Unit:
    """Operations that run together, in one transaction."""

    name: str
    how: str
    """``create``, ``native``, ``rebuild`` or ``drop``."""
    key: TableKey
    operations: list[Operation]
    positions: list[int] = field(default_factory=list)


def units_of(
    operations: Sequence[Operation], live: SQLiteSchema, drafts: dict[TableKey, Draft]
) -> list[Unit]:
    """*operations* in the order in which they run, those of a unit side by side.

    :raises ValueError: an operation that SQLite has no use for, which should not have been planned.
    """
    for operation in operations:
        if operation.kind in _UNKNOWN:
            raise ValueError(f"SQLite has no {operation.kind}; {operation.id} should not have been planned")
    numbered = list(enumerate(operations))
    new = {operation.element.table for operation in operations if operation.kind == Kind.CREATE_TABLE}
    units: list[Unit] = []
    for key in dict.fromkeys(operation.element.table for operation in operations):
        mine = [(at, one) for at, one in numbered if one.element.table == key and one.kind != Kind.DROP_TABLE]
        if key in new:
            together = [pair for pair in mine if pair[1].kind not in (*INDEX_KINDS, *SYNC_KINDS)]
            together.sort(key=lambda pair: pair[1].kind != Kind.CREATE_TABLE)
            units.append(_unit("create", key, together))
            after = [pair for pair in mine if pair not in together]
            units += [_unit("native", key, [pair]) for pair in after]
        elif mine:
            # Not even a rebuild takes triggers of another table along.
            across = [pair for pair in mine if pair[1].kind in SYNC_KINDS and len(sync_tables(pair[1])) > 1]
            if not any(one.kind == Kind.DROP_TABLE and one.element.table == key for _, one in numbered):
                units += [_unit("native", key, [pair]) for pair in across]
            mine = [pair for pair in mine if pair not in across]
            if mine:
                units += _units_of_table(key, mine, live, _without_syncs(drafts[key], numbered))
    units += _drops(numbered, live)
    return _ordered(units, operations)


def _unit(how: str, key: TableKey, pairs: Sequence[tuple[int, Operation]]) -> Unit:
    name = f"rebuild:{key}" if how == "rebuild" else pairs[0][1].together or pairs[0][1].id
    return Unit(name, how, key, [one for _, one in pairs], [at for at, _ in pairs])


def _units_of_table(
    key: TableKey, mine: Sequence[tuple[int, Operation]], live: SQLiteSchema, draft: Draft
) -> list[Unit]:
    added = {str(one.element.name).lower(): (at, one) for at, one in mine if one.kind == Kind.ADD_COLUMN}
    inlined: dict[int, list[tuple[int, Operation]]] = {at: [(at, one)] for at, one in added.values()}
    alone: list[tuple[int, Operation]] = []
    bound: dict[str, list[tuple[int, Operation]]] = {
        one.together or one.id: [] for _, one in mine if one.kind == Kind.DROP_SYNC
    }
    for at, one in mine:
        if one.kind == Kind.ADD_COLUMN:
            if not _addable(one):
                return [_unit("rebuild", key, mine)]
        elif one.kind in (Kind.ADD_CHECK, Kind.ADD_FOREIGN_KEY):
            column = inlined_into(one, [str(other.element.name) for _, other in added.values()], draft)
            if column is None:
                return [_unit("rebuild", key, mine)]
            home, adding = added[column.lower()]
            if one.kind == Kind.ADD_FOREIGN_KEY and not _may_refer(adding):
                return [_unit("rebuild", key, mine)]
            inlined[home].append((at, one))
        elif one.kind in (*INDEX_KINDS, *SYNC_KINDS) or (
            one.kind == Kind.DROP_COLUMN and _droppable(one, draft, live)
        ):
            bound.get(one.together or one.id, alone).append((at, one))
        else:
            return [_unit("rebuild", key, mine)]
    found = [_unit("native", key, pairs) for pairs in inlined.values()]
    found += [_unit("native", key, [pair]) for pair in alone]
    found += [_unit("native", key, pairs) for pairs in bound.values()]
    return sorted(found, key=lambda unit: unit.positions[0])


def sync_tables(operation: Operation) -> set[TableKey]:
    """The tables whose triggers a sync is made of."""
    sync = operation.directive.sync  # type: ignore[attr-defined]
    return {sync.key, sync.target_key}


def _without_syncs(draft: Draft, mine: Sequence[tuple[int, Operation]]) -> Draft:
    """*draft* without the triggers of syncs that are taken away: they stand in the way of no column that goes along."""
    for _, one in mine:
        if one.kind == Kind.DROP_SYNC:
            draft = applied(draft, one)
    return draft


# -- what SQLite does by itself --------------------------------------------------------------------------------


def _addable(operation: Operation) -> bool:
    """Whether ADD COLUMN takes the column as it is: https://sqlite.org/lang_altertable.html#altertabaddcol."""
    definition, _ = column_definition(operation)
    column = column_text(definition)
    if any(clause.kind in ("primary-key", "unique") for clause in column.clauses):
        return False
    generated = column.clause("generated")
    if generated is not None:
        return "STORED" not in generated.text.upper().split()[-1]
    default = column.clause("default")
    if default is not None and (
        default.argument[0] == "(" or default.argument.upper().startswith("CURRENT_")
    ):
        return False
    is_null = default is None or default.argument.upper() == "NULL"
    return column.clause("not-null") is None or not is_null


def _may_refer(operation: Operation) -> bool:
    """With foreign keys enforced, ADD COLUMN … REFERENCES takes only columns that are NULL in existing rows."""
    column = column_text(column_definition(operation)[0])
    return column.clause("default") is None and column.clause("not-null") is None


def inlined_into(operation: Operation, added: Sequence[str], draft: Draft) -> str | None:
    """The new column, among *added*, into whose definition a constraint can be written; ``None``: there is none.

    A foreign key with a name or an action is left out: SQLAlchemy's reflection finds neither on an inline one,
    and would report a difference for ever.
    """
    clause = inline_clause(operation)
    if clause.kind == ElementKind.FOREIGN_KEY.value:
        if len(clause.columns) != 1 or clause.name is not None or not clause.text.endswith(")"):
            return None
        return next((name for name in added if name.lower() == clause.columns[0].lower()), None)
    named = [name for name in added if mentions(clause.argument, name)]
    live = [column.name for column in parse(draft.sql).columns if mentions(clause.argument, column.name)]
    return named[0] if len(named) == 1 and not live and "ON CONFLICT" not in clause.text.upper() else None


def inline_clause(operation: Operation) -> Clause:
    """The constraint that *operation* adds, parsed."""
    definition = render.added_constraint(operation)
    assert definition is not None
    return render.constraint_clause(definition)


def inline_sql(clause: Clause) -> str:
    """A constraint of the table as one of its only column."""
    from emc.dialects.sqlite.edits import quoted

    name = f"CONSTRAINT {quoted(clause.name)} " if clause.name is not None else ""
    if clause.kind == ElementKind.FOREIGN_KEY.value:
        return name + clause.text[clause.text.upper().index("REFERENCES") :]
    return name + clause.text


def _droppable(operation: Operation, draft: Draft, live: SQLiteSchema) -> bool:
    """Whether DROP COLUMN takes it: https://sqlite.org/lang_altertable.html#altertabdropcol."""
    name = str(operation.element.name)
    text = parse(draft.sql)
    column = text.column(name)
    if column is None:
        return True
    plain = {"null", "not-null", "default", "collate", "generated", "check"}
    if any(clause.kind not in plain for clause in column.clauses):
        return False
    elsewhere = [clause for clause in text.clauses if clause not in column.clauses]
    if any(clause in elsewhere for clause in own_constraints(text, name)):
        return False
    if any(mentions(clause.argument, name) for clause in elsewhere if clause.kind in ("check", "generated")):
        return False
    if any(
        other.kind == "foreign-key" and name.lower() in (one.lower() for one in other.columns)
        for other in elsewhere
    ):
        return False
    texts = (*draft.indexes.values(), *draft.triggers.values())
    if any(mentions(sql, name) for sql in texts):
        return False
    return not live.dependents.get((operation.element.table, column.name))


# -- order -----------------------------------------------------------------------------------------------------


def _drops(numbered: Sequence[tuple[int, Operation]], live: SQLiteSchema) -> list[Unit]:
    """Tables go before those that they refer to; those that refer to each other go together."""
    left = {one.element.table: (at, one) for at, one in numbered if one.kind == Kind.DROP_TABLE}
    # What has kept it in step with a table that stays goes along.
    syncs = [(at, one) for at, one in numbered if one.kind in SYNC_KINDS and one.element.table in left]
    units: list[Unit] = []
    while left:
        referred = {
            key.name.lower() for other in left for key in left if key != other and _refers(live, other, key)
        }
        free = [key for key in left if key.name.lower() not in referred]
        if not free:
            pairs = list(left.values())
            units.append(_unit("drop", pairs[0][1].element.table, [*syncs, *pairs]))
            break
        along = [pair for pair in syncs if pair[1].element.table == free[0]]
        units.append(_unit("drop", free[0], [*along, left.pop(free[0])]))
    return units


def _refers(live: SQLiteSchema, child: TableKey, parent: TableKey) -> bool:
    table = live.table(child)
    return table is not None and any(
        str(key["referred_table"]).lower() == parent.name.lower() for key in table.foreign_keys
    )


def _ordered(units: Sequence[Unit], operations: Sequence[Operation]) -> list[Unit]:
    """New tables first, dropped ones last, and otherwise no operation before one that it may need."""
    rank = {"create": 0, "native": 1, "rebuild": 1, "drop": 2}
    touched = [_touched(operation) for operation in operations]
    waits: dict[int, set[int]] = {i: set() for i in range(len(units))}
    for i, later in enumerate(units):
        for j, earlier in enumerate(units):
            if i == j:
                continue
            needed = rank[earlier.how] == rank[later.how] and any(
                before < after and touched[before] & touched[after]
                for before in earlier.positions
                for after in later.positions
            )
            drops_before = earlier.how == later.how == "drop" and j < i
            if rank[earlier.how] < rank[later.how] or drops_before or (needed and rank[later.how] == 1):
                waits[i].add(j)
    found: list[Unit] = []
    left = dict.fromkeys(range(len(units)))
    while left:
        ready = [i for i in left if not waits[i] & left.keys()]
        # Tables that need each other both ways: foreign keys are checked when each rebuild ends, so try as given.
        chosen = min(ready or left, key=lambda i: (rank[units[i].how], min(units[i].positions)))
        found.append(units[chosen])
        del left[chosen]
    return found


def _touched(operation: Operation) -> set[TableKey]:
    """The tables that an operation is about: its own, and the parent of a foreign key."""
    found = {operation.element.table}
    if operation.kind in SYNC_KINDS:
        found |= sync_tables(operation)
    for part in ("drop", "create"):
        directive = getattr(operation.directive, part, operation.directive)
        if isinstance(directive, ops.DropConstraintOp) and directive._reverse is not None:  # noqa: SLF001
            directive = directive._reverse  # noqa: SLF001  # no public way to it
        if isinstance(directive, ops.CreateForeignKeyOp):
            found |= {
                table_of(directive),
                TableKey(directive.kw.get("referent_schema"), str(directive.referent_table)),
            }
    return found
