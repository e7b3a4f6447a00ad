"""What becomes of old rows that a session saves."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, create_engine, event, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

import emc.orm
from emc.errors import ConversionError
from emc.upgrade import Upgrade
from tests.data.support import migrate, only_work
from tests.orm.support import (
    Base,
    Declared,
    Team,
    User,
    do,
    expanded,
    is_unchanged,
    one,
    questions,
    settings_of,
    statements,
)


@pytest.fixture
def other(engine: Engine) -> Iterator[Engine]:
    """Another process. It does not wait for locks."""
    options = {"sqlite": {"timeout": 0}}.get(engine.dialect.name, {})
    other = create_engine(engine.url, connect_args=options)
    yield other
    other.dispose()


def test_a_row_is_converted_when_its_object_is_saved(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """To save anything of an object converts its row in the same transaction, and no other row."""
    with sessions() as session:
        users = session.scalars(select(User).order_by(User.id)).all()
        users[1].email = "new"
        session.commit()
        assert users[1].prefs == {"n": 2}
    assert [settings_of(engine, key) for key in (1, 2, 3)] == [None, {"n": 2}, None]
    assert one(engine, "SELECT email FROM users WHERE id = 2") == "new"


def test_what_is_rolled_back_is_not_converted(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """The conversion is part of the transaction, and of the savepoint, that saves the object."""
    with sessions() as session:
        first, second = (session.get_one(User, key) for key in (1, 2))
        first.email = "kept"
        session.flush()
        savepoint = session.begin_nested()
        second.email = "lost"
        session.flush()
        assert second.prefs == {"n": 2}
        savepoint.rollback()
        assert second.prefs == {"n": 2}
        session.commit()
    assert [settings_of(engine, key) for key in (1, 2)] == [{"n": 1}, None]


def test_what_an_old_process_wrote_since_the_load_is_what_is_converted(
    engine: Engine, sessions: sessionmaker[Session], other: Engine
) -> None:
    """A value computed from what the row was when it was loaded is never written: the function is asked again."""
    with sessions() as session:
        user = session.get_one(User, 1)
        assert user.prefs == {"n": 1}
        do(other, f"UPDATE users SET preferences = '{json.dumps({'n': 'newer'})}' WHERE id = 1")
        user.email = "new"
        session.flush()
        assert user.prefs == {"n": "newer"}
        session.commit()
    assert settings_of(engine, 1) == {"n": "newer"}


def test_what_the_backfill_wrote_since_the_load_stays(
    engine: Engine, sessions: sessionmaker[Session], other: Engine
) -> None:
    """A row that is converted by then is not written to again, and the object shows what is in it."""
    with sessions() as session:
        user = session.get_one(User, 1)
        assert user.prefs == {"n": 1}
        do(other, """UPDATE users SET settings = '{"by": "other"}' WHERE id = 1""")
        user.email = "new"
        with statements(engine) as sent:
            session.flush()
        assert sum(statement.startswith("UPDATE") for statement in sent) == 1
        assert user.prefs == {"by": "other"}
        session.commit()
    assert settings_of(engine, 1) == {"by": "other"}


def test_what_the_application_writes_wins(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """A new value of the application is written as it is, and the row is done."""
    with sessions.begin() as session:
        session.get_one(User, 1).prefs = {"mine": True}
    assert settings_of(engine, 1) == {"mine": True}


def test_to_assign_what_is_shown_saves_it(
    engine: Engine, sessions: sessionmaker[Session], other: Engine
) -> None:
    """To assign the converted value, which changes nothing by itself, touches the row, and nobody gets in between."""
    refused: list[str] = []

    def meanwhile(*sending: Any) -> None:
        if not sending[2].startswith("UPDATE users SET settings"):
            return
        try:
            with other.begin() as connection:
                no_wait = "" if engine.dialect.name == "sqlite" else " FOR UPDATE NOWAIT"
                connection.execute(text(f"SELECT id FROM users WHERE id = 1{no_wait}"))
                connection.execute(text("UPDATE users SET preferences = 'x' WHERE id = 1"))
        except OperationalError as error:
            refused.append(str(error.orig))

    event.listen(engine, "before_cursor_execute", meanwhile)
    with sessions.begin() as session:
        user = session.get_one(User, 1)
        user.prefs = dict(user.prefs or {})
    event.remove(engine, "before_cursor_execute", meanwhile)
    assert settings_of(engine, 1) == {"n": 1}
    assert len(refused) == 1


def test_a_change_that_makes_a_row_old_again_is_converted_with_it(engine: Engine) -> None:
    """Where the models still have both columns, a save of the old one alone is followed by the new one."""
    expanded(engine, rows=1)
    do(engine, "UPDATE users SET bio = email")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_distinct_from(User.email))
    def follow(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: row.email}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        session.get_one(User, 1).email = "both"
        session.flush()
        assert session.get_one(User, 1).bio == "both"
    assert one(engine, "SELECT bio FROM users") == "both"
    conversion.stop()


def test_new_rows_are_filled(engine: Engine) -> None:
    """A new object without a value for a column that is filled gets one; what it does have a value for, it keeps."""
    expanded(engine, rows=0)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_(None))
    def fill(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: f"bio of {row.id}"}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        without, with_ = User(id=1, team_id=1), User(id=2, team_id=1, bio="own")
        session.add_all([without, with_])
        session.commit()
        assert (without.bio, with_.bio) == ("bio of 1", "own")
    conversion.stop()


def test_a_save_of_converted_rows_asks_nothing(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """Where the object itself says that its row is not pending, a flush costs no statement more."""
    do(engine, "UPDATE users SET settings = '{}'")
    with sessions.begin() as session:
        session.get_one(User, 1).email = "new"
        session.add(User(id=8, prefs={"new": 1}))
        session.add(Team(id=2))
        with statements(engine) as sent:
            session.flush()
    assert questions(sent) == []
    assert len(sent) == 3


def test_many_rows_are_converted_together(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """A flush of many objects asks once and writes once for all of them."""
    do(engine, "DELETE FROM users")
    with engine.begin() as connection:
        rows = [{"id": at, "old": json.dumps({"n": at})} for at in range(1, 701)]
        connection.execute(text("INSERT INTO users (id, preferences) VALUES (:id, :old)"), rows)
    with sessions.begin() as session:
        for user in session.scalars(select(User)):
            user.email = "new"
        with statements(engine) as sent:
            session.flush()
    assert len(questions(sent)) == 2
    assert sum("SET settings" in statement for statement in sent) == 1
    assert one(engine, "SELECT count(*) FROM users WHERE settings IS NULL") == 0
    assert settings_of(engine, 700) == {"n": 700}


def test_read_only_writes_nothing(engine: Engine, declared: Declared) -> None:
    """With read_only what is loaded looks converted, and what is saved is what the application changed."""
    expanded(engine)
    conversion = emc.orm.convert(declared.upgrade, on=(sessions := sessionmaker(engine)), read_only=True)
    with sessions() as session:
        user = session.get_one(User, 1)
        assert user.prefs == {"n": 1}
        user.email = "new"
        session.commit()
        assert user.prefs == {"n": 1}
    assert settings_of(engine, 1) is None
    assert one(engine, "SELECT email FROM users WHERE id = 1") == "new"
    conversion.stop()


def test_statements_on_many_rows_are_not_looked_at(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """UPDATE, INSERT and the bulk methods write what they say; such rows are left to the backfill."""
    with sessions.begin() as session:
        session.execute(update(User).values(email="all"))
        session.execute(insert(User), [{"id": 8}, {"id": 9}])
        session.bulk_update_mappings(User, [{"id": 1, "email": "bulk"}])
    assert one(engine, "SELECT count(*) FROM users WHERE settings IS NOT NULL") == 0


def test_a_second_function_is_given_what_the_first_has_written(engine: Engine) -> None:
    """Functions on one table are called in the order of the declarations, each with the row as it is by then."""
    expanded(engine, rows=1)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_(None))
    def first(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: "first"}

    @upgrade.data_migration(User, where=lambda table: table.c.settings.is_(None))
    def second(row: Row[Any]) -> dict[str, Any]:
        return {"settings": {"bio": row.bio}}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        session.get_one(User, 1).email = "new"
    assert settings_of(engine, 1) == {"bio": "first"}
    conversion.stop()


def test_children_that_come_and_go_do_not_lock_their_parent(engine: Engine) -> None:
    """An object is saved if a value of its row was set, not if only what refers to it was."""
    expanded(engine, rows=1)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(Team, where=lambda table: table.c.id + 0 == 1)
    def never(row: Row[Any]) -> None: ...

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        team = session.get_one(Team, 1)
        team.users.append(User(id=2))
        with statements(engine) as sent:
            session.flush()
        assert questions(sent) == []
        assert len(sent) == 1
    conversion.stop()


# -- functions that do more, or fail ---------------------------------------------------------------------------


def test_a_function_writes_elsewhere_in_the_same_transaction(engine: Engine) -> None:
    """One that takes the connection is called when the row is saved; what it writes comes and goes with the row."""
    expanded(engine, rows=2)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_(None))
    def move(row: Row[Any], connection: Connection) -> dict[Any, Any]:
        connection.execute(text("INSERT INTO teams VALUES (:id)"), {"id": row.id + 100})
        return {User.bio: "moved", User.team_id: row.id + 100}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        session.get_one(User, 1).email = "lost"
        session.flush()
        session.rollback()
        session.get_one(User, 2).email = "kept"
        session.commit()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM teams ORDER BY id")).scalars().all() == [1, 102]
        assert connection.execute(text("SELECT bio FROM users ORDER BY id")).scalars().all() == [
            None,
            "moved",
        ]
    conversion.stop()


Function = Callable[..., Any]


@pytest.mark.parametrize("takes_connection", [False, True])
def test_rows_that_are_to_be_deleted_are_left_to_the_backfill(engine: Engine, takes_connection: bool) -> None:
    """A save does not delete; what such a function wrote elsewhere before it said so is taken back."""
    expanded(engine, rows=1)
    upgrade = Upgrade(Base.metadata)

    def elsewhere(row: Row[Any], connection: Connection) -> Any:
        connection.execute(text("INSERT INTO teams VALUES (77)"))
        return emc.DELETE

    def here(row: Row[Any]) -> Any:
        return emc.DELETE

    upgrade.data_migration(User, name="gone", where=User.bio.is_(None))(
        elsewhere if takes_connection else here
    )
    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions.begin() as session:
        session.get_one(User, 1).email = "new"
    assert one(engine, "SELECT email FROM users") == "new"
    assert one(engine, "SELECT count(*) FROM teams") == 1
    conversion.stop()


def test_a_function_that_fails_fails_the_flush(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """A row that cannot be converted is not saved: the error names it, and after a rollback the session goes on."""
    with sessions() as session:
        user = session.get_one(User, 1)
        do(engine, "UPDATE users SET preferences = 'no json' WHERE id = 1")
        user.email = "new"
        with pytest.raises(ConversionError) as caught:
            session.commit()
        assert dict(caught.value.key) == {"id": 1}
        session.rollback()
        assert session.get_one(User, 2).prefs == {"n": 2}
    assert one(engine, "SELECT email FROM users WHERE id = 1") == "1@x"


def test_an_answer_that_cannot_be_written_is_the_databases_error(engine: Engine) -> None:
    """A value that violates a constraint fails the flush like any other, and nothing of it is written."""
    expanded(engine, rows=1)
    do(engine, "CREATE UNIQUE INDEX one_bio ON users (bio)")
    do(engine, "INSERT INTO users (id, bio) VALUES (5, 'taken')")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.bio.is_(None))
    def same(row: Row[Any]) -> dict[Any, Any]:
        return {User.bio: "taken"}

    conversion = emc.orm.convert(upgrade, on=(sessions := sessionmaker(engine)))
    with sessions() as session:
        session.get_one(User, 1).email = "new"
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            session.flush()
        session.rollback()
        assert session.get_one(User, 5).bio == "taken"
    assert one(engine, "SELECT email FROM users WHERE id = 1") == "1@x"
    conversion.stop()


# -- together with the backfill --------------------------------------------------------------------------------


def test_what_was_saved_is_done_for_the_backfill_and_the_rest_is_not(
    engine: Engine, sessions: sessionmaker[Session], declared: Declared
) -> None:
    """Backfill and gate look at the data: a row that the application converted is no work, one it only loaded is."""
    with sessions.begin() as session:
        users = session.scalars(select(User).order_by(User.id)).all()
        users[0].email = "new"
    declared.given.clear()
    result = migrate(engine, only_work(declared.upgrade, engine))
    assert (result.outcome, result.rows_done, result.rows_left) == ("complete", 2, 0)
    assert [row.id for row in declared.given] == [2, 3]
    assert [settings_of(engine, key) for key in (1, 2, 3)] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_an_object_of_before_commit_is_the_row_after_it(
    engine: Engine, sessions: sessionmaker[Session]
) -> None:
    """Without expiry on commit objects go on to show what was saved, and are clean."""
    with sessions(expire_on_commit=False) as session:
        user = session.get_one(User, 1)
        user.email = "new"
        session.commit()
        assert (user.email, user.prefs) == ("new", {"n": 1})
        assert is_unchanged(user)
        with statements(engine) as sent:
            user.email = "newer"
            session.flush()
        assert questions(sent) == []
