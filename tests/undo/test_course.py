"""Undo copes with an expand that did not get far, with others at work, and with roles that may not do it."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, UniqueConstraint, create_engine, make_url
from sqlalchemy.exc import DBAPIError

import emc
from emc.dialects import dialect_of
from emc.errors import ExitCode, LeaseHeldError, LockBudgetError, PrivilegeError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.state import Runner, acquire
from emc.state.ledger import Event
from tests.undo.releases import Service, shut, table, users


def test_a_part_of_expand(engine: Engine) -> None:
    """Of an expand that was not finished, undo takes back what was done; the plan is that of the beginning again."""
    service = Service(
        engine, users(), users(lambda: Column("nick", String(5)), lambda: Column("more", Integer))
    )
    first = [step.id for step in emc.plan(service.upgrade, engine).plan.expand]
    emc.expand(service.upgrade, engine, only=["add-column:users.nick"])
    report = service.undo()
    assert (report.done, report.exit_code) == (("drop-column:users.nick",), ExitCode.DONE)
    assert [step.id for step in emc.plan(service.upgrade, engine).plan.expand] == first
    assert service.is_as_before()


def test_changed_its_mind(engine: Engine) -> None:
    """What expand has added for models that no longer have it is taken back too, and only once."""

    def two(metadata: MetaData) -> None:
        users(lambda: Column("nick", String(5)))(metadata)
        table(metadata, Column("code", Integer), UniqueConstraint("code", name="uq_code"), name="codes")

    service = Service(engine, users(), two)
    service.expand()
    metadata = MetaData()
    users(lambda: Column("nick", String(5)))(metadata)
    report = emc.undo(emc.Upgrade(metadata, release="2"), engine, new_code_gone=True)
    assert report.done == ("drop-column:users.nick", "drop-table:codes")
    assert service.is_as_before()
    undone = [entry for entry in emc.history(engine) if entry.event is Event.UNDONE]
    assert len(undone) == 1


def test_somebody_is_at_work(engine: Engine) -> None:
    """While another emc holds the lease, undo does nothing and says who."""
    service = Service(engine, users(), users(lambda: Column("nick", String(5))))
    service.expand()
    other = Runner("elsewhere.example", 4711, "ada", "1")
    with (
        acquire(engine, dialect_of(engine), command="emc expand", runner=other),
        pytest.raises(LeaseHeldError, match="Process 4711 of user ada"),
    ):
        service.undo()
    assert service.undo().done == ("drop-column:users.nick",)


def test_a_straggler(engine: Engine) -> None:
    """What a process of the new release writes in the last moment is refused by the database, or keeps its column."""
    if engine.dialect.name == "sqlite":
        pytest.skip("nobody writes while emc is in its transaction")
    service = Service(engine, users(), users(lambda: Column("nick", String(5))))
    service.expand()
    accepted: list[bool] = []

    def straggle(event: StepEvent) -> None:
        if event.state is StepState.STARTED and event.step.id == "drop-column:users.nick" and not accepted:
            try:
                service.send("INSERT INTO users (id, nick) VALUES (9, 'late')")
                accepted.append(True)
            except DBAPIError:
                accepted.append(False)

    report = service.undo(report=straggle)
    if accepted == [True]:
        assert [one.rows for one in shut(report).values()] == [1]
        assert service.rows("SELECT nick FROM users") == [("late",)]
    else:
        assert (accepted, report.done) == ([False], ("drop-column:users.nick",))
        assert service.is_as_before()


def test_stopped_between_steps(engine: Engine) -> None:
    """Asked from elsewhere to stop, undo ends after the step that is under way, and the next one does the others."""
    service = Service(
        engine, users(), users(lambda: Column("nick", String(5)), lambda: Column("more", Integer))
    )
    service.expand()

    def ask(event: StepEvent) -> None:
        if event.state is StepState.DONE:
            emc.commands.stop(engine)

    # By its clock some time has passed since it has last heard what others ask for.
    policy = RetryPolicy(clock=itertools.count().__next__)
    report = service.undo(report=ask, retry=policy)
    assert (len(report.done), report.blocked, report.exit_code) == (1, (), ExitCode.PAUSED)
    assert "asked it to stop" in str(report.stopped)
    assert len(service.undo().done) == 1
    assert service.is_as_before()


def test_somebody_does_not_let_go_of_a_table(engine: Engine) -> None:
    """Undo gives up in time where it got to; expand goes on from there, and the next undo takes all of it back."""
    if engine.dialect.name == "sqlite":
        pytest.skip("whoever reads keeps nobody from writing to another table")

    def old(metadata: MetaData) -> None:
        users()(metadata)
        table(metadata, name="notes")

    def new(metadata: MetaData) -> None:
        users(lambda: Column("nick", String(5)))(metadata)
        table(metadata, Column("more", Integer), name="notes")

    service = Service(engine, old, new)
    both = [step.id for step in emc.plan(service.upgrade, engine).plan.expand]
    service.expand()
    hasty = RetryPolicy(lock_timeout_first=0.05, attempts=2, sleep=lambda _: None)
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM users")
        with pytest.raises(LockBudgetError, match="users"):
            service.undo(retry=hasty)
        [left] = [step.id for step in service.undo(dry_run=True).steps]
        assert left == "drop-column:users.nick"
        # As long as that goes on, the release may come again as well.
        assert emc.expand(service.upgrade, engine).done == ("add-column:notes.more",)
    assert emc.plan(service.upgrade, engine).plan.expand == ()
    assert sorted(service.undo().done) == ["drop-column:notes.more", "drop-column:users.nick"]
    assert service.is_as_before()
    assert [step.id for step in emc.plan(service.upgrade, engine).plan.expand] == both


def test_where_it_stands(engine: Engine) -> None:
    """Status tells what undo would take back, and that it has."""
    service = Service(engine, users(), users(lambda: Column("nick", String(5))))
    assert emc.status(service.upgrade, engine).back is None
    service.expand()
    assert emc.status(service.upgrade, engine).back == "emc undo takes back 1 operation of expand"
    service.undo()
    assert (emc.status(service.upgrade, engine).back or "").startswith("taken back at ")


def test_a_role_that_owns_nothing(postgresql_url: str) -> None:
    """A role without the privileges is told before anything is changed."""
    admin = create_engine(postgresql_url)
    service = Service(admin, users(), users(lambda: Column("nick", String(5))))
    service.expand()
    service.send(
        "CREATE ROLE undo_reader LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO undo_reader",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO undo_reader",
    )
    reader = create_engine(make_url(postgresql_url).set(username="undo_reader"))
    before = len(emc.history(admin))
    try:
        with pytest.raises(PrivilegeError, match="table users"):
            emc.undo(service.upgrade, reader, new_code_gone=True)
        assert len(emc.history(admin)) == before
    finally:
        reader.dispose()
        service.send("DROP OWNED BY undo_reader", "DROP ROLE undo_reader")
        admin.dispose()
