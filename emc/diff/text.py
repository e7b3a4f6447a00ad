"""When do two texts of SQL say the same, without asking a server?"""

from __future__ import annotations

import re

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
