"""What hangs on a table, column, index or type of PostgreSQL is found, and named, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
import sqlalchemy as sa
from alembic.operations import ops

import emc
from emc.commands import PhaseReport
from emc.dialects.postgresql import PostgreSQL
from emc.dialects.postgresql.hanging import words_of
from emc.errors import ExitCode
from emc.gates import Verdict
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, Operation
from emc.phases import Phase
from emc.schema import Dependent, LiveSchema
from emc.upgrade import Upgrade

POSTGRESQL = PostgreSQL()
KEY = TableKey(None, "Users")

OLD = (
    'CREATE TABLE "Users" (id int PRIMARY KEY, a int, b int, code text UNIQUE, n serial)',
    "CREATE SCHEMA other",
)
TRIGGERED = "CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """A database with a table of users."""
    engine = sa.create_engine(postgresql_url)
    send(engine, *OLD)
    yield engine
    engine.dispose()


def send(engine: sa.Engine, *statements: str) -> None:
    """Run *statements* in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def read(engine: sa.Engine) -> LiveSchema:
    """The live schema."""
    with POSTGRESQL.reading(engine) as connection:
        return POSTGRESQL.read(connection, [None])


def dropping(kind: str, element_kind: ElementKind, name: str | None, directive: object = None) -> Operation:
    """The drop of the table of users, or of something of it."""
    made = directive or ops.ExecuteSQLOp("SELECT 1")
    return Operation(made, kind, Element(element_kind, KEY, name), Phase.CONTRACT, "test")  # type: ignore[arg-type]


DROP_TABLE = dropping(Kind.DROP_TABLE, ElementKind.TABLE, None)


def drop_column(name: str) -> Operation:
    """The drop of one of its columns."""
    return dropping(Kind.DROP_COLUMN, ElementKind.COLUMN, name)


def hanging(engine: sa.Engine, operation: Operation, *others: Operation) -> dict[str, Dependent]:
    """What hangs on what *operation* drops, by its name, where the plan holds *others* too."""
    found = POSTGRESQL.dependents(operation, read(engine), [operation, *others])
    return {one.what: one for one in found}


COLUMN_CASES: Mapping[str, tuple[Sequence[str], str]] = {
    "view": (['CREATE VIEW other."Active Users" AS SELECT a FROM "Users"'], 'view other."Active Users"'),
    "materialized view": (
        ['CREATE MATERIALIZED VIEW m AS SELECT a FROM "Users"'],
        "materialized view public.m",
    ),
    "policy": (['CREATE POLICY p ON "Users" USING (a > 0)'], 'policy p ON public."Users"'),
    "policy of another table": (
        ["CREATE TABLE t (id int)", 'CREATE POLICY p ON t USING (id IN (SELECT a FROM "Users"))'],
        "policy p ON public.t",
    ),
    "trigger of a column": (
        [
            TRIGGERED,
            'CREATE TRIGGER t BEFORE UPDATE OF a ON "Users" FOR EACH ROW EXECUTE FUNCTION tf()',
        ],
        'trigger t ON public."Users"',
    ),
    "trigger with a condition": (
        [
            TRIGGERED,
            'CREATE TRIGGER t BEFORE UPDATE ON "Users" FOR EACH ROW WHEN (NEW.a > 0) EXECUTE FUNCTION tf()',
        ],
        'trigger t ON public."Users"',
    ),
    "rule": (
        [
            "CREATE TABLE log (a int)",
            'CREATE RULE r AS ON INSERT TO "Users" DO ALSO INSERT INTO log VALUES (NEW.a)',
        ],
        'rule r ON public."Users"',
    ),
    "function with a body of SQL": (
        [
            'CREATE FUNCTION other.f(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a + x FROM "Users"; END'
        ],
        "function other.f(x integer)",
    ),
    "publication with a list of columns": (
        ['CREATE PUBLICATION pub FOR TABLE "Users" (id, a)'],
        'publication pub of public."Users"',
    ),
    "publication with a filter of rows": (
        ['CREATE PUBLICATION pub FOR TABLE "Users" WHERE (a > 0) WITH (publish = insert)'],
        'publication pub of public."Users"',
    ),
    "generated column": (
        ['ALTER TABLE "Users" ADD d int GENERATED ALWAYS AS (a + 1) STORED'],
        'column d of table public."Users"',
    ),
}


@pytest.mark.parametrize("case", COLUMN_CASES)
def test_what_stops_the_drop_of_a_column_is_named(database: sa.Engine, case: str) -> None:
    """The server refuses the drop; what is named is in the way, and the statement that is named with it clears it."""
    statements, name = COLUMN_CASES[case]
    assert hanging(database, drop_column("a")) == {}
    send(database, *statements)
    with pytest.raises(sa.exc.DBAPIError, match=r"depend|used"):
        send(database, 'ALTER TABLE "Users" DROP COLUMN a')
    found = hanging(database, drop_column("a"))
    assert list(found) == [name]
    assert not found[name].mentions
    send(database, found[name].remedy)
    assert hanging(database, drop_column("a")) == {}
    send(database, 'ALTER TABLE "Users" DROP COLUMN a')


TABLE_CASES: Mapping[str, tuple[Sequence[str], str]] = {
    "view": (['CREATE VIEW v AS SELECT a FROM "Users"'], "view public.v"),
    "foreign key of a table that emc never sees": (
        ['CREATE TABLE other.orders (user_id int CONSTRAINT fk REFERENCES "Users")'],
        "foreign key fk of table other.orders",
    ),
    "child": (
        ['CREATE TABLE child () INHERITS ("Users")', "ALTER TABLE child ALTER n DROP DEFAULT"],
        "table public.child, which inherits from it",
    ),
    "column of its type": (['CREATE TABLE holder (one "Users")'], "column one of table public.holder"),
    "column of an array of its type": (
        ['CREATE TABLE holder (id int, several "Users"[])'],
        "column several of table public.holder",
    ),
    "function of its type": (
        ['CREATE FUNCTION f(u "Users") RETURNS int LANGUAGE sql AS $$ SELECT 1 $$'],
        'function public.f(u "Users")',
    ),
    "default of a sequence of its": (
        ["CREATE TABLE t (id int DEFAULT nextval('\"Users_n_seq\"'))"],
        "the default of column id of table public.t",
    ),
}


@pytest.mark.parametrize("case", TABLE_CASES)
def test_what_stops_the_drop_of_a_table_is_named(database: sa.Engine, case: str) -> None:
    """As of a column; a table that inherits is let go, and never dropped by what is pasted."""
    statements, name = TABLE_CASES[case]
    send(database, *statements)
    with pytest.raises(sa.exc.DBAPIError, match="depend"):
        send(database, 'DROP TABLE "Users"')
    found = hanging(database, DROP_TABLE)
    assert list(found) == [name]
    assert "DROP TABLE" not in found[name].remedy
    send(database, found[name].remedy)
    assert hanging(database, DROP_TABLE) == {}
    send(database, 'DROP TABLE "Users"')


def test_views_on_views_are_named_in_the_order_of_their_drops(database: sa.Engine) -> None:
    """A view that shows what another one shows stops the drop of that one; the outermost goes first."""
    send(
        database,
        'CREATE VIEW v AS SELECT a FROM "Users"',
        "CREATE VIEW other.w AS SELECT a FROM v",
        "CREATE MATERIALIZED VIEW a AS SELECT w.a, v.a AS b FROM other.w, v",
    )
    found = hanging(database, drop_column("a"))
    assert list(found) == ["materialized view public.a", "view other.w", "view public.v"]
    send(database, *(one.remedy for one in found.values()))
    send(database, 'ALTER TABLE "Users" DROP COLUMN a')


def test_what_belongs_to_a_table_goes_with_it(database: sa.Engine) -> None:
    """Its own triggers, policies, rules, publications, computed columns and keys are in the way of columns alone."""
    for statements, _ in COLUMN_CASES.values():
        if statements[0].startswith(("CREATE POLICY", "CREATE PUB", "ALTER")):
            for index, statement in enumerate(statements):
                send(
                    database, statement.replace("PUBLICATION pub", f"PUBLICATION pub{len(statement)}{index}")
                )
    send(database, 'ALTER TABLE "Users" ADD parent int REFERENCES "Users"')
    assert hanging(database, DROP_TABLE) == {}


def test_what_the_plan_takes_away_itself_is_in_nobodys_way(database: sa.Engine) -> None:
    """A computed column, a foreign key or a whole table that goes too is not named."""
    send(
        database,
        'ALTER TABLE "Users" ADD d int GENERATED ALWAYS AS (a + 1) STORED',
        'CREATE TABLE orders (user_id int CONSTRAINT fk REFERENCES "Users")',
        'CREATE TABLE logs (user_id int CONSTRAINT fk2 REFERENCES "Users")',
    )
    assert hanging(database, drop_column("a"), drop_column("d")) == {}
    assert len(hanging(database, DROP_TABLE)) == 2
    orders, logs = TableKey(None, "orders"), TableKey(None, "logs")
    going = [
        Operation(
            ops.ExecuteSQLOp(""),
            Kind.DROP_FOREIGN_KEY,
            Element(ElementKind.FOREIGN_KEY, orders, "fk"),
            Phase.EXPAND,
            "",
        ),
        Operation(
            ops.ExecuteSQLOp(""), Kind.DROP_TABLE, Element(ElementKind.TABLE, logs), Phase.CONTRACT, ""
        ),
    ]
    assert hanging(database, DROP_TABLE, *going) == {}


def test_what_emc_has_put_there_is_no_dependent(database: sa.Engine) -> None:
    """Triggers and functions of emc's own are not named."""
    send(
        database,
        "CREATE FUNCTION emc_tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a = 1; RETURN NEW; END'",
        'CREATE TRIGGER emc_t BEFORE UPDATE OF a ON "Users" FOR EACH ROW EXECUTE FUNCTION emc_tf()',
    )
    assert hanging(database, drop_column("a")) == {}


MENTIONS: Mapping[str, tuple[str, bool]] = {
    "its name": ('CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT a FROM "Users" $$', True),
    "in a body of its own language": (
        'CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT A FROM public."Users"); END $$',
        True,
    ),
    "in a text that it carries out": (
        "CREATE PROCEDURE f() LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'UPDATE \"Users\" SET a = ''x'''; END $$",
        True,
    ),
    "another column": ('CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT b FROM "Users" $$', False),
    "part of a word": (
        'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT b AS a_b FROM "Users" $$',
        False,
    ),
    "another table": (
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SELECT a FROM t; END $$",
        False,
    ),
    "a comment": (
        'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT b /* a */ FROM "Users" -- a $$',
        False,
    ),
}


@pytest.mark.parametrize("case", MENTIONS)
def test_functions_whose_text_speaks_of_a_column_are_found(database: sa.Engine, case: str) -> None:
    """The server drops a column that the text of a function speaks of, and the function fails when it is called."""
    statement, is_one = MENTIONS[case]
    send(database, statement)
    found = hanging(database, drop_column("a"))
    kind = "procedure" if "PROCEDURE" in statement else "function"
    assert list(found) == ([f"{kind} public.f(), whose text speaks of it"] if is_one else [])
    assert all(one.mentions for one in found.values())
    send(database, 'ALTER TABLE "Users" DROP COLUMN a')


def test_functions_of_triggers_need_not_name_their_table(database: sa.Engine) -> None:
    """``NEW.a`` speaks of the column of the table that the trigger is on, and of no other table's."""
    send(
        database,
        "CREATE TABLE t (a int)",
        "CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a = 1; RETURN NEW; END'",
        'CREATE TRIGGER t BEFORE UPDATE ON "Users" FOR EACH ROW EXECUTE FUNCTION tf()',
    )
    assert list(hanging(database, drop_column("a"))) == ["function public.tf(), whose text speaks of it"]
    live = read(database)
    assert Element(ElementKind.COLUMN, TableKey(None, "t"), "a") not in live.hanging


def test_words_of_a_body() -> None:
    """Words are folded as the server folds them, quoted ones are not; literals may be carried out, comments may not."""
    assert words_of(
        "SELECT Name, \"Mixed\"\"Case\" FROM t -- gone\n WHERE x = 'EXECUTE ''y''' /* gone */"
    ) == {*("select", "name", 'Mixed"Case', "from", "t", "where", "x", "execute", "y")}


def test_keys_that_others_rely_on_are_not_dropped_unseen(database: sa.Engine) -> None:
    """A unique constraint that a foreign key needs, and an index that is a replica identity, are said to be needed."""
    send(
        database,
        'CREATE TABLE other.orders (code text CONSTRAINT fk REFERENCES "Users" (code))',
        'ALTER TABLE "Users" ALTER a SET NOT NULL',
        'CREATE UNIQUE INDEX ix ON "Users" (a)',
        'ALTER TABLE "Users" REPLICA IDENTITY USING INDEX ix',
    )
    unique = dropping(Kind.DROP_UNIQUE, ElementKind.UNIQUE, "Users_code_key")
    index = dropping(Kind.DROP_INDEX, ElementKind.INDEX, "ix")
    for operation, name in (
        (unique, "foreign key fk of table other.orders"),
        (drop_column("code"), "foreign key fk of table other.orders"),
        (index, 'the replica identity of table public."Users", which is index ix'),
        (drop_column("a"), 'the replica identity of table public."Users", which is index ix'),
    ):
        assert list(hanging(database, operation)) == [name]
    for operation in (unique, index):
        send(database, *(one.remedy for one in hanging(database, operation).values()))
        assert hanging(database, operation) == {}


def test_types_that_others_use_are_not_dropped_unseen(database: sa.Engine) -> None:
    """Columns, domains and functions of an enumerated type are found wherever they are."""
    send(
        database,
        "CREATE TYPE mood AS ENUM ('a', 'b')",
        "CREATE TABLE other.t (moods mood[])",
        "CREATE DOMAIN d AS mood",
        "CREATE FUNCTION f(m mood) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE known (m mood)",
        "CREATE VIEW v AS SELECT m FROM known",
    )
    element = Element(ElementKind.ENUM, TableKey(None, "mood"))
    drop = Operation(AlterEnumOp("mood", None, ("a",), (), ()), Kind.DROP_ENUM, element, Phase.CONTRACT, "")
    others = ["column moods of table other.t", "function f(mood)", "type d"]
    assert list(hanging(database, drop)) == ["column m of table public.known", *others]
    remove = AlterEnumOp("mood", None, ("a", "b"), ("a",), ())
    narrower = Operation(remove, Kind.REMOVE_ENUM_VALUE, element, Phase.CONTRACT, "")
    assert list(hanging(database, narrower)) == ["view public.v", *others]


def test_a_change_of_type_is_refused_while_a_view_shows_the_column(database: sa.Engine) -> None:
    """It belongs to expand, where nothing waits for a gate; a function that speaks of the column is no reason."""
    send(
        database,
        'CREATE VIEW other.v AS SELECT a FROM "Users"',
        'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT a FROM "Users" $$',
    )
    change = ops.AlterColumnOp("Users", "a", modify_type=sa.BigInteger())
    one = dropping(Kind.ALTER_TYPE, ElementKind.COLUMN, "a", change)
    refusal = POSTGRESQL.refuse(one, read(database))
    assert refusal is not None
    assert "view other.v" in refusal.reason
    assert "DROP VIEW other.v;" in refusal.remedy
    send(database, "DROP VIEW other.v")
    assert POSTGRESQL.refuse(one, read(database)) is None


def test_the_number_of_queries_is_fixed(database: sa.Engine) -> None:
    """Twenty views and functions cost no query more than one."""
    counts = []
    for number in range(2):
        for several in range(1 + 19 * number):
            name = f"n{number}_{several}"
            send(
                database,
                f'CREATE VIEW v{name} AS SELECT a FROM "Users"',
                f'CREATE FUNCTION f{name}() RETURNS int LANGUAGE sql AS $$ SELECT a FROM "Users" $$',
            )
        sent: list[str] = []

        def hear(_: object, __: object, statement: str, *___: object, sent: list[str] = sent) -> None:
            sent.append(statement)

        sa.event.listen(database, "before_cursor_execute", hear)
        read(database)
        sa.event.remove(database, "before_cursor_execute", hear)
        counts.append(len(sent))
    assert counts[0] == counts[1]


def retiring() -> Upgrade:
    """An upgrade whose models have no column a any more, and a new one."""
    metadata = sa.MetaData()
    sa.Table(
        "Users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer),
        sa.Column("code", sa.Text, unique=True),
        sa.Column("n", sa.Integer, server_default=sa.text("nextval('\"Users_n_seq\"')"), nullable=False),
        sa.Column("added", sa.Integer),
    )
    upgrade = Upgrade(metadata)
    upgrade.retire("Users.a")
    return upgrade


def hangs(report: PhaseReport) -> Verdict:
    """The answer of the gate, of the one step that it keeps from running."""
    assert report.exit_code is ExitCode.GATE_SHUT
    [blocked] = report.blocked
    [verdict] = blocked.verdicts
    assert verdict.gate == "nothing-hangs:Users.a"
    return verdict


def test_a_view_shuts_the_gate_of_the_drop_and_nothing_else(database: sa.Engine) -> None:
    """The plan names the view, expand runs beside it, contract keeps the column, and drops it once the view is gone."""
    send(database, 'CREATE VIEW other.v AS SELECT a FROM "Users"')
    verdicts = {one.gate: one for one in emc.plan(retiring(), database).verdicts["drop-column:Users.a"]}
    assert verdicts["nothing-hangs:Users.a"].reason == "view other.v"
    assert emc.expand(retiring(), database).exit_code is ExitCode.DONE
    verdict = hangs(emc.contract(retiring(), database, old_code_gone=True))
    assert verdict.reason == "view other.v"
    assert "DROP VIEW other.v;" in str(verdict.remedy)
    send(database, "DROP VIEW other.v")
    assert emc.contract(retiring(), database, old_code_gone=True).exit_code is ExitCode.DONE
    assert emc.plan(retiring(), database).is_empty


def test_a_function_that_speaks_of_the_column_needs_a_persons_word(database: sa.Engine) -> None:
    """What the server would let pass the gate keeps, until somebody says why it does no harm; the ledger has it."""
    send(database, 'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT a FROM "Users" $$')
    emc.expand(retiring(), database)
    verdict = hangs(emc.contract(retiring(), database, old_code_gone=True))
    assert "--override nothing-hangs:Users.a" in str(verdict.remedy)
    overrides = {verdict.gate: "nobody calls f"}
    report = emc.contract(retiring(), database, old_code_gone=True, overrides=overrides)
    assert report.exit_code is ExitCode.DONE
    done = next(
        one for one in emc.history(database) if one.event == "done" and one.operation == "drop-column:Users.a"
    )
    assert done.details["evidence"]["nothing-hangs:Users.a"]["overridden"] == "nobody calls f"
