"""Carries out operations on a MariaDB server as the dialect renders them, and looks at what came of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import Connection, Engine

from emc.dialects.mysql import MariaDB
from emc.names import Element, ElementKind, TableKey
from emc.operations import Operation
from emc.phases import Phase
from emc.schema import LiveSchema
from emc.steps import LockPolicy, Step, Transaction

MARIADB = MariaDB()
USERS = TableKey(None, "Users")
TEAMS = TableKey(None, "order")

USERS_TABLE = """
CREATE TABLE `Users` (
    id int AUTO_INCREMENT PRIMARY KEY,
    name varchar(20) DEFAULT 'x%s' COMMENT 'it''s 100%',
    `select` int DEFAULT 7,
    email varchar(60) COLLATE utf8mb4_bin,
    mood enum('sad','happy') NOT NULL DEFAULT 'sad',
    seen timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
    team int,
    doc json,
    big text,
    KEY ix_both (team, `select`))
"""
USERS_ROWS = """
INSERT INTO `Users` (name, `select`, email, team, doc, big)
SELECT CONCAT('n', seq), seq, CONCAT('e', seq), seq, '{}', CONCAT('b', seq) FROM seq_1_to_50
"""
BASE = (
    "CREATE TABLE `order` (id int PRIMARY KEY, u int, title varchar(20) NOT NULL, UNIQUE KEY order_u (u))",
    USERS_TABLE,
    "INSERT INTO `order` (id, u, title) SELECT seq, seq, seq FROM seq_1_to_50",
    USERS_ROWS,
)


@dataclass(frozen=True)
class Case:
    """One operation: what it starts from, what it is to do, and what the table is like then."""

    name: str
    kind: str
    element: Element
    directive: Callable[[], Any]
    algorithm: str
    """How the server is asked for it, and does it."""
    old: Sequence[str] = ()
    """Statements that make the start from the base."""
    new: Sequence[str] = ()
    """Statements that make the end from the base."""
    phase: Phase = Phase.CONTRACT

    def operation(self) -> Operation:
        """What the dialect is given."""
        return Operation(self.directive(), self.kind, self.element, self.phase, self.name)


def element(name: str | None, kind: ElementKind = ElementKind.COLUMN, key: TableKey = USERS) -> Element:
    """An element of the table of users."""
    return Element(kind, key, name)


def alter(name: str, **changes: Any) -> Callable[[], Any]:
    """One change of a column."""
    return lambda: ops.AlterColumnOp(USERS.name, name, **changes)


def added(*columns: Any) -> Callable[[], Any]:
    """A column to be added."""
    return lambda: ops.AddColumnOp(USERS.name, *columns)


def users(*items: Any) -> sa.Table:
    """The table of users in the models, as far as constraints and indexes speak of it."""
    metadata = sa.MetaData()
    sa.Table("order", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("u", sa.Integer))
    return sa.Table(
        "Users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20)),
        sa.Column("select", sa.Integer),
        sa.Column("email", sa.String(60)),
        sa.Column("team", sa.Integer),
        sa.Column("big", sa.Text),
        *items,
    )


def index(*elements: str, name: str = "ix", **options: Any) -> Callable[[], Any]:
    """An index to be created; ``"name DESC"`` is an element too."""

    def directive() -> Any:
        table = users()
        columns = [
            table.c[one.removesuffix(" DESC")].desc() if one.endswith(" DESC") else table.c[one]
            for one in elements
        ]
        return ops.CreateIndexOp.from_index(sa.Index(name, *columns, **options))

    return directive


def constraint(made: Callable[[], Any]) -> Callable[[], Any]:
    """A constraint to be added."""

    def directive() -> Any:
        users(one := made())
        return ops.AddConstraintOp.from_constraint(one)

    return directive


def dropped(name: str, kind: str) -> Callable[[], Any]:
    """A constraint to be dropped."""
    return lambda: ops.DropConstraintOp(name, USERS.name, kind)


def build(engine: Engine, *statements: str) -> None:
    """Make the tables anew."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("Users", "order"):
            send(connection, f"DROP TABLE IF EXISTS `{table}`")
        for statement in (*BASE, *statements):
            send(connection, statement)


def send(connection: Connection, statement: str) -> Any:
    """Send a statement as it stands."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def live(engine: Engine) -> LiveSchema:
    """The snapshot."""
    with MARIADB.reading(engine) as connection:
        return MARIADB.read(connection, [None])


def steps(engine: Engine, *operations: Operation) -> list[Step]:
    """What the dialect makes of *operations* now."""
    return list(MARIADB.steps(operations, live(engine)))


@contextmanager
def session(engine: Engine) -> Iterator[Connection]:
    """A session as the executor opens it."""
    with MARIADB.open(engine, Transaction.AUTOCOMMIT, LockPolicy.SHORT, 5) as connection:
        yield connection


def holds(engine: Engine, step: Step) -> bool:
    """Whether the catalog shows the result of *step*."""
    with engine.connect() as connection:
        return bool(send(connection, step.postcondition.sql).scalar())


def run(engine: Engine, *done: Step) -> None:
    """Send the statements of *done* in the way that is asked for first."""
    with session(engine) as connection:
        for step in done:
            for statement in step.statements:
                send(connection, statement)


def shown(engine: Engine, table: str = "Users") -> str:
    """How the server shows a table; the order of indexes, and the next number, say nothing."""
    with engine.connect() as connection:
        text: str = send(connection, f"SHOW CREATE TABLE `{table}`").one()[1]
    lines = [line.rstrip(",") for line in text.splitlines()]
    keys = sorted(
        line for line in lines if line.lstrip().startswith(("KEY", "UNIQUE", "CONSTRAINT", "FULLTEXT"))
    )
    return "\n".join([line for line in lines if line not in keys and not line.startswith(")")] + keys)
