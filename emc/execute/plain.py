"""What is left of SQL once comments are out of the way, and nothing in a literal can be taken for anything else?

A text of the same length, in which each word stands where it stood: so a part of it tells which part of the SQL it is.
"""

from __future__ import annotations

import re

from emc.dialects.lexis import Lexis


class UnreadableError(Exception):
    """It cannot be told what the server would make of the text; says what of it."""


def plain(sql: str, lexis: Lexis) -> str:
    """*sql*, of which comments and the insides of literals are blanked out; bodies of programs stay.

    :raises UnreadableError: a comment or a literal is not closed, or one is in another where that is not clear.
    """
    found: list[str] = []
    at = 0
    while at < len(sql):
        text = _next(sql, at, lexis)
        found.append(text)
        at += len(text)
    return "".join(found)


def _next(sql: str, at: int, lexis: Lexis) -> str:
    """What stands for the text from *at* to the end of what begins there."""
    char, ahead = sql[at], sql[at : at + 2]
    if ahead == "/*":
        return _comment(sql, at, lexis)
    if ahead == "--" and _dashes_begin(sql, at, lexis):
        return _blank(_line(sql, at))
    if char == "#":
        return _blank(_line(sql, at)) if lexis.hashes else "/"
    if ahead == "--":
        return "- "
    if char == "'":
        escapes = lexis.backslashes or (
            lexis.e_literals and re.search(r"(?<![\w$])[eE]\Z", sql[max(0, at - 2) : at])
        )
        return _literal(_quoted(sql, at, backslashes=bool(escapes)))
    if char == '"' and lexis.quotes_are_literals:
        return _literal(_quoted(sql, at, backslashes=lexis.backslashes))
    if char == '"' or (char == "`" and lexis.backticks):
        return _quoted(sql, at, backslashes=False)
    if char == "[" and lexis.brackets:
        return _until(sql, at, "]", "a name in brackets")
    if char == "$" and lexis.dollars and not re.search(r"[\w$]\Z", sql[max(0, at - 1) : at]):
        return _program(sql, at, lexis)
    return char if char != "\\" else "/"


def _dashes_begin(sql: str, at: int, lexis: Lexis) -> bool:
    return not lexis.dashes_need_blank or at + 2 == len(sql) or ord(sql[at + 2]) <= ord(" ")


def _line(sql: str, at: int) -> str:
    return re.compile(r"[^\n]*").match(sql, at)[0]  # type: ignore[index]  # It matches the empty text too.


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _literal(text: str) -> str:
    """*text* in plain quotes, whatever it had and whatever is in it."""
    return f"'{'x' * (len(text) - 2)}'"


def _quoted(sql: str, at: int, *, backslashes: bool) -> str:
    quote = sql[at]
    inner = rf"\\.|{quote}{quote}|[^{quote}\\]" if backslashes else rf"{quote}{quote}|[^{quote}]"
    found = re.compile(f"{quote}(?:{inner})*+{quote}", re.DOTALL).match(sql, at)
    if found is None:
        raise UnreadableError(f"{sql[at : at + 20]!r} … has no end")
    return found[0]


def _until(sql: str, at: int, end: str, what: str) -> str:
    stop = sql.find(end, at)
    if stop < 0:
        raise UnreadableError(f"{what} has no end")
    return sql[at : stop + len(end)]


def _comment(sql: str, at: int, lexis: Lexis) -> str:
    begun = lexis.executed.match(sql, at) if lexis.executed is not None else None
    if begun is not None:
        whole = _until(sql, at, "*/", "a comment")
        inside = whole[len(begun[0]) : -2]
        if "/*" in inside:
            raise UnreadableError("a comment is in another that the server may carry out")
        if lexis.executes(begun):
            return _blank(begun[0]) + plain(inside, lexis) + "  "
        return _blank(whole)
    if not lexis.nests_comments:
        return _blank(_until(sql, at, "*/", "a comment"))
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return _blank(sql[at : mark.end()])
    raise UnreadableError("a comment has no end")


def _program(sql: str, at: int, lexis: Lexis) -> str:
    opening = re.compile(r"\$(?:[^\W\d]\w*)?\$").match(sql, at)
    if opening is None:
        return "$"
    tag = opening[0]
    stop = sql.find(tag, opening.end())
    if stop < 0:
        raise UnreadableError(f"what begins with {tag} has no end")
    inside = sql[opening.end() : stop]
    try:
        read = plain(inside, lexis)
    except UnreadableError:
        read = "x" * len(inside)  # Not a program then, but a text.
    return f"{tag}{read}{tag}"
