"""Which statements add, change and drop columns online on MariaDB and MySQL?"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from alembic.ddl.base import AddColumn, DropColumn
from alembic.operations import ops
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.types import TypeEngine

from emc.dialects.mysql.algorithms import (
    Algorithm,
    of_definition,
    of_index,
    of_rebuild,
    of_row_layout,
    of_type,
)
from emc.dialects.mysql.check_recipes import carrier_of, check_text, drop_check_clause
from emc.dialects.mysql.clauses import AddChecked, Comment, DropIndex, Modify, SetDefault
from emc.dialects.mysql.columns import charset_of
from emc.dialects.mysql.foreign_keys import drop as drop_key
from emc.dialects.mysql.ground import Alteration, Ground, Part
from emc.dialects.mysql.index_recipes import instead_of
from emc.dialects.mysql.kinship import checks_on, incoming_keys, indexes_on, is_dropped, outgoing_keys
from emc.dialects.mysql.live import ColumnText
from emc.dialects.mysql.probes import Catalog
from emc.dialects.mysql.writing import Writer, bare_column
from emc.operations import SPELLED_TYPE, Kind
from emc.steps import Hazard

_ON_UPDATE = re.compile(r"(?P<default>.*?)\s*\bON\s+UPDATE\s+(?P<on_update>\S.*)", re.IGNORECASE | re.DOTALL)
_LITERAL = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_NAME = re.compile(r"`[^`]+`|[A-Za-z_]\w*(?!\w*\s*\()")
_PER_ROW = re.compile(
    r"\b(uuid|uuid_short|uuid_v4|uuid_v7|sys_guid|nextval|next\s+value|lastval)\b", re.IGNORECASE
)
_WORDS = frozenset(
    {
        *(
            "null",
            "true",
            "false",
            "current_timestamp",
            "current_date",
            "current_time",
            "localtime",
            "localtimestamp",
        ),
        *("interval", "day", "hour", "minute", "second", "week", "month", "quarter", "year", "microsecond"),
        *("and", "or", "not", "xor", "is", "in", "like", "between", "div", "mod", "as", "b", "x", "n"),
        *("case", "when", "then", "else", "end", "date", "time", "timestamp", "char", "signed", "unsigned"),
    }
)


# -- add ---------------------------------------------------------------------------------------------------------------


def add_column(ground: Ground) -> Part:
    """The column alone: its constraints and indexes are operations of their own.

    A default that differs from row to row is written into every row, by a copy of the table: a big one gets the column
    first and its default then, so that only rows to come have it.
    """
    column = bare_column(ground.directive.column, ground.key)
    writer = ground.writer
    default = (
        None if column.computed or column.identity else writer.default(column.server_default, column.type)
    )
    expected = of_row_layout(ground.table)
    later: list[Alteration] = []
    if column.computed is not None and column.computed.persisted:
        expected = Algorithm.COPY
    elif default is not None and differs_by_row(default):
        if column.nullable and ground.is_big and not ground.is_new and ground.operation.allowed is None:
            column.server_default = None
            later = [ground.alter(SetDefault(ground.key, column.name, default), expected=Algorithm.INSTANT)]
        else:
            expected = Algorithm.COPY
    add: Any = AddColumn(ground.key.name, column, schema=ground.key.schema)
    for one in ground.after:
        rider = Ground(one, ground.scene)
        if one.kind == Kind.ADD_CHECK and carrier_of(rider) is ground.operation:
            add = AddChecked(ground.key, add, check_text(rider))
    text = ColumnText(
        column.name,
        writer.type(column.type),
        nullable=bool(column.nullable),
        default=default,
        comment=column.comment or "",
    )
    ground.scene.now(ground.key, text)
    catalog = Catalog(writer, ground.key)
    conditions = [catalog.has_type(text.type), catalog.nullable(is_nullable=text.nullable)]
    if column.computed is not None:
        conditions = [catalog.has_type(text.type)]
    return ground.part(
        [ground.alter(add, expected=expected), *later],
        catalog.column(
            column.name, f"exists and {'may' if text.nullable else 'cannot'} be NULL", *conditions
        ),
    )


def differs_by_row(default: str) -> bool:
    """Whether a default has another value for each row, so that adding it copies the table.

    Seen with MariaDB 10.11.19: ``uuid()``, sequences and other columns do; ``now()``, ``rand()`` and what is made of
    constants are evaluated once, for all rows. MySQL copies for any expression (its manual, "Data Type Default
    Values"): the server refuses what is asked for first, and then it is as if it had been expected.
    """
    bare = _LITERAL.sub("''", default)
    if _PER_ROW.search(bare):
        return True
    named = (name.strip("`").lower() for name in _NAME.findall(bare) if not name.startswith("`"))
    return "`" in bare or any(name not in _WORDS for name in named)


# -- drop --------------------------------------------------------------------------------------------------------------


def drop_column(ground: Ground) -> Part:
    """What speaks of the column, then the column.

    The server itself would narrow a composite index without a word, refuse for a composite unique one (1072) and for a
    CHECK over several columns (1054). Each kind in a statement of its own: together they would be a copy (seen with
    10.11.19).
    """
    name = str(ground.directive.column_name)
    key = ground.key
    changes: list[Alteration] = []
    constraints: list[Any] = [
        clause
        for check in checks_on(ground, name)
        if (clause := drop_check_clause(ground, check, dropping=name)) is not None
    ]
    gone = [one for one in outgoing_keys(ground, name) if not is_dropped(ground.before, key, one)]
    constraints += [drop_key(key, str(one["name"])) for one in gone]
    for child, foreign_key in incoming_keys(ground, name):
        if not is_dropped(ground.before, child, foreign_key) and is_dropped(ground.after, child, foreign_key):
            clause = drop_key(child, str(foreign_key["name"]))
            if child == key:
                constraints.append(clause)
            else:
                changes.append(ground.alter(clause, expected=Algorithm.INSTANT, key=child))
    changes += [ground.alter(clause, expected=Algorithm.INSTANT) for clause in constraints]
    indexes = indexes_on(ground, name)
    if indexes:
        kept = instead_of(ground, indexes, without={str(one["name"]) for one in gone}, column=name)
        clauses = [*kept, *(DropIndex(key, index) for index in indexes)]
        changes.append(ground.alter(*clauses, expected=of_index(ground.table, None)))
    drop = DropColumn(key.name, _named(name), schema=key.schema)
    changes.append(ground.alter(drop, expected=of_row_layout(ground.table, drops=True)))
    return ground.part(changes, Catalog(ground.writer, key).column_gone(name), Hazard.LOSES_DATA)


def _named(name: str) -> Column[Any]:
    column = Column(name, Integer)
    Table("t", MetaData(), column)
    return column


# -- NOT NULL ----------------------------------------------------------------------------------------------------------


def set_not_null(ground: Ground) -> Part:
    """The table is built anew beside the traffic; a NULL makes it fail, since emc's sessions are strict."""
    return _nullable(ground, nullable=False)


def drop_not_null(ground: Ground) -> Part:
    """The table is built anew beside the traffic."""
    return _nullable(ground, nullable=True)


def _nullable(ground: Ground, *, nullable: bool) -> Part:
    text = dataclasses.replace(_text(ground), nullable=nullable)
    ground.scene.now(ground.key, text)
    catalog = Catalog(ground.writer, ground.key)
    expected = Algorithm.INSTANT if text.generated and not text.stored else of_rebuild(ground.table)
    return ground.part(
        [ground.alter(Modify(ground.key, text), expected=expected)],
        catalog.column(
            text.name, f"{'may' if nullable else 'cannot'} be NULL", catalog.nullable(is_nullable=nullable)
        ),
    )


# -- types -------------------------------------------------------------------------------------------------------------


def alter_type(ground: Ground) -> Part:
    """In place; whether that copies every row depends on the two types."""
    old = _text(ground)
    new = type_changed(old, ground.directive, ground.writer)
    table = ground.table
    expected = of_type(old, new, ground.flavour, indexed=bool(table) and bool(indexes_on(ground, old.name)))
    if table is not None and table.engine.upper() != "INNODB":
        expected = Algorithm.COPY
    ground.scene.now(ground.key, new)
    catalog = Catalog(ground.writer, ground.key)
    spelled = (ground.directive.info or {}).get(SPELLED_TYPE)
    shown = ground.writer.type(spelled) if spelled is not None else new.type
    conditions = [catalog.has_type(shown)]
    if (collated := catalog.has_collation(new.collation)) is not None:
        conditions.append(collated)
    return ground.part(
        [ground.alter(Modify(ground.key, new), expected=expected)],
        catalog.column(old.name, "has the type of the models", *conditions),
    )


def type_changed(old: ColumnText, directive: Any, writer: Writer) -> ColumnText:
    """*old* with the type that *directive* asks for, and everything else as it is.

    Character set and collation stay where the models leave them unsaid: they are the operator's choice.
    """
    type_: TypeEngine[Any] = directive.modify_type
    written = writer.type(type_)
    said = re.search(r"CHARACTER SET (\w+)", written), re.search(r"COLLATE (\w+)", written)
    bare = re.sub(r" (?:CHARACTER SET|COLLATE) \w+", "", written)
    charset, collation = old.charset, old.collation
    if said[0] is not None or said[1] is not None:
        collation = said[1][1] if said[1] is not None else None
        charset = said[0][1] if said[0] is not None else charset_of(collation)
    was_json = old.check is not None and old.check.startswith("json_valid(")
    is_json = bare.upper() == "JSON"
    is_text = _is_text(bare)
    if not is_text or (was_json and not is_json and not any(said)):
        # Bytes and numbers have none; that of JSON is not the operator's choice.
        charset = collation = None
    return dataclasses.replace(
        old,
        type=bare,
        charset=charset,
        collation=collation,
        check=None if was_json or is_json else old.check,
    )


def _is_text(type_: str) -> bool:
    return re.match(r"(?:NATIONAL )?(?:VAR)?CHAR|\w*TEXT|ENUM|SET", type_, re.IGNORECASE) is not None


# -- defaults ----------------------------------------------------------------------------------------------------------


def set_default(ground: Ground) -> Part:
    """A change of the catalog alone: it counts for rows to come."""
    directive = ground.directive
    old = _text(ground)
    written = ground.writer.default(directive.modify_server_default, directive.existing_type) or "NULL"
    match = _ON_UPDATE.fullmatch(written)
    default = match["default"].strip() if match is not None else written
    bumped = match["on_update"] if match is not None else None
    new = dataclasses.replace(old, default=default, on_update=bumped)
    # MODIFY where ON UPDATE comes or goes, and where SET DEFAULT would make an expression of it.
    whole = bool(old.on_update) != bool(bumped) or bumped is not None
    whole = whole or (ground.flavour.quotes_now and "CURRENT_TIMESTAMP" in default.upper())
    clause = Modify(ground.key, new) if whole else SetDefault(ground.key, old.name, default)
    ground.scene.now(ground.key, new)
    catalog = Catalog(ground.writer, ground.key)
    same = old.default is not None and bool(old.on_update) != bool(bumped)
    return ground.part(
        [ground.alter(clause, expected=of_definition(old))],
        catalog.column(
            old.name,
            "has the default of the models",
            catalog.has_default(default, None if same else old.default),
            catalog.bumped(is_bumped=bumped is not None),
        ),
    )


def drop_default(ground: Ground) -> Part:
    """A change of the catalog alone.

    Of a column that may be NULL, DROP DEFAULT would take NULL away too: an INSERT that leaves the column out fails then
    (1364).
    """
    old = _text(ground)
    new = dataclasses.replace(old, default=None, on_update=None)
    clause: Any = SetDefault(ground.key, old.name, "NULL" if old.nullable else None)
    if old.on_update is not None:
        clause = Modify(ground.key, new)
    ground.scene.now(ground.key, new)
    catalog = Catalog(ground.writer, ground.key)
    return ground.part(
        [ground.alter(clause, expected=of_definition(old))],
        catalog.column(
            old.name, "has no default", catalog.without_default(), catalog.bumped(is_bumped=False)
        ),
    )


# -- comments ----------------------------------------------------------------------------------------------------------


def set_comment(ground: Ground) -> Part:
    """Of a table or of a column."""
    directive = ground.directive
    catalog = Catalog(ground.writer, ground.key)
    if not isinstance(directive, ops.AlterColumnOp):
        comment = (
            getattr(directive, "comment", None) if isinstance(directive, ops.CreateTableCommentOp) else None
        )
        alteration = ground.alter(Comment(ground.key, comment or ""), expected=Algorithm.INSTANT)
        return ground.part([alteration], catalog.table_comment(comment or ""))
    comment = directive.modify_comment or ""
    text = ground.scene.now(ground.key, dataclasses.replace(_text(ground), comment=comment))
    return ground.part(
        [ground.alter(Modify(ground.key, text), expected=of_definition(text))],
        catalog.column(text.name, "has the comment of the models", catalog.has_comment(comment)),
    )


def _text(ground: Ground) -> ColumnText:
    """The definition of the column that is changed, as earlier operations leave it.

    Where an earlier phase has yet to add the column, what the directive knows of it: enough to show the plan. Such a
    statement cannot do harm, since there is no such column.
    """
    directive = ground.directive
    text = ground.scene.text(ground.key, str(directive.column_name))
    if text is not None:
        return text
    known = directive.existing_type if directive.existing_type is not None else directive.modify_type
    nullable = directive.existing_nullable is not False
    return ColumnText(str(directive.column_name), ground.writer.type(known or Integer()), nullable=nullable)
