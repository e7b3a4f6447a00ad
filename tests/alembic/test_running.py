"""Hand-written revisions, run by Alembic's own command line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.alembic.running import MODELS, Answer, Project
from tests.waiting import until


@pytest.fixture
def project(database_url: str, tmp_path: Path) -> Iterator[Project]:
    """A project on each kind of database."""
    made = Project(tmp_path / "project", database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def on_postgresql(postgresql_url: str, tmp_path: Path) -> Iterator[Project]:
    """A project on PostgreSQL."""
    made = Project(tmp_path / "project", postgresql_url)
    yield made
    made.engine.dispose()


def test_a_gate_stops_alembic_until_it_is_open(project: Project) -> None:
    """A contract revision ends with the message of emc contract while its gate is shut, and drops when it is open."""
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_column("users", "name")')
    expanded = project.alembic("upgrade", "expand@head")
    assert expanded.is_done, expanded.said
    assert project.columns() == {"id", "name", "email", "tz"}

    stopped = project.alembic("upgrade", "heads")
    assert not stopped.is_done
    assert "drop-column:users.name" in stopped.said
    assert "shut data-elsewhere:users.name" in stopped.said, stopped.said
    assert "Traceback" not in stopped.said
    assert project.heads == {"e1"}
    assert "name" in project.columns()

    project.send("UPDATE users SET name = NULL")
    assert not project.run("upgrade", "heads").is_done, "nobody has said that the old code is gone"
    done = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert done.is_done, done.said
    assert project.heads == {"e1", "c1"}
    assert project.columns() == {"id", "email", "tz"}


WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
"""Who waits for such a lock."""
SUBTRACTIVE = {
    "op": 'op.drop_column("users", "name")',
    "batch": 'with op.batch_alter_table("users") as batch:\n    batch.drop_column("name")',
    "batch that makes the table anew": (
        'with op.batch_alter_table("users", recreate="always") as batch:\n    batch.drop_column("name")'
    ),
    "raw": 'op.execute("ALTER TABLE users DROP COLUMN name")',
    "raw, in a string with others": 'op.execute("SELECT 1; /* x; */ DROP TABLE users")',
    "raw, behind a nested comment": 'op.execute("/* a /* b */ */ DROP TABLE users")',
    "bind": 'op.get_bind().execute(sa.text("DROP TABLE users"))',
    "driver": 'op.get_bind().exec_driver_sql("ALTER TABLE users DROP COLUMN name")',
    "another connection": (
        'with op.get_bind().engine.begin() as other:\n    other.exec_driver_sql("DROP TABLE users")'
    ),
    "program": 'op.execute("DO $$ BEGIN DROP TABLE users; END $$")',
    "program, with a reason": (
        "with emc.alembic.allow('so'):\n    op.execute(\"DO $$ BEGIN DROP TABLE users; END $$\")"
    ),
    "cursor of the driver": 'op.get_bind().connection.cursor().execute("DROP TABLE users")',
    "cursor of another connection": (
        'op.get_bind().engine.raw_connection().cursor().execute("ALTER TABLE users DROP COLUMN name")'
    ),
    "connection of the driver": 'op.get_bind().connection.driver_connection.cursor().execute("DROP TABLE users")',
    "metadata": 'sa.Table("users", sa.MetaData()).drop(op.get_bind())',
    "ledger": "with emc.alembic.allow('so'):\n    op.execute('DELETE FROM emc_ledger')",
    "in capitals": 'op.execute("ALTER TABLE USERS DROP COLUMN NAME")',
    "data": 'op.execute("DELETE FROM users")',
    "autocommit": (
        'with op.get_context().autocommit_block():\n    op.execute("ALTER TABLE users DROP COLUMN name")'
    ),
    "savepoint": ('with op.get_bind().begin_nested():\n    op.execute("ALTER TABLE users DROP COLUMN name")'),
}


def test_expand_refuses_what_takes_away(project: Project) -> None:
    """Whichever way a subtractive statement is sent on the branch expand, the server does not get it."""
    for way, body in SUBTRACTIVE.items():
        project.expand(body)
        stopped = project.run("upgrade", "expand@head")
        assert not stopped.is_done, way
        assert stopped.said.startswith("FAILED: "), f"{way}: {stopped.said}"
        assert project.columns() == {"id", "name", "email"}, way
        assert project.tables == {"users"}, way
        assert project.ask("SELECT count(*) FROM users") == [(2,)], way
        assert project.heads == set(), way


CONTRACTING = {
    "op": 'op.drop_column("users", "name")',
    "batch": 'with op.batch_alter_table("users") as batch:\n    batch.drop_column("name")',
    "raw": 'op.execute("ALTER TABLE users DROP COLUMN name")',
    "bind": 'op.get_bind().exec_driver_sql("SELECT 1; ALTER TABLE users DROP name")',
    "autocommit": (
        'with op.get_context().autocommit_block():\n    op.execute("ALTER TABLE users DROP COLUMN name")'
    ),
    "in capitals": 'op.execute("ALTER TABLE PUBLIC.USERS DROP NAME")',
    "cursor of the driver": (
        'op.get_bind().connection.cursor().execute("/* a /* b */ */ ALTER TABLE users DROP COLUMN name")'
    ),
}


def test_every_way_to_drop_goes_through_the_gates(on_postgresql: Project) -> None:
    """Whichever way contract asks for a drop, emc runs its gates, drops under its own name, and tells its ledger."""
    project = on_postgresql
    project.expand('op.execute("ALTER TABLE users ADD tz varchar(40)")')
    assert project.run("upgrade", "expand@head").is_done
    for number, (way, body) in enumerate(CONTRACTING.items(), start=1):
        project.contract(body)
        stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
        assert "shut data-elsewhere:users.name" in stopped.said, f"{way}: {stopped.said}"
        assert "name" in project.columns(), way
        project.send("UPDATE users SET name = NULL")
        done = project.run("-x", "old-code-gone", "upgrade", "heads")
        assert done.is_done, f"{way}: {done.said}"
        assert "name" not in project.columns(), way
        assert project.ledger.count(("done", "drop-column:users.name")) == number, way
        project.send(
            "ALTER TABLE users ADD name varchar(20)",
            "UPDATE users SET name = 'ann'",
            "DELETE FROM alembic_version WHERE version_num = 'c1'",
        )


def test_an_override_needs_its_reason_and_is_kept(on_postgresql: Project) -> None:
    """A shut gate lets pass with -x override and -x reason, and the ledger keeps both."""
    project = on_postgresql
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_column("users", "name")')
    gate = "override=data-elsewhere:users.name"
    bare = project.run("-x", "old-code-gone", "-x", gate, "upgrade", "heads")
    assert not bare.is_done
    assert "name" in project.columns()
    done = project.run(
        "-x", "old-code-gone", "-x", gate, "-x", "reason=agreed with the owner", "upgrade", "heads"
    )
    assert done.is_done, done.said
    [(details,)] = project.ask("SELECT details FROM emc_ledger WHERE event = 'overridden'")
    assert "agreed with the owner" in details
    assert "data-elsewhere:users.name" in details


def test_a_no_is_no_yes(on_postgresql: Project) -> None:
    """A pipeline that says that the old release is not gone, or nothing, is not taken for one that says that it is."""
    project = on_postgresql
    project.send("UPDATE users SET name = NULL")
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_column("users", "name")')
    for said in ("false", "", "0", "no"):
        stopped = project.run("-x", f"old-code-gone={said}", "upgrade", "heads")
        assert f"-x old-code-gone={said} is not clear" in stopped.said, stopped.said
    assert "name" in project.columns()
    done = project.run("-x", "old-code-gone=true", "upgrade", "heads")
    assert done.is_done, done.said


def test_contract_needs_a_name_in_a_declaration(on_postgresql: Project) -> None:
    """What nobody has named is not dropped, and the message has the line to paste."""
    project = on_postgresql
    project.send("CREATE TABLE sessions (id integer PRIMARY KEY)")
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_table("sessions")')
    stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert 'upgrade.retire("sessions")' in stopped.said
    assert project.tables == {"users", "sessions"}


def test_a_revision_finds_done_what_emc_has_done(project: Project) -> None:
    """Switching in the middle works: revisions that follow emc's own commands change nothing, and are recorded."""
    import emc

    here: dict[str, emc.Upgrade] = {}
    exec((project.directory / "models.py").read_text(), here)
    emc.expand(here["upgrade"], project.engine)
    project.send("UPDATE users SET name = NULL")
    emc.contract(here["upgrade"], project.engine, old_code_gone=True)
    before = project.ledger
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_column("users", "name")')
    done = project.run("upgrade", "heads")
    assert done.is_done, done.said
    assert project.heads == {"e1", "c1"}
    assert project.columns() == {"id", "email", "tz"}
    assert project.ledger == before


def test_what_no_plan_holds_is_sent_once(project: Project) -> None:
    """An additive statement that the models know nothing of is sent, noted, and found when the revision runs again."""
    project.expand(
        'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))\n'
        'op.execute("CREATE INDEX ix_email ON users (email)")\n'
        "if not op.get_context().config.get_section_option('alembic', 'repaired'):\n"
        "    raise RuntimeError('interrupted')"
    )
    with pytest.raises(RuntimeError, match="interrupted"):
        project.run("upgrade", "expand@head")
    assert project.tables == {"users", "notes"}
    assert project.heads == set()
    ini = project.directory / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]", "[alembic]\nrepaired = yes", 1))
    again = project.run("upgrade", "expand@head")
    assert again.is_done, again.said
    assert [event for event, name in project.ledger if name.startswith("statement:e1:")] == ["done", "done"]


PARTLY = {
    "rows": "CREATE TABLE notes AS SELECT id, name FROM users",
    "rows, behind columns": "CREATE TABLE notes (id, name) AS SELECT id, name FROM users",
    "an action": "ALTER TABLE users ADD COLUMN tz varchar(40), ENABLE ROW LEVEL SECURITY",
    "a program": "DO $$ BEGIN ALTER TABLE users ADD COLUMN tz text; UPDATE users SET tz = 'UTC'; END $$",
}


def test_what_is_understood_in_part_is_not_done_in_part(on_postgresql: Project) -> None:
    """Where the plan holds one part of a statement, and emc cannot tell what the rest does, nothing is sent."""
    project = on_postgresql
    project.models(MODELS + 'Table("notes", metadata, Column("id", Integer), Column("name", String(20)))\n')
    for there in ((), ("CREATE TABLE notes (id integer, name varchar(20))", "ALTER TABLE users ADD tz text")):
        project.send(*there)
        for way, sql in PARTLY.items():
            project.expand(f"op.execute({sql!r})")
            stopped = project.run("upgrade", "expand@head")
            assert "cannot tell what the rest of the statement is to do" in stopped.said, (way, stopped.said)
            assert "Write its parts as statements of their own" in stopped.said
    project.expand(f"op.execute({PARTLY['rows'].replace('notes', 'copied')!r})")
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.ask("SELECT count(*) FROM copied") == [(2,)]


def test_rows_are_written_once(project: Project) -> None:
    """A statement about rows that an earlier run has sent is not sent again, until its revision has gone down."""
    body = (
        "with emc.alembic.allow('a row for each'):\n"
        "    for name in ('bob', 'cid', 'cid'):\n"
        "        op.execute(sa.text('INSERT INTO users (id, name) SELECT max(id) + 1, :name FROM users')"
        ".bindparams(name=name))\n"
    )
    project.expand(body + "raise RuntimeError('interrupted')")
    with pytest.raises(RuntimeError, match="interrupted"):
        project.run("upgrade", "expand@head")
    query = "SELECT name FROM users WHERE id > 2 ORDER BY id"
    assert project.ask(query) == [("bob",), ("cid",), ("cid",)]
    project.expand(body)
    assert project.run("upgrade", "expand@head").is_done
    assert project.ask(query) == [("bob",), ("cid",), ("cid",)]
    down = project.run("-x", "new-code-gone", "downgrade", "base")
    assert down.is_done, down.said
    assert project.run("upgrade", "expand@head").is_done
    assert project.ask(query) == [("bob",), ("cid",), ("cid",)] * 2


def test_a_default_that_the_models_do_not_have_is_sent(on_postgresql: Project) -> None:
    """A column that is there has not got the default that a revision asks for."""
    project = on_postgresql
    project.expand('op.alter_column("users", "email", server_default="none")')
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    project.send("INSERT INTO users (id) VALUES (3)")
    assert project.ask("SELECT email FROM users WHERE id = 3") == [("none",)]


STRANGE = {
    "with op.emc_step('add-column:user.tz'):\n    op.add_column('users', sa.Column('tz', sa.String(40)))": (
        "it is about users.tz, but the line above it, op.emc_step(add-column:user.tz), is not"
    ),
    "with op.emc_step('drop-column:users.name'):\n    op.drop_column('users', 'name')": (
        "drop-column:users.name belongs into contract"
    ),
}


@pytest.mark.parametrize("body", STRANGE)
def test_a_step_that_nothing_is_known_of_is_not_taken_for_done(project: Project, body: str) -> None:
    """A line that somebody has changed by mistake does not make the statements below it vanish."""
    project.expand(body)
    stopped = project.run("upgrade", "expand@head")
    assert STRANGE[body] in stopped.said, stopped.said
    assert project.heads == set()
    assert project.columns() == {"id", "name", "email"}


def test_what_cannot_be_read_needs_a_reason(on_postgresql: Project) -> None:
    """A program is refused, since nobody can tell what it does; with a stated reason, which is kept, it is sent."""
    project = on_postgresql
    hiding = "DO $$ BEGIN IF true THEN DROP TABLE users; END IF; END $$"
    project.expand(f"with emc.alembic.allow('it does no harm'):\n    op.execute({hiding!r})")
    stopped = project.run("upgrade", "expand@head")
    assert "it takes users away in a way that emc has no gate for" in stopped.said, stopped.said
    program = "DO $$ BEGIN IF true THEN CREATE TABLE notes (id int); END IF; END $$"
    project.expand(f"op.execute({program!r})")
    stopped = project.run("upgrade", "expand@head")
    assert "emc cannot tell that it is harmless: IF is not a statement" in stopped.said
    assert "with emc.alembic.allow(" in stopped.said
    assert project.tables == {"users"}
    project.expand(f"with emc.alembic.allow('it only adds'):\n    op.execute({program!r})")
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.tables == {"users", "notes"}
    [(details,)] = project.ask("SELECT details FROM emc_ledger WHERE operation LIKE 'statement:%'")
    assert "it only adds" in details


def test_a_reason_opens_no_gate(on_postgresql: Project) -> None:
    """What emc can read, and what takes something away, is refused whatever the reason."""
    project = on_postgresql
    asked = {
        "op.drop_column('users', 'name')": "it is drop-column:users.name, which belongs into contract",
        "op.alter_column('users', 'name', new_column_name='called')": "it takes users.name away",
        "op.rename_table('users', 'people')": "it takes users away",
        "op.execute('ALTER TABLE users SET SCHEMA information_schema')": "it takes users away",
        "op.execute('DROP SCHEMA public CASCADE')": "it takes public away",
        "op.execute('DROP OWNED BY postgres')": "it takes postgres away",
        "op.execute('DO LANGUAGE plpgsql $$ BEGIN DROP TABLE users; END $$')": "it takes users away",
        "op.execute('ALTER TABLE users * DROP COLUMN name')": "it is drop-column:users.name",
    }
    for body, why in asked.items():
        project.expand(f"with emc.alembic.allow('I want to'):\n    {body}")
        stopped = project.run("upgrade", "expand@head")
        assert why in stopped.said, (body, stopped.said)
    assert project.tables == {"users"}
    assert "name" in project.columns()


def test_a_linear_history_runs_as_it_always_did(project: Project) -> None:
    """Revisions from before emc are history: they may drop, and branches grow from their end."""
    project.revision("h1", 'op.execute("CREATE TABLE gone (id integer)")')
    project.revision("h2", 'op.drop_table("gone")', below="h1")
    project.revision(
        "e1", 'op.add_column("users", sa.Column("tz", sa.String(40)))', below="h2", label="expand"
    )
    project.revision("c1", 'op.drop_column("users", "name")', below="h2", label="contract", depends="e1")
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.tables == {"users"}
    assert project.heads == {"e1"}
    assert "tz" in project.columns()
    assert not project.run("upgrade", "heads").is_done


def test_a_revision_on_no_branch_is_refused(on_postgresql: Project) -> None:
    """Once there is a branch expand, a new revision has to say which it is on."""
    project = on_postgresql
    project.revision("h1", "pass")
    project.revision(
        "e1", 'op.add_column("users", sa.Column("tz", sa.String(40)))', below="h1", label="expand"
    )
    project.revision("h2", 'op.drop_table("users")', below="h1")
    stopped = project.run("upgrade", "heads")
    assert "neither on the branch expand nor on contract" in stopped.said, stopped.said
    project.revision("e2", "pass", below="e1", depends="h2")
    stopped = project.run("upgrade", "expand@head")
    assert "neither on the branch expand nor on contract" in stopped.said, stopped.said
    assert project.tables == {"users"}


def test_going_down_from_expand_is_the_undo(project: Project) -> None:
    """Downgrading an expand revision asks the gates of emc undo, then takes back what was added."""
    project.expand(
        'op.add_column("users", sa.Column("tz", sa.String(40)))',
        downgrade='op.drop_column("users", "tz")',
    )
    assert project.run("upgrade", "expand@head").is_done
    stopped = project.run("downgrade", "base")
    assert "new-code-gone" in stopped.said, stopped.said
    assert "tz" in project.columns()
    done = project.run("-x", "new-code-gone", "downgrade", "base")
    assert done.is_done, done.said
    assert project.columns() == {"id", "name", "email"}
    assert project.heads == set()
    again = project.run("upgrade", "expand@head")
    assert again.is_done, again.said
    assert "tz" in project.columns()


def test_going_down_takes_back_what_was_added_by_hand(project: Project) -> None:
    """What a revision has added by hand goes on the way down, once the new release is gone; nothing else does."""
    project.expand(
        'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))',
        downgrade='op.drop_table("notes")',
    )
    assert project.run("upgrade", "expand@head").is_done
    stopped = project.run("downgrade", "base")
    assert "shut new-code-gone:notes: the new release may still use it" in stopped.said, stopped.said
    assert project.tables == {"users", "notes"}
    done = project.run("-x", "new-code-gone", "downgrade", "base")
    assert done.is_done, done.said
    assert project.tables == {"users"}

    assert project.run("upgrade", "expand@head").is_done
    assert project.tables == {"users", "notes"}
    project.expand(
        'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))',
        downgrade='op.drop_table("users")',
    )
    stopped = project.run("-x", "new-code-gone", "downgrade", "base")
    assert "users is nothing that expand has added for this release" in stopped.said, stopped.said
    assert project.tables == {"users", "notes"}


def _is_gone(project: Project, waits: int) -> bool:
    return not project.ask(f"{WAITING} AND pid = {waits}")


def test_a_statement_of_a_revision_gives_way_and_names_who_is_in_the_way(on_postgresql: Project) -> None:
    """A hand-written statement waits briefly, tries again, names the blocker, and gets through when that has gone.

    Meanwhile another Alembic on the same database is told who is at work.
    """
    project = on_postgresql
    project.expand('op.execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS note text")')
    ended = threading.Event()
    answers: list[Answer] = []

    def run() -> None:
        try:
            answers.append(project.alembic("upgrade", "expand@head"))
        finally:
            ended.set()

    alembic = threading.Thread(target=run)
    with project.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM users"))
        [(pid,)] = reader.execute(text("SELECT pg_backend_pid()"))
        alembic.start()

        def given_up() -> bool:
            # Each time it waits no longer than its timeout, so that it is seen to wait and then to be gone.
            assert not ended.is_set(), answers
            waiting = project.ask(WAITING)
            for (waits,) in waiting:
                until(partial(_is_gone, project, waits), every=0.01)
            return bool(waiting)

        for _ in range(4):  # Who is in the way is looked up at the third time.
            until(given_up, every=0.01)
        other = project.run("upgrade", "expand@head")
    alembic.join()
    assert "has been running 'alembic upgrade (e1)' on this database since" in other.said, other.said
    [answer] = answers
    assert answer.is_done, answer.said
    assert "note" in project.columns()
    assert "waiting for statement:e1:" in answer.said, answer.said
    [(details,)] = project.ask("SELECT details FROM emc_ledger WHERE operation LIKE 'statement:%'")
    assert '"attempts": 1,' not in details
    assert f"blocked by session {pid}" in answer.said, answer.said


def test_contract_does_not_drop_where_emc_does_not_look(on_postgresql: Project) -> None:
    """A table that emc does not see is not taken for gone: the drop is refused, and nothing is recorded as done."""
    project = on_postgresql
    project.send("CREATE SCHEMA other", "CREATE TABLE other.notes (id integer)")
    project.contract('op.execute("DROP TABLE other.notes")')
    stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert "emc does not look at other.notes" in stopped.said, stopped.said
    assert project.heads == set()
    assert project.ask("SELECT count(*) FROM other.notes") == [(0,)]


def test_what_goes_unheard_is_seen_in_the_catalog(on_postgresql: Project) -> None:
    """What a revision takes away by an engine of its own cannot be stopped, but it is not held to have run."""
    project = on_postgresql
    project.expand(
        "with sa.create_engine(op.get_bind().engine.url, poolclass=sa.NullPool).begin() as other:\n"
        '    other.exec_driver_sql("ALTER TABLE users DROP COLUMN name")'
    )
    stopped = project.run("upgrade", "expand@head")
    assert not stopped.is_done
    assert "users.name has gone, and by nothing that emc has heard of" in stopped.said, stopped.said
    assert project.heads == set()


def test_what_goes_unheard_is_taken_back_where_it_can_be(on_postgresql: Project) -> None:
    """What a revision sends by the driver's innermost is looked for before it is committed."""
    project = on_postgresql
    project.expand(
        "op.get_bind().exec_driver_sql('SELECT 1')  # psycopg begins the transaction with it.\n"
        'op.get_bind().connection.driver_connection.pgconn.exec_(b"ALTER TABLE users DROP COLUMN name")'
    )
    stopped = project.run("upgrade", "expand@head")
    assert "users.name has gone, and by nothing that emc has heard of" in stopped.said, stopped.said
    assert "name" in project.columns()


OWN_WAYS = {
    "sqlite": ["own.execute({})", "own.executescript({})", "own.driver_connection.execute({})"],
    "postgresql": ["own.execute({})", "own.driver_connection.execute({})", "next(own.cursor().stream({}))"],
    "mariadb": ["own.query({})", "own.driver_connection.query({})"],
}


def test_the_ways_of_single_drivers_are_heard(project: Project) -> None:
    """What a driver knows besides cursors, and besides execute, is refused like the rest."""
    for way in OWN_WAYS[project.engine.dialect.name]:
        project.expand("own = op.get_bind().connection\n" + way.format("'DELETE FROM users'"))
        stopped = project.run("upgrade", "expand@head")
        assert "emc cannot tell that it is harmless" in stopped.said, (way, stopped.said)
        assert project.ask("SELECT count(*) FROM users") == [(2,)], way


def test_a_procedure_is_called_once(mariadb_url: str, tmp_path: Path) -> None:
    """What the driver's callproc asks for emc sends, with its arguments, where a reason is given."""
    project = Project(tmp_path / "project", mariadb_url)
    project.send("CREATE PROCEDURE fill(n int) INSERT INTO users (id) VALUES (n)")
    project.expand(
        "with emc.alembic.allow('it adds a row'):\n    op.get_bind().connection.cursor().callproc('fill', (3,))"
    )
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.ask("SELECT count(*) FROM users") == [(3,)]
    project.engine.dispose()


def test_reading_by_a_cursor_of_the_driver_works(project: Project) -> None:
    """What changes nothing goes to the server as it is, with its parameters, whichever way it is sent."""
    mark = {"sqlite": "?"}.get(project.engine.dialect.name, "%s")
    project.expand(
        "cursor = op.get_bind().connection.cursor()\n"
        f'cursor.execute("SELECT id FROM users WHERE name = {mark}", ("ann",))\n'
        "assert cursor.fetchall()[0][0] == 1\n"
        "assert op.get_bind().execute(sa.text(\"SELECT 7 % 4, 'a%'\")).one() == (3, 'a%')\n"
        'op.execute("CREATE TABLE notes (id integer DEFAULT (7 % 4))")\n'
        'op.add_column("users", sa.Column("tz", sa.String(40)))'
    )
    done = project.run("upgrade", "expand@head")
    assert done.is_done, done.said
    assert project.tables == {"users", "notes"}


def test_names_with_a_percent_sign_are_read_as_they_are(on_postgresql: Project) -> None:
    """SQLAlchemy doubles per cent signs for the driver: a column with one is not taken for gone, and is dropped."""
    project = on_postgresql
    project.models(
        MODELS.replace("users.name", "users.Old%Col").replace('"tz"', '"name", String(20)), Column("tz"')
    )
    project.send('ALTER TABLE users ADD "Old%Col" integer')
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    project.contract('op.drop_column("users", "Old%Col")')
    done = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert done.is_done, done.said
    assert project.columns() == {"id", "name", "email", "tz"}


CONNECT = "with connectable.connect() as connection:"
BEGIN = "        with context.begin_transaction():\n            context.run_migrations()\n\n\nif"
WORKS = {
    "no transaction of Alembic's": (BEGIN, "        context.run_migrations()\n\n\nif"),
    "a connection that commits by itself": (
        CONNECT,
        'with connectable.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:',
    ),
    "one transaction for all revisions": (
        "connection=connection, ",
        "connection=connection, transaction_per_migration=False, ",
    ),
}
REFUSED = {
    "engine.begin": (CONNECT, "with connectable.begin() as connection:"),
    "a transaction that looking has begun": (
        CONNECT,
        f"{CONNECT}\n        connection.exec_driver_sql('SELECT 1')",
    ),
}


def test_env_py_may_be_as_it_is(project: Project) -> None:
    """Where emc cannot commit what it does, it says so; any other way to connect works, and leaves the same."""
    project.expand(
        'op.add_column("users", sa.Column("tz", sa.String(40)))\n'
        "assert op.get_bind().execute(sa.text('SELECT count(*) FROM users')).scalar() == 2\n"
        'op.execute("CREATE TABLE notes (id integer)")'
    )
    project.contract('op.drop_column("users", "name")')
    source = project.env.read_text()
    for way, change in REFUSED.items():
        project.change_env(change)
        stopped = project.run("upgrade", "heads")
        project.env.write_text(source)
        assert "env.py gave Alembic a connection that is in a transaction already" in stopped.said, way
        assert project.heads == set(), way
        assert "tz" not in project.columns(), way
    for way, change in WORKS.items():
        project.change_env(change)
        done = project.run("upgrade", "expand@head")
        assert done.is_done, f"{way}: {done.said}"
        assert project.heads == {"e1"}, way
        stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
        assert "shut data-elsewhere:users.name" in stopped.said, f"{way}: {stopped.said}"
        assert project.columns() == {"id", "name", "email", "tz"}, way
        assert project.heads == {"e1"}, way
        project.env.write_text(source)
        project.send("DROP TABLE notes", "ALTER TABLE users DROP COLUMN tz", "DELETE FROM alembic_version")
        project.send("DELETE FROM emc_ledger")


TOLD = {
    "postgresql": {
        "SET search_path TO tenant": "as postgres in tenant instead of as postgres in public",
        "SET ROLE pg_monitor": "as pg_monitor in ",
    },
    "mariadb": {"USE information_schema": "information_schema instead of"},
    "sqlite": {},
}


def test_what_env_py_tells_a_session_reaches_emc_or_is_refused(project: Project) -> None:
    """Sessions are emc's own: where those would lead elsewhere, nothing is changed."""
    project.expand('op.add_column("users", sa.Column("tz", sa.String(40)))')
    kind = project.engine.dialect.name.replace("mysql", "mariadb")
    if kind == "postgresql":
        project.send("CREATE SCHEMA tenant", "CREATE TABLE tenant.users (LIKE users)")
    source = project.env.read_text()
    for statement, why in TOLD[kind].items():
        told = f"{CONNECT}\n        connection.exec_driver_sql('{statement}'); connection.commit()"
        project.change_env((CONNECT, told))
        stopped = project.run("upgrade", "heads")
        assert f"work: {why}" in stopped.said, stopped.said
        assert "Tell it to the engine" in stopped.said
        project.env.write_text(source)
    project.change_env(
        (
            CONNECT,
            CONNECT.replace("connect()", "connect().execution_options(schema_translate_map={None: 'x'})"),
        )
    )
    stopped = project.run("upgrade", "heads")
    assert "schema_translate_map: {None: 'x'} instead of none" in stopped.said, stopped.said
    assert "tz" not in project.columns()


def test_the_schema_of_an_index_counts(on_postgresql: Project) -> None:
    """DROP INDEX is about the index of the schema that it says, and has to say it where there are two readings."""
    project = on_postgresql
    project.send(
        "CREATE SCHEMA other",
        "CREATE TABLE other.users (id integer PRIMARY KEY, email text)",
        "CREATE INDEX ix_email ON other.users (email)",
        "CREATE INDEX ix_other ON other.users (email)",
        "CREATE INDEX ix_email ON users (email)",
        "ALTER TABLE users ADD tz varchar(40)",
        "UPDATE users SET name = NULL",
    )
    declared = 'upgrade.retire("users.ix_email")'
    project.models(
        MODELS
        + 'Table("users", metadata, Column("id", Integer, primary_key=True, autoincrement=False), '
        + f'Column("email", sqlalchemy.Text), schema="other")\n{declared}\n'
    )
    project.models(
        (project.directory / "models.py").read_text().replace("import emc", "import emc, sqlalchemy")
    )
    project.contract('op.execute("DROP INDEX other.ix_email")')
    stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert 'upgrade.retire("other.users.ix_email")' in stopped.said, stopped.said
    project.contract('op.execute("DROP INDEX ix_other")')
    stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert "Say the schema: other.ix_other" in stopped.said, stopped.said
    project.contract('op.execute("DROP INDEX ix_email")')
    stopped = project.run("-x", "old-code-gone", "upgrade", "heads")
    assert "shut index-unused:users.ix_email" in stopped.said, stopped.said
    assert project.run("-x", "old-code-gone", "upgrade", "heads").is_done
    left = "SELECT schemaname FROM pg_indexes WHERE indexname = 'ix_email'"
    assert project.ask(left) == [("other",)]


def test_two_that_record_the_same_revision(project: Project) -> None:
    """Where another Alembic was quicker to record what both have run, that is said, and the next run goes on."""
    project.expand(
        'op.add_column("users", sa.Column("tz", sa.String(40)))\n'
        "with sa.create_engine(op.get_bind().engine.url, poolclass=sa.NullPool).begin() as other:\n"
        "    other.exec_driver_sql(\"INSERT INTO alembic_version VALUES ('e1')\")"
    )
    stopped = project.run("upgrade", "expand@head")
    assert "Another Alembic has recorded a revision on this database" in stopped.said, stopped.said
    assert project.run("upgrade", "expand@head").is_done
    assert project.heads == {"e1"}
    assert "tz" in project.columns()
