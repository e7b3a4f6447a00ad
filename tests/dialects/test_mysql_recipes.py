"""What MariaDB runs for each kind of operation: the algorithm that is asked for is had, and the result is whole."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import mysql

from emc.names import ElementKind
from emc.operations import Kind, Operation, ReplaceOp, beside_name
from emc.phases import Phase
from emc.steps import LockPolicy
from tests.dialects.mysql_ritual import (
    MARIADB,
    USERS,
    Case,
    added,
    alter,
    build,
    constraint,
    dropped,
    element,
    holds,
    index,
    live,
    run,
    send,
    session,
    shown,
    steps,
    users,
)

INSTANT, NOCOPY, INPLACE = "ALGORITHM=INSTANT", "ALGORITHM=NOCOPY, LOCK=NONE", "ALGORITHM=INPLACE, LOCK=NONE"
SHARED, COPY = "ALGORITHM=INPLACE, LOCK=SHARED", "ALGORITHM=COPY, LOCK=SHARED"
INDEX, UNIQUE, CHECK, KEY = ElementKind.INDEX, ElementKind.UNIQUE, ElementKind.CHECK, ElementKind.FOREIGN_KEY


def cascading() -> sa.ForeignKeyConstraint:
    """A foreign key with an action."""
    return sa.ForeignKeyConstraint(["team"], ["order.id"], name="fk_team", ondelete="CASCADE")


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh MariaDB database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


def replaced(*columns: str, unique: bool = False) -> ReplaceOp:
    """The index ix_both over other columns."""
    table = users()
    old = ops.DropIndexOp.from_index(sa.Index("ix_both", table.c.team, table.c["select"]))
    return ReplaceOp(old, index(*columns, name="ix_both", unique=unique)(), beside_name("ix_both"))


CASES = [
    Case(
        "a column",
        Kind.ADD_COLUMN,
        element("tz"),
        added(sa.Column("tz", sa.String(30), comment="a 'zone' 5%")),
        INSTANT,
        new=["ALTER TABLE `Users` ADD COLUMN tz varchar(30) COMMENT 'a ''zone'' 5%'"],
    ),
    Case(
        "a column that fills itself",
        Kind.ADD_COLUMN,
        element("tz"),
        added(sa.Column("tz", sa.String(30), nullable=False, server_default="50%")),
        INSTANT,
        new=["ALTER TABLE `Users` ADD COLUMN tz varchar(30) NOT NULL DEFAULT '50%'"],
    ),
    Case(
        "a column with a reserved word of 64 characters, and the time by default",
        Kind.ADD_COLUMN,
        element("`" * 3 + "w" * 61),
        added(sa.Column("`" * 3 + "w" * 61, sa.DateTime, server_default=sa.func.now())),
        INSTANT,
        new=[f"ALTER TABLE `Users` ADD COLUMN `{'``' * 3}{'w' * 61}` datetime DEFAULT now()"],
    ),
    Case(
        "a column whose default differs from row to row",
        Kind.ADD_COLUMN,
        element("token"),
        added(sa.Column("token", sa.String(36), server_default=sa.func.uuid())),
        COPY,
        new=["ALTER TABLE `Users` ADD COLUMN token varchar(36) DEFAULT (uuid())"],
    ),
    Case(
        "a stored computed column",
        Kind.ADD_COLUMN,
        element("twice"),
        added(sa.Column("twice", sa.Integer, sa.Computed("`select` * 2", persisted=True))),
        COPY,
        new=["ALTER TABLE `Users` ADD COLUMN twice int AS (`select` * 2) STORED"],
    ),
    Case(
        "no column any more",
        Kind.DROP_COLUMN,
        element("email"),
        lambda: ops.DropColumnOp("Users", "email"),
        INSTANT,
        new=["ALTER TABLE `Users` DROP COLUMN email"],
    ),
    Case(
        "no column any more that a composite index speaks of: the index goes too, and is not narrowed",
        Kind.DROP_COLUMN,
        element("select"),
        lambda: ops.DropColumnOp("Users", "select"),
        INSTANT,
        new=["ALTER TABLE `Users` DROP INDEX ix_both, DROP COLUMN `select`"],
    ),
    Case(
        "no column any more in a composite unique key and a check over two columns",
        Kind.DROP_COLUMN,
        element("team"),
        lambda: ops.DropColumnOp("Users", "team"),
        INSTANT,
        old=[
            "ALTER TABLE `Users` ADD UNIQUE KEY uq (team, name), ADD CONSTRAINT ck CHECK (team > 0 OR `select` > 0)"
        ],
        new=["ALTER TABLE `Users` DROP INDEX ix_both, DROP COLUMN team"],
    ),
    Case(
        "no column any more with a foreign key",
        Kind.DROP_COLUMN,
        element("team"),
        lambda: ops.DropColumnOp("Users", "team"),
        INSTANT,
        old=["ALTER TABLE `Users` ADD CONSTRAINT fk FOREIGN KEY (team) REFERENCES `order` (id)"],
        new=["ALTER TABLE `Users` DROP INDEX ix_both, DROP COLUMN team"],
    ),
    Case(
        "NOT NULL, with default, comment and percent signs kept",
        Kind.SET_NOT_NULL,
        element("name"),
        alter("name", existing_type=sa.String(20), modify_nullable=False),
        INPLACE,
        new=["ALTER TABLE `Users` MODIFY name varchar(20) NOT NULL DEFAULT 'x%s' COMMENT 'it''s 100%'"],
    ),
    Case(
        "NOT NULL of JSON",
        Kind.SET_NOT_NULL,
        element("doc"),
        alter("doc", existing_type=sa.JSON(), modify_nullable=False),
        INPLACE,
        new=["ALTER TABLE `Users` MODIFY doc json NOT NULL"],
    ),
    Case(
        "no NOT NULL, with ON UPDATE kept",
        Kind.DROP_NOT_NULL,
        element("seen"),
        alter("seen", existing_type=sa.TIMESTAMP(), modify_nullable=True),
        INPLACE,
        new=[
            "ALTER TABLE `Users` MODIFY seen timestamp NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()"
        ],
    ),
    Case(
        "longer text below the border, with its collation kept",
        Kind.ALTER_TYPE,
        element("email"),
        alter("email", modify_type=sa.String(63)),
        INSTANT,
        new=["ALTER TABLE `Users` MODIFY email varchar(63) COLLATE utf8mb4_bin"],
    ),
    Case(
        "longer text over the border of 63 characters",
        Kind.ALTER_TYPE,
        element("email"),
        alter("email", modify_type=sa.String(64)),
        COPY,
        new=["ALTER TABLE `Users` MODIFY email varchar(64) COLLATE utf8mb4_bin"],
    ),
    Case(
        "longer text from at most 127 bytes to any length",
        Kind.ALTER_TYPE,
        element("name"),
        alter("name", modify_type=sa.String(200)),
        INSTANT,
        new=["ALTER TABLE `Users` MODIFY name varchar(200) DEFAULT 'x%s' COMMENT 'it''s 100%'"],
    ),
    Case(
        "a label behind the others",
        Kind.ALTER_TYPE,
        element("mood"),
        alter("mood", modify_type=sa.Enum("sad", "happy", "so-so")),
        INSTANT,
        new=["ALTER TABLE `Users` MODIFY mood enum('sad','happy','so-so') NOT NULL DEFAULT 'sad'"],
    ),
    Case(
        "a label between the others",
        Kind.ALTER_TYPE,
        element("mood"),
        alter("mood", modify_type=sa.Enum("sad", "so-so", "happy")),
        COPY,
        new=["ALTER TABLE `Users` MODIFY mood enum('sad','so-so','happy') NOT NULL DEFAULT 'sad'"],
    ),
    Case(
        "a wider number",
        Kind.ALTER_TYPE,
        element("select"),
        alter("select", modify_type=sa.BigInteger()),
        COPY,
        new=["ALTER TABLE `Users` MODIFY `select` bigint DEFAULT 7"],
    ),
    Case(
        "another default",
        Kind.SET_DEFAULT,
        element("name"),
        alter("name", existing_type=sa.String(20), modify_server_default="it's 1%"),
        INSTANT,
        new=["ALTER TABLE `Users` ALTER COLUMN name SET DEFAULT 'it''s 1%'"],
    ),
    Case(
        "another default, with ON UPDATE as the models have it",
        Kind.SET_DEFAULT,
        element("seen"),
        alter("seen", modify_server_default=sa.text("'2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP")),
        INSTANT,
        new=[
            (
                "ALTER TABLE `Users` MODIFY seen timestamp NOT NULL DEFAULT '2020-01-01 00:00:00'"
                " ON UPDATE current_timestamp()"
            )
        ],
    ),
    Case(
        "a default that is an expression",
        Kind.SET_DEFAULT,
        element("email"),
        alter("email", existing_type=sa.String(60), modify_server_default=sa.func.uuid()),
        INSTANT,
        new=["ALTER TABLE `Users` ALTER COLUMN email SET DEFAULT (uuid())"],
    ),
    Case(
        "no default but NULL",
        Kind.DROP_DEFAULT,
        element("name"),
        alter("name", existing_type=sa.String(20), modify_server_default=None),
        INSTANT,
        new=["ALTER TABLE `Users` ALTER COLUMN name SET DEFAULT NULL"],
    ),
    Case(
        "no default at all",
        Kind.DROP_DEFAULT,
        element("mood"),
        alter("mood", existing_type=sa.Enum("sad", "happy"), modify_server_default=None),
        INSTANT,
        new=["ALTER TABLE `Users` ALTER COLUMN mood DROP DEFAULT"],
    ),
    Case(
        "a comment of a column, and nothing else of it changed",
        Kind.SET_COMMENT,
        element("seen"),
        alter("seen", existing_type=sa.TIMESTAMP(), modify_comment="it's 5%"),
        INSTANT,
        new=[
            (
                "ALTER TABLE `Users` MODIFY seen timestamp NOT NULL DEFAULT current_timestamp()"
                " ON UPDATE current_timestamp() COMMENT 'it''s 5%'"
            )
        ],
    ),
    Case(
        "a comment of JSON",
        Kind.SET_COMMENT,
        element("doc"),
        alter("doc", existing_type=sa.JSON(), modify_comment="d"),
        INSTANT,
        new=["ALTER TABLE `Users` MODIFY doc json COMMENT 'd'"],
    ),
    Case(
        "a comment of the table",
        Kind.SET_COMMENT,
        element(None, ElementKind.TABLE),
        lambda: ops.CreateTableCommentOp("Users", "people"),
        INSTANT,
        new=["ALTER TABLE `Users` COMMENT 'people'"],
    ),
    Case(
        "an index",
        Kind.CREATE_INDEX,
        element("ix", INDEX),
        index("name", "select DESC"),
        NOCOPY,
        new=["CREATE INDEX ix ON `Users` (name, `select` DESC)"],
    ),
    Case(
        "a unique index over a prefix",
        Kind.CREATE_INDEX,
        element("ix", INDEX),
        index("email", "big", unique=True, mariadb_length={"big": 20}),
        NOCOPY,
        new=["CREATE UNIQUE INDEX ix ON `Users` (email, big(20))"],
    ),
    Case(
        "a prefix that only mysql_ tells",
        Kind.CREATE_INDEX,
        element("ix", INDEX),
        index("big", mysql_length=20),
        NOCOPY,
        new=["CREATE INDEX ix ON `Users` (big(20))"],
    ),
    Case(
        "a full-text index",
        Kind.CREATE_INDEX,
        element("ix", INDEX),
        index("big", mariadb_prefix="FULLTEXT"),
        SHARED,
        new=["CREATE FULLTEXT INDEX ix ON `Users` (big)"],
    ),
    Case(
        "no index any more",
        Kind.DROP_INDEX,
        element("ix_both", INDEX),
        lambda: ops.DropIndexOp("ix_both", "Users"),
        NOCOPY,
        new=["ALTER TABLE `Users` DROP INDEX ix_both"],
    ),
    Case(
        "no index any more that a foreign key needs: the key gets one of its own",
        Kind.DROP_INDEX,
        element("ix_both", INDEX),
        lambda: ops.DropIndexOp("ix_both", "Users"),
        NOCOPY,
        old=["ALTER TABLE `Users` ADD CONSTRAINT fk FOREIGN KEY (team) REFERENCES `order` (id)"],
        new=[
            "ALTER TABLE `Users` DROP INDEX ix_both",
            "ALTER TABLE `Users` ADD CONSTRAINT fk FOREIGN KEY (team) REFERENCES `order` (id)",
        ],
    ),
    Case(
        "another definition of an index",
        Kind.REPLACE_INDEX,
        element("ix_both", INDEX),
        lambda: replaced("name", "team"),
        NOCOPY,
        new=["ALTER TABLE `Users` DROP INDEX ix_both, ADD INDEX ix_both (name, team)"],
    ),
    Case(
        "another definition of an index that is built already",
        Kind.REPLACE_INDEX,
        element("ix_both", INDEX),
        lambda: replaced("name", "team"),
        NOCOPY,
        old=[f"ALTER TABLE `Users` ADD INDEX {beside_name('ix_both')} (name, team)"],
        new=["ALTER TABLE `Users` DROP INDEX ix_both, ADD INDEX ix_both (name, team)"],
    ),
    Case(
        "a unique constraint",
        Kind.ADD_UNIQUE,
        element("uq", UNIQUE),
        constraint(lambda: sa.UniqueConstraint("name", "email", name="uq")),
        NOCOPY,
        new=["ALTER TABLE `Users` ADD CONSTRAINT uq UNIQUE (name, email)"],
    ),
    Case(
        "no unique constraint any more",
        Kind.DROP_UNIQUE,
        element("uq", UNIQUE),
        dropped("uq", "unique"),
        NOCOPY,
        old=["ALTER TABLE `Users` ADD CONSTRAINT uq UNIQUE (name)"],
    ),
    Case(
        "a check, with a percent sign in it",
        Kind.ADD_CHECK,
        element("ck", CHECK),
        constraint(lambda: sa.CheckConstraint("name LIKE 'n%'", name="ck")),
        COPY,
        new=["ALTER TABLE `Users` ADD CONSTRAINT ck CHECK (name LIKE 'n%')"],
    ),
    Case(
        "no check any more",
        Kind.DROP_CHECK,
        element("ck", CHECK),
        dropped("ck", "check"),
        INSTANT,
        old=["ALTER TABLE `Users` ADD CONSTRAINT ck CHECK (name LIKE 'n%')"],
    ),
    Case(
        "no check of a column any more",
        Kind.DROP_CHECK,
        element("select", CHECK),
        dropped("select", "check"),
        INSTANT,
        old=["ALTER TABLE `Users` MODIFY `select` int DEFAULT 7 CHECK (`select` > 0)"],
    ),
    Case(
        "a foreign key that an index serves",
        Kind.ADD_FOREIGN_KEY,
        element("fk_team", KEY),
        constraint(cascading),
        INSTANT,
        new=[
            "ALTER TABLE `Users` ADD CONSTRAINT fk_team FOREIGN KEY (team) REFERENCES `order` (id) ON DELETE CASCADE"
        ],
    ),
    Case(
        "a foreign key without a name or an index, and its leftover",
        Kind.ADD_FOREIGN_KEY,
        element("(select)", KEY),
        constraint(lambda: sa.ForeignKeyConstraint(["select"], ["order.u"])),
        NOCOPY,
        new=["ALTER TABLE `Users` ADD FOREIGN KEY (`select`) REFERENCES `order` (u)"],
    ),
    Case(
        "no foreign key any more: its index is left, and called like it",
        Kind.DROP_FOREIGN_KEY,
        element("Users_ibfk_1", KEY),
        dropped("Users_ibfk_1", "foreignkey"),
        INSTANT,
        old=["ALTER TABLE `Users` ADD FOREIGN KEY (`select`) REFERENCES `order` (u)"],
        new=["ALTER TABLE `Users` ADD INDEX `Users_ibfk_1` (`select`)"],
    ),
    Case(
        "another action of a foreign key",
        Kind.REPLACE_CONSTRAINT,
        element("fk_team", KEY),
        lambda: ReplaceOp(dropped("fk_team", "foreignkey")(), constraint(cascading)()),
        INSTANT,
        old=["ALTER TABLE `Users` ADD CONSTRAINT fk_team FOREIGN KEY (team) REFERENCES `order` (id)"],
        new=[
            "ALTER TABLE `Users` ADD CONSTRAINT fk_team FOREIGN KEY (team) REFERENCES `order` (id) ON DELETE CASCADE"
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operation_ends_in_its_target_by_the_algorithm_asked_for(engine: Engine, case: Case) -> None:
    """With rows in the table the server takes what is asked for first; nothing else of the column or table is lost."""
    build(engine, *case.old)
    [step] = steps(engine, case.operation())
    assert not holds(engine, step)
    assert step.statements[-1].endswith(case.algorithm)
    run(engine, step)
    assert holds(engine, step)
    result = shown(engine)
    build(engine, *case.new)
    assert result == shown(engine)


def create_or_drop(kind: str, directive: object, name: str) -> Operation:
    """An operation about a table."""
    return Operation(directive, kind, element(None, ElementKind.TABLE, USERS), Phase.CONTRACT, name)  # type: ignore[arg-type]


def test_tables_come_with_what_belongs_to_them_and_go(engine: Engine) -> None:
    """Options, comments, foreign keys and their indexes are those that create_all() makes; a drop leaves nothing."""
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    table = sa.Table(
        "Users",
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("parent", sa.ForeignKey("parent.id"), comment="5% `of` them"),
        sa.Column("doc", sa.JSON, nullable=False),
        sa.CheckConstraint("parent > 0"),
        mariadb_engine="InnoDB",
        mariadb_charset="latin1",
        comment="people",
    )
    parent.create(engine)
    operation = create_or_drop(Kind.CREATE_TABLE, ops.CreateTableOp.from_table(table), "create")
    [step] = steps(engine, operation)
    assert not holds(engine, step)
    run(engine, step)
    assert holds(engine, step)
    result = shown(engine)
    drop = create_or_drop(Kind.DROP_TABLE, ops.DropTableOp("Users"), "drop")
    [step] = steps(engine, drop)
    assert not holds(engine, step)
    run(engine, step)
    assert holds(engine, step)
    table.create(engine)
    assert result == shown(engine)


def add(name: str, **options: object) -> Operation:
    """A column to be added."""
    column: sa.Column[int] = sa.Column(name, sa.Integer, **options)  # type: ignore[arg-type]
    return Operation(added(column)(), Kind.ADD_COLUMN, element(name), Phase.EXPAND, name)


def indexed(name: str, *columns: str) -> Operation:
    """An index to be created."""
    directive = index(*columns, name=name)()
    return Operation(directive, Kind.CREATE_INDEX, element(name, INDEX), Phase.EXPAND, name)


def test_neighbours_share_a_statement_as_long_as_that_keeps_the_algorithm(engine: Engine) -> None:
    """Columns come in one INSTANT, indexes in one NOCOPY: together they would be a new table (seen with 10.11.19)."""
    build(engine)
    found = steps(engine, add("a"), add("b"), indexed("ix_a", "name"), indexed("ix_b", "email"))
    assert [step.id for step in found] == [
        "add-column:Users.a",
        "add-column:Users.b",
        "create-index:Users.ix_a",
        "create-index:Users.ix_b",
    ]
    assert [len(step.statements) for step in found] == [1, 0, 1, 0]
    assert found[0].unit == found[1].unit != found[2].unit == found[3].unit
    run(engine, *found)
    assert all(holds(engine, step) for step in found)


def test_what_is_half_done_is_finished_by_the_steps_derived_again(engine: Engine) -> None:
    """A connection that is killed between two columns of a drop leaves no index narrowed, and the rest is derived."""
    build(engine)
    operation = Operation(
        ops.DropColumnOp("Users", "select"), Kind.DROP_COLUMN, element("select"), Phase.CONTRACT, "drop"
    )
    [step] = steps(engine, operation)
    with session(engine) as connection:
        send(connection, step.statements[0])
    assert not holds(engine, step)
    [step] = steps(engine, operation)
    assert len(step.statements) == 1
    run(engine, step)
    assert holds(engine, step)


def test_changes_of_one_column_build_on_each_other(engine: Engine) -> None:
    """MODIFY repeats a whole definition: the second one of a phase must not undo the first."""
    build(engine)
    grown = Operation(
        alter("name", modify_type=sa.String(30))(), Kind.ALTER_TYPE, element("name"), Phase.EXPAND, "grow"
    )
    said = Operation(
        alter("name", existing_type=sa.String(20), modify_comment="c")(),
        Kind.SET_COMMENT,
        element("name"),
        Phase.EXPAND,
        "comment",
    )
    run(engine, *steps(engine, grown, said))
    assert "`name` varchar(30) DEFAULT 'x%s' COMMENT 'c'" in shown(engine)


def test_a_check_comes_with_the_column_that_it_speaks_of(engine: Engine) -> None:
    """An unnamed CHECK of a new column is a part of its definition, which is INSTANT; beside it, it would be a copy."""
    build(engine)
    check = Operation(
        ops.CreateCheckConstraintOp(None, "Users", "age > 0"),
        Kind.ADD_CHECK,
        element("(age > 0)", CHECK),
        Phase.EXPAND,
        "check",
    )
    found = steps(engine, add("age"), indexed("ix_a", "name"), check)
    assert [step.id for step in found][:2] == ["add-column:Users.age", check.id]
    assert found[0].statements[0].endswith("CHECK (age > 0), ALGORITHM=INSTANT")
    run(engine, *found)
    assert all(holds(engine, step) for step in found)


def test_no_way_that_stops_writers_is_tried_unasked(engine: Engine) -> None:
    """On a big table the last resort is online, and the server refuses; where a person allows it, a copy comes last."""
    build(engine)
    snapshot = live(engine)
    table = snapshot.tables[USERS]
    object.__setattr__(table, "size_bytes", 10**9)
    [step] = MARIADB.steps([add("a")], snapshot)
    assert not any("LOCK=SHARED" in way.sql for way in step.instead[step.statements[0]])
    assert step.beyond is not None
    assert 'upgrade.allow("add-column:Users.a"' in step.beyond.remedy
    grown = Operation(
        alter("select", modify_type=sa.BigInteger())(),
        Kind.ALTER_TYPE,
        element("select"),
        Phase.EXPAND,
        "grow",
    )
    [step] = MARIADB.steps([grown], snapshot)
    assert step.statements[0].endswith(INPLACE)
    allowed = Operation(
        grown.directive, grown.kind, grown.element, Phase.EXPAND, "grow", allowed="Sunday night"
    )
    [step] = MARIADB.steps([allowed], snapshot)
    assert step.statements[0].endswith(COPY)
    assert step.policies == (LockPolicy.WEAK,)


def test_the_server_refuses_a_slower_way_than_asked_for(engine: Engine) -> None:
    """Error 1845 or 1846, before anything is done: what the executor takes for "try the next way"."""
    build(engine)
    with session(engine) as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        send(connection, f"ALTER TABLE `Users` MODIFY `select` bigint DEFAULT 7, {INPLACE}")
    assert MARIADB.failure(caught.value).value == "unsupported"


def test_types_by_their_mysql_names_are_known_to_the_catalog(engine: Engine) -> None:
    """The postcondition of a new column compares its type, whatever the models call it."""
    build(engine)
    types: list[Any] = [
        *(sa.Boolean(), sa.Numeric(8, 3), sa.Float(), sa.Double(), sa.LargeBinary(), sa.Uuid(), sa.JSON()),
        *(
            sa.Text(100),
            sa.Unicode(9),
            sa.Enum("a'b", "c", name="e"),
            sa.DateTime(),
            sa.Time(),
            sa.SmallInteger(),
        ),
        *(
            mysql.INTEGER(unsigned=True),
            mysql.DATETIME(fsp=6),
            mysql.BIT(5),
            mysql.SET("a", "b"),
            mysql.YEAR(),
        ),
        *(
            mysql.TINYINT(1),
            mysql.MEDIUMTEXT(),
            mysql.DOUBLE(10, 2),
            sa.NCHAR(7),
            sa.CHAR(3, collation="utf8mb4_bin"),
        ),
    ]
    operations = [
        Operation(added(sa.Column(f"c{n}", one))(), Kind.ADD_COLUMN, element(f"c{n}"), Phase.EXPAND, "add")
        for n, one in enumerate(types)
    ]
    found = steps(engine, *operations)
    run(engine, *found)
    assert [step.id for step in found if not holds(engine, step)] == []
