"""How are names and literals written in PostgreSQL's SQL, and how are they told apart in text that it answers?"""

from __future__ import annotations

import hashlib
import re

from sqlalchemy import Dialect, String
from sqlalchemy.dialects.postgresql.base import PGDialect

from emc.names import TableKey
from emc.operations import bare_table

DIALECT: Dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
"""Renders what is sent as it stands: without a driver's doubling of per cent signs."""

MAX_BYTES = 63
"""What the server keeps of a name; it cuts longer ones silently."""

# A dialect learns this from a connection, and SQLAlchemy 2.0 doubles every backslash until then. The server's default
# since 9.1; nothing else is sent here.
DIALECT._backslash_escapes = False  # type: ignore[attr-defined]  # noqa: SLF001

_PREPARER = DIALECT.identifier_preparer
_LITERAL = String().literal_processor(DIALECT)  # type: ignore[no-untyped-call]
# String literals and names in quotes are taken whole, so that what stands inside them is left alone.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^'"]+""")
_WORD = re.compile(r"[A-Za-z_\u0080-\uffff][\w$]*")


def identifier(name: str) -> str:
    """*name* as it has to be written, in quotes where it needs them."""
    return str(_PREPARER.quote(name))


def table_name(key: TableKey) -> str:
    """The name of a table, with its schema where the key gives one."""
    return str(_PREPARER.format_table(bare_table(key)))


def qualified(schema: str | None, name: str) -> str:
    """The name of a type or of an index, with its schema where there is one."""
    return table_name(TableKey(schema, name))


def literal(value: str) -> str:
    """*value* as a string literal."""
    assert _LITERAL is not None
    return str(_LITERAL(value))


def shorten(name: str) -> str:
    """*name* if the server keeps all of it, else its beginning and a hash of the whole, always the same."""
    raw = name.encode()
    if len(raw) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: MAX_BYTES - 9].decode(errors="ignore") + "_" + digest


def without_schema(text: str, schema: str) -> str:
    """*text* as PostgreSQL would give it if *schema* were in the search path: ``billing.mood`` becomes ``mood``.

    String literals are left alone.
    """
    prefixes = {schema, '"' + schema.replace('"', '""') + '"'}
    if not any(prefix in text for prefix in prefixes):
        return text
    parts = _pieces(text)
    kept: list[str] = []
    position = 0
    while position < len(parts):
        # A schema is never itself qualified, and is followed by a dot.
        if (
            parts[position] in prefixes
            and parts[position + 1 : position + 2] == ["."]
            and (position == 0 or parts[position - 1] != ".")
        ):
            position += 2
            continue
        kept.append(parts[position])
        position += 1
    return "".join(kept)


def with_schema(text: str, schema: str, types: frozenset[str]) -> str:
    """*text* with *schema* put before each of the unqualified *types*, which the server writes behind ``::``."""
    parts = _pieces(text)
    for position, part in enumerate(parts):
        name = part[1:-1].replace('""', '"') if part.startswith('"') else part
        if name in types and parts[max(position - 2, 0) : position] == [":", ":"]:
            parts[position] = f"{identifier(schema)}.{part}"
    return "".join(parts)


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0] in "'\"":
            pieces.append(token)
            continue
        position = 0
        for word in _WORD.finditer(token):
            pieces.extend(token[position : word.start()])
            pieces.append(word[0])
            position = word.end()
        pieces.extend(token[position:])
    return pieces


def balanced(text: str) -> str:
    """*text* without parentheses around the whole of it, as far as they belong together."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for token in _TOKEN.findall(text[:-1]):
            if token[0] in "'\"":
                continue
            for character in token:
                depth += {"(": 1, ")": -1}.get(character, 0)
                if depth == 0:
                    return text
        text = text[1:-1]
    return text


def squeezed(text: str) -> str:
    """*text* without spaces and quotes around names, but for what is inside string literals."""
    tokens = _TOKEN.findall(text)
    return "".join(token if token[0] == "'" else re.sub(r'[\s"]+', "", token) for token in tokens)
