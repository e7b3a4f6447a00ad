"""Which statements change indexes online on PostgreSQL?

What a crash leaves behind (an INVALID index) is part of the snapshot: rendering again gives what is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Index
from sqlalchemy.schema import CreateIndex, conv
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.types import NullType

from emc.dialects.postgresql import partitioned, probes
from emc.dialects.postgresql.ground import Ground, Patient
from emc.dialects.postgresql.naming import identifier, qualified
from emc.dialects.postgresql.rendering import atomic, compiled, final_name, rendered
from emc.names import ElementKind, TableKey
from emc.operations import SPELLED_DEFINITION, beside_name
from emc.steps import Hazard, LockPolicy, Step, Transaction

BUILT: Mapping[str, Any] = {"transaction": Transaction.AUTOCOMMIT, "locks": LockPolicy.WEAK}
"""Of a step whose work is a concurrent build."""
SWAPS = (Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING)
"""Of a build whose result is put in its place in a moment."""


def create_index(ground: Ground) -> Step:
    """Concurrently, on a partitioned table by partition; on a table that nobody uses yet, plainly."""
    index = ground.directive.to_index()
    complete(index)
    name = str(final_name(index))
    shown = spelled(ground.directive)
    probe = probes.index(ground.key, name, bool(index.unique), _elements(index), shown=shown)
    if ground.is_new:
        return plainly(ground, [create_statement(index, concurrently=False)], probe)
    if ground.is_partitioned:
        built = partitioned.build(ground, name, _pieces_of_index(ground, index, name, shown))
        return ground.step(built.statements, probe, *SWAPS, **BUILT)
    if ground.is_at_once:
        return at_once(ground, index, name, shown, [], probe)
    return ground.step(
        build(ground, index, name, shown),
        probe,
        Hazard.SCANS_TABLE,
        Hazard.LONG_RUNNING,
        **BUILT,
    )


def drop_index(ground: Ground) -> Step:
    """Concurrently; that of a partitioned table plainly."""
    name = str(ground.directive.index_name)
    probe = probes.index_gone(ground.key, name)
    if ground.is_partitioned:
        return ground.step(
            [drop_statement(ground.key, name, concurrently=False)], probe, Hazard.EXCLUSIVE_LOCK
        )
    return ground.step([drop_statement(ground.key, name)], probe, **BUILT)


def replace_index(ground: Ground) -> Step:
    """The new one is built beside the old one; then, in one moment, it takes the other's place and name."""
    directive = ground.directive
    index = directive.create.to_index()
    complete(index)
    name = str(final_name(index))
    shown = spelled(directive.create)
    was = ground.definition(ElementKind.INDEX, directive.drop.index_name)
    probe = probes.index(ground.key, name, bool(index.unique), _elements(index), was=was, shown=shown)
    beside, old = directive.beside or beside_name(name), str(directive.drop.index_name)
    index.name = conv(beside)
    swap = [
        drop_statement(ground.key, old, concurrently=False),
        f"ALTER INDEX {qualified(ground.key.schema, beside)} RENAME TO {identifier(name)}",
    ]
    if ground.is_partitioned:
        built = partitioned.build(ground, beside, _pieces_of_index(ground, index, beside, shown))
        statements = built.statements
        swap += [
            f"ALTER INDEX {qualified(key.schema, now)} RENAME TO {identifier(future)}"
            for key, now, future in partitioned.final_names(ground, built, beside, name, old)
        ]
    else:
        statements = build(ground, index, beside, shown)
    return ground.step([*statements, atomic(swap)], probe, *SWAPS, **BUILT)


def _pieces_of_index(ground: Ground, index: Index, name: str, shown: str | None) -> partitioned.Pieces:
    plain, concurrent = (
        create_statement(index, concurrently=False),
        create_statement(index, concurrently=True),
    )
    shown = shown or plain_text(index)
    return partitioned.Pieces(
        kind=ElementKind.INDEX,
        bracket=lambda key, its: partitioned.elsewhere(plain, name, ground.key, its, key, only="ONLY "),
        index=lambda key, its: partitioned.elsewhere(concurrent, name, ground.key, its, key),
        adopt=lambda *_: (),
        drop=lambda key, its: drop_statement(key, its, concurrently=False),
        drop_index=drop_statement,
        shown=shown,
        index_shown=shown,
    )


def plain_text(index: Index) -> str | None:
    """How the server shows an index on columns alone; ``None`` where only the server could tell."""
    options = index.dialect_options["postgresql"]
    elements = _elements(index)
    if None in elements or any(options[one] for one in ("where", "using", "ops", "with")):
        return None
    if any(isinstance(one, UnaryExpression) for one in index.expressions):
        return None
    columns = ", ".join(identifier(str(one)) for one in elements)
    include = ", ".join(identifier(str(one)) for one in options["include"] or ())
    return (
        f"{'UNIQUE ' if index.unique else ''}USING btree ({columns})"
        f"{f' INCLUDE ({include})' if include else ''}"
        f"{' NULLS NOT DISTINCT' if options['nulls_not_distinct'] else ''}"
    )


def spelled(directive: Any) -> str | None:
    """How the server would show what *directive* makes, where that is known."""
    # A directive made by hand has no dictionary there.
    shown: str | None = (directive.info or {}).get(SPELLED_DEFINITION)
    return shown


def build(ground: Ground, index: Index, name: str, shown: str | None = None) -> list[str]:
    """What is left to do until *index* is there under *name*: nothing, if it is there already.

    :param shown: how the server would show it; ``None``: nobody knows.
    """
    if ground.is_unfinished(name):
        return _rebuilt(ground, index, name, shown)
    create = create_statement(index, concurrently=True)
    match _is_there(ground, index, name, shown):
        case None:
            return [create]
        case False:
            return [drop_statement(ground.key, name), create]
    return []


def _is_there(ground: Ground, index: Index, name: str, shown: str | None) -> bool | None:
    """Whether what is there under *name* is *index*; ``None`` where nothing is."""
    found = [one for one in (ground.table.indexes if ground.table else ()) if one["name"] == name]
    if not found:
        return None
    there = ground.definition(ElementKind.INDEX, name)
    # What stands there under our own name may have been built for models that have changed since.
    return there == shown if shown is not None else is_same_index(index, found[0])


def at_once(
    ground: Ground, index: Index, name: str, shown: str | None, adoption: Sequence[str], probe: Any
) -> Step:
    """*index* with writers kept out from the last look at the rows until it is there.

    :param adoption: what makes a constraint of it.
    """
    is_there = not ground.is_unfinished(name) and _is_there(ground, index, name, shown)
    beside = beside_name(name)
    going = [] if is_there else [name]
    if ground.definition(ElementKind.INDEX, beside) is not None:
        going.append(beside)
    statements = [
        drop_statement(ground.key, one, concurrently=False)
        for one in going
        if ground.definition(ElementKind.INDEX, one) is not None
    ]
    if not is_there:
        statements.append(create_statement(index, concurrently=False))
    return ground.step([*statements, *adoption], probe, Hazard.BLOCKS_WRITES, Hazard.SCANS_TABLE)


def _rebuilt(ground: Ground, index: Index, name: str, shown: str | None) -> list[str]:
    """*index* in the place of what a build has left INVALID.

    One that met a duplicate in its second look at the table refuses new ones from then on (manual, "CREATE INDEX",
    "Building Indexes Concurrently"; seen with 15.18 and 18.6). It goes on doing so until another one is there.
    """
    is_guard = ground.table is not None and name in ground.table.enforcing
    if not is_guard or ground.definition(ElementKind.INDEX, name) != (shown or plain_text(index)):
        return [drop_statement(ground.key, name), create_statement(index, concurrently=True)]
    beside = beside_name(name)
    index.name = conv(beside)
    statements = build(ground, index, beside, shown)
    index.name = conv(name)
    swap = [
        drop_statement(ground.key, name, concurrently=False),
        f"ALTER INDEX {qualified(ground.key.schema, beside)} RENAME TO {identifier(name)}",
    ]
    return [*statements, atomic(swap)]


def is_same_index(index: Index, live: Any) -> bool:
    """Whether *live* is provably what *index* asks for; where only the server could tell, it is not."""
    options = live.get("dialect_options", {})
    wanted = index.dialect_options["postgresql"]
    return (
        bool(index.unique) == live["unique"]
        and all(isinstance(one, Column) for one in index.expressions)
        and _elements(index) == live["column_names"]
        and None not in live["column_names"]
        and wanted["where"] is None
        and "postgresql_where" not in options
        and list(wanted["include"] or ()) == list(options.get("postgresql_include", ()))
        and bool(wanted["nulls_not_distinct"]) == bool(options.get("postgresql_nulls_not_distinct"))
        and (wanted["using"] or "btree") == options.get("postgresql_using", "btree")
        and not wanted["ops"]
        and "postgresql_ops" not in options
        and "column_sorting" not in live
    )


def _elements(index: Index) -> list[str | None]:
    """The columns of *index*, those it only includes left out; ``None`` for an expression."""
    return [one.name if isinstance(one, Column) else None for one in map(_unordered, index.expressions)]


def _unordered(expression: Any) -> Any:
    """What an index orders by, without DESC or NULLS FIRST."""
    while isinstance(expression, UnaryExpression) and expression.modifier is not None:
        expression = expression.element
    return expression


def create_statement(index: Index, *, concurrently: bool) -> str:
    """CREATE INDEX."""
    index.dialect_kwargs["postgresql_concurrently"] = concurrently
    statement = compiled(CreateIndex(index))
    return Patient(statement) if concurrently else statement


def drop_statement(key: TableKey, name: str, *, concurrently: bool = True) -> str:
    """DROP INDEX."""
    directive = ops.DropIndexOp(name, key.name, schema=key.schema, postgresql_concurrently=concurrently)
    (statement,) = rendered(directive)
    return Patient(statement) if concurrently else statement


def complete(element: Any) -> None:
    """Give Alembic's stand-in for the table, which has the key columns only, those that *element* includes."""
    for column in element.dialect_options["postgresql"].get("include") or ():
        if column not in element.table.c:
            element.table.append_column(Column(column, NullType()))


def plainly(ground: Ground, statements: Sequence[str], probe: Any) -> Step:
    """The direct way: on a new table nobody notices, on another one writers wait (and it had better be small)."""
    if ground.is_new:
        return ground.step(statements, probe)
    return ground.step(
        statements,
        probe,
        Hazard.BLOCKS_WRITES,
        Hazard.SCANS_TABLE,
        transaction=Transaction.AUTOCOMMIT,
    )
