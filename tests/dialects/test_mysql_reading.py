"""Reading a MariaDB schema; what is peculiar to MySQL rests on the rows that its manual shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, event
from sqlalchemy.dialects import mysql as my

from emc.dialects import dialect_of
from emc.dialects.mysql import MariaDB, information
from emc.dialects.mysql.columns import Types, column, column_text
from emc.dialects.mysql.dependents import names
from emc.dialects.mysql.flavour import MYSQL
from emc.dialects.mysql.live import MySQLSchema, MySQLTable
from emc.diff.facts import same_table
from emc.names import TableKey
from emc.schema import inserts_must_name
from tests.mariadb_server import CONFIGURATION, SPELLINGS, MariaDBPool, make_account, spelled

MARIADB = MariaDB()


@pytest.fixture
def server(mariadb_url: str) -> Iterator[sa.Engine]:
    """A fresh MariaDB database."""
    engine = sa.create_engine(mariadb_url)
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


def read(engine: sa.Engine, *statements: str, schemas: Sequence[str | None] = (None,)) -> MySQLSchema:
    """What is read after *statements*."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    with MARIADB.reading(engine) as connection:
        live = MARIADB.read(connection, schemas)
    assert isinstance(live, MySQLSchema)
    return live


def table_of(live: MySQLSchema, name: str, schema: str | None = None) -> MySQLTable:
    """One table of *live*."""
    table = live.tables[TableKey(schema, name)]
    assert isinstance(table, MySQLTable)
    return table


def every_kind() -> sa.MetaData:
    """Tables with the common types, defaults, keys and constraints."""
    metadata = sa.MetaData()
    sa.Table(
        "parent",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("code", sa.String(10), nullable=False, comment="it's 100% a code"),
        sa.UniqueConstraint("code", name="uq_code"),
        comment="a parent's table",
    )
    sa.Table(
        "Every Kind",
        metadata,
        Column("id", my.BIGINT(unsigned=True), primary_key=True),
        Column("parent_id", sa.ForeignKey("parent.id", ondelete="SET NULL")),
        Column("other", sa.ForeignKey("parent.id", name="fk_other", onupdate="CASCADE"), index=True),
        Column("Price", sa.Numeric(10, 2), server_default="0", nullable=False),
        Column("ratio", sa.Float),
        Column("double", my.DOUBLE(asdecimal=False)),
        Column("wide", my.INTEGER(7, zerofill=True)),
        Column("flag", sa.Boolean, server_default=sa.true()),
        Column("name", sa.String(50), server_default="it's 100% \\ :x"),
        Column("body", sa.Text),
        Column("letter", my.ENUM("a", "b'c", "d,e"), server_default="a"),
        Column("letters", my.SET("x", "y")),
        Column("day", sa.Date),
        Column("at", my.DATETIME(fsp=6), server_default=sa.text("CURRENT_TIMESTAMP(6)")),
        Column("seen", my.TIMESTAMP, server_default=sa.text("now() ON UPDATE now()"), nullable=False),
        Column("clock", my.TIME(fsp=3)),
        Column("raw", sa.LargeBinary),
        Column("bits", my.BIT(3)),
        Column("uid", sa.UUID, server_default=sa.text("uuid()")),
        Column("twice", sa.Numeric(10, 2), sa.Computed("`Price` * 2", persisted=True)),
        Column("thrice", sa.Numeric(10, 2), sa.Computed("`Price` * 3")),
        sa.CheckConstraint("ratio > 0 AND name <> '('", name="ck_ratio"),
        sa.Index("ix_plain", "day", "flag"),
        sa.Index("Ix Unique", "name", "day", unique=True),
        sa.Index("ix_prefix", "body", "name", mariadb_length={"body": 10}),
        sa.Index("ix_full", "body", mariadb_prefix="FULLTEXT"),
    )
    return metadata


def plain(value: Any) -> Any:
    """*value* with types as their SQL, without what the snapshot tells another way than the inspector."""
    if isinstance(value, sa.types.TypeEngine):
        text = value.compile(dialect=my.dialect())
        for width in ("BIGINT(20)", "INTEGER(11)", "YEAR(4)"):
            text = text.replace(width, width.partition("(")[0])
        return type(value).__name__, text
    if isinstance(value, dict):
        found = {key: plain(one) for key, one in value.items() if key != "duplicates_index"}
        if "computed" in found:
            found["computed"]["sqltext"] = found["computed"]["sqltext"].removeprefix("(").removesuffix(")")
        return found
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def sorted_by_name(elements: Any) -> list[Any]:
    """Elements in an order that both sides have."""
    return sorted(plain(list(elements)), key=lambda one: str(one["name"]))


@pytest.mark.parametrize("drivername", SPELLINGS)
@pytest.mark.parametrize("schema", [None, "Billing Department"])
def test_dictionaries_equal_the_inspectors(mariadb_url: str, drivername: str, schema: str | None) -> None:
    """Whatever SQLAlchemy's inspector answers for a table, the snapshot answers too, by every way to connect."""
    engine = sa.create_engine(spelled(mariadb_url, drivername))  # Skips where the driver is missing.
    made = sa.create_engine(mariadb_url)
    with made.begin() as connection:
        if schema:
            connection.execute(sa.schema.CreateSchema(schema))
        translated = connection.execution_options(schema_translate_map={None: schema})
        every_kind().create_all(translated)
    try:
        live = read(engine, schemas=(schema,))
        inspector = sa.inspect(engine)
        for name in ("parent", "Every Kind"):
            table = table_of(live, name, schema)
            asked: dict[str, Any] = {"table_name": name, "schema": schema}
            assert plain(list(table.columns.values())) == plain(inspector.get_columns(**asked))
            assert table.primary_key == inspector.get_pk_constraint(**asked)
            assert sorted_by_name(table.foreign_keys) == sorted_by_name(inspector.get_foreign_keys(**asked))
            assert sorted_by_name(table.uniques) == sorted_by_name(inspector.get_unique_constraints(**asked))
            uniques = {one["name"] for one in table.uniques}
            implied = [index["name"] for index in table.implied.values()]
            assert sorted_by_name(table.indexes) == [
                # SQLAlchemy 2.0 says there what the options say.
                {name: fact for name, fact in one.items() if name != "type"}
                for one in sorted_by_name(inspector.get_indexes(**asked))
                if one["name"] not in (*uniques, *implied)
            ]
            assert sorted_by_name(table.checks) == sorted_by_name(inspector.get_check_constraints(**asked))
            assert table.comment == inspector.get_table_comment(**asked)["text"]
    finally:
        engine.dispose()
        with made.begin() as connection:
            if schema:
                connection.execute(sa.schema.DropSchema(schema))
        made.dispose()


def test_queries_do_not_grow_with_tables(server: sa.Engine) -> None:
    """60 tables in two schemas take as many queries as 4, to read and to compare, and few enough."""
    counts: list[int] = []
    other = f"{server.url.database}_other"
    try:
        for count in (2, 30):
            metadata = sa.MetaData()
            for schema in (None, other):
                for number in range(count):
                    sa.Table(
                        f"t{number}",
                        metadata,
                        Column("id", sa.Integer, primary_key=True),
                        Column(
                            "parent", sa.ForeignKey(f"{schema}.t{number}.id" if schema else f"t{number}.id")
                        ),
                        Column("name", sa.String(20), sa.CheckConstraint("name <> ''"), unique=True),
                        schema=schema,
                    )
            with server.begin() as connection:
                connection.execute(sa.schema.CreateSchema(other, if_not_exists=True))
                metadata.create_all(connection)
            with MARIADB.reading(server) as connection, counted(server) as sent:
                live = MARIADB.read(connection, [None, other])
            assert len(live.tables) == 2 * count
            counts.append(len(sent))
    finally:
        with server.begin() as connection:
            connection.execute(sa.schema.DropSchema(other, if_exists=True))
    assert counts[0] == counts[1] <= 9


def test_what_is_no_table_only_takes_its_name(server: sa.Engine) -> None:
    """Views and sequences are no tables; partitioned and versioned tables are, and their partitions have no name."""
    live = read(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE SEQUENCE s",
        "CREATE TABLE p (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p1 VALUES LESS THAN (9))",
        "CREATE TABLE h (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
        "CREATE TABLE emc_ledger (id INT)",
    )
    assert {key.name for key in live.tables} == {"t", "p", "h", "emc_ledger"}
    assert live.names_taken == {TableKey(None, "v"): "view", TableKey(None, "s"): "sequence"}
    assert table_of(live, "p").options["partition_by"] == "RANGE (`id`)"
    assert table_of(live, "p").partitioned
    assert live.table(TableKey(None, "h")) is not None


def test_a_table_belongs_to_the_schema_that_is_named(server: sa.Engine) -> None:
    """The connection's own database by its name is the same, once, under the name."""
    own = server.url.database
    live = read(server, "CREATE TABLE t (id INT PRIMARY KEY, up INT REFERENCES t (id))")
    assert set(live.tables) == {TableKey(None, "t")}
    for schemas in ([None, own], [own]):
        live = read(server, schemas=schemas)
        assert set(live.tables) == {TableKey(own, "t")}
        assert [one["referred_schema"] for one in live.tables[TableKey(own, "t")].foreign_keys] == [own]


def test_what_is_changed_meanwhile_is_asked_again(server: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that comes with its index between two queries does not leave a snapshot with an index of nothing."""
    read(server, "CREATE TABLE t (id INT PRIMARY KEY)")
    ask = information.columns
    asked: list[object] = []

    def change(*arguments: Any) -> list[dict[str, Any]]:
        answer = ask(*arguments)
        if not asked:
            with server.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE t ADD a INT, ADD INDEX ix (a)")
        asked.append(answer)
        return answer

    monkeypatch.setattr(information, "columns", change)
    table = table_of(read(server), "t")
    assert list(table.columns) == ["id", "a"]
    assert [index["name"] for index in table.indexes] == ["ix"]
    assert len(asked) == 2


def test_a_json_column_is_one(server: sa.Engine) -> None:
    """LONGTEXT with the check that comes with JSON is JSON; any other such column and check is what it says."""
    table = table_of(
        read(
            server,
            "CREATE TABLE t (a JSON, `b``c` JSON NOT NULL DEFAULT '{}', c LONGTEXT CHECK (json_valid(c)),"
            " d LONGTEXT COLLATE utf8mb4_bin, e JSON CHECK (json_valid(e) AND e <> '[]'))",
        ),
        "t",
    )
    types = {name: column["type"].__visit_name__ for name, column in table.columns.items()}
    assert types == {"a": "JSON", "b`c": "JSON", "c": "LONGTEXT", "d": "LONGTEXT", "e": "LONGTEXT"}
    assert [check["name"] for check in table.checks] == ["c", "e"]
    assert table.texts["a"].check == "json_valid(`a`)"


def test_a_unique_key_is_told_once(server: sa.Engine) -> None:
    """As a constraint, unless no constraint could look like it; its name is the index's."""
    table = table_of(
        read(
            server,
            "CREATE TABLE t (a INT UNIQUE, b VARCHAR(20), CONSTRAINT u UNIQUE (b, a), UNIQUE INDEX i (b),"
            " UNIQUE p (b(5)), UNIQUE d (a DESC))",
        ),
        "t",
    )
    assert [(one["name"], one["duplicates_index"]) for one in table.uniques] == [
        ("a", "a"),
        ("i", "i"),
        ("u", "u"),
    ]
    assert [(one["name"], one["unique"]) for one in table.indexes] == [("d", True), ("p", True)]
    assert table.indexes[0]["column_sorting"] == {"a": ("desc",)}


def test_indexes_of_foreign_keys_are_told_apart(server: sa.Engine) -> None:
    """What the server makes for a foreign key is no index of anybody; what somebody made is, needed or not."""
    table = table_of(
        read(
            server,
            "CREATE TABLE parent (id INT PRIMARY KEY)",
            "CREATE TABLE t (a INT, b INT, c INT, d INT, e INT UNIQUE,"
            " FOREIGN KEY (a) REFERENCES parent (id), CONSTRAINT fb FOREIGN KEY (b) REFERENCES parent (id),"
            " CONSTRAINT fc FOREIGN KEY (c) REFERENCES parent (id), INDEX mine (c),"
            " CONSTRAINT fd FOREIGN KEY (d) REFERENCES parent (id), INDEX longer (d, a),"
            " CONSTRAINT fe FOREIGN KEY (e) REFERENCES parent (id))",
        ),
        "t",
    )
    assert {name: index["name"] for name, index in table.implied.items()} == {"t_ibfk_1": "a", "fb": "fb"}
    assert [one["name"] for one in table.indexes] == ["longer", "mine"]
    left = table_of(read(server, "ALTER TABLE t DROP FOREIGN KEY fb"), "t")
    assert [one["name"] for one in left.indexes] == ["fb", "longer", "mine"]


def test_a_role_that_may_only_select_is_told_the_same(server: sa.Engine, mariadb_url: str) -> None:
    """The rules of foreign keys are hidden from it in information_schema, and found all the same."""
    live = read(
        server,
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE `a``b%c` (a INT, b INT CHECK (b > 0), CONSTRAINT f FOREIGN KEY (a) REFERENCES parent (id)"
        " ON DELETE CASCADE ON UPDATE SET NULL)",
    )
    reader = sa.create_engine(make_account(mariadb_url, "emc_reading", "reader"))
    seen = read(reader)
    reader.dispose()
    assert seen.tables.keys() == live.tables.keys()
    for key, table in live.tables.items():
        assert same_table(table, seen.tables[key], server.dialect)
        assert table.foreign_keys == seen.tables[key].foreign_keys
    assert table_of(seen, "a`b%c").foreign_keys[0]["options"] == {
        "ondelete": "CASCADE",
        "onupdate": "SET NULL",
    }


def test_what_happens_on_update_is_part_of_the_default(server: sa.Engine) -> None:
    """As SQLAlchemy has it, and where there is no default besides; an INSERT need not name such a column."""
    table = table_of(
        read(
            server,
            "CREATE TABLE t (a DATETIME DEFAULT NULL ON UPDATE now(), b TIMESTAMP(3) NOT NULL DEFAULT now(3)"
            " ON UPDATE now(3), c DATETIME DEFAULT '2020-01-01' ON UPDATE now(), d DATETIME)",
        ),
        "t",
    )
    assert [column["default"] for column in table.columns.values()] == [
        "NULL ON UPDATE current_timestamp()",
        "current_timestamp(3) ON UPDATE current_timestamp(3)",
        "'2020-01-01 00:00:00' ON UPDATE current_timestamp()",
        None,
    ]
    assert not any(inserts_must_name(column) for column in table.columns.values())
    assert table.texts["a"].on_update == "current_timestamp()"
    assert table.texts["a"].default is None


def test_the_pieces_of_a_column_make_it_again(server: sa.Engine) -> None:
    """Whatever MODIFY has to repeat is told: put together again, the pieces make the very same table."""
    live = read(
        server,
        "CREATE TABLE t (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'it''s',"
        " a VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL DEFAULT 'a\\\\b''c',"
        " b DATETIME(6) DEFAULT now(6) ON UPDATE now(6), c INT INVISIBLE DEFAULT (1 + 2),"
        " d INT AS (id2 * 2) STORED, e INT CHECK (e > 0), id2 INT, f ENUM('x', 'y''z') DEFAULT 'x',"
        " g VARCHAR(100) COMPRESSED, h JSON)",
    )
    texts = table_of(live, "t").texts
    assert texts["id"].auto_increment
    assert (texts["a"].charset, texts["a"].collation, texts["a"].default) == (
        "latin1",
        "latin1_bin",
        "'a\\\\b''c'",
    )
    assert (texts["c"].more, texts["c"].default) == ("INVISIBLE", "(1 + 2)")
    assert (texts["d"].generated, texts["d"].stored) == ("`id2` * 2", True)
    assert texts["e"].check == "`e` > 0"
    assert texts["f"].type == "enum('x','y''z')"
    assert "COMPRESSED" in texts["g"].type


def test_dependents_of_columns_and_tables_are_named(server: sa.Engine) -> None:
    """Views, triggers, generated columns and partitions that speak of a column are found; literals say nothing."""
    live = read(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT, d INT AS (c + 1), `odd name` INT, e INT)",
        "CREATE TABLE u (id INT PRIMARY KEY, a INT, e VARCHAR(9))",
        "CREATE TABLE p (id INT PRIMARY KEY) PARTITION BY HASH (id)",
        "CREATE VIEW va AS SELECT x.a AS renamed FROM t x WHERE 'b' <> 'e'",
        "CREATE VIEW vo AS SELECT `odd name` FROM t",
        "CREATE VIEW vv AS SELECT renamed FROM va",
        "CREATE TRIGGER tb BEFORE INSERT ON t FOR EACH ROW SET NEW.b = 1",
        "CREATE TRIGGER tu AFTER INSERT ON u FOR EACH ROW INSERT INTO t (id, e) VALUES (NEW.id, 'c')",
        "CREATE TRIGGER emc_guard_1 BEFORE INSERT ON t FOR EACH ROW SET NEW.e = 1",
    )
    t, u = TableKey(None, "t"), TableKey(None, "u")
    found = {(key.name, name): tuple(what) for (key, name), what in live.dependents.items()}
    assert found == {
        ("p", "id"): ("the partitioning of the table",),
        ("t", None): ("trigger tu on u", "view va", "view vo"),
        ("t", "a"): ("view va",),
        ("t", "b"): ("trigger tb on t",),
        ("t", "c"): ("generated column d",),
        ("t", "e"): ("trigger tu on u",),
        ("t", "id"): ("trigger tu on u",),
        ("t", "odd name"): ("view vo",),
        ("u", "id"): ("trigger tu on u",),
        ("u", "e"): ("trigger tu on u",),
    }
    assert list(live.tables[t].guards) == ["emc_guard_1"]
    assert live.tables[u].guards == {}


def test_a_view_that_may_not_be_read_speaks_of_everything(server: sa.Engine, mariadb_url: str) -> None:
    """Without the privilege SHOW VIEW nobody knows what a view is about, so it stands in every way."""
    read(server, "CREATE TABLE t (id INT)", "CREATE TABLE u (id INT)", "CREATE VIEW v AS SELECT id FROM t")
    reader = sa.create_engine(make_account(mariadb_url, "emc_reading", "reader"))
    live = read(reader)
    reader.dispose()
    assert live.dependents == {
        (TableKey(None, name), column): ("view v",) for name in "tu" for column in (None, "id")
    }


def test_names_in_sql() -> None:
    """Names are found in and out of quotes; literals and comments hold none."""
    sql = "SELECT `a``b`, \"C\", d.e FROM f -- g\n WHERE h = 'i''j\\'k' /* l */ # m"
    assert names(sql) == {"select", "a`b", "c", "d", "e", "from", "f", "where", "h"}


def test_tables_where_case_does_not_count(mariadb_pool: MariaDBPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lower_case_table_names the server keeps lower case, and models of any case find their tables."""
    from tests.diff.differences import differences, found

    monkeypatch.setitem(CONFIGURATION, "lower-case-table-names", "1")
    server = mariadb_pool.new()
    try:
        with server.database() as url:
            engine = sa.create_engine(url)
            metadata = sa.MetaData()
            for schema in (None, "Billing"):
                prefix = f"{schema}." if schema else ""
                sa.Table(
                    "Users",
                    metadata,
                    Column("Id", sa.Integer, primary_key=True),
                    Column("Boss", sa.ForeignKey(f"{prefix}Users.Id"), index=True),
                    Column("Name", sa.String(20), sa.CheckConstraint("Name <> ''"), unique=True),
                    Column("Doubled", sa.Integer, sa.Computed("Boss * 2")),
                    schema=schema,
                )
            with engine.begin() as connection:
                connection.execute(sa.schema.CreateSchema("Billing"))
                metadata.create_all(connection)
            diff = differences(engine, metadata)
            assert (found(diff), diff.notes) == ([], ())
            assert set(diff.live.tables) == {TableKey(None, "Users"), TableKey("Billing", "Users")}
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE users ADD extra INT")
            assert found(differences(engine, metadata)) == ["drop column Users.extra"]
            engine.dispose()
    finally:
        server.stop()


def test_columns_and_indexes_of_another_case(server: sa.Engine) -> None:
    """What differs from the models in case alone is the same column, index and constraint."""
    from tests.diff.differences import differences, found

    metadata = sa.MetaData()
    sa.Table(
        "users",
        metadata,
        Column("ID", sa.Integer, primary_key=True),
        Column("Name", sa.String(20)),
        Column("Boss", sa.ForeignKey("users.ID", name="FK_Boss")),
        sa.Index("IX_Name", "Name"),
        sa.CheckConstraint("Name <> 'x'", name="CK_Name"),
        sa.UniqueConstraint("Name", "Boss", name="UQ_Name"),
    )
    read(
        server,
        "CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20), boss INT, INDEX ix_name (name),"
        " CONSTRAINT ck_name CHECK (name <> 'x'), CONSTRAINT uq_name UNIQUE (name, boss),"
        " CONSTRAINT fk_boss FOREIGN KEY (boss) REFERENCES users (id))",
    )
    diff = differences(server, metadata)
    assert (found(diff), diff.notes) == ([], ())
    read(server, "ALTER TABLE users DROP INDEX ix_name, ADD INDEX ix_name (name, id)")
    assert found(differences(server, metadata)) == ["drop index IX_Name", "create index IX_Name"]


# -- MySQL -----------------------------------------------------------------------------------------------------


def mysql_row(**given: Any) -> dict[str, Any]:
    """A row of COLUMNS as MySQL's manual shows them."""
    return {
        "name": "a",
        "type_text": "varchar(20)",
        "charset": "utf8mb4",
        "collation": "utf8mb4_0900_ai_ci",
        "nullable": "YES",
        "default_text": None,
        "extra": "",
        "comment": "",
        "generation": "",
        "srid": None,
        **given,
    }


@pytest.mark.parametrize(
    ("given", "default"),
    [
        ({"default_text": None}, None),
        ({"default_text": "NULL"}, "'NULL'"),
        ({"default_text": ""}, "''"),
        ({"default_text": "it's"}, "'it''s'"),
        ({"default_text": "a\\b"}, "'a\\\\b'"),
        ({"default_text": "b'101'", "type_text": "bit(3)", "collation": None}, "b'101'"),
        ({"default_text": "CURRENT_TIMESTAMP", "extra": "DEFAULT_GENERATED"}, "CURRENT_TIMESTAMP"),
        (
            {
                "default_text": "CURRENT_TIMESTAMP(6)",
                "extra": "DEFAULT_GENERATED on update CURRENT_TIMESTAMP(6)",
            },
            "CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
        ),
        ({"default_text": "uuid()", "extra": "DEFAULT_GENERATED"}, "(uuid())"),
        ({"default_text": "concat(_utf8mb4\\'a\\')", "extra": "DEFAULT_GENERATED"}, "(concat('a'))"),
    ],
)
def test_mysql_defaults_are_sql_again(given: dict[str, Any], default: str | None) -> None:
    """MySQL shows bare values, and marks expressions; the snapshot has both as DDL would say them."""
    row = mysql_row(**given)
    assert column(row, sa.String(20), MYSQL)["default"] == default
    assert (column_text(row, None, MYSQL).default or "") == (default or "").partition(" ON UPDATE")[0]


@pytest.mark.parametrize(
    ("shown", "sql"),
    [
        ("(`a` <> _utf8mb4\\'x\\')", "(`a` <> 'x')"),
        ("(`a` in (_latin1\\'it\\'\\'s\\',_utf8mb4\\'\\'))", "(`a` in ('it''s',''))"),
        ("(`_utf8mb4` <> _utf8mb4\\'größer\\')", "(`_utf8mb4` <> _utf8mb4'größer')"),
        ("(`a` > 5)", "(`a` > 5)"),
    ],
)
def test_mysql_expressions_are_sql_again(shown: str, sql: str) -> None:
    """MySQL escapes an expression like a literal, and shows the character set of the session that made it."""
    assert MYSQL.expression(shown) == sql
    assert MARIADB.flavour.expression(shown) == shown


def test_mysql_tells_sizes_of_now() -> None:
    """MySQL repeats what it knew of sizes for a day, unless the session says otherwise; what it said before returns."""
    sent: list[str] = []

    class Recorder:
        invalidated = False

        def exec_driver_sql(self, statement: str) -> Any:
            sent.append(statement)
            return self

        def scalar_one(self) -> int:
            return 86400

        def execute(self, statement: Any, parameters: Any) -> Any:
            raise LookupError

    recorder: Any = Recorder()
    with pytest.raises(LookupError):
        information.tables(recorder, ["a"], MYSQL)
    assert sent == [
        "SELECT @@SESSION.information_schema_stats_expiry",
        "SET SESSION information_schema_stats_expiry = 0",
        "SET SESSION information_schema_stats_expiry = 86400",
    ]


def test_mysql_types_need_no_width() -> None:
    """MySQL 8 shows integers without their width, MariaDB with it; the snapshot says the same for both."""
    types = Types(my.dialect())

    def text(type_text: str) -> str:
        row = mysql_row(type_text=type_text, charset=None, collation=None)
        return types.of(row, None, is_json=False).compile(dialect=my.dialect())

    assert text("int") == text("int(11)") == "INTEGER"
    assert text("bigint unsigned") == text("bigint(20) unsigned") == "BIGINT UNSIGNED"
    assert text("tinyint(1)") == "TINYINT(1)"
    assert text("int(7) unsigned zerofill") == "INTEGER(7) UNSIGNED ZEROFILL"
    assert text("year") == text("year(4)") == "YEAR"


def test_mysql_is_asked_for_what_it_has() -> None:
    """Where the two servers' catalogs differ, the question is the one that each server knows."""
    asked: list[str] = []

    class Recorder:
        def execute(self, statement: Any, parameters: Any) -> Any:
            asked.append(str(statement))
            return self

        def keys(self) -> list[str]:
            return []

        def all(self) -> list[Any]:
            return []

    recorder: Any = Recorder()
    for flavour in (MYSQL, MARIADB.flavour):
        information.checks(recorder, ["a", "b"], flavour)
        information.indexes(recorder, ["a"], flavour)
        information.columns(recorder, ["a"], flavour)
    mysql, mariadb = asked[:3], asked[3:]
    assert "t.enforced" in mysql[0]
    assert mysql[0].count("UNION ALL") == 1
    assert "level" in mariadb[0]
    assert "NULL AS expression" in mariadb[1]
    assert "expression AS expression" in mysql[1]
    assert "srs_id AS srid" in mysql[2]
    assert "NULL AS srid" in mariadb[2]


def test_functional_indexes_are_told_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL 8.0.13 has indexes over expressions (its manual); they are indexes with expressions, never constraints."""
    from emc.dialects.mysql import catalog

    rows: dict[str, list[dict[str, Any]]] = {
        "tables": [
            {
                "of_schema": "db",
                "of_table": "t",
                "kind": "BASE TABLE",
                "engine": "InnoDB",
                "row_format": "Dynamic",
                "row_count": 1,
                "bytes": 1,
                "collation": "utf8mb4_0900_ai_ci",
                "options": "",
                "comment": "",
            }
        ],
        "columns": [{**mysql_row(), "of_schema": "db", "of_table": "t"}],
        "indexes": [
            {
                "of_schema": "db",
                "of_table": "t",
                "name": "ix",
                "position": 1,
                "non_unique": 0,
                "of_column": None,
                "direction": "D",
                "length": None,
                "method": "BTREE",
                "expression": "lower(`a`)",
            }
        ],
        "checks": [
            {
                "of_schema": "db",
                "of_table": "t",
                "name": "ck",
                "level": "Table",
                "clause": "(`a` <> _utf8mb4\\'x\\')",
                "enforced": "NO",
            }
        ],
        "foreign_keys": [],
        "partitions": [],
        "triggers": [],
        "views": [],
    }
    for question, answer in rows.items():
        monkeypatch.setattr(information, question, lambda *_, answer=answer: answer)

    class Server:
        """Answers nothing but which database is meant."""

        dialect = my.dialect()

        def exec_driver_sql(self, _: str) -> Any:
            return self

        def one(self) -> tuple[str, str, int]:
            return "db", "", 0

    table = catalog.read(Server(), [None], MYSQL).tables[TableKey(None, "t")]  # type: ignore[arg-type]
    assert list(table.indexes) == [
        {"name": "ix", "column_names": [None], "unique": True, "expressions": ["(lower(`a`))"]}
    ]
    assert not table.uniques
    # NOT ENFORCED proves nothing.
    assert not table.checks
    assert table.unfinished == {"ck"}


def test_a_mysql_url_leads_to_either_server(mariadb_url: str) -> None:
    """A URL that begins with mysql:// is read as MariaDB once it has turned out to be that."""
    engine = sa.create_engine(spelled(mariadb_url, "mysql+pymysql"))
    with engine.connect():
        assert isinstance(dialect_of(engine), MariaDB)
    engine.dispose()
