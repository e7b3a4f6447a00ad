"""How do Python values survive a trip through a column of text?

As JSON, in which a value that JSON does not know is an object with one tag: ``{"$decimal": "1.50"}``. The
text is ASCII, so that a key of any characters, NUL among them, can be stored by any database in any
encoding.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

_TAGS: tuple[tuple[type, str, Callable[[Any], str], Callable[[str], Any]], ...] = (
    # A datetime is a date too: the more special type comes first.
    (dt.datetime, "$datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    (dt.date, "$date", dt.date.isoformat, dt.date.fromisoformat),
    (dt.time, "$time", dt.time.isoformat, dt.time.fromisoformat),
    (
        dt.timedelta,
        "$timedelta",
        lambda delta: f"{delta.days} {delta.seconds} {delta.microseconds}",
        lambda text: dt.timedelta(*(int(part) for part in text.split())),
    ),
    (Decimal, "$decimal", str, Decimal),
    (uuid.UUID, "$uuid", str, uuid.UUID),
    (bytes, "$bytes", bytes.hex, bytes.fromhex),
    (bytearray, "$bytes", bytearray.hex, bytes.fromhex),
    (memoryview, "$bytes", memoryview.hex, bytes.fromhex),
    (ipaddress.IPv4Address, "$ipv4", str, ipaddress.IPv4Address),
    (ipaddress.IPv6Address, "$ipv6", str, ipaddress.IPv6Address),
    (ipaddress.IPv4Network, "$ipv4network", str, ipaddress.IPv4Network),
    (ipaddress.IPv6Network, "$ipv6network", str, ipaddress.IPv6Network),
    # An interface is an address too, but one that subclasses it, so it is asked for by its exact type below.
    (ipaddress.IPv4Interface, "$ipv4interface", str, ipaddress.IPv4Interface),
    (ipaddress.IPv6Interface, "$ipv6interface", str, ipaddress.IPv6Interface),
)
_EXACT = {kind: (tag, write) for kind, tag, write, _ in _TAGS}
_READ = {tag: read for _, tag, _, read in _TAGS}
_OBJECT = "$object"
"""Holds a dictionary one of whose own keys begins like a tag."""


def encode(value: Any) -> str:
    """*value* as text; equal values give equal text.

    It may be ``None``, booleans, numbers, text, bytes, dates and times, Decimal, UUID, network addresses, and
    lists, tuples and dictionaries of them.

    :raises TypeError: some part of *value* is of another type; a row's key of that type cannot be walked by.
    """
    return json.dumps(_write(value), sort_keys=True)


def decode(text: str) -> Any:
    """The value that :func:`encode` wrote; tuples come back as lists, bytearray and memoryview as bytes."""
    return _read(json.loads(text))


def _write(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_write(item) for item in value]
    if isinstance(value, Mapping):
        written = {_key(key): _write(item) for key, item in value.items()}
        return {_OBJECT: written} if any(key.startswith("$") for key in written) else written
    if type(value) in _EXACT:
        tag, write = _EXACT[type(value)]
        return {tag: write(value)}
    for kind, tag, write, _ in _TAGS:
        if isinstance(value, kind):
            return {tag: write(value)}
    raise TypeError(f"emc cannot store {value!r}, a {type(value).__name__}, in one of its tables.")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"emc cannot store a dictionary with the key {key!r}: keys are text.")
    return str(key)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            [(tag, inner)] = value.items()
            if tag == _OBJECT:
                return {key: _read(item) for key, item in inner.items()}
            if tag in _READ:
                return _READ[tag](inner)
        return {key: _read(item) for key, item in value.items()}
    return value
