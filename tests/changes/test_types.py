"""Do the values of one type fit into another?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from emc.changes.enums import merged
from emc.fit import Fit, fit
from tests.changes.sorting import phases, sorted_out, users

LADDERS: tuple[tuple[sa.types.TypeEngine[Any], ...], ...] = (
    (sa.String(5), sa.String(6), sa.String(255), sa.Text()),
    (sa.Unicode(5), sa.UnicodeText()),
    (sa.LargeBinary(5), sa.LargeBinary(6), sa.LargeBinary()),
    (sa.SmallInteger(), sa.Integer(), sa.BigInteger()),
    (sa.REAL(), sa.Double()),
    (sa.Numeric(5, 2), sa.Numeric(6, 2), sa.Numeric(7, 3), sa.Numeric()),
)


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: type(ladder[0]).__name__)
def test_ladders(ladder: tuple[sa.types.TypeEngine[Any], ...]) -> None:
    """Each rung holds the values of those below it, and none holds those of the next."""
    for lower, higher in pairwise(ladder):
        assert fit(lower, higher) is Fit.WIDER
        assert fit(higher, lower) is Fit.NARROWER
    for rung in ladder[:-1]:
        assert fit(rung, rung) is Fit.WIDER
        assert fit(rung, ladder[-1]) is Fit.WIDER


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (sa.String(9), sa.Integer()),
        (sa.Integer(), sa.String(9)),
        (sa.Integer(), sa.Boolean()),
        (sa.DateTime(), sa.DateTime(timezone=True)),
        (sa.DateTime(), sa.Date()),
        (sa.Numeric(6, 2), sa.Float()),
        (sa.Float(), sa.Numeric(6, 2)),
        # More digits before the point, fewer behind it.
        (sa.Numeric(6, 3), sa.Numeric(7, 2)),
        (sa.Integer(), sa.Numeric(9, 0)),
        (sa.JSON(), sa.Text()),
        (sa.Uuid(), sa.String(36)),
        (sa.String(9, collation="a"), sa.String(9, collation="b")),
        (sa.ARRAY(sa.Integer()), sa.ARRAY(sa.BigInteger())),
        (sa.Interval(), sa.Integer()),
        (sa.Enum("a", "b", name="e"), sa.String(9)),
        (sa.Enum("a", "b", name="e"), sa.Enum("a", "b", name="e", native_enum=False)),
        (sa.Enum("a", "b", name="e"), sa.Enum("a", "bbb", name="f")),
        (sa.String(9), sa.CHAR(10)),
    ],
    ids=repr,
)
def test_others_are_different(old: sa.types.TypeEngine[Any], new: sa.types.TypeEngine[Any]) -> None:
    """In doubt two types are different, and the change is refused."""
    assert fit(old, new) is Fit.DIFFERENT


def test_integers_fit_into_a_numeric_that_is_long_enough() -> None:
    """Ten digits hold every 32-bit integer."""
    assert fit(sa.Integer(), sa.Numeric(10, 0)) is Fit.WIDER
    assert fit(sa.Integer(), sa.Numeric(12, 2)) is Fit.WIDER
    assert fit(sa.Integer(), sa.Numeric(11, 2)) is Fit.DIFFERENT
    assert fit(sa.BigInteger(), sa.Numeric(19, 0)) is Fit.WIDER


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (sa.String(5), sa.String(9), (["alter-type:users.a"], [])),
        (sa.String(9), sa.String(5), ([], ["alter-type:users.a"])),
        (sa.String(9), sa.Integer(), ([], [])),
    ],
)
def test_type_goes_by_fit(
    old: sa.types.TypeEngine[Any], new: sa.types.TypeEngine[Any], expected: tuple[list[str], list[str]]
) -> None:
    """A wider type goes at once, a narrower one when rows fit, any other is refused with the column's name."""
    found = sorted_out(users(lambda: sa.Column("a", old)), users(lambda: sa.Column("a", new)))
    assert phases(found) == expected
    assert [refusal.target for refusal in found.refusals] == ([] if any(expected) else ["users.a"])


@pytest.mark.parametrize(
    ("before", "after", "both"),
    [
        ("ac", "abc", "abc"),
        ("bc", "abc", "abc"),
        ("ab", "abc", "abc"),
        ("abc", "ac", "abc"),
        ("axc", "abc", "abxc"),
        ("cba", "abc", "cba"),
        ("", "abc", "abc"),
    ],
)
def test_merged_labels(before: str, after: str, both: str) -> None:
    """Labels of both sides in one order: that of the live type, new ones behind their predecessor in the models."""
    assert "".join(merged(tuple(before), tuple(after))) == both
