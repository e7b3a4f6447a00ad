"""What is built on a column, and goes with it?

No index, unique constraint, CHECK or foreign key outlives a column that it speaks of, on any database; so whoever
names the column has named these too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from emc.names import Element, ElementKind
from emc.schema import LiveTable

_LITERAL = re.compile(r"'(?:[^']|'')*'")
_COMMENT = re.compile(r"--|/\*")


def mentions(text: str, column: str) -> bool:
    """Whether *text*, a piece of SQL, speaks of *column*; in doubt it does.

    A literal speaks of none: ``kind IN ('email', 'phone')`` says nothing about a column ``email``.
    """
    if not _COMMENT.search(text):  # an apostrophe in a comment would open a literal
        text = _LITERAL.sub("''", text)
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", text, re.IGNORECASE) is not None


_WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|[^\s\w]""")
_CARRY_NULL = frozenset(
    [
        "and",
        "or",
        "not",
        "in",
        "between",
        "like",
        "length",
        "char_length",
        "lower",
        "upper",
        "abs",
        "trim",
        "json_valid",
    ]
)
"""Words that make NULL of NULL. Whatever else a condition holds may make something of it (IS, COALESCE, CASE, …)."""
_SIGNS = frozenset("=<>!+-*/%(),")


def passed_by_null(condition: str, columns: Iterable[str]) -> bool:
    """Whether rows with NULL in all of *columns* pass a CHECK, and it speaks of no other column; in doubt they do not.

    So it is where the condition compares, and combines comparisons: a CHECK is passed by NULL.
    """
    known = {name.casefold() for name in columns}
    speaks = False
    for word in _WORDS.findall(condition):
        plain = word.strip('"`[]').casefold()
        if word.startswith("'") or word.isdigit() or word in _SIGNS:
            continue
        if plain in known:
            speaks = True
        elif word.casefold() not in _CARRY_NULL:
            return False
    return speaks


def built_on(table: LiveTable, column: str) -> Iterator[Element]:
    """The indexes and constraints of *table* that have a name and speak of *column*."""
    for kind, name, spoken_of in _elements(table):
        if name and any(mentions(text, column) for text in spoken_of):
            yield Element(kind, table.key, name)


def _elements(table: LiveTable) -> Iterator[tuple[ElementKind, str | None, Iterable[str]]]:
    for index in table.indexes:
        expressions = (text for text in index.get("expressions", ()) if text)
        options = (index.get("dialect_options") or {}).values()
        conditions = (str(option) for option in options if option is not None)
        yield (
            ElementKind.INDEX,
            index["name"],
            [*(name for name in index["column_names"] if name), *expressions, *conditions],
        )
    for unique in table.uniques:
        yield ElementKind.UNIQUE, unique["name"], unique["column_names"]
    for foreign_key in table.foreign_keys:
        yield ElementKind.FOREIGN_KEY, foreign_key["name"], foreign_key["constrained_columns"]
    for check in table.checks:
        yield ElementKind.CHECK, check["name"], [check["sqltext"]]
    for (kind, name), definition in table.definitions.items():
        if kind is ElementKind.EXCLUSION:
            yield kind, name, [definition]
