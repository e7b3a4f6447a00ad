"""What may be said of a row without asking the database."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    false,
    insert,
    literal,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from emc.orm.excluding import ANY, FALSE, NULL, TRUE, judge_of


class Shouting(TypeDecorator[str]):
    """A type of a user's own."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str:
        """What is not there is shown as something."""
        return (value or "nothing").upper()


table = Table(
    "t",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("number", Integer),
    Column("word", String(5)),
    Column("flag", Boolean),
    Column("document", JSON),
    Column("loud", Shouting),
)
c = table.c
NAMES = {column.name: column.name for column in c}

leaves = st.sampled_from(
    [
        *(column.is_(None) for column in c),
        *(column.is_not(None) for column in c),
        *(
            c.number == 1,
            c.number != 1,
            c.number < 1,
            c.number <= 1,
            c.number > 1,
            c.number >= 1,
            c.number == None,  # noqa: E711 - how some write it
        ),
        *(c.word == "a", c.word != "a", c.word < "b", c.word.is_distinct_from("a"), c.word.in_(["a"])),
        *(c.flag, ~c.flag, c.flag.is_(True), c.flag.is_not(False), c.flag == true(), c.flag != false()),
        *(c.number.is_distinct_from(1), c.number == c.id, c.number + 1 == 2, c.loud == "a"),
        *(true(), false(), c.id.in_(select(c.number)), literal(1) == c.number, null()),
    ]
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: and_(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: or_(*parts)),
        inner.map(not_),
    ),
    max_leaves=6,
)
values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "number": st.sampled_from([None, 0, 1, 2]),
        "word": st.sampled_from([None, "a", "b"]),
        "flag": st.sampled_from([None, True, False]),
        "document": st.sampled_from([None, JSON.NULL, {}, 0]),
        "loud": st.sampled_from([None, "a"]),
    }
)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """A database in memory with the table of these conditions."""
    engine = create_engine("sqlite://")
    table.create(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@settings(max_examples=400, deadline=None)
@given(condition=conditions, row=values, hidden=st.sets(st.sampled_from([column.name for column in c])))
def test_what_the_database_says_was_never_ruled_out(
    connection: Connection, condition: ColumnElement[bool], row: dict[str, Any], hidden: set[str]
) -> None:
    """Whatever a condition is of a row, it is among what it may be by the columns that are loaded."""
    connection.execute(table.delete())
    connection.execute(insert(table), {"id": 1, **row})
    loaded = connection.execute(select(table)).one()._asdict()
    said: bool | None = connection.execute(select(condition.label("said"))).scalar_one()
    truth = NULL if said is None else TRUE if said else FALSE
    known = {name: value for name, value in loaded.items() if name not in hidden}
    assert judge_of(condition, NAMES)(known) & truth


def test_what_everybody_writes_is_decided() -> None:
    """The usual conditions cost converted rows no query, retired columns or not."""
    old = Column("old", String)
    done = {"word": "a", "number": 2, "flag": True, "document": {}}
    for condition in (
        c.word.is_(None),
        and_(c.word.is_(None), old.is_not(None)),
        c.document.is_(None) & (old != "x"),
        c.number < 2,
        ~c.flag,
        c.flag.is_(False),
        or_(c.word.is_(None), c.number == 1),
        not_(or_(c.word.is_not(None), old.is_(None))),
    ):
        assert not judge_of(condition, NAMES)(done) & TRUE, condition
    assert judge_of(c.word.is_(None), NAMES)({"word": None}) == TRUE


def test_what_depends_on_the_database_is_left_to_it() -> None:
    """Text is compared by its collation, a user's type makes of NULL what it likes, JSON has a null of its own."""
    assert judge_of(c.word == "b", NAMES)({"word": "a"}) == ANY
    assert judge_of(c.loud.is_(None), NAMES)({"loud": "NOTHING"}) == ANY
    assert judge_of(c.document.is_(None), NAMES)({"document": None}) == TRUE | FALSE
    jsonb = Column("b", JSONB)
    assert judge_of(jsonb.is_not(None), {"b": "b"})({"b": None}) == TRUE | FALSE
