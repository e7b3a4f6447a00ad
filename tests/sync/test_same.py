"""What a column makes of a value is the same as the value, for ``Dialect.same``, and nothing else is."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
)

from emc.dialects import dialect_of
from tests.sync.keeping import table

MOOD = Enum("sad", "happy", name="mood")
AN_ID = Uuid(as_uuid=False)
FIRST = "0e0b2f3a-8c53-4c39-8bd0-ae5d6d4b6a"
NOON = dt.datetime.fromisoformat("2026-02-28 12:00:00")


def exactly(value: str) -> ColumnElement[Any]:
    """A number with as many digits as it is written with."""
    return cast(literal(Decimal(value), Numeric(20, 8)), Numeric(20, 8))


VALUES: dict[str, tuple[Any, ColumnElement[Any], ColumnElement[Any]]] = {
    "integer": (Integer, literal(7), literal(8)),
    "integer of a fraction": (Numeric(6, 0), exactly("2.6"), exactly("3.6")),
    "numeric": (Numeric(8, 2), exactly("1.5"), exactly("1.51")),
    "numeric that is rounded": (Numeric(8, 1), exactly("1.26"), exactly("1.36")),
    "double": (Float(53), exactly("0.1"), exactly("0.1000001")),
    "double of a division": (Float(53), literal(1.0) / literal(3.0), literal(1.0) / literal(7.0)),
    "text": (String(20), literal("Bob"), literal("bob")),
    "text with a space": (String(20), literal("a"), literal("a ")),
    "text with an accent": (String(20), literal("u"), literal("ü")),
    "text, computed": (String(20), literal("a") + "b", literal("a") + "B"),
    "long text": (Text, literal("x" * 5000), literal("x" * 4999 + "X")),
    "empty text": (String(20), literal(""), null()),
    "fixed text": (CHAR(5), literal("ab"), literal("aB")),
    "label": (MOOD, literal("sad", MOOD), literal("happy", MOOD)),
    "boolean": (Boolean, literal(1) == literal(1), literal(1) == literal(2)),
    "date": (Date, literal(dt.date(2026, 2, 28)), literal(dt.date(2026, 3, 1))),
    "moment": (DateTime, literal(NOON), literal(NOON + dt.timedelta(seconds=1))),
    "bytes": (LargeBinary, literal(b"\x00\xff"), literal(b"\x00\xfe")),
    "uuid": (AN_ID, literal(f"{FIRST}01", AN_ID), literal(f"{FIRST}02", AN_ID)),
    "length": (Integer, func.length("abc"), func.length("abcd")),
    "nothing": (String(20), null(), literal("")),
}


@pytest.mark.parametrize("what", VALUES)
def test_same(engine: Engine, what: str) -> None:
    """A stored value is the same as what it was made of, and as itself; another one is not."""
    kind, value, other = VALUES[what]
    row = table(Column("v", kind), name="things")
    row.metadata.create_all(engine)
    same = dialect_of(engine).same
    with engine.begin() as connection:
        connection.execute(row.insert().from_select(["id", "v"], select(literal(1), value)))
        asked = (same(row.c.v, value), same(row.c.v, row.c.v), same(row.c.v, other))
        found = connection.execute(select(*asked)).one()
    assert [bool(one) for one in found] == [True, True, False]


def test_documents(engine: Engine) -> None:
    """A document is the same as its copy, and not as another one."""
    row = table(Column("a", JSON), Column("b", JSON), name="things")
    row.metadata.create_all(engine)
    same = dialect_of(engine).same
    with engine.begin() as connection:
        connection.execute(row.insert(), [{"id": 1, "a": {"x": 1}, "b": {"x": 2}}])
        connection.execute(row.insert(), [{"id": 2, "a": {"x": 1}, "b": {"x": 1}}])
        found = connection.execute(select(same(row.c.b, row.c.a)).order_by(row.c.id)).scalars().all()
    assert [bool(one) for one in found] == [False, True]


def test_parameters(engine: Engine) -> None:
    """It works with values that are sent apart from the statement."""
    row = table(Column("v", String(20)), name="things")
    row.metadata.create_all(engine)
    asked = select(dialect_of(engine).same(row.c.v, bindparam("value", type_=String())))
    with engine.begin() as connection:
        connection.execute(row.insert(), [{"id": 1, "v": "50% \\"}])
        assert connection.execute(asked, {"value": "50% \\"}).scalar()
        assert not connection.execute(asked, {"value": "50%% \\"}).scalar()
