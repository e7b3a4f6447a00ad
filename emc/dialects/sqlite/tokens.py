"""Into which tokens does SQL fall apart, as SQLite reads it?

By https://sqlite.org/src/file/src/tokenize.c: four kinds of quotes, two of comments, and names that may be any word
that is not reserved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<number>0[xX][\da-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![^\W\d]))
    |(?P<word>[^\W\d][\w$]*)
    |(?P<sign>\|\||<=|>=|<>|!=|==|<<|>>|->>|->|.)""",
    re.VERBOSE | re.DOTALL,
)

# Those of https://sqlite.org/lang_keywords.html that SQLite never takes for a name unless in quotes.
_RESERVED = frozenset(
    word
    for line in """
    ADD ALL ALTER AND AS AUTOINCREMENT BETWEEN CASE CHECK COLLATE COMMIT CONSTRAINT CREATE DEFAULT DEFERRABLE DELETE
    DISTINCT DROP ELSE ESCAPE EXISTS FOREIGN FROM GROUP HAVING IN INDEX INSERT INTO IS ISNULL JOIN LIMIT NOT NOTHING
    NOTNULL NULL ON OR ORDER PRIMARY REFERENCES RETURNING SELECT SET TABLE THEN TO TRANSACTION UNION UNIQUE UPDATE USING
    VALUES WHEN WHERE
    """.splitlines()
    for word in line.split()
)


class UnreadableTextError(Exception):
    """A CREATE TABLE text that does not follow SQLite's grammar as far as emc knows it."""


@dataclass(frozen=True)
class Token:
    """One token that is neither white space nor a comment."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The word in upper case when this may be a keyword, else the empty string."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What the token says as an identifier, without its quotes."""
        if self.kind in {"quoted", "string"}:
            quote = self.text[0]
            inner = self.text[1:-1]
            return inner if quote == "[" else inner.replace(quote * 2, quote)
        return self.text

    @property
    def is_name(self) -> bool:
        """Whether the token can be an identifier (SQLite takes strings for names as well)."""
        return self.kind in {"quoted", "string"} or (self.kind == "word" and self.keyword not in _RESERVED)


@lru_cache(maxsize=4096)
def tokens(sql: str) -> tuple[Token, ...]:
    """The tokens of *sql*, comments and white space left out."""
    return tuple(
        Token(str(match.lastgroup), match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(sql)
        if match.lastgroup != "skip"
    )


@lru_cache(maxsize=4096)
def names(sql: str) -> frozenset[str]:
    """Every identifier in *sql*, in lower case."""
    return frozenset(token.name.lower() for token in tokens(sql) if token.is_name)


@lru_cache(maxsize=4096)
def normal(sql: str) -> str:
    """*sql* in one spelling, so that equal results mean the same expression; different ones prove nothing.

    Keywords and plain identifiers in lower case, one space between tokens, unneeded quotes and outer parentheses gone.
    """
    parts = tokens(sql)
    while len(parts) > 1 and parts[0].text == "(" and closing(parts, 0) == len(parts) - 1:
        parts = parts[1:-1]
    # A double-quoted word may be a string where no such column exists, so only plain words lose their quotes.
    return " ".join(
        token.name.lower()
        if token.kind == "word" or (token.kind == "quoted" and re.fullmatch(r"[^\W\d]\w*", token.name))
        else token.text
        for token in parts
    )


def mentions(sql: str, name: str) -> bool:
    """Whether *name* occurs in *sql* as an identifier."""
    return name.lower() in names(sql)


def closing(parts: Sequence[Token], opening: int) -> int:
    """Where the parenthesis at *opening* is closed."""
    depth = 0
    for position in range(opening, len(parts)):
        if parts[position].text == "(":
            depth += 1
        elif parts[position].text == ")":
            depth -= 1
            if depth == 0:
                return position
    raise UnreadableTextError("a parenthesis is not closed")
