"""JupyterHub's own models, 1.5.1 to 6.1.1, on databases that the old release made and filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.jupyterhub.records import Dump, lost
from tests.jupyterhub.scenario import NEW_RELEASE, OLD_RELEASE, ROOT, Hub
from tests.jupyterhub.walkthrough import walk

pytestmark = pytest.mark.jupyterhub

DONE = 0
BLOCKED = 3
PHASES = ["expand", "migrate", "contract"]
VANISHED = "oauth_access_tokens"


def plan_of(hub: Hub, upgrade: str) -> Any:
    """The plan as JSON, after checking that the command answered one."""
    outcome = hub.emc("plan", upgrade, "--format", "json")
    assert outcome.code == DONE, str(outcome)
    return outcome.document


def steps(plan: Any, *phases: str) -> list[Any]:
    """The steps of the phases."""
    return [step for phase in phases for step in plan["phases"][phase]]


def run(hub: Hub, command: str, upgrade: str, *options: str) -> None:
    """Run a phase that has to succeed."""
    outcome = hub.emc(command, upgrade, *options)
    assert outcome.code == DONE, str(outcome)


def expand(hub: Hub, upgrade: str) -> None:
    """Expand under the old release's eyes, and again for nothing."""
    before: Dump = hub.old_release("dump")
    run(hub, "expand", upgrade)
    assert hub.old_release("dump") == before
    assert steps(plan_of(hub, upgrade), "expand") == []
    run(hub, "expand", upgrade)
    hub.old_release("exercise", "--round", "expanded")
    assert lost(before, hub.old_release("dump")) == []


def side_by_side(hub: Hub, upgrade: str, *migrate: str) -> None:
    """Start the new release beside the old one and migrate, while both go on working."""
    hub.new_release("exercise", "--round", "new-expanded", "--state", "expanded")
    before: Dump = hub.old_release("dump")
    run(hub, "migrate", upgrade, *migrate)
    assert lost(before, hub.old_release("dump")) == []
    hub.old_release("exercise", "--round", "migrated")  # Its rows are work for the next run.
    run(hub, "migrate", upgrade, *migrate)
    hub.new_release("exercise", "--round", "new-migrated", "--state", "migrated")
    hub.old_release("exercise", "--round", "last")


def finish(hub: Hub, upgrade: str, state: str, expected: Dump) -> None:
    """Contract; then the new release reads every expected row and works, and nothing is left to do.

    Args:
        hub: the database; the old release has stopped.
        upgrade: the declarations.
        state: what the new release can count on, see `new_release.py`.
        expected: the rows, as the old release read them last.
    """
    run(hub, "migrate", upgrade)
    run(hub, "contract", upgrade, "--old-code-gone")
    assert VANISHED not in hub.tables()
    assert lost(expected, hub.new_release("dump")) == []
    hub.new_release("exercise", "--round", "new-contracted", "--state", state)
    plan = plan_of(hub, upgrade)
    assert steps(plan, *PHASES) == []
    assert plan["unmanaged"] == []
    run(hub, "contract", upgrade, "--old-code-gone")


def assert_fresh(hub: Hub, fresh: Hub) -> None:
    """The schema is what the new release makes of an empty database, and it opens it as its own."""
    fresh.new_release("create")
    assert own_schema(hub) == own_schema(fresh)
    assert revision(hub) != revision(fresh), "alembic_version is not emc's to write"
    hub.new_release("stamp")
    assert revision(hub) == revision(fresh)


def own_schema(hub: Hub) -> dict[str, Any]:
    """The live schema, apart from what emc keeps for itself."""
    schema: dict[str, Any] = hub.new_release("schema")
    return {name: table for name, table in schema.items() if not name.startswith("emc_")}


def revision(hub: Hub) -> str:
    """What Alembic's version table says."""
    engine = sqlalchemy.create_engine(hub.url)
    with engine.connect() as connection:
        version: str = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    engine.dispose()
    return version


def scratch(hub: Hub, tmp_path: Path) -> Hub:
    """An empty database of the same kind."""
    if hub.url.startswith("sqlite"):
        return Hub(f"sqlite:///{tmp_path / 'fresh.db'}", hub.old)
    url = sqlalchemy.make_url(hub.url)
    name = f"{url.database}_fresh"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return Hub(url.set(database=name).render_as_string(hide_password=False), hub.old)


def test_releases(hub: Hub) -> None:
    """The two releases are the ones that are meant, each with the SQLAlchemy of its time."""
    old, new = hub.old_release("version"), hub.new_release("version")
    assert (old["jupyterhub"], new["jupyterhub"]) == (OLD_RELEASE, NEW_RELEASE)
    assert old["sqlalchemy"].startswith("1.4.")
    assert new["sqlalchemy"].startswith("2.")


def test_old_release(hub: Hub) -> None:
    """On its own schema the old release passes its exercise twice, and loses no row by it."""
    before: Dump = hub.old_release("dump")
    assert sum(map(len, before.values())) > 2000
    hub.old_release("exercise", "--round", "first")
    hub.old_release("exercise", "--round", "second")
    assert lost(before, hub.old_release("dump")) == []


def test_plan_lists_the_vanished_table(hub: Hub) -> None:
    """A table that the new models do not have is listed with the line to paste, and never touched."""
    plan = plan_of(hub, "bare")
    listed = {element["target"]: element for element in plan["unmanaged"]}
    assert listed[VANISHED]["kind"] == "table"
    assert f'upgrade.retire("{VANISHED}")' in listed[VANISHED]["declare"]
    assert [step["target"] for step in steps(plan, *PHASES) if VANISHED in step["target"]] == []
    assert "alembic_version" not in listed


def test_plan_is_the_same_every_time(hub: Hub) -> None:
    """The same models, declarations and schema give the same plan, byte for byte."""
    first, second = (hub.emc("plan", "retiring", "--format", "json") for _ in range(2))
    assert first.output == second.output


def test_renamed_uniques_are_no_work(hub: Hub) -> None:
    """Uniques that the new release's naming convention only calls otherwise are left as they are.

    1.5.1 has no naming convention: its `users_name_key` (`name` on MariaDB, nameless on SQLite) is `uq_users_name` now.
    """
    plan = plan_of(hub, "retiring")
    kept = set(hub.tables())
    found = [step for step in steps(plan, *PHASES) if "unique" in step["kind"]]
    assert [step["id"] for step in found if step["target"].split(".")[0] in kept] == []
    assert [element for element in plan["unmanaged"] if element["kind"] == "unique"] == []


def test_expand_rebuilds_for_foreign_keys_only(hub: Hub) -> None:
    """What 6.1.1 adds is added in place, except that SQLite rebuilds tables that gain a named foreign key.

    SQLite could add such a column in place, but SQLAlchemy would not find the name and the ON DELETE of its foreign key
    again, and Alembic would report a difference for ever.
    """
    expand = steps(plan_of(hub, "retiring"), "expand")
    rebuilt = {step["target"].split(".")[0] for step in expand if "rewrites-table" in step["hazards"]}
    gaining = {step["target"].split(".")[0] for step in expand if step["kind"] == "add-foreign-key"}
    assert gaining == {"api_tokens", "services", "spawners"}
    is_sqlite = hub.url.startswith("sqlite")
    assert rebuilt == (gaining if is_sqlite else set())
    # On MariaDB no table is copied, though all of them are small enough for it.
    assert is_sqlite or [step["id"] for step in expand if "blocks-writes" in step["hazards"]] == []


def test_upgrade_discards(hub: Hub, tmp_path: Path) -> None:
    """Contract refuses while OAuth tokens are left, until they are discarded for a reason.

    Every other row comes through, and every API token that 1.5.1 gave out opens 6.1.1.
    """
    expand(hub, "retiring")
    side_by_side(hub, "retiring")

    run(hub, "migrate", "retiring")
    expected: Dump = hub.old_release("dump")
    outcome = hub.emc("contract", "retiring", "--old-code-gone")
    assert outcome.code == BLOCKED, str(outcome)
    assert VANISHED in outcome.output + outcome.errors
    assert hub.tables()[VANISHED] == len(expected[VANISHED]) > 500

    del expected[VANISHED]
    finish(hub, "discarding", "migrated", expected)
    assert_fresh(hub, scratch(hub, tmp_path))


def test_upgrade_moves(hub: Hub, tmp_path: Path) -> None:
    """OAuth tokens can be moved instead: those that were valid still open what they opened."""
    expand(hub, "moving")
    # Not yet the tokens: 1.5.1 would take a moved one for more than it is.
    names = ["services_from_config", "group_properties", "tokens_belong_to_the_hub"]
    side_by_side(hub, "moving", *(part for name in names for part in ("--only", name)))

    expected: Dump = hub.old_release("dump")
    assert hub.emc("contract", "moving", "--old-code-gone").code == BLOCKED
    assert hub.tables()[VANISHED] == len(expected[VANISHED])
    del expected[VANISHED]
    finish(hub, "moving", "moved", expected)
    assert_fresh(hub, scratch(hub, tmp_path))


def test_walkthrough(empty_hub: Hub, tmp_path: Path) -> None:
    """The walkthrough of the documentation can be told again, and tells nothing of the machine it ran on."""
    directory = tmp_path / "hub"
    directory.mkdir()
    lines: list[str] = []
    walk(empty_hub, directory, lines.append)
    assert [line for line in lines if line.startswith("$ emc")]
    personal = (str(tmp_path), str(ROOT), str(Path.home()), "127.0.0.1")
    assert [line for line in lines for part in personal if part in line] == []
