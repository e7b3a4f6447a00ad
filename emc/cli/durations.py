"""How does a person write down a length of time?"""

from __future__ import annotations

import datetime as dt
import re

import click

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(value: str) -> dt.timedelta:
    """What a person gives as a length of time: a number of seconds, or a number and a unit."""
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(
            f"{value!r} is not a length of time; write 90, 30m or 24h (units: s, m, h, d, w)."
        )
    try:
        return dt.timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError as error:
        raise click.BadParameter(f"{value!r} is too long.") from error
