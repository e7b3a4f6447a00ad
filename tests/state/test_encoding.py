import datetime as dt
import enum
import ipaddress
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emc.state.encoding import decode, encode

KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters()),
    st.binary(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=45))])),
    st.ip_addresses(),
)


@given(st.lists(KEYS))
def test_a_cursor_survives(cursor: list[Any]) -> None:
    """Whatever a key may hold comes back with the same value and type."""
    restored = decode(encode(cursor))
    assert restored == cursor
    assert [type(item) for item in restored] == [type(item) for item in cursor]


@given(st.recursive(KEYS, lambda inner: st.dictionaries(st.text(), inner)))
def test_a_dictionary_survives_whatever_its_keys(value: Any) -> None:
    """A dictionary is never taken for a tag, not even when one of its keys looks like one."""
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"$decimal": "1.5"},
        {"$object": {}},
        ipaddress.ip_interface("10.0.0.1/8"),
        ipaddress.ip_network("fe80::/10"),
        Decimal("1.50"),
    ],
)
def test_look_alikes_survive(value: Any) -> None:
    """Values that resemble another kind keep their own."""
    restored = decode(encode(value))
    assert (restored, type(restored), str(restored)) == (value, type(value), str(value))


def test_text_is_ascii_without_nul() -> None:
    """A key with NUL or a lone surrogate is stored in any encoding; PostgreSQL's text takes neither."""
    text = encode(["a\0b", "\ud800", "ü"])
    assert text.isascii()
    assert "\0" not in text
    assert decode(text) == ["a\0b", "\ud800", "ü"]


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a": {1, 2}}, complex(1, 2)])
def test_unknown_types_are_refused(value: Any) -> None:
    """What would not come back as it was is refused, and not stored as its repr."""
    with pytest.raises(TypeError):
        encode(value)


def test_drivers_own_types_come_back_as_plain_ones() -> None:
    """Enumerations of text and the buffers of drivers are stored as what they stand for."""

    class Colour(enum.StrEnum):
        RED = "red"

    assert decode(encode([Colour.RED, memoryview(b"\x00\xff"), bytearray(b"a")])) == [
        "red",
        b"\x00\xff",
        b"a",
    ]


def test_equal_values_give_equal_text() -> None:
    """A stored key can be looked up by its text, whatever the order of a dictionary."""
    key = uuid.UUID(int=1)
    assert encode({"a": 1, "b": key}) == encode({"b": key, "a": 1})
