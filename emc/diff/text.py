"""When do two texts of SQL say the same, without asking a server?"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

_CAST = re.compile(
    r"""::\s*(?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?(?:\s+(?:varying|precision))?(?:\s*\([\d\s,]*\))?"""
    r"""(?:\s+with(?:out)?\s+time\s+zone)?(?:\[\])*""",
    re.IGNORECASE,
)
_NOISE = re.compile(r"""[\s()"`\[\]]+""")


def normal(text: str) -> str:
    """*text* without casts, quotes around names, white space and parentheses; in lower case outside literals."""
    parts = re.split(r"('(?:[^']|'')*')", _CAST.sub("", text))
    plain = "".join(part if i % 2 else _NOISE.sub("", part).lower() for i, part in enumerate(parts))
    # IN (…) is spelled as an array by PostgreSQL.
    return plain.replace("=anyarray", "in").replace("<>allarray", "notin").replace("!=", "<>")


def single_percents(text: str, dialect: SQLAlchemyDialect) -> str:
    """Compiled *text* as the server gets it: drivers that format parameters want a percent sign twice."""
    return text.replace("%%", "%") if dialect.identifier_preparer._double_percents else text  # noqa: SLF001


def says_something(option: Any) -> bool:
    """Whether an option of the models is set. Clauses are, and have no truth value of their own."""
    if isinstance(option, bool | str | list | tuple | dict | None):
        return bool(option)
    return True
