"""What emc does not do on MariaDB unasked, what it may not do, and how a foreign key comes without a copy."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import Engine, create_engine, make_url

import emc
from emc.dialects.mysql import foreign_keys
from emc.dialects.mysql.flavour import MARIADB as FLAVOUR
from emc.errors import DeclarationError, PlanRefusedError, Refusal
from emc.names import ElementKind
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema
from tests.dialects.mysql_ritual import (
    MARIADB,
    USERS,
    added,
    alter,
    build,
    constraint,
    dropped,
    element,
    holds,
    live,
    run,
    send,
    session,
    shown,
    steps,
)


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh MariaDB database with the tables."""
    engine = create_engine(mariadb_url)
    build(engine)
    yield engine
    engine.dispose()


def operation(kind: str, directive: Any, name: str | None, of: ElementKind = ElementKind.COLUMN) -> Operation:
    """An operation on the table of users."""
    return Operation(directive, kind, element(name, of), Phase.CONTRACT, kind)


def refused(one: Operation, snapshot: LiveSchema, *others: Operation) -> Refusal | None:
    """Why the dialect does not do it."""
    return MARIADB.refuse(one, snapshot, (one, *others))


def big(snapshot: LiveSchema) -> LiveSchema:
    """The same, with a table of a gigabyte."""
    object.__setattr__(snapshot.tables[USERS], "size_bytes", 2**30)
    object.__setattr__(snapshot.tables[USERS], "row_estimate", 12_345_678)
    return snapshot


GROWN = operation(Kind.ALTER_TYPE, alter("select", modify_type=sa.BigInteger())(), "select")


def test_a_copy_of_a_big_table_is_refused_with_its_cost_and_the_way_to_allow_it(engine: Engine) -> None:
    """INSTANT, else NOCOPY or INPLACE, else refused with what it would cost and how to allow it, unless small."""
    snapshot = live(engine)
    assert refused(GROWN, snapshot) is None
    refusal = refused(GROWN, big(snapshot))
    assert refusal is not None
    assert "12,345,678 rows, 1,024 MiB" in refusal.reason
    assert 'upgrade.allow("alter-type:Users.select", reason=' in refusal.remedy
    object.__setattr__(snapshot.tables[USERS], "size_bytes", None)
    assert refused(GROWN, snapshot) is not None
    wider = operation(Kind.ALTER_TYPE, alter("email", modify_type=sa.String(63))(), "email")
    assert refused(wider, snapshot) is None


def test_not_null_without_a_default_would_fill_zeros(engine: Engine) -> None:
    """MariaDB adds such a column at once, and existing rows silently become 0 or '': it is never sent."""
    column = sa.Column("n", sa.Integer, nullable=False)
    assert refused(operation(Kind.ADD_COLUMN, added(column)(), "n"), live(engine)) is not None


def test_what_hangs_on_a_column_is_named_unless_it_goes_too(engine: Engine) -> None:
    """Views and triggers that name a dropped column break at run time; a generated column stops the server."""
    with session(engine) as connection:
        send(connection, "ALTER TABLE `Users` ADD COLUMN twice int AS (`select` * 2) VIRTUAL")
    drop = operation(Kind.DROP_COLUMN, ops.DropColumnOp("Users", "select"), "select")
    twice = operation(Kind.DROP_COLUMN, ops.DropColumnOp("Users", "twice"), "twice")
    refusal = refused(drop, live(engine))
    assert refusal is not None
    assert refusal.remedy == 'upgrade.retire("Users.twice")'
    assert refused(drop, live(engine), twice) is None


def test_keys_of_others_hold_a_column_an_index_and_a_type(engine: Engine) -> None:
    """1553, 1829, 1832 and 1833 are said before anything is done, with the foreign key's name."""
    with session(engine) as connection:
        send(connection, "CREATE UNIQUE INDEX uq ON `Users` (`select`)")
        send(connection, "CREATE TABLE child (id int PRIMARY KEY, s int)")
        send(
            connection, "ALTER TABLE child ADD CONSTRAINT fk_s FOREIGN KEY (s) REFERENCES `Users` (`select`)"
        )
    snapshot = live(engine)
    asked = [
        operation(Kind.DROP_COLUMN, ops.DropColumnOp("Users", "select"), "select"),
        operation(Kind.DROP_UNIQUE, dropped("uq", "unique")(), "uq", ElementKind.UNIQUE),
        GROWN,
    ]
    found = [refused(one, snapshot) for one in asked]
    assert [refusal is not None and "fk_s of child" in refusal.reason for refusal in found] == [True] * 3


def test_a_name_that_is_too_long_is_refused(engine: Engine) -> None:
    """A name of 64 characters is taken (see the recipes), one of 65 is not."""
    column = sa.Column("n" * 65, sa.Integer)
    refusal = refused(operation(Kind.ADD_COLUMN, added(column)(), "n" * 65), live(engine))
    assert refusal is not None
    assert "64" in refusal.reason


# -- foreign keys ------------------------------------------------------------------------------------------------------


def test_a_foreign_key_is_guarded_proved_and_swapped_without_a_copy(engine: Engine) -> None:
    """Under the guard's name new rows are checked; the swap is INSTANT, and ends as if it had been made so."""
    add = Operation(
        constraint(lambda: sa.ForeignKeyConstraint(["select"], ["order.u"], name="fk_u"))(),
        Kind.ADD_FOREIGN_KEY,
        element("fk_u", ElementKind.FOREIGN_KEY),
        Phase.CONTRACT,
        "add",
    )
    put = foreign_keys.add_guard(add, "emc_guard_1", live(engine), FLAVOUR)
    assert put.statement.startswith("SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE")
    assert put.statement.endswith("ALGORITHM=NOCOPY, LOCK=NONE")
    with session(engine) as connection:
        send(connection, put.statement)
        with pytest.raises(sa.exc.IntegrityError):
            send(connection, "UPDATE `Users` SET `select` = 99 WHERE id = 1")
    [step] = steps(engine, add)
    assert not holds(engine, step)
    swap = foreign_keys.swap(add, "emc_guard_1", live(engine), FLAVOUR)
    assert swap.statement.endswith("ALGORITHM=INSTANT")
    with session(engine) as connection:
        send(connection, swap.statement)
        with pytest.raises(sa.exc.DBAPIError, match="1091"):
            send(connection, swap.statement.replace("fk_u", "fk_v"))
        assert send(connection, "SELECT @@SESSION.foreign_key_checks").scalar() == 1
    assert holds(engine, step)
    result = shown(engine)
    build(engine, "ALTER TABLE `Users` ADD CONSTRAINT fk_u FOREIGN KEY (`select`) REFERENCES `order` (u)")
    assert result == shown(engine)


def test_the_index_that_a_foreign_key_left_behind_makes_way(engine: Engine) -> None:
    """A foreign key of the same name on another column would meet its index: 1061 (seen with MariaDB 10.11.19)."""
    with session(engine) as connection:
        send(connection, "ALTER TABLE `Users` ADD INDEX fk_u (name)")
    add = Operation(
        constraint(lambda: sa.ForeignKeyConstraint(["select"], ["order.u"], name="fk_u"))(),
        Kind.ADD_FOREIGN_KEY,
        element("fk_u", ElementKind.FOREIGN_KEY),
        Phase.CONTRACT,
        "add",
    )
    [step] = steps(engine, add)
    run(engine, step)
    assert holds(engine, step)


# -- allowing ----------------------------------------------------------------------------------------------------------


def declared() -> emc.Upgrade:
    """An upgrade that widens a number."""
    metadata = sa.MetaData()
    sa.Table(
        "things", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("size", sa.BigInteger)
    )
    return emc.Upgrade(metadata, release="2")


def test_a_person_may_allow_what_costs(engine: Engine) -> None:
    """The refusal names the line to paste; with it the copy runs, and the ledger keeps the reason."""
    with session(engine) as connection:
        send(connection, "CREATE TABLE things (id int AUTO_INCREMENT PRIMARY KEY, size int, pad char(250))")
        send(connection, "INSERT INTO things (size, pad) SELECT seq, 'x' FROM seq_1_to_40000")
        send(connection, "ANALYZE TABLE things")
    upgrade = declared()
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(upgrade, engine)
    assert 'upgrade.allow("alter-type:things.size"' in str(caught.value)
    upgrade.allow("alter-type:things.size", reason="Sunday, agreed with ann")
    emc.expand(upgrade, engine)
    entry = next(one for one in emc.history(engine) if one.operation == "alter-type:things.size")
    assert entry.details["allowed"] == "Sunday, agreed with ann"
    assert "ALGORITHM=COPY, LOCK=SHARED" in str(entry.details)
    notes = emc.plan(upgrade, engine).plan.notes
    assert [(note.kind, note.target) for note in notes] == [("nothing-left", "alter-type:things.size")]


def test_an_allowance_gives_its_reason_once() -> None:
    """Who agreed is part of the declaration, and two of them for one step are a mistake."""
    upgrade = declared()
    with pytest.raises(DeclarationError, match="no reason"):
        upgrade.allow("alter-type:things.size", reason=" ")
    upgrade.allow("alter-type:things.size", reason="agreed")
    with pytest.raises(DeclarationError, match="twice"):
        upgrade.allow("alter-type:things.size", reason="agreed again")


# -- privileges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grants", "lacking"),
    [
        (["ALTER, CREATE ON {db}.*"], []),
        (["ALTER ON {db}.`Users`", "CREATE ON *.*"], []),
        (["ALL ON {wild}.*"], []),
        (["ALTER ON {db}.`order`", "CREATE ON {db}.*"], ["ALTER on table Users"]),
        (["UPDATE (name) ON {db}.`Users`", "CREATE ON {db}.*"], ["ALTER on table Users"]),
    ],
)
def test_a_missing_privilege_is_known_beforehand(
    engine: Engine, grants: list[str], lacking: list[str]
) -> None:
    """By SHOW GRANTS, patterns of databases and grants for one table or column included."""
    name = str(engine.url.database)
    user = f"c_{name[-20:]}"
    with session(engine) as connection:
        send(connection, f"CREATE OR REPLACE USER '{user}'@'%'")
        send(connection, f"GRANT SELECT ON `{name}`.* TO '{user}'@'%'")
        for grant in grants:
            what = grant.format(db=f"`{name}`", wild=f"`{name[:-1]}_`")
            send(connection, f"GRANT {what} TO '{user}'@'%'")
    role = create_engine(make_url(str(engine.url)).set(username=user, password=""))
    wanted = [GROWN, operation(Kind.DROP_CHECK, dropped("ck", "check")(), "ck", ElementKind.CHECK)]
    try:
        with role.connect() as connection:
            found = MARIADB.missing_privileges(
                connection,
                [step for step in steps(engine, *wanted) if step.operation.kind == Kind.DROP_CHECK],
            )
    finally:
        role.dispose()
        with session(engine) as connection:
            send(connection, f"DROP USER '{user}'@'%'")
    assert [one for one in found if "database" not in one] == lacking
