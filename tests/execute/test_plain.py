"""SQL is read as the server reads it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine

from emc.dialects import dialect_of
from emc.execute.plain import UnreadableError, plain
from emc.execute.words import statements_of

SELECTED = {
    "postgresql": (
        "SELECT /* a /* b */ 1, */ 2",
        r"SELECT 1, E'a\', 2, ', 3",
        r"SELECT 'a\', 1, ' -- '",
        "SELECT $a$ ' /* $$ $a$, 3 -- ' \n + 4",
        "SELECT 1 AS \"a'b\" -- '",
        "SELECT 'it''s /* ', 5 /* */",
        r"SELECT U&'\0061', 6",
    ),
    "mariadb": (
        "SELECT /* a /* b */ 1",
        r"SELECT 1, 'a\', 2, ', 3",
        "SELECT \"a', 1, '\", 4 # ', 5\n + 6",
        "SELECT 1 AS `a'b` -- '",
        "SELECT /*!50100 1, */ /*!999999 2, */ /*M!100100 3, */ /*!50701 4, */ 5",
        "SELECT 'it''s', \"it\"\"s\", 7",
    ),
    "sqlite": (
        "SELECT /* a /* b */ 1",
        r"SELECT 'a\', 1, ' -- '",
        "SELECT 1 AS [a'b], 2 AS `a'b` -- '",
        "SELECT 'it''s /* ', 5 /* */",
    ),
}
"""Each is misread by whoever takes one rule of the server for that of another."""
UNREADABLE = {
    "postgresql": ("SELECT 'open", "/* a /* b */ SELECT 1", "DO $a$ BEGIN $b$", 'SELECT "open'),
    "mariadb": ("SELECT 'open", r"SELECT 'open\'", "/*!50100 /* a */ SELECT 1 */", "SELECT `open"),
    "sqlite": ("SELECT 'open", "/* SELECT 1", "SELECT [open"),
}


def test_what_is_left_says_the_same(engine: Engine) -> None:
    """Without comments and the insides of literals, a query still selects as many columns, and the same numbers."""
    dialect = dialect_of(engine)
    with engine.connect() as connection:
        lexis = dialect.lexis(connection)
        for sql in SELECTED[engine.dialect.name]:
            left = plain(sql, lexis)
            assert len(left) == len(sql)
            assert "/*" not in left
            whole, again = (connection.exec_driver_sql(one).one() for one in (sql, left))
            assert len(whole) == len(again), sql
            assert [one for one in whole if isinstance(one, int)] == [
                one for one in again if isinstance(one, int)
            ], sql
        for sql in UNREADABLE[engine.dialect.name]:
            with pytest.raises(UnreadableError):
                plain(sql, lexis)


def test_a_program_is_read_from_the_inside(postgresql_url: str) -> None:
    """What is between dollars is read like everything else; what is no program is a literal."""
    engine = create_engine(postgresql_url)
    with engine.connect() as connection:
        lexis = dialect_of(engine).lexis(connection)
    engine.dispose()
    left = plain(
        "DO $x$ BEGIN /* a /* ; */ */ DROP TABLE \"a;b\"; PERFORM ';'; END $x$; SELECT $$it's$$", lexis
    )
    first, second = statements_of(left, once=True)
    assert first.next() == "DO"
    body = first.body()
    assert body is not None
    assert [str(one) for one in statements_of(body, once=True)] == ["DROP TABLE a;b", "PERFORM …"]
    assert str(second) == "SELECT $$xxxx$$"
