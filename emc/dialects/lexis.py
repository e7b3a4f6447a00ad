"""What does a server take for a comment, a literal or a name, as far as servers differ?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


def _executes_none(_: re.Match[str]) -> bool:
    return False


@dataclass(frozen=True)
class Lexis:
    """How one server, with the settings of emc's sessions, reads a string of SQL."""

    nests_comments: bool = False
    """Whether ``/* /* */`` is still open."""
    hashes: bool = False
    """Whether ``#`` begins a comment."""
    dashes_need_blank: bool = False
    """Whether ``--`` begins a comment only where white space, or the end, follows."""
    backslashes: bool = False
    """Whether a backslash in an ordinary literal takes the meaning of the character behind it."""
    e_literals: bool = False
    """Whether it does so in ``E'…'``."""
    dollars: bool = False
    """Whether there are literals in dollars."""
    quotes_are_literals: bool = False
    """Whether ``"…"`` is a literal and no name."""
    backticks: bool = False
    """Whether ```…``` is a name."""
    brackets: bool = False
    """Whether ``[…]`` is a name."""
    executed: re.Pattern[str] | None = None
    """How a comment begins that the server may carry out."""
    executes: Callable[[re.Match[str]], bool] = _executes_none
    """Whether it does carry out one that begins so."""
