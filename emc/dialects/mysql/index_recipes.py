"""Which statements change indexes and unique constraints online on MariaDB and MySQL?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, Table, UniqueConstraint
from sqlalchemy.schema import AddConstraint, DDLElement, conv
from sqlalchemy.sql.elements import TextClause, UnaryExpression
from sqlalchemy.sql.operators import desc_op

from emc.dialects.mysql.algorithms import Algorithm, of_index, parsed
from emc.dialects.mysql.clauses import AddIndex, DropIndex, RenameIndex
from emc.dialects.mysql.ground import Ground, Part
from emc.dialects.mysql.kinship import indexes_of, needing
from emc.dialects.mysql.options import completed, lengths
from emc.dialects.mysql.probes import Catalog
from emc.operations import Kind, beside_name
from emc.steps import Probe

# -- indexes -----------------------------------------------------------------------------------------------------------


def create_index(ground: Ground) -> Part:
    """Built beside the traffic. Several of one table share their statement, and so one look at the rows."""
    index = ground.directive.to_index()
    name = str(ground.writer.final_name(index))
    leftover = _leftover(ground, index, name)
    if leftover is None:
        return ground.part([], _probe(ground, index, name))
    return ground.part(
        [ground.alter(*leftover, _add(ground, index), expected=_expected(ground, index))],
        _probe(ground, index, name),
        doubts_duplicates=bool(index.unique),
    )


def drop_index(ground: Ground) -> Part:
    """At once, but for the wait for its lock; a foreign key that needs it gets an index of its own first."""
    name = str(getattr(ground.directive, "index_name", None) or ground.directive.constraint_name)
    clauses = [*instead_of(ground, [name]), DropIndex(ground.key, name)]
    return ground.part(
        [ground.alter(*clauses, expected=of_index(ground.table, None))],
        Catalog(ground.writer, ground.key).index_gone(name),
    )


def replace_index(ground: Ground) -> Part:
    """The new one is built beside the old one; then, in one moment, it takes the other's place and name."""
    directive = ground.directive
    index = directive.create.to_index()
    return _replace(ground, index, str(directive.drop.index_name), directive.beside)


def _replace(ground: Ground, index: Index, old: str, beside: str | None) -> Part:
    name = str(ground.writer.final_name(index))
    beside = beside or beside_name(name)
    probe = _probe(ground, index, name, gone=beside)
    kept = instead_of(ground, [old], new=index)
    built = next((one for one in _indexes(ground) if one[0] == beside), None)
    drops = [DropIndex(ground.key, old)] if any(one[0] == old for one in _indexes(ground)) else []
    if built is not None and _is_same(ground, index, beside):
        clauses = [*kept, *drops, RenameIndex(ground.key, beside, name)]
        return ground.part([ground.alter(*clauses, expected=of_index(ground.table, None))], probe)
    if built is not None:
        drops.append(DropIndex(ground.key, beside))
    clauses = [*kept, *drops, _add(ground, index)]
    return ground.part(
        [ground.alter(*clauses, expected=_expected(ground, index))],
        probe,
        doubts_duplicates=bool(index.unique),
    )


def _leftover(ground: Ground, index: Index, name: str) -> Sequence[DDLElement] | None:
    """What has to go before *index* comes under *name*; ``None`` where it is there already."""
    if not any(found == name for found, _, _ in _indexes(ground)):
        return []
    if _is_same(ground, index, name):
        return None
    # What stands there under our own name was built for models that have changed since.
    return [DropIndex(ground.key, name)]


def _indexes(ground: Ground) -> list[tuple[str, list[str | None], bool]]:
    return list(indexes_of(ground.table)) if ground.table is not None else []


def _is_same(ground: Ground, index: Index, name: str) -> bool:
    """Whether the live index *name* is provably what *index* asks for."""
    table = ground.table
    columns = _elements(index)
    for found, there, unique in _indexes(ground):
        if found == name and (there != columns or unique != bool(index.unique) or None in columns):
            return False
    live: Any = next((one for one in (table.indexes if table else ()) if one["name"] == name), {})
    options = live.get("dialect_options", {})
    there_lengths: Any = next((value for key, value in options.items() if key.endswith("_length")), {})
    there_method = next((value for key, value in options.items() if key.endswith("_prefix")), None)
    wanted = {column: length for column, length in _lengths(ground, index).items() if length}
    return (
        there_lengths == wanted
        and there_method == _method(ground, index)
        and set(live.get("column_sorting", {})) == _descending(index)
    )


def _add(ground: Ground, index: Index) -> AddIndex:
    return AddIndex(ground.key, completed(index, ground.writer.dialect))


def _expected(ground: Ground, index: Index) -> Algorithm:
    return of_index(ground.table, _method(ground, index))


def _option(ground: Ground, index: Index, option: str) -> Any:
    """What *index* says under the name of its URL, else under the other one."""
    name = ground.writer.dialect.name
    for prefix in (name, *({"mysql", "mariadb"} - {name})):
        value = index.dialect_kwargs.get(f"{prefix}_{option}")
        if value is not None:
            return value
    return None


def _method(ground: Ground, index: Index) -> str | None:
    prefix = _option(ground, index, "prefix")
    return str(prefix).upper() if prefix else None


def _lengths(ground: Ground, index: Index) -> dict[str, int | None]:
    """The lengths of the prefixes, as the server will show them: none where the whole column fits."""
    columns = [name for name in _elements(index) if name is not None]
    found: dict[str, int | None] = {}
    for column, length in lengths(_option(ground, index, "length"), columns).items():
        text = ground.scene.text(ground.key, column)
        if text is None:
            found[column] = None
            continue
        whole = parsed(text.type)
        fits = whole.name in ("char", "varchar", "binary", "varbinary") and whole.length <= length
        found[column] = 0 if fits else length
    return found


def _elements(index: Index) -> list[str | None]:
    """The columns of *index*; ``None`` for an expression."""
    return [one.name if isinstance(one, Column) else None for one in map(_unordered, index.expressions)]


def _unordered(expression: Any) -> Any:
    while isinstance(expression, UnaryExpression) and expression.modifier is not None:
        expression = expression.element
    return expression


def _descending(index: Index) -> frozenset[str]:
    return frozenset(
        _unordered(one).name
        for one in index.expressions
        if isinstance(one, UnaryExpression)
        and one.modifier is desc_op
        and isinstance(_unordered(one), Column)
    )


def _probe(ground: Ground, index: Index, name: str | None, gone: str | None = None) -> Probe:
    method = _method(ground, index)
    if any(isinstance(one, TextClause) for one in index.expressions):
        elements: list[str | None] = [None for _ in index.expressions]
    else:
        elements = _elements(index)
    return Catalog(ground.writer, ground.key).index(
        name,
        elements,
        unique=bool(index.unique),
        lengths=_lengths(ground, index),
        descending=_descending(index),
        method=method,
        gone=gone,
    )


def instead_of(
    ground: Ground,
    going: Sequence[str],
    *,
    without: Collection[str] = (),
    column: str | None = None,
    new: Index | None = None,
) -> list[DDLElement]:
    """Indexes of their own for the foreign keys of the table that would have none without *going* (error 1553).

    They are called as the server would call them, so that the table ends as if it had been made so.

    :param without: foreign keys that are gone by then.
    :param column: a column that goes along, with the foreign keys that it is a part of.
    :param new: an index that comes at the same time, and may serve.
    """
    dropped = {
        str(one.element.name)
        for one in ground.before
        if one.kind == Kind.DROP_FOREIGN_KEY and one.element.table == ground.key
    }
    added: dict[str, DDLElement] = {}
    for index in going:
        for key, foreign_key in needing(ground, index, without=frozenset(one.lower() for one in going)):
            name, columns = str(foreign_key["name"]), list(foreign_key["constrained_columns"])
            if key != ground.key or name in dropped or name in without or column in columns:
                continue
            if foreign_key not in (ground.table.foreign_keys if ground.table else ()):
                continue
            if new is not None and [str(one) for one in _elements(new)][: len(columns)] == columns:
                continue
            taken = name if name not in going else beside_name(name)
            table = Table(
                ground.key.name,
                MetaData(),
                *(Column(one, Integer) for one in columns),
                schema=ground.key.schema,
            )
            added[name] = AddIndex(ground.key, Index(conv(taken), *table.columns))
    return list(added.values())


# -- unique constraints ------------------------------------------------------------------------------------------------


def add_unique(ground: Ground) -> Part:
    """A unique index by another name: built beside the traffic, and it looks at every row."""
    constraint, name = wanted(ground, ground.directive)
    index = _index_of(constraint, name)
    if name is not None and (leftover := _leftover(ground, index, name)) is not None:
        clauses = [*leftover, AddConstraint(constraint)]
    elif name is not None:
        return ground.part([], _probe(ground, index, name))
    else:
        clauses = [AddConstraint(constraint)]
    return ground.part(
        [ground.alter(*clauses, expected=of_index(ground.table, None))],
        _probe(ground, index, name),
        doubts_duplicates=True,
    )


def replace_unique(ground: Ground) -> Part:
    """As an index: it is one."""
    directive = ground.directive
    constraint, name = wanted(ground, directive.create)
    return _replace(
        ground, _index_of(constraint, name), str(directive.drop.constraint_name), directive.beside
    )


def _index_of(constraint: UniqueConstraint, name: str | None) -> Index:
    table = constraint.table
    columns = [Column(column.name, column.type) for column in constraint.columns]
    alone = Table(table.name, MetaData(), *columns, schema=table.schema)
    return Index(conv(name or "unnamed"), *alone.columns, unique=True)


def wanted(ground: Ground, directive: Any) -> tuple[Any, str | None]:
    """The constraint, and the name that it will have; ``None`` where the server chooses one."""
    constraint = ground.writer.constraint(directive)
    name = ground.writer.final_name(constraint)
    if name is not None:
        constraint.name = conv(name)
    return constraint, name
