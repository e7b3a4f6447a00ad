"""What is asked of MySQL 8, by its manual: no such server is at hand, and each statement asks instead of trusting."""

import pytest
import sqlalchemy as sa

from emc.dialects.mysql import recipes
from emc.dialects.mysql.algorithms import Algorithm, of_type
from emc.dialects.mysql.flavour import MARIADB, MYSQL, Flavour
from emc.dialects.mysql.live import ColumnText, MySQLSchema, MySQLTable
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.steps import Step
from tests.dialects.mysql_ritual import USERS, added, alter, constraint, dropped, element, index

TEXTS = {
    "id": ColumnText("id", "int", nullable=False, auto_increment=True),
    "name": ColumnText("name", "varchar(20)", charset="utf8mb4", collation="utf8mb4_0900_ai_ci", comment="n"),
    "seen": ColumnText(
        "seen", "datetime(6)", default="CURRENT_TIMESTAMP(6)", on_update="CURRENT_TIMESTAMP(6)"
    ),
    "since": ColumnText("since", "datetime"),
}

EIGHT = "'1','2','3','4','5','6','7','8'"


def schema(flavour: Flavour) -> MySQLSchema:
    """A snapshot with a small table."""
    table = MySQLTable(USERS, columns={}, texts=TEXTS, size_bytes=2**40)
    version = (8, 4, 0) if flavour is MYSQL else (10, 11, 19)
    return MySQLSchema({USERS: table}, dialect_name="mysql", version=version, database="shop")


def step_on(flavour: Flavour, kind: str, directive: object, name: str = "x") -> Step:
    """One operation as the flavour is asked for it."""
    operation = Operation(directive, kind, element(name), Phase.CONTRACT, kind)  # type: ignore[arg-type]
    [step] = recipes.steps([operation], schema(flavour), flavour)
    return step


def ways(step: Step) -> list[str]:
    """The ends of the statements that are tried, in order."""
    last = step.statements[-1]
    return [sql[sql.index("ALGORITHM") :] for sql in (last, *(way.sql for way in step.instead.get(last, ())))]


def test_mysql_knows_no_nocopy_and_no_lock_beside_instant() -> None:
    """Manual of MySQL 8.4, "ALTER TABLE Statement": only LOCK=DEFAULT goes with ALGORITHM=INSTANT."""
    column = added(sa.Column("x", sa.Integer))()
    assert ways(step_on(MYSQL, Kind.ADD_COLUMN, column)) == [
        "ALGORITHM=INSTANT",
        "ALGORITHM=INPLACE, LOCK=NONE",
    ]
    assert ways(step_on(MARIADB, Kind.ADD_COLUMN, column)) == [
        "ALGORITHM=INSTANT",
        "ALGORITHM=NOCOPY, LOCK=NONE",
        "ALGORITHM=INPLACE, LOCK=NONE",
    ]
    assert ways(step_on(MYSQL, Kind.CREATE_INDEX, index("name")())) == ["ALGORITHM=INPLACE, LOCK=NONE"]


def test_foreign_keys_are_left_unchecked_for_one_statement_or_between_two() -> None:
    """MySQL cannot set a variable for one ALTER TABLE; the session has it back right behind."""
    directive = constraint(lambda: sa.ForeignKeyConstraint(["team"], ["order.id"], name="fk"))()
    first, alteration, last = step_on(MYSQL, Kind.ADD_FOREIGN_KEY, directive).statements
    assert (first, last) == ("SET SESSION foreign_key_checks=0", "SET SESSION foreign_key_checks=1")
    assert alteration.startswith("ALTER TABLE `Users` ADD CONSTRAINT fk FOREIGN KEY")
    [alteration] = step_on(MARIADB, Kind.ADD_FOREIGN_KEY, directive).statements
    assert alteration.startswith("SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE `Users` ADD")


def test_a_check_is_dropped_by_its_own_word() -> None:
    """DROP CHECK on MySQL, DROP CONSTRAINT on MariaDB."""
    directive = dropped("ck", "check")()
    assert " DROP CHECK ck," in step_on(MYSQL, Kind.DROP_CHECK, directive).statements[0]
    assert " DROP CONSTRAINT ck," in step_on(MARIADB, Kind.DROP_CHECK, directive).statements[0]


@pytest.mark.parametrize("flavour", [MYSQL, MARIADB], ids=["mysql", "mariadb"])
def test_nothing_of_a_column_is_lost_where_its_definition_is_repeated(flavour: Flavour) -> None:
    """Fractional seconds, default and ON UPDATE stand in the MODIFY that sets a comment."""
    directive = alter("seen", existing_type=sa.DateTime(), modify_comment="when")()
    [statement] = step_on(flavour, Kind.SET_COMMENT, directive, "seen").statements
    assert statement == (
        "ALTER TABLE `Users` MODIFY seen datetime(6) NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"
        " COMMENT 'when', ALGORITHM=INSTANT"
    )


def test_the_time_by_default_is_no_expression() -> None:
    """SET DEFAULT takes CURRENT_TIMESTAMP in parentheses only on MySQL, and shows it so ever after: MODIFY does not."""
    directive = alter(
        "since", existing_type=sa.DateTime(), modify_server_default=sa.text("CURRENT_TIMESTAMP")
    )()
    assert " MODIFY since datetime " in step_on(MYSQL, Kind.SET_DEFAULT, directive, "since").statements[0]
    assert " ALTER COLUMN since SET " in step_on(MARIADB, Kind.SET_DEFAULT, directive, "since").statements[0]


@pytest.mark.parametrize(
    ("old", "new", "mariadb", "mysql"),
    [
        ("varchar(20)", "varchar(63)", Algorithm.INSTANT, Algorithm.INSTANT),
        ("varchar(63)", "varchar(64)", Algorithm.COPY, Algorithm.COPY),
        ("varchar(31)", "varchar(64)", Algorithm.INSTANT, Algorithm.COPY),
        ("varchar(64)", "varchar(999)", Algorithm.INSTANT, Algorithm.INSTANT),
        ("varchar(20)", "varchar(10)", Algorithm.COPY, Algorithm.COPY),
        ("varchar(20)", "text", Algorithm.COPY, Algorithm.COPY),
        ("int(10)", "INTEGER", Algorithm.INSTANT, Algorithm.INSTANT),
        ("int", "int unsigned", Algorithm.COPY, Algorithm.COPY),
        ("decimal(10,2)", "NUMERIC(10, 2)", Algorithm.INSTANT, Algorithm.INSTANT),
        ("datetime", "DATETIME(6)", Algorithm.COPY, Algorithm.COPY),
        ("enum('a')", "ENUM('a','b, (c)')", Algorithm.INSTANT, Algorithm.INSTANT),
        ("enum('a','b')", "ENUM('b','a')", Algorithm.COPY, Algorithm.COPY),
        (f"set({EIGHT})", f"SET({EIGHT},'9')", Algorithm.COPY, Algorithm.COPY),
    ],
)
def test_which_types_change_without_a_copy(old: str, new: str, mariadb: Algorithm, mysql: Algorithm) -> None:
    """The border between one and two bytes of length is at 63 characters of utf8mb4; labels come last."""
    before, after = (ColumnText("c", one, charset="utf8mb4", collation="utf8mb4_bin") for one in (old, new))
    assert of_type(before, after, MARIADB, indexed=False) is mariadb
    assert of_type(before, after, MYSQL, indexed=False) is mysql
