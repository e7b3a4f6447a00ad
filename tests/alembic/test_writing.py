"""What ``alembic revision --autogenerate`` writes, and where."""

from pathlib import Path

import pytest
from alembic import command
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Column, Engine, Index, Integer, MetaData, String, Table, create_engine, text

import emc
from emc.alembic.branches import phase_of
from emc.phases import Phase
from tests.alembic.project import Project
from tests.snippets import ROOT


def first() -> emc.Upgrade:
    """A first release."""
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True), Column("name", String(40)))
    return emc.Upgrade(metadata, release="1")


def second() -> emc.Upgrade:
    """Its next one: a column that has to be filled, one that goes, and an index."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tz", String(40), nullable=False),
        Column("email", String(40)),
        Index("ix_users_email", "email"),
    )
    upgrade = emc.Upgrade(metadata, release="2")
    upgrade.fill(users.c.tz, "UTC")
    upgrade.retire("users.name")
    return upgrade


def third() -> emc.Upgrade:
    """The one after that: one column more."""
    metadata = MetaData()
    Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tz", String(40), nullable=False),
        Column("email", String(40)),
        Column("phone", String(40)),
        Index("ix_users_email", "email"),
    )
    return emc.Upgrade(metadata, release="3")


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    """A project whose ``env.py`` knows emc."""
    project = Project(tmp_path / "project", database_url)
    project.hook()
    return project


def reach(project: Project, upgrade: emc.Upgrade, engine: Engine) -> None:
    """Bring the database to *upgrade* by emc alone, and let Alembic believe that its revisions did."""
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    emc.contract(upgrade, engine, old_code_gone=True)
    command.stamp(project.config, "heads", purge=True)


def lines(script: Script) -> list[str]:
    """The code of a revision."""
    return [line.strip() for line in Path(script.path).read_text().splitlines()]


def test_two_branches(project: Project, engine: Engine) -> None:
    """A plan becomes one revision per phase, each on its branch, contract depending on expand."""
    project.release(first())
    (created,) = project.autogenerate("users")
    assert created.branch_labels == {"expand"}
    reach(project, first(), engine)
    project.release(second())

    expand, contract = project.autogenerate("names")

    assert (expand.down_revision, contract.down_revision) == (created.revision, None)
    assert contract.dependencies == expand.revision
    scripts = project.scripts
    assert [phase_of(one, scripts) for one in (created, expand, contract)] == [
        Phase.EXPAND,
        Phase.EXPAND,
        Phase.CONTRACT,
    ]
    assert [one.doc for one in (expand, contract)] == ["expand names", "contract names"]


def test_next_release(project: Project, engine: Engine) -> None:
    """The next release goes on where its branches end, and comes after the contract of the one before."""
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())
    expand, contract = project.autogenerate("names")
    reach(project, second(), engine)
    project.release(third())

    (following,) = project.autogenerate("phone")

    assert following.down_revision == expand.revision
    assert following.dependencies == contract.revision


def test_every_operation_and_gate_is_there(project: Project, engine: Engine) -> None:
    """Whoever reads the revisions finds each operation, its gates and its data migrations, and nothing is run twice."""
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())
    plan = emc.plan(second(), engine).plan
    expand, contract = project.autogenerate("names")

    for script, steps in ((expand, plan.expand), (contract, plan.contract)):
        headed = [line for line in lines(script) if line.startswith("# ")]
        for step in steps:
            assert any(line.startswith(f"# {step.id}:") for line in headed), step.id
    code = Path(contract.path).read_text()
    assert "op.emc_migrated('fill:users.tz'" in code
    for gate in ("no-nulls:users.tz", "data-elsewhere:users.name", "old-code-gone:users.name"):
        assert f"'{gate}'" in code
    assert "old-code-gone" not in Path(expand.path).read_text()
    for script in (expand, contract):
        compile(Path(script.path).read_text(), script.path, "exec")


def test_the_recipe_in_the_guide(postgresql_url: str, tmp_path: Path) -> None:
    """What the guide shows of an online recipe is what is written."""
    guide = (ROOT / "docs" / "howto" / "alembic.rst").read_text()
    shown = guide.partition(".. code-block:: none\n\n")[2].partition("\n\n")[0]
    project = Project(tmp_path / "project", postgresql_url)
    project.hook()
    engine = create_engine(postgresql_url)
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())

    _, contract = project.autogenerate("names")

    assert "\n".join(line.strip() for line in shown.splitlines()) in "\n".join(lines(contract))
    engine.dispose()


def test_nothing_to_do(project: Project, engine: Engine) -> None:
    """Where models and database agree, no revision is written, and ``alembic check`` is content."""
    project.release(second())
    project.autogenerate("users")
    reach(project, second(), engine)
    before = sorted(project.directory.rglob("versions/*.py"))

    assert project.autogenerate("nothing") == []
    command.check(project.config)

    assert sorted(project.directory.rglob("versions/*.py")) == before


def test_check_finds_a_difference(project: Project, engine: Engine) -> None:
    """``alembic check`` names what emc would do, and writes nothing."""
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    project.release(second())

    with pytest.raises(CommandError, match=r"add-column:users\.email"):
        command.check(project.config)


def test_foreign_elements_stay_foreign(project: Project, engine: Engine) -> None:
    """What nobody has named is neither reported by ``alembic check`` nor dropped by a revision."""
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE INDEX their_index ON users (name)"))

    command.check(project.config)
    assert project.autogenerate("nothing") == []


def test_linear_history_is_joined(tmp_path: Path, database_url: str, engine: Engine) -> None:
    """Both branches grow from the end of a history that was there before, and no file of it is changed."""
    project = Project(tmp_path / "project", database_url)
    old = [project.by_hand(message) for message in ("one", "two")]
    texts = {path: path.read_text() for path in project.directory.rglob("versions/*.py")}
    project.hook()
    emc.expand(first(), engine)
    project.release(second())
    command.stamp(project.config, "heads")

    expand, contract = project.autogenerate("names")

    end = old[-1].revision
    assert (expand.down_revision, contract.down_revision) == (end, end)
    assert contract.dependencies == expand.revision
    assert {path: path.read_text() for path in texts} == texts
    scripts = project.scripts
    assert phase_of(scripts.get_revision(end), scripts) is None
    reach(project, second(), engine)
    project.release(third())
    (following,) = project.autogenerate("phone")
    assert following.down_revision == expand.revision


def test_contract_may_begin_later(tmp_path: Path, database_url: str, engine: Engine) -> None:
    """A first contract begins where expand does, although only expand was written until then."""
    project = Project(tmp_path / "project", database_url)
    end = project.by_hand("one").revision
    project.hook()
    project.release(first())
    command.stamp(project.config, "heads")
    (created,) = project.autogenerate("users")
    assert phase_of(project.scripts.get_revision(end), project.scripts) is None
    reach(project, first(), engine)
    project.release(second())

    expand, contract = project.autogenerate("names")

    assert (expand.down_revision, contract.down_revision) == (created.revision, end)


def test_stray_revision(project: Project, engine: Engine) -> None:
    """Once there are branches, a revision on neither is refused with what to do about it."""
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    stray = project.by_hand("by hand", head="base", splice=True)
    command.stamp(project.config, "heads", purge=True)
    project.release(second())

    with pytest.raises(
        CommandError, match=f"{stray.revision} is neither on the branch expand nor on contract"
    ):
        project.autogenerate("names")


def test_revision_by_hand(project: Project, engine: Engine) -> None:
    """``alembic revision`` without ``--autogenerate`` writes what it always wrote, on the branch that is named."""
    project.release(first())
    (created,) = project.autogenerate("users")
    script = project.by_hand("by hand", head="expand@head")
    assert script.down_revision == created.revision
    assert phase_of(script, project.scripts) is Phase.EXPAND
