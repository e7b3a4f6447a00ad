"""Reading a PostgreSQL schema, and the server's spelling of the models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.engine.reflection import ObjectKind

from emc.dialects.base import CannotSpellError
from emc.dialects.postgresql import PostgreSQL
from emc.dialects.postgresql.naming import DIALECT
from emc.names import ElementKind, TableKey
from emc.schema import LiveTable
from tests.servers import make_role

POSTGRESQL = PostgreSQL()


@pytest.fixture(params=["postgresql_url", "newest_postgresql_url"], ids=["default", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A fresh database on the default server and on the newest."""
    engine = sa.create_engine(request.getfixturevalue(request.param))
    yield engine
    engine.dispose()


@contextmanager
def counted(engine: sa.Engine) -> Iterator[list[str]]:
    """The statements that *engine* sends meanwhile."""
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", count)
    yield statements
    event.remove(engine, "before_cursor_execute", count)


def every_kind(schema: str | None = None) -> sa.MetaData:
    """Tables with every common type, default, index and constraint."""
    metadata = sa.MetaData(schema=schema)
    mood = sa.Enum("sad", "it's 100%", "hap:py", name="mood", schema=schema)
    sequence = sa.Sequence("ticket_seq", schema=schema, metadata=metadata)
    parent = sa.Table(
        "parent",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("code", sa.String(10), nullable=False, comment="it's 100% a code"),
        sa.Column("region", sa.String(2), nullable=False),
        sa.UniqueConstraint("region", "code", name="uq_parent_region_code"),
        comment="a parent's table",
    )
    sa.Table(
        "Every Kind",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True, start=100, increment=5), primary_key=True),
        sa.Column("parent_id", sa.ForeignKey(parent.c.id, ondelete="SET NULL", deferrable=True)),
        sa.Column("small", sa.SmallInteger, server_default="7"),
        sa.Column("ticket", sa.Integer, server_default=sequence.next_value()),
        sa.Column("Price", sa.Numeric(10, 2), server_default=sa.text("0"), nullable=False),
        sa.Column("any_numeric", sa.Numeric),
        sa.Column("ratio", sa.Float, sa.CheckConstraint("ratio > 0 AND ratio < 1", name="ck_ratio")),
        sa.Column("double", sa.Double),
        sa.Column("region", sa.String(2)),
        sa.Column("code", sa.String(10)),
        sa.Column("name", sa.String(50, collation="C"), server_default="it's 100% \\ :x"),
        sa.Column("fixed", sa.CHAR(3)),
        sa.Column("body", sa.Text),
        sa.Column("flag", sa.Boolean, server_default=sa.true()),
        sa.Column("day", sa.Date, server_default=sa.text("CURRENT_DATE")),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("plain_at", sa.DateTime),
        sa.Column("precise", pg.TIMESTAMP(precision=3)),
        sa.Column("clock", sa.Time),
        sa.Column("span", sa.Interval),
        sa.Column("raw", sa.LargeBinary),
        sa.Column("uid", sa.Uuid, server_default=sa.text("gen_random_uuid()")),
        sa.Column("doc", sa.JSON, server_default=sa.text("'{}'")),
        sa.Column("docb", pg.JSONB, server_default=sa.text("'{\"a\": 1}'::jsonb")),
        sa.Column("tags", pg.ARRAY(sa.String(20)), server_default="{}"),
        sa.Column("mood", mood, server_default="it's 100%"),
        sa.Column("moods", pg.ARRAY(mood)),
        sa.Column("address", pg.INET),
        sa.Column("network", pg.CIDR),
        sa.Column("span_of_time", pg.TSTZRANGE),
        sa.Column("words", pg.TSVECTOR),
        sa.Column("bits", pg.BIT(3)),
        sa.Column("total", sa.Numeric, sa.Computed('"Price" * 2', persisted=True)),
        sa.Column("positive", pg.DOMAIN("positive", sa.Integer, schema=schema, check=sa.text("VALUE > 0"))),
        sa.CheckConstraint("small > 0 OR (small < -5 AND code <> '(')", name="ck_small"),
        sa.CheckConstraint("mood <> 'sad'"),
        sa.UniqueConstraint("code", "name", name="uq_code_name", deferrable=True, initially="DEFERRED"),
        sa.UniqueConstraint("uid", postgresql_include=["body"]),
        sa.ForeignKeyConstraint(
            ["region", "code"],
            [parent.c.region, parent.c.code],
            name="fk_region_code",
            onupdate="CASCADE",
            match="FULL",
        ),
        pg.ExcludeConstraint(("span_of_time", "&&"), name="ex_span", using="gist"),
        sa.Index("ix_plain", "small"),
        sa.Index("Ix Desc", "small", sa.text('"Price" DESC NULLS LAST')),
        sa.Index("ix_unique", "flag", unique=True, postgresql_where=sa.text("flag AND small > 3")),
        sa.Index("ix_lower", sa.func.lower(sa.column("name")), "code"),
        sa.Index("ix_gin", "docb", postgresql_using="gin", postgresql_ops={"docb": "jsonb_path_ops"}),
        sa.Index("ix_like", "body", postgresql_ops={"body": "text_pattern_ops"}),
        sa.Index("ix_include", "day", postgresql_include=["code"], postgresql_with={"fillfactor": 70}),
        sa.Index("ix_mood", "mood", postgresql_where=sa.text("mood = 'sad'")),
    )
    sa.Table(
        "split",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        postgresql_partition_by="RANGE (id)",
    )
    return metadata


def plain(value: Any) -> Any:
    """*value* with types as their SQL, so that two readings can be compared."""
    if isinstance(value, sa.types.TypeEngine):
        schema = getattr(value, "schema", None)
        text = value.compile(dialect=DIALECT), schema, getattr(value, "enums", None)
        return type(value).__name__, text
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def facts(table: LiveTable) -> dict[str, Any]:
    """What two readings of one table have to have in common."""
    return {
        "columns": plain(dict(table.columns)),
        "primary_key": plain(table.primary_key),
        "indexes": plain(table.indexes),
        "uniques": plain(table.uniques),
        "checks": plain(table.checks),
        "comment": table.comment,
        "definitions": {
            key: text for key, text in table.definitions.items() if key[0] is not ElementKind.FOREIGN_KEY
        },
    }


@pytest.mark.parametrize("schema", [None, "billing", "Odd Schema"])
def test_dictionaries_equal_the_inspectors(server: sa.Engine, schema: str | None) -> None:
    """Whatever SQLAlchemy's inspector answers for a table, the snapshot answers too, value for value."""
    metadata = every_kind(schema)
    with server.begin() as connection:
        if schema:
            connection.execute(sa.schema.CreateSchema(schema))
        metadata.create_all(connection)
    with server.connect() as connection:
        live = POSTGRESQL.read(connection, [schema])
        inspector = sa.inspect(connection)
        for key in (TableKey(schema, "parent"), TableKey(schema, "Every Kind"), TableKey(schema, "split")):
            table = live.tables[key]
            asked: dict[str, Any] = {"table_name": key.name, "schema": schema}
            assert plain(list(table.columns.values())) == plain(inspector.get_columns(**asked))
            assert plain(table.primary_key) == plain(inspector.get_pk_constraint(**asked))
            assert plain(table.foreign_keys) == plain(inspector.get_foreign_keys(**asked))
            assert plain(table.uniques) == plain(inspector.get_unique_constraints(**asked))
            assert plain(table.checks) == plain(inspector.get_check_constraints(**asked))
            assert plain(table.indexes) == plain(
                [
                    # SQLAlchemy 2.0 repeats there what is among the options.
                    {name: fact for name, fact in one.items() if name != "include_columns"}
                    for one in inspector.get_indexes(**asked)
                    if "duplicates_constraint" not in one
                ]
            )
            assert table.comment == inspector.get_table_comment(**asked)["text"]
        names = {name for _, name in inspector.get_multi_columns(schema=schema, kind=ObjectKind.TABLE)}
        assert {key.name for key in live.tables} == names


@pytest.mark.parametrize("schema", [None, "billing", "Odd Schema"])
def test_models_are_spelled_as_the_server_shows_them(server: sa.Engine, schema: str | None) -> None:
    """After create_all, the spelling of the models and the live schema are the same values, in any schema."""
    metadata = every_kind(schema)
    with server.begin() as connection:
        if schema:
            connection.execute(sa.schema.CreateSchema(schema))
        metadata.create_all(connection)
    with POSTGRESQL.reading(server) as connection:
        live = POSTGRESQL.read(connection, [None, schema] if schema else [None])
        spelled = POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
    assert set(spelled) == {TableKey(table.schema, table.name) for table in metadata.tables.values()}
    for key, table in spelled.items():
        assert facts(table) == facts(live.tables[key])


def test_spelling_needs_nothing_to_be_there(server: sa.Engine) -> None:
    """Models can be spelled before their tables and enumerated types exist."""
    metadata = every_kind()
    with POSTGRESQL.reading(server) as connection:
        live = POSTGRESQL.read(connection, [None])
        spelled = POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
    with server.begin() as connection:
        metadata.create_all(connection)
        live = POSTGRESQL.read(connection, [None])
    assert {key: facts(table) for key, table in spelled.items()} == {
        key: facts(table) for key, table in live.tables.items()
    }


def test_tables_of_one_name_are_spelled_each_for_itself(server: sa.Engine) -> None:
    """Two tables of one name, with enumerated types of one name, do not get mixed up."""
    metadata = sa.MetaData()
    schema: str | None
    for schema, labels in ((None, ("a", "b")), ("one", ("c",)), ("two", ("a", "b"))):
        sa.Table(
            "users",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("state", sa.Enum(*labels, name="state", schema=schema), server_default=labels[0]),
            sa.Index("ix_users_state", "state"),
            schema=schema,
        )
    with server.begin() as connection:
        connection.execute(sa.schema.CreateSchema("one"))
        connection.execute(sa.schema.CreateSchema("two"))
        metadata.create_all(connection)
    with POSTGRESQL.reading(server) as connection:
        live = POSTGRESQL.read(connection, [None, "one", "two"])
        spelled = POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
    assert {key: facts(table) for key, table in spelled.items()} == {
        key: facts(table) for key, table in live.tables.items()
    }


def test_spelling_leaves_no_trace(server: sa.Engine) -> None:
    """Spelling makes no table, type or sequence that anybody could find afterwards, in its transaction or later."""
    metadata = every_kind()
    everything = "SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_type ORDER BY 1"
    with server.connect() as connection:
        live = POSTGRESQL.read(connection, [None])
        connection.exec_driver_sql("CREATE TEMP TABLE warm_up (id int)")
        before = connection.exec_driver_sql(everything).all()
        POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
        assert connection.exec_driver_sql(everything).all() == before


def test_what_cannot_be_created_is_left_out(server: sa.Engine) -> None:
    """A table whose type or function is missing is not spelled; the others are, and the transaction goes on."""
    metadata = sa.MetaData()
    for number in range(9):
        sa.Table(f"good_{number}", metadata, sa.Column("id", sa.Integer, primary_key=True))

    class Unheard(sa.types.UserDefinedType[Any]):
        cache_ok = True

        def get_col_spec(self, **_: Any) -> str:
            return "unheard_of"

    sa.Table("bad_type", metadata, sa.Column("id", Unheard()))
    sa.Table("bad_default", metadata, sa.Column("id", sa.Integer, server_default=sa.text("unheard_of()")))
    with POSTGRESQL.reading(server) as connection:
        live = POSTGRESQL.read(connection, [None])
        spelled = POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
        assert connection.scalar(sa.text("SELECT 1")) == 1
    assert [key.name for key in spelled] == [f"good_{number}" for number in range(9)]


def test_a_reader_cannot_spell(postgresql_url: str) -> None:
    """Without the privilege TEMP, or in a read-only transaction, the spelling is refused and nothing is broken."""
    metadata = every_kind()
    url = sa.make_url(postgresql_url)
    admin = sa.create_engine(url)
    with admin.begin() as connection:
        connection.exec_driver_sql(f'REVOKE TEMP ON DATABASE "{url.database}" FROM PUBLIC')
    reader = sa.create_engine(make_role(postgresql_url, "emc_test_reader", "reader"))
    for engine, options in ((reader, {}), (admin, {"postgresql_readonly": True})):
        with engine.connect().execution_options(**options) as connection:
            live = POSTGRESQL.read(connection, [None])
            with pytest.raises(CannotSpellError):
                POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
            assert connection.scalar(sa.text("SELECT 1")) == 1
    reader.dispose()
    admin.dispose()


def test_queries_do_not_grow_with_tables(server: sa.Engine) -> None:
    """300 tables in three schemas take as many queries as 10, to read and to spell, and few enough."""
    counts: list[tuple[int, int]] = []
    with server.begin() as connection:
        for schema in ("one", "two"):
            connection.execute(sa.schema.CreateSchema(schema))
    for count in (4, 100):
        metadata = sa.MetaData()
        for home in (None, "one", "two"):
            for number in range(count):
                sa.Table(
                    f"{home}_t{number}",
                    metadata,
                    sa.Column("id", sa.Integer, primary_key=True),
                    sa.Column("name", sa.String(number % 3 + 1), server_default="x"),
                    sa.Column("state", sa.Enum("a", "b", name="state", schema=home)),
                    sa.Index(f"ix_{home}_t{number}_name", "name"),
                    schema=home,
                )
        metadata.create_all(server)
        with POSTGRESQL.reading(server) as connection:
            with counted(server) as reading:
                live = POSTGRESQL.read(connection, [None, "one", "two"])
            assert len(live.tables) == 3 * count
            with counted(server) as spelling:
                spelled = POSTGRESQL.spell(connection, list(metadata.tables.values()), live)
            assert len(spelled) == 3 * count
        counts.append((len(reading), len(spelling)))
    assert counts[0] == counts[1]
    # SQLAlchemy 2.0 asks for the enums once more than 2.1 does.
    assert counts[1][0] <= (14 if sa.__version__.startswith("2.0.") else 13)


def test_what_emc_leaves_alone_only_takes_names(server: sa.Engine) -> None:
    """Views, partitions, tables of extensions, indexes and sequences are no tables, but their names are taken."""
    with server.begin() as connection:
        for statement in (
            "CREATE TABLE t (id int PRIMARY KEY)",
            "CREATE VIEW v AS SELECT id FROM t",
            "CREATE MATERIALIZED VIEW m AS SELECT id FROM t",
            "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9)",
            "CREATE TYPE pair AS (a int, b int)",
            "CREATE TABLE emc_ledger (id int)",
        ):
            connection.exec_driver_sql(statement)
        live = POSTGRESQL.read(connection, [None])
    assert {key.name for key in live.tables} == {"t", "p", "emc_ledger"}
    assert live.names_taken == {
        TableKey(None, "v"): "view",
        TableKey(None, "m"): "materialized view",
        TableKey(None, "p1"): "partition of p",
        TableKey(None, "pair"): "type",
        TableKey(None, "t_pkey"): "index of table t",
        TableKey(None, "p_pkey"): "index of table p",
        TableKey(None, "p1_pkey"): "index of table p1",
    }
    assert live.tables[TableKey(None, "p")].definitions[ElementKind.TABLE, "p"] == "PARTITION BY RANGE (id)"


def test_a_table_belongs_to_the_schema_that_is_named(server: sa.Engine) -> None:
    """A table that both a name and the search path find is there once, under the name."""
    with server.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public.t (id int)")
        assert set(POSTGRESQL.read(connection, [None]).tables) == {TableKey(None, "t")}
        assert set(POSTGRESQL.read(connection, [None, "public"]).tables) == {TableKey("public", "t")}
        assert set(POSTGRESQL.read(connection, ["public"]).tables) == {TableKey("public", "t")}


def test_what_proves_nothing_is_unfinished(server: sa.Engine) -> None:
    """INVALID indexes and NOT VALID constraints are no part of the schema yet, but their names are known."""
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in (
            "CREATE TABLE parent (id int PRIMARY KEY)",
            "CREATE TABLE t (id int, a int)",
            "INSERT INTO t VALUES (1, 1), (1, 1)",
            "ALTER TABLE t ADD CONSTRAINT ck CHECK (a > 0) NOT VALID",
            "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES parent NOT VALID",
        ):
            connection.exec_driver_sql(statement)
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY ux ON t (id)")
        live = POSTGRESQL.read(connection, [None])
    table = live.tables[TableKey(None, "t")]
    assert table.unfinished == {"ck", "fk", "ux"}
    assert (list(table.indexes), list(table.checks), list(table.foreign_keys)) == ([], [], [])
    assert table.definitions[ElementKind.CHECK, "ck"] == "CHECK (a > 0)"
    assert table.definitions[ElementKind.INDEX, "ux"] == "UNIQUE USING btree (id)"


def test_not_null_that_is_not_validated_is_not_there_yet(newest_postgresql_url: str) -> None:
    """PostgreSQL 18's NOT NULL NOT VALID leaves a column nullable: its old rows may be NULL."""
    engine = sa.create_engine(newest_postgresql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id int, a int)")
        connection.exec_driver_sql("ALTER TABLE t ADD CONSTRAINT nn NOT NULL a NOT VALID")
        connection.exec_driver_sql("ALTER TABLE t ADD CONSTRAINT ck CHECK (a > 0) NOT ENFORCED")
        table = POSTGRESQL.read(connection, [None]).tables[TableKey(None, "t")]
    assert table.columns["a"]["nullable"]
    assert table.unfinished == {"nn", "ck"}
    engine.dispose()


def test_sizes_are_known_before_and_after_analyze(server: sa.Engine) -> None:
    """A table that was never analysed has a size all the same, and no row estimate unless it is empty."""
    with server.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE empty (id int)")
        connection.exec_driver_sql("CREATE TABLE t (id int)")
        connection.exec_driver_sql("CREATE TABLE p (id int) PARTITION BY RANGE (id)")
        connection.exec_driver_sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9999)")
        for table in ("t", "p"):
            connection.exec_driver_sql(f"INSERT INTO {table} SELECT generate_series(1, 1000)")
        live = POSTGRESQL.read(connection, [None])
        sizes = {key.name: (table.row_estimate, table.size_bytes) for key, table in live.tables.items()}
        assert sizes["empty"] == (0, 0)
        assert sizes["t"] == sizes["p"] == (None, 5 * 8192)
        connection.exec_driver_sql("ANALYZE t")
        connection.exec_driver_sql("ANALYZE p1")
        live = POSTGRESQL.read(connection, [None])
        sizes = {key.name: (table.row_estimate, table.size_bytes) for key, table in live.tables.items()}
        assert sizes["t"] == sizes["p"] == (1000, 5 * 8192)


def test_long_values_count(server: sa.Engine) -> None:
    """The size of a table holds what is stored beside it: whoever looks at every row reads that too."""
    with server.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a text)")
        connection.exec_driver_sql("ALTER TABLE t ALTER a SET STORAGE EXTERNAL")
        connection.exec_driver_sql("INSERT INTO t SELECT repeat('x', 100000) FROM generate_series(1, 10)")
        size = POSTGRESQL.read(connection, [None]).tables[TableKey(None, "t")].size_bytes
    assert size is not None
    assert size > 1_000_000
