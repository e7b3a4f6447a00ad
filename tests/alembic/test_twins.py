"""One database goes from release to release by emc, its twin by revisions, and nobody can tell them apart."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, MetaData, inspect, select, text

import emc
from emc.testing.snapshots import shape
from tests.alembic.project import Project
from tests.alembic.test_offline import SAID, run
from tests.lifecycle.pairs import Pair
from tests.lifecycle.pairs_mixed import SHOP
from tests.lifecycle.pairs_syncs import PAIRS as SYNCS
from tests.lifecycle.ritual import build_old, upgrade_of
from tests.lifecycle.test_lifecycle import beside

WORD = "old-code-gone"
RENAMES = SYNCS[0]


def _both(one: Callable[..., object], other: Callable[..., object]) -> Callable[..., None]:
    def do(*given: Any) -> None:
        one(*given)
        other(*given)

    return do


MUCH = Pair(
    "much-at-once",
    "A shop with all that happens to tables, and columns that are renamed.",
    _both(SHOP.old, RENAMES.old),
    _both(SHOP.new, RENAMES.new),
    rows={**SHOP.rows, **RENAMES.rows},
    declare=_both(SHOP.declare, RENAMES.declare),
    prepare=SHOP.prepare,
)


@pytest.fixture
def twin(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A second database of the same kind."""
    with beside(engine, tmp_path) as other:
        yield other


@pytest.fixture
def triplet(twin: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A third one."""
    (tmp_path / "third").mkdir()
    with beside(twin, tmp_path / "third") as other:
        yield other


def project_of(pair: Pair, engine: Engine, directory: Path) -> Project:
    """A project that has the old release behind it, and the revisions of the new one before it."""
    build_old(pair, engine)
    project = Project(directory, engine.url.render_as_string(hide_password=False))
    project.hook()
    project.by_hand("start")
    project.release(upgrade_of(pair, pair.decide))
    command.stamp(project.config, "heads")
    project.autogenerate("next")
    return project


def by_emc(pair: Pair, engine: Engine, *phases: str) -> None:
    """The phases of emc's own commands."""
    for phase in phases:
        upgrade = upgrade_of(pair, pair.decide)
        said: dict[str, Any] = {"old_code_gone": True} if phase == "contract" else {}
        getattr(emc, phase)(upgrade, engine, **said)


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the user's tables."""
    metadata = MetaData()
    names = [name for name in inspect(engine).get_table_names() if not name.startswith(("emc_", "alembic_"))]
    metadata.reflect(engine, only=names)
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def assert_alike(engine: Engine, twin: Engine) -> None:
    """Schema and data are the same, Alembic's own table aside."""
    with twin.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    assert shape(twin) == shape(engine)
    assert rows(twin) == rows(engine)


def test_twins(engine: Engine, twin: Engine, triplet: Engine, tmp_path: Path) -> None:
    """Phases of emc, revisions that it wrote, and their scripts end with the same schema and data."""
    build_old(MUCH, engine)
    by_emc(MUCH, engine, "expand", "migrate", "contract")

    project = project_of(MUCH, twin, tmp_path / "project")
    project.upgrade_to("expand@head")
    by_emc(MUCH, twin, "migrate")
    project.upgrade_to("contract@head", WORD)
    command.check(project.config)
    assert_alike(engine, twin)

    kind = triplet.dialect.name
    if kind not in SAID:
        return
    project = project_of(MUCH, triplet, tmp_path / "scripts")
    url = triplet.url.render_as_string(hide_password=False)
    (start,) = project.scripts.get_bases()
    (expand,) = project.scripts.get_revisions("expand@head")
    expanding = project.upgrade_to(f"{start}:expand@head", sql=True)
    for script in (
        expanding,
        expanding,  # As after it was ended in the middle.
        None,
        SAID[kind] + project.upgrade_to(f"{expand.revision}:contract@head", sql=True),
    ):
        if script is None:
            by_emc(MUCH, triplet, "migrate")
        else:
            done = run(url, script, tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
    command.check(project.config)
    assert_alike(engine, triplet)


def test_switching_in_the_middle(engine: Engine, twin: Engine, tmp_path: Path) -> None:
    """Either may go on where the other has stopped, in the middle of a phase too: what is done is done."""
    build_old(RENAMES, engine)
    by_emc(RENAMES, engine, "expand", "migrate", "contract")

    project = project_of(RENAMES, twin, tmp_path / "project")
    for begin, revision in ((emc.expand, "expand@head"), (emc.contract, "heads")):
        upgrade = upgrade_of(RENAMES)
        plan = emc.plan(upgrade, twin).plan
        steps = plan.expand if begin is emc.expand else plan.contract
        half = [step.id for step in steps if step.unit == steps[0].unit]  # All, where a table is made anew.
        said: dict[str, Any] = {} if begin is emc.expand else {"old_code_gone": True}
        assert begin(upgrade, twin, only=half, **said).done
        project.upgrade_to(revision, WORD)
        command.check(project.config)
        by_emc(RENAMES, twin, "expand", "migrate")

    command.check(project.config)
    assert_alike(engine, twin)
