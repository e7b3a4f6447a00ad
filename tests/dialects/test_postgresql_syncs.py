"""Columns that PostgreSQL keeps in step: beside users' triggers, whoever writes, and until the old one is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Engine,
    Integer,
    Interval,
    MetaData,
    String,
    Table,
    Text,
    cast,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

import emc
from emc.errors import ExitCode, PlanRefusedError, PrivilegeError, StatementFailedError
from emc.execute import StepEvent, StepState
from tests.servers import make_role

Declare = Callable[[emc.Upgrade, Table], object]


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """A fresh database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


def people(*columns: Any, name: str = "people", **options: Any) -> Table:
    """A table with a key, and a column that nobody converts."""
    return Table(
        name, MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer), *columns, **options
    )


def rename(old: str = "name", new: str = "title") -> Declare:
    """One column has another name."""
    return lambda upgrade, table: upgrade.rename(f"{table.fullname}.{old}", to=table.c[new])


def upgrade_to(table: Table, declare: Declare | None = None) -> emc.Upgrade:
    """The upgrade to *table*."""
    upgrade = emc.Upgrade(table.metadata, release="2")
    (declare or rename())(upgrade, table)
    return upgrade


def renamed(engine: Engine, *statements: str) -> emc.Upgrade:
    """The usual upgrade, expanded: people.name has become people.title; *statements* run before."""
    people(Column("name", String(20))).metadata.create_all(engine)
    run(engine, *statements)
    upgrade = upgrade_to(people(Column("title", String(20))))
    emc.expand(upgrade, engine)
    return upgrade


def run(engine: Engine, *statements: str) -> None:
    """Send statements as they stand."""
    with engine.begin() as connection:
        for one in statements:
            connection.exec_driver_sql(one, execution_options={"no_parameters": True})


def rows(engine: Engine, columns: str = "id, name, title", table: str = "people") -> list[tuple[Any, ...]]:
    """What is in the table."""
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY id")
        ]


def to_expand(upgrade: emc.Upgrade, engine: Engine) -> list[str]:
    """The steps of expand that are left."""
    return [step.id for step in emc.plan(upgrade, engine).plan.expand]


def shut(upgrade: emc.Upgrade, engine: Engine) -> set[str]:
    """The gates that are shut though the old release is gone."""
    report = emc.contract(upgrade, engine, old_code_gone=True, dry_run=True)
    return {verdict.gate for one in report.blocked for verdict in one.verdicts}


# -- beside users' own triggers -------------------------------------------------------------------------------------

_TIDYING = "BEGIN IF new.n = 7 THEN new.name := 'seven'; END IF; RETURN new; END"
_TIDY = (
    f"CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ {_TIDYING} $$",
    "CREATE TRIGGER zz_tidy BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tidy()",
)


def test_what_a_users_trigger_writes_is_seen(engine: Engine) -> None:
    """What a user's trigger writes to the old column is followed, whatever its name and the statement's columns."""
    renamed(engine, *_TIDY)
    run(
        engine,
        "INSERT INTO people (id, n) VALUES (1, 7)",
        "INSERT INTO people (id, n, name) VALUES (2, 1, 'x')",
    )
    run(engine, "UPDATE people SET n = 7 WHERE id = 2")
    assert rows(engine) == [(1, "seven", "seven"), (2, "seven", "seven")]


def test_a_users_trigger_that_comes_later(engine: Engine) -> None:
    """With a user's trigger that is new, expand makes the sync look at every update; until then the gate is shut."""
    upgrade = renamed(engine)
    assert to_expand(upgrade, engine) == []
    run(engine, *_TIDY)
    assert to_expand(upgrade, engine) == ["install-sync:people.title"]
    assert {"sync-live:people.title", "expand-done:people.title"} <= shut(upgrade, engine)
    emc.expand(upgrade, engine)
    run(engine, "INSERT INTO people (id, n, name) VALUES (2, 1, 'x')", "UPDATE people SET n = 7")
    assert rows(engine) == [(2, "seven", "seven")]
    # Which speaks of the old column still: its text is the user's business.
    assert shut(upgrade, engine) == {"nothing-hangs:people.name"}


def test_unrelated_updates_call_nothing(engine: Engine) -> None:
    """An update of another column fires no trigger of emc's, nor does one that leaves a row in step."""
    renamed(engine)
    run(engine, "INSERT INTO people (id, n, name) VALUES (1, 1, 'x')")

    def fired(statement: str) -> bool:
        with engine.begin() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}").scalars().all()
        return any("emc_sync" in line for line in plan)

    assert not fired("UPDATE people SET n = 2")
    assert not fired("UPDATE people SET name = 'y', title = 'y'")
    assert fired("UPDATE people SET name = 'z'")


# -- whoever writes, and however ------------------------------------------------------------------------------------


def test_statements_of_every_kind(engine: Engine) -> None:
    """COPY, upserts and data-modifying WITH keep rows in step like any other statement."""
    renamed(engine)
    run(
        engine,
        "INSERT INTO people (id, name) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO people (id, name) VALUES (1, 'A') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "INSERT INTO people (id, title) VALUES (2, 'B') ON CONFLICT (id) DO UPDATE SET title = excluded.title",
        "WITH moved AS (UPDATE people SET id = id + 10 RETURNING *)"
        " INSERT INTO people (id, title) SELECT id + 10, title FROM moved",
    )
    with engine.begin() as connection:
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy("COPY people (id, name) FROM STDIN") as copy:
            copy.write_row((30, "c"))
    assert rows(engine) == [(11, "A", "A"), (12, "B", "B"), (21, "A", "A"), (22, "B", "B"), (30, "c", "c")]


def test_writers_in_flight(engine: Engine) -> None:
    """The triggers wait for a transaction that has written: its rows are copied, and all later ones follow."""
    people(Column("name", String(20))).metadata.create_all(engine)
    upgrade = upgrade_to(people(Column("title", String(20))))
    emc.expand(upgrade, engine, only=["add-column:people.title"])
    writer = create_engine(engine.url)
    waited: list[str] = []
    with writer.connect() as connection:
        transaction = connection.begin()
        connection.exec_driver_sql("INSERT INTO people (id, name) VALUES (1, 'a')")

        def hear(event: StepEvent) -> None:
            if event.state is StepState.WAITING and transaction.is_active:
                waited.append(event.step.id)
                transaction.commit()

        emc.expand(upgrade, engine, report=hear)
    writer.dispose()
    assert waited == ["install-sync:people.title"]
    run(engine, "INSERT INTO people (id, name) VALUES (2, 'b')")
    assert rows(engine) == [(1, "a", None), (2, "b", "b")]
    emc.migrate(upgrade, engine)
    assert rows(engine) == [(1, "a", "a"), (2, "b", "b")]


def test_sessions_that_replicate(engine: Engine) -> None:
    """Triggers fire for sessions that apply what was replicated or restored."""
    renamed(engine)
    run(
        engine,
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO people (id, name) VALUES (1, 'a')",
    )
    assert rows(engine) == [(1, "a", "a")]


def test_the_writers_search_path_does_not_matter(engine: Engine) -> None:
    """Functions are those that emc has found, whatever the search path of the session that writes."""
    people(Column("name", String(20))).metadata.create_all(engine)
    run(engine, "CREATE FUNCTION shout(t text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper(t)'")
    upgrade = upgrade_to(
        people(Column("title", String(20))),
        lambda upgrade, table: upgrade.convert(
            "people.name", to=table.c.title, up=func.shout, down=func.lower
        ),
    )
    emc.expand(upgrade, engine)
    run(
        engine,
        "CREATE SCHEMA trap",
        "CREATE FUNCTION trap.lower(t text) RETURNS text LANGUAGE sql AS $$ SELECT 'trapped' $$",
        "CREATE FUNCTION trap.shout(t text) RETURNS text LANGUAGE sql AS $$ SELECT 'trapped' $$",
        "SET LOCAL search_path = ''",
        "INSERT INTO public.people (id, name) VALUES (1, 'a')",
        "SET LOCAL search_path = trap, pg_catalog, public",
        "INSERT INTO people (id, title) VALUES (2, 'B')",
    )
    assert rows(engine) == [(1, "a", "A"), (2, "b", "B")]
    assert to_expand(upgrade, engine) == []


def test_roles_that_may_only_write(engine: Engine, postgresql_url: str) -> None:
    """A role with no more than the privileges of an application writes rows that are in step."""
    renamed(engine)
    url = make_role(postgresql_url, "emc_sync_app", "reader")
    run(engine, "GRANT INSERT, UPDATE ON people TO emc_sync_app")
    app = create_engine(url)
    run(app, "INSERT INTO people (id, name) VALUES (1, 'a')", "UPDATE people SET title = 'b'")
    app.dispose()
    assert rows(engine) == [(1, "b", "b")]


def test_missing_privilege_is_named(engine: Engine, postgresql_url: str) -> None:
    """Without CREATE on the schema expand ends before it begins, with the grant to paste."""
    people(Column("name", String(20))).metadata.create_all(engine)
    url = make_role(postgresql_url, "emc_sync_owner", "reader")
    run(engine, "ALTER TABLE people OWNER TO emc_sync_owner", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    owner = create_engine(url)
    with pytest.raises(PrivilegeError, match="CREATE on schema"):
        emc.expand(upgrade_to(people(Column("title", String(20)))), owner)
    owner.dispose()


def test_members_of_the_owner_take_turns(engine: Engine, postgresql_url: str) -> None:
    """What one member of the role that owns the tables has expanded, another one puts right and contracts."""
    people(Column("name", String(20))).metadata.create_all(engine)
    urls = [make_role(postgresql_url, name, "reader") for name in ("emc_sync_one", "emc_sync_two")]
    make_role(postgresql_url, "emc_sync_team", "reader")
    run(
        engine,
        "GRANT emc_sync_team TO emc_sync_one, emc_sync_two",
        "ALTER TABLE people OWNER TO emc_sync_team",
        "GRANT USAGE, CREATE ON SCHEMA public TO emc_sync_team",
    )
    one, two = (create_engine(url) for url in urls)
    upgrade = upgrade_to(people(Column("title", String(20))))
    emc.expand(upgrade, one)
    run(
        one,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO emc_sync_two",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO emc_sync_two",
        "ALTER TABLE people DISABLE TRIGGER USER",
    )
    assert emc.expand(upgrade, two).done == ("install-sync:people.title",)
    emc.migrate(upgrade, two)
    assert emc.contract(upgrade, two, old_code_gone=True).exit_code is ExitCode.DONE
    one.dispose()
    two.dispose()


# -- what stands is what emc has put there --------------------------------------------------------------------------

_TAMPERED = {
    "dropped": 'DROP TRIGGER "{u}" ON people',
    "disabled": 'ALTER TABLE people DISABLE TRIGGER "{i}"',
    "replica-only": 'ALTER TABLE people ENABLE REPLICA TRIGGER "{u}"',
    "not-always": 'ALTER TABLE people ENABLE TRIGGER "{u}"',
    "other-body": "CREATE OR REPLACE FUNCTION {f}() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN new; END $$",
    "other-path": "ALTER FUNCTION {f}() SET search_path = pg_temp",
    "other-condition": 'DROP TRIGGER "{u}" ON people ;; CREATE TRIGGER "{u}" BEFORE UPDATE ON people FOR EACH ROW'
    ' WHEN (false) EXECUTE FUNCTION {f}() ;; ALTER TABLE people ENABLE ALWAYS TRIGGER "{u}" ;;'
    " COMMENT ON TRIGGER \"{u}\" ON people IS '{said}'",
}


@pytest.mark.parametrize("how", _TAMPERED)
def test_tampering_is_seen_and_put_right(engine: Engine, how: str) -> None:
    """Whatever somebody does to the triggers, the gates are shut until expand has put them in place anew."""
    upgrade = renamed(engine)
    emc.migrate(upgrade, engine)
    assert shut(upgrade, engine) == set()
    with engine.connect() as connection:
        names = connection.execute(
            text("SELECT tgname FROM pg_trigger WHERE tgname LIKE '%emc_sync%' ORDER BY 1")
        ).scalars()
        i, u = names.all()
        said = connection.execute(
            text("SELECT obj_description(oid) FROM pg_trigger WHERE tgname = :u"), {"u": u}
        ).scalar_one()
    function = i.removeprefix("~").removesuffix("_i")
    run(engine, *_TAMPERED[how].format(i=i, u=u, f=function, said=said).split(" ;; "))
    assert to_expand(upgrade, engine) == ["install-sync:people.title"]
    assert "sync-live:people.title" in shut(upgrade, engine)
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.GATE_SHUT
    emc.expand(upgrade, engine)
    assert to_expand(upgrade, engine) == []
    run(engine, "INSERT INTO people (id, name) VALUES (1, 'a')", "UPDATE people SET name = 'b'")
    assert rows(engine) == [(1, "b", "b")]
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert emc.plan(upgrade, engine).plan.is_empty


def test_a_declaration_that_moves(engine: Engine) -> None:
    """What stands does not depend on where in the source the declaration is, nor on the process that looks."""

    def one_way(upgrade: emc.Upgrade, table: Table) -> None:
        upgrade.convert("people.name", to=table.c.title, up=func.upper)

    people(Column("name", String(20))).metadata.create_all(engine)
    emc.expand(upgrade_to(people(Column("title", String(20))), one_way), engine)

    def moved(upgrade: emc.Upgrade, table: Table) -> None:
        upgrade.convert("people.name", to=table.c.title, up=func.upper)

    assert to_expand(upgrade_to(people(Column("title", String(20))), moved), engine) == []


def test_nothing_is_left_behind(engine: Engine) -> None:
    """Contract leaves neither triggers nor functions, and no plan or check of Alembic's ever sees them."""
    upgrade = renamed(engine)
    plan = emc.plan(upgrade, engine).plan
    assert plan.unmanaged == ()
    assert plan.expand == ()
    emc.migrate(upgrade, engine)
    emc.contract(upgrade, engine, old_code_gone=True)
    with engine.connect() as connection:
        found = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%emc%'"
        assert connection.exec_driver_sql(found.replace("%", "%%")).scalar() == 0
        found = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'emc%'"
        assert connection.exec_driver_sql(found.replace("%", "%%")).scalar() == 0


def test_a_sync_that_no_declaration_asks_for(engine: Engine) -> None:
    """Should the declaration be taken out too early, the plan says what still stands, and what to put back."""
    renamed(engine)
    bare = emc.Upgrade(people(Column("title", String(20))).metadata, release="2")
    notes = {note.kind: note for note in emc.plan(bare, engine).plan.notes}
    assert "emc_sync" in notes["sync"].text


@pytest.mark.usefixtures("big")
class TestBigTable:
    """Where a table is too big to be looked at under the lock, the triggers themselves are the guard."""

    @pytest.fixture
    def big(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every table that has a row counts as big."""
        monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)

    def test_nothing_refuses_writes(self, engine: Engine) -> None:
        """No guard is put in the way of writers; the rows are looked at before the lock, and not under it."""
        upgrade = renamed(engine, "INSERT INTO people (id, name) SELECT g, g FROM generate_series(1, 50) g")
        emc.migrate(upgrade, engine)
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
        assert not any("emc_guard" in one and one.startswith("ALTER") for one in sent)
        locked = next(at for at, one in enumerate(sent) if one.startswith("LOCK TABLE people"))
        dropped = next(at for at, one in enumerate(sent) if "DROP COLUMN name" in one)
        assert not any("FROM people" in one for one in sent[locked:dropped])

    def test_triggers_that_go_before_the_lock(self, engine: Engine) -> None:
        """Should somebody take the triggers away after the proof, nothing is dropped."""
        upgrade = renamed(engine, "INSERT INTO people (id, name) SELECT g, g FROM generate_series(1, 50) g")
        emc.migrate(upgrade, engine)
        other = create_engine(engine.url)
        done: list[bool] = []

        def meddle(*given: Any) -> None:
            if given[2].startswith("LOCK TABLE people") and not done:
                done.append(True)
                run(other, "ALTER TABLE people DISABLE TRIGGER USER")

        event.listen(engine, "before_cursor_execute", meddle)
        report = emc.contract(upgrade, engine, old_code_gone=True)
        other.dispose()
        assert done
        assert report.exit_code is ExitCode.GATE_SHUT
        assert "drop-column:people.name" not in report.done


# -- tables and names of every kind ---------------------------------------------------------------------------------


def test_names_and_schemas(engine: Engine) -> None:
    """Quoted names, names as long as the server takes, and schemas besides the default one."""
    long, other = "L" * 63, "Ä" * 31
    run(engine, 'CREATE SCHEMA "Their Schema"')
    old = people(Column(long, String(20)), name=f'q"{"t" * 61}', schema="Their Schema")
    old.metadata.create_all(engine)
    new = people(Column(other, String(20)), name=old.name, schema="Their Schema")
    quoted = f'"Their Schema"."{old.name.replace(chr(34), chr(34) * 2)}"'
    upgrade = emc.Upgrade(new.metadata, release="2")
    upgrade.rename(f"{quoted}.{long}", to=new.c[other])
    emc.expand(upgrade, engine)
    run(engine, f"INSERT INTO {quoted} (id, \"{long}\") VALUES (1, '50%')")
    assert rows(engine, f'id, "{other}"', quoted) == [(1, "50%")]
    assert to_expand(upgrade, engine) == []
    emc.migrate(upgrade, engine)
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert emc.plan(upgrade, engine).plan.is_empty


def test_partitions(engine: Engine) -> None:
    """Rows of every partition are kept in step, of those that come later too; and a partition out of force is seen."""

    def parted(*columns: Any) -> Table:
        return people(*columns, postgresql_partition_by="RANGE (id)")

    parted(Column("name", String(20))).metadata.create_all(engine)
    run(
        engine,
        "CREATE TABLE p1 PARTITION OF people FOR VALUES FROM (0) TO (10)",
        "INSERT INTO people VALUES (1, 1, 'a')",
    )
    upgrade = upgrade_to(parted(Column("title", String(20))))
    emc.expand(upgrade, engine)
    run(
        engine,
        "CREATE TABLE p2 PARTITION OF people FOR VALUES FROM (10) TO (20)",
        "INSERT INTO people (id, name) VALUES (2, 'b'), (12, 'c')",
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO people (id, name) VALUES (3, 'd')",
    )
    assert to_expand(upgrade, engine) == []
    emc.migrate(upgrade, engine)
    assert rows(engine) == [(1, "a", "a"), (2, "b", "b"), (3, "d", "d"), (12, "c", "c")]
    run(engine, "ALTER TABLE p2 DISABLE TRIGGER USER")
    assert "sync-live:people.title" in shut(upgrade, engine)
    emc.expand(upgrade, engine)
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert rows(engine, "id, title")[-1] == (12, "c")


@pytest.mark.parametrize("what", ["computed", "partition key", "children"])
def test_what_triggers_cannot_keep_is_refused(engine: Engine, what: str) -> None:
    """Computed columns, columns that rows are partitioned by, and tables with children are refused before expand."""
    if what == "computed":
        people(Column("name", Text, Computed("CAST(n AS text)", persisted=True))).metadata.create_all(engine)
    elif what == "partition key":
        run(engine, "CREATE TABLE people (id int, n int, name text) PARTITION BY LIST (name)")
    else:
        people(Column("name", Text)).metadata.create_all(engine)
        run(engine, "CREATE TABLE children () INHERITS (people)")
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(upgrade_to(people(Column("title", Text))), engine)
    assert "people.title" in {refusal.target for refusal in caught.value.refusals}


# -- conversions that the server does not take ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "word"),
    [
        (func.dice, "dice"),
        (lambda old: func.to_char(func.to_timestamp(old, "YYYY"), "YYYY"), "to_timestamp"),
        (lambda old: old + 1, "operator does not exist"),
        (func.nothing_like_it, "does not exist"),
        (func.length, "cannot cast"),
    ],
    ids=["volatile", "zone", "operator", "function", "type"],
)
def test_conversions_that_cannot_work_end_expand(engine: Engine, up: Any, word: str) -> None:
    """What the server cannot compute, store, or compute the same twice, ends expand before a trigger stands."""
    people(Column("name", Text)).metadata.create_all(engine)
    run(engine, "CREATE FUNCTION dice(t text) RETURNS text LANGUAGE sql AS $$ SELECT t || random() $$")
    kind = JSON if word == "cannot cast" else Text
    upgrade = upgrade_to(
        people(Column("title", kind)),
        lambda upgrade, table: upgrade.convert("people.name", to=table.c.title, up=up),
    )
    with pytest.raises(StatementFailedError) as caught:
        emc.expand(upgrade, engine)
    assert word in str(caught.value)
    run(engine, "INSERT INTO people (id, name) VALUES (1, 'a')")
    assert to_expand(upgrade, engine) == ["install-sync:people.title"]


def test_a_row_that_cannot_be_converted(engine: Engine) -> None:
    """An old row that the conversion fails for is named by the backfill, and the gate stays shut."""
    people(Column("name", Text)).metadata.create_all(engine)
    run(engine, "INSERT INTO people (id, name) VALUES (1, '1'), (2, 'two'), (3, '3')")
    upgrade = upgrade_to(
        people(Column("number", Integer)),
        lambda upgrade, table: upgrade.convert(
            "people.name",
            to=table.c.number,
            up=lambda old: cast(old, Integer),
            down=lambda new: cast(new, Text),
        ),
    )
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    assert (1, "1", 1) in rows(engine, "id, name, number")
    assert emc.status(upgrade, engine).work[0].rows_left == 1
    (verdict,) = [
        verdict
        for verdicts in emc.plan(upgrade, engine).verdicts.values()
        for verdict in verdicts
        if verdict.gate == "in-step:people.number"
    ]
    assert not verdict.open
    assert "two" in verdict.reason
    run(engine, "UPDATE people SET name = '2' WHERE id = 2")
    assert rows(engine, "id, number") == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (JSON(), '{"a": 1}', '{"a":  1}'),
        (JSONB(), "[1]", "[1.0]"),
        (Interval(), "1 month", "30 days"),
    ],
    ids=["json", "jsonb", "interval"],
)
def test_to_the_letter(engine: Engine, kind: Any, before: str, after: str) -> None:
    """A change that the type finds none, or cannot compare, is copied all the same."""
    people(Column("name", kind)).metadata.create_all(engine)
    run(engine, f"INSERT INTO people (id, name) VALUES (1, '{before}')")
    upgrade = upgrade_to(people(Column("title", kind)))
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    run(engine, f"UPDATE people SET name = '{after}'")
    (row,) = rows(engine, "id, CAST(name AS text), CAST(title AS text)")
    assert row[1] == row[2] != before
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
