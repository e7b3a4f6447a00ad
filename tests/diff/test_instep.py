"""The quick comparison proves ordinary tables equal by itself, and never takes a difference for equality."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Engine, MetaData, Table

from emc.dialects import dialect_of
from emc.dialects.base import Dialect
from emc.diff import instep
from tests.diff.differences import differences, found
from tests.diff.test_compare import many


@pytest.mark.parametrize(
    ("model", "live", "type_"),
    [
        ("'a'", "'a'::character varying", "VARCHAR(20)"),
        ("'a'", "'a'::text", "TEXT"),
        ("''", "''::text", "TEXT"),
        ("'it''s'", "'it''s'::character varying", "VARCHAR"),
        ("'0'", "0", "INTEGER"),
        ("'-1'", "'-1'::integer", "INTEGER"),
        ("-1", "'-1'::integer", "INTEGER"),
        ("'1.50'", "1.50", "NUMERIC(10, 2)"),
        ("'{}'", "'{}'::jsonb", "JSONB"),
        ("'a'", "'a'::state", "state"),
        ("'true'", "true", "BOOLEAN"),
        ("'ab'", "'ab'::bpchar", "CHAR(5)"),
        ("'2020-01-01'", "'2020-01-01'::date", "DATE"),
        ("'2020-01-01'", "'2020-01-01'::timestamp without time zone", "TIMESTAMP WITHOUT TIME ZONE"),
    ],
)
def test_equal_defaults(model: str, live: str, type_: str) -> None:
    """A cast to the column's own type, and quotes around a number or boolean, change nothing."""
    assert instep._plain(model, type_) == instep._plain(live, type_)


@pytest.mark.parametrize(
    ("model", "live", "type_"),
    [
        ("'a'", "'b'::character varying", "VARCHAR(20)"),
        ("'a'", "'A'::text", "TEXT"),
        ("'abc'", "'abc'::character varying(2)", "TEXT"),  # cut to two characters
        ("'a  '", "'a  '::bpchar", "TEXT"),  # loses its blanks
        ("'007'", "7", "TEXT"),
        ("'true'", "true", "TEXT"),  # the keyword and the word
        ("'1'", "'1'::bit", "TEXT"),
        ("now()", "'now()'::text", "TEXT"),
        ("'a'::text", "'a'::character varying", "JSON"),
        ("0", "1", "INTEGER"),
        ("1.5", "1.50", "NUMERIC"),
    ],
)
def test_doubtful_defaults(model: str, live: str, type_: str) -> None:
    """What may be another value is left to the server."""
    assert instep._plain(model, type_) != instep._plain(live, type_)


def test_ordinary_tables_need_no_spelling(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns with defaults, keys, indexes and unique constraints are proved from the snapshot alone."""

    def spell(*_: object) -> None:
        raise AssertionError("the server was asked")

    metadata = many(5, (None,))
    metadata.create_all(engine)
    dialect: Dialect = dialect_of(engine)
    monkeypatch.setattr(type(dialect), "spell", spell)
    assert found(differences(engine, metadata)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX more ON things (lower(name))",
        "CREATE UNIQUE INDEX more ON things (name) WHERE id > 5",
        "ALTER TABLE things ADD CONSTRAINT more EXCLUDE (name WITH =)",
        "ALTER TABLE things ADD CONSTRAINT more CHECK (id > 5)",
        "ALTER TABLE things ADD CONSTRAINT more UNIQUE (name)",
        "ALTER TABLE things ADD CONSTRAINT more FOREIGN KEY (id) REFERENCES things (id)",
        "ALTER TABLE things ADD more INTEGER",
        'ALTER TABLE things ALTER name TYPE VARCHAR(20) COLLATE "C"',
        "COMMENT ON TABLE things IS 'more'",
        "ALTER TABLE things ALTER id DROP DEFAULT",
        "ALTER TABLE things ALTER name SET DEFAULT 'more'",
        "ALTER TABLE things ALTER name DROP NOT NULL",
    ],
)
def test_whatever_is_more_in_the_database_is_seen(postgresql: Engine, statement: str) -> None:
    """An element that only the database has keeps a table from being taken for equal."""
    metadata = MetaData()
    Table(
        "things",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("name", sa.String(20), nullable=False),
    )
    metadata.create_all(postgresql)
    assert found(differences(postgresql, metadata)) == []
    with postgresql.begin() as connection:
        connection.exec_driver_sql(statement)
    assert len(found(differences(postgresql, metadata))) == 1
