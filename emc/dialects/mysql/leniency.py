"""In what may a table differ from its models without anybody having to act?

What the models leave unsaid (character set, collation) is the choice of whoever operates the database. Some spellings
mean the same to the server, and some names are given by position. The server's spelling of the models is adapted to the
live table in these, and in nothing else; whatever differs afterwards is a difference.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from emc.dialects.mysql.columns import charset_of
from emc.dialects.mysql.options import CHARSET_OPTIONS, COLLATION_OPTIONS, index_options
from emc.names import ElementKind
from emc.schema import LiveTable, column_named

_LETTERS = re.compile(r"(?: CHARACTER SET (?P<charset>\w+))?(?: COLLATE (?P<collation>\w+))?$")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_SAYS_CHARSET = re.compile(r"^NATIONAL | CHARACTER SET | ASCII\b| UNICODE\b")
_SAYS_COLLATION = re.compile(r" COLLATE | BINARY\b")
_AUTOMATIC_CHECK = re.compile(r"CONSTRAINT_\d+")


def settled(
    spelled: LiveTable, live: LiveTable | None, model: Table, dialect: SQLAlchemyDialect
) -> LiveTable:
    """*spelled*, which the server made of *model*, with what nobody has to act on as it is in *live*."""
    if live is None:
        return spelled
    columns: dict[str, Any] = dict(spelled.columns)
    for name, reflected in spelled.columns.items():
        declared = column_named(model, name)
        if name in live.columns and declared is not None:
            there: Any = live.columns[name]["type"]
            if _may_have(reflected["type"], there, spelled, live, declared, dialect):
                columns[name] = {**reflected, "type": there}
    names = _check_names(spelled, live, model)
    return dataclasses.replace(
        spelled,
        columns=columns,
        indexes=tuple(_index(one, live, model, dialect) for one in spelled.indexes),
        checks=tuple({**one, "name": names.get(str(one["name"]), one["name"])} for one in spelled.checks),
        definitions={
            (kind, names.get(name, name) if kind is ElementKind.CHECK else name): definition
            for (kind, name), definition in spelled.definitions.items()
        },
        options=_options(spelled, live, model, dialect),
    )


# -- columns ---------------------------------------------------------------------------------------------------


def _may_have(
    wanted: Any,
    there: Any,
    spelled: LiveTable,
    live: LiveTable,
    declared: Column[Any],
    dialect: SQLAlchemyDialect,
) -> bool:
    """Whether a column that the models want to have type *wanted* may as well have the type that is *there*."""
    mine, my_letters = _split(wanted, spelled, dialect)
    theirs, their_letters = _split(there, live, dialect)
    if mine == "JSON" and theirs == "LONGTEXT":
        # Made before MariaDB 10.4.3, or restored from MySQL: the same without the check that came with 10.4.3.
        return True
    if mine.replace("TINYINT(1)", "TINYINT") != theirs.replace("TINYINT(1)", "TINYINT"):
        return False
    said = _said_letters(declared, dialect)
    return all(
        not is_said or mine_ == theirs_
        for is_said, mine_, theirs_ in zip(said, my_letters, their_letters, strict=True)
    )


def _split(
    type_: Any, table: LiveTable, dialect: SQLAlchemyDialect
) -> tuple[str, tuple[str | None, str | None]]:
    """A type without character set and collation, and what these are, said or inherited from the table."""
    if type_.__visit_name__ == "null":
        return "", (None, None)
    text = dialect.type_compiler_instance.process(type_)
    match = _LETTERS.search(text)
    assert match is not None  # it also matches nothing at all
    collation = match["collation"] or table.options.get("collate")
    charset = match["charset"] or charset_of(match["collation"]) or table.options.get("charset")
    return text[: match.start()], (charset, collation)


def _said_letters(column: Column[Any], dialect: SQLAlchemyDialect) -> tuple[bool, bool]:
    """Whether the models say the character set and the collation of *column*, be it for all the table."""
    text = _LITERAL.sub("", dialect.type_compiler_instance.process(column.type, type_expression=column))
    options = column.table.dialect_kwargs
    return (
        _SAYS_CHARSET.search(text) is not None
        or any(options.get(f"{dialect.name}_{option}") for option in CHARSET_OPTIONS),
        _SAYS_COLLATION.search(text) is not None
        or any(options.get(f"{dialect.name}_{option}") for option in COLLATION_OPTIONS),
    )


# -- indexes ---------------------------------------------------------------------------------------------------


def _index(index: Any, live: LiveTable, model: Table, dialect: SQLAlchemyDialect) -> Any:
    """*index*; as it is in *live* if it differs in what the models say under the dialect's other name alone."""
    declared = next((one for one in model.indexes if one.name == index["name"]), None)
    other = index_options(declared, dialect)[1] if declared is not None else {}
    there: Any = next((one for one in live.indexes if one["name"] == index["name"]), None)
    if not other or there is None:
        return index
    options = dict(index.get("dialect_options", {}))
    for option in ("length", "prefix"):
        if option in other:
            options.pop(f"{dialect.name}_{option}", None)
    plain = {**index, "dialect_options": options}
    return there if _without_empty(plain) == _without_empty(there) else index


def _without_empty(index: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in index.items() if value not in ({}, None)}


# -- checks ----------------------------------------------------------------------------------------------------


def _check_names(spelled: LiveTable, live: LiveTable, model: Table) -> dict[str, str]:
    """Other names for the CHECKs that the server has numbered: that of their twin in *live*, else a free one.

    ``CONSTRAINT_1`` is whichever comes first; in a table that has grown by and by it may be another one.
    """
    free = {
        str(one["name"]): live.definitions[ElementKind.CHECK, str(one["name"])]
        for one in live.checks
        if _AUTOMATIC_CHECK.fullmatch(str(one["name"]))
    }
    taken = {str(one["name"]) for one in live.checks} | live.unfinished
    numbered = [
        str(one["name"])
        for one in spelled.checks
        if _AUTOMATIC_CHECK.fullmatch(str(one["name"]))
        and not any(constraint.name == one["name"] for constraint in model.constraints)
    ]
    taken |= {str(one["name"]) for one in spelled.checks} - set(numbered)
    names: dict[str, str] = {}
    for name in numbered:
        definition = spelled.definitions[ElementKind.CHECK, name]
        twin = next((other for other, text in free.items() if text == definition), None)
        if twin is not None:
            names[name] = twin
            del free[twin]
    number = 1
    for name in numbered:
        if name in names:
            continue
        while f"CONSTRAINT_{number}" in taken:
            number += 1
        names[name] = f"CONSTRAINT_{number}"
        taken.add(names[name])
    return names


# -- the table -------------------------------------------------------------------------------------------------


def _options(spelled: LiveTable, live: LiveTable, model: Table, dialect: SQLAlchemyDialect) -> dict[str, str]:
    """The options of the table: those that the models say as the server has understood them, the rest as in *live*."""
    said = _said_options(model, dialect)
    found = {option: value for option, value in live.options.items() if option not in said}
    for option in said & spelled.options.keys():
        mine, theirs = spelled.options[option], live.options.get(option, "")
        found[option] = theirs if mine.casefold() == theirs.casefold() else mine
    return found


def _said_options(model: Table, dialect: SQLAlchemyDialect) -> frozenset[str]:
    prefix = f"{dialect.name}_"
    return frozenset(
        key.removeprefix(prefix)
        for key, value in model.dialect_kwargs.items()
        if key.startswith(prefix) and value is not None
    )
