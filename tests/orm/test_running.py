"""What a process with old rows does while the database changes around it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    Row,
    create_engine,
    literal,
    select,
    text,
)
from sqlalchemy.orm import (
    Session,
    load_only,
    sessionmaker,
)

import emc
import emc.orm
from emc.errors import ExitCode
from emc.upgrade import Upgrade
from tests.data.support import migrate, only_work
from tests.orm.support import (
    Animal,
    Base,
    Declared,
    Pets,
    User,
    do,
    expanded,
    one,
    settings_of,
    statements,
)


def test_a_process_goes_on_while_contract_drops_what_its_functions_read(
    engine: Engine, sessions: sessionmaker[Session], declared: Declared
) -> None:
    """When the old column has gone a load asks once in vain, in the same transaction, and from then on nothing."""
    with sessions() as session:
        assert session.get_one(User, 1).prefs == {"n": 1}
    # What emc migrate and emc contract do, in short.
    migrate(engine, only_work(declared.upgrade, engine))
    do(engine, "INSERT INTO users (id) VALUES (9)")
    do(engine, "ALTER TABLE users DROP COLUMN preferences")
    with sessions.begin() as session:
        session.execute(text("UPDATE users SET email = 'before' WHERE id = 2"))
        assert session.get_one(User, 9).prefs is None
        assert session.get_one(User, 1).prefs == {"n": 1}
    assert one(engine, "SELECT email FROM users WHERE id = 2") == "before"
    with sessions.begin() as session, statements(engine) as sent:
        user = session.get_one(User, 9)
        user.email = "new"
        session.add(User(id=10))
        session.flush()
    assert len(sent) == 3


def test_another_column_may_go_meanwhile(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """A function is given the columns that there are now, whatever was there when the process began."""
    do(engine, "ALTER TABLE users ADD COLUMN gone INTEGER")
    with sessions() as session:
        assert session.get_one(User, 1).prefs == {"n": 1}
    do(engine, "ALTER TABLE users DROP COLUMN gone")
    with sessions() as session:
        assert session.get_one(User, 1).prefs == {"n": 1}


def test_before_expand_nothing_is_converted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the schema is not there yet objects show what there is, and the schema is looked at again by and by."""
    do(engine, "CREATE TABLE animals (animal_id INTEGER PRIMARY KEY, kind VARCHAR(10), lives INTEGER)")
    do(engine, "INSERT INTO animals VALUES (1, 'cat', 7)")
    monkeypatch.setattr("emc.orm.standing._AGAIN", 0.0)
    upgrade = Upgrade(Pets.metadata)
    upgrade.fill(Animal.title, lambda row: f"{row.kind} {row.animal_id}")
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        assert session.scalars(select(Animal).options(load_only(Animal.kind))).one().kind == "cat"
    do(engine, "ALTER TABLE animals ADD COLUMN name VARCHAR(20)")
    with sessions() as session:
        assert session.get_one(Animal, 1).title == "cat 1"
    conversion.stop()


def test_a_transaction_of_each_statement_is_enough(engine: Engine, declared: Declared) -> None:
    """Sessions that commit each statement by itself convert what they load, too."""
    expanded(engine)
    engine = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    conversion = emc.orm.convert(declared.upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        assert session.get_one(User, 1).prefs == {"n": 1}
        session.get_one(User, 1).email = "new"
        session.commit()
    assert settings_of(engine, 1) == {"n": 1}
    conversion.stop()
    engine.dispose()


@pytest.mark.parametrize("in_sql", [False, True])
def test_where_nothing_is_locked_nothing_stale_is_written(engine: Engine, in_sql: bool) -> None:
    """What another process writes while the function is asked is what is converted then, and nobody's write is lost."""
    expanded(engine, rows=2)
    upgrade = Upgrade(Base.metadata)
    meanwhile: list[str] = []

    @upgrade.data_migration(User, where=lambda t: t.c.bio.is_(None) & t.c.preferences.is_not(None))
    def parse(row: Row[Any]) -> dict[Any, Any]:
        if meanwhile:
            do(engine, meanwhile.pop())
        return {User.bio: literal(row.preferences) if in_sql else row.preferences}

    alone = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(alone, expire_on_commit=False)))
    with sessions() as session:
        first, second = session.get_one(User, 1), session.get_one(User, 2)
        meanwhile.append("UPDATE users SET preferences = 'newer' WHERE id = 1")
        first.email = "new"
        session.commit()
        meanwhile.append("UPDATE users SET bio = 'by other' WHERE id = 2")
        second.email = "new"
        session.commit()
        assert meanwhile == []
        assert (first.bio, second.bio) == ("newer", "by other")
    assert one(engine, "SELECT bio FROM users WHERE id = 1") == "newer"
    assert one(engine, "SELECT bio FROM users WHERE id = 2") == "by other"
    assert one(engine, "SELECT count(*) FROM users WHERE email = 'new'") == 2
    conversion.stop()
    alone.dispose()


def test_the_gate_counts_the_rows_that_nobody_touched(
    engine: Engine, sessions: sessionmaker[Session], declared: Declared
) -> None:
    """The whole way: contract refuses while untouched rows are left, and drops beside an application that goes on."""
    emc.expand(declared.upgrade, engine)
    with sessions.begin() as session:
        session.get_one(User, 1).email = "touched"
    blocked = emc.contract(declared.upgrade, engine, old_code_gone=True)
    assert blocked.exit_code is ExitCode.GATE_SHUT
    [status] = emc.status(declared.upgrade, engine).work
    assert (status.name, status.rows_left) == ("parse", 2)
    with sessions() as session:
        before = session.scalars(select(User).order_by(User.id)).all()
        session.commit()
        assert emc.migrate(declared.upgrade, engine).exit_code is ExitCode.DONE
        assert emc.contract(declared.upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
        assert [user.prefs for user in before] == [{"n": 1}, {"n": 2}, {"n": 3}]
        before[2].email = "after"
        session.add(User(id=4))
        session.commit()
    assert emc.plan(declared.upgrade, engine).plan.is_empty


def test_threads_share_a_conversion(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """Sessions of several threads convert at the same time, each its own objects."""
    begin = Barrier(4)

    def work(key: int) -> list[Any]:
        begin.wait()
        found = []
        for _ in range(5):
            with sessions() as session:
                found.append(session.get_one(User, key).prefs)
        return found

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, (1, 2, 3, 1)))
    assert results == [[{"n": key}] * 5 for key in (1, 2, 3, 1)]


def test_nobody_pays_who_does_not_ask() -> None:
    """To import emc does not import the object layer."""
    asked = "import sys, emc; print('emc.orm' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert shown.stdout == "False\n"
