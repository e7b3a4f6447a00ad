"""JupyterHub's own Alembic history takes emc up, and goes from 1.5.1 to 6.1.1 by the revisions that emc writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from emc.testing.snapshots import shape
from tests.jupyterhub.adopted import Adopted, adopt
from tests.jupyterhub.records import Dump, lost
from tests.jupyterhub.scenario import Hub
from tests.jupyterhub.test_upgrade import VANISHED, revision, scratch

pytestmark = pytest.mark.jupyterhub

OLD_HEAD = "4dc2d5a8c53c"
NEW_HEAD = "f460b0348206"
WORD = ("-x", "old-code-gone")


@pytest.fixture
def empty_hub(empty_hub: Hub) -> Hub:
    """As everywhere, apart from SQLite: what revisions do there, the tests of `tests/alembic` show."""
    if empty_hub.url.startswith("sqlite"):
        pytest.skip("on servers, where both releases run at once")
    return empty_hub


def done(adopted: Adopted, *arguments: str) -> str:
    """Run a command of Alembic's that has to succeed; everything that it printed."""
    outcome = adopted.alembic(*arguments)
    assert outcome.code == 0, str(outcome)
    return outcome.output + outcome.errors


def refused(adopted: Adopted, *arguments: str) -> str:
    """Run a command of Alembic's that has to fail with a message; the message."""
    outcome = adopted.alembic(*arguments)
    assert outcome.code != 0, str(outcome)
    assert "Traceback" not in outcome.errors, str(outcome)
    return outcome.output


def emc(adopted: Adopted, *arguments: str) -> None:
    """Run a command of emc's that has to succeed."""
    outcome = adopted.emc(*arguments)
    assert outcome.code == 0, str(outcome)


def running(hub: Hub, command: str, *options: str) -> Any:
    """Let the old release do something, as a hub that was started before the upgrade."""
    return hub.old_release(command, "--running", *options)


def schema(hub: Hub) -> dict[str, Any]:
    """The live schema with all its names, apart from what is emc's and Alembic's."""
    engine = create_engine(hub.url)
    found = shape(engine)
    engine.dispose()
    found["tables"].pop("alembic_version")
    return found


def by_emc(hub: Hub) -> Hub:
    """The same upgrade by the commands of emc, of a database in which nobody works."""
    hub.old_release("create")
    for command, *options in (["expand"], ["migrate"], ["contract", "--old-code-gone"]):
        outcome = hub.emc(command, "discarding", *options)
        assert outcome.code == 0, str(outcome)
        if command == "expand":
            hub.new_release("start")
    return hub


def test_adopted_history(hub: Hub, tmp_path: Path) -> None:
    """The directory of 1.5.1 goes to 6.1.1 by generated revisions, while both releases run; contract waits for a word.

    No row is lost. Schema and data are what emc's own commands make of the same database.
    """
    directory = tmp_path / "hub"
    directory.mkdir()
    adopted = adopt(hub, directory, Path(hub.old_release("version")["package"]), "retiring")
    history = adopted.revisions()

    done(adopted, "revision", "--autogenerate", "-m", "to 6.1.1")
    written = adopted.revisions()
    assert {name: written[name] for name in history} == history
    (expand,) = (name for name in written if name.endswith("_expand_to_6_1_1.py"))
    (contract,) = (name for name in written if name.endswith("_contract_to_6_1_1.py"))
    assert len(written) == len(history) + 2
    assert f"down_revision = '{OLD_HEAD}'" in written[expand]
    assert f"depends_on = '{expand.split('_')[0]}'" in written[contract]

    # The old release runs: it reads what it has written, and goes on writing.
    before: Dump = hub.old_release("dump")
    done(adopted, "upgrade", "expand@head")
    with pytest.raises(AssertionError, match="DatabaseSchemaMismatch"):
        hub.old_release("dump")  # It compares alembic_version, but only when it starts.
    assert running(hub, "dump") == before
    hub.new_release("start")
    running(hub, "exercise", "--round", "expanded")
    # All of it once more, as after a crash right before Alembic noted the revision: nothing is left to do.
    ledger = hub.tables()["emc_ledger"]
    done(adopted, "stamp", OLD_HEAD)
    done(adopted, "upgrade", "expand@head")
    assert hub.tables()["emc_ledger"] == ledger

    hub.new_release("exercise", "--round", "new-expanded", "--state", "expanded")
    assert "services_from_config has rows left" in refused(adopted, *WORD, "upgrade", "heads")
    emc(adopted, "migrate")
    running(hub, "exercise", "--round", "migrated")  # Its rows are work for the next run.
    emc(adopted, "migrate")

    told = refused(adopted, "upgrade", "heads")
    assert "shut old-code-gone:services.timeout" in told
    assert "-x old-code-gone" in told
    expected: Dump = running(hub, "dump")
    assert lost(before, expected) == []
    assert f"shut data-elsewhere:{VANISHED}: {len(expected[VANISHED])} rows" in refused(
        adopted, *WORD, "upgrade", "heads"
    )
    assert hub.tables()[VANISHED] == len(expected.pop(VANISHED))
    adopted.choose("discarding")
    done(adopted, *WORD, "upgrade", "heads")
    assert VANISHED not in hub.tables()
    assert "No new upgrade operations" in done(adopted, "check")

    hub.new_release("exercise", "--round", "new-contracted", "--state", "migrated")
    after: Dump = hub.new_release("dump")
    assert lost(expected, after) == []
    twin = by_emc(scratch(hub, tmp_path))
    assert lost(twin.new_release("dump"), after) == []
    assert schema(hub) == schema(twin)
    hub.new_release("stamp")


def test_whole_history(hub: Hub, tmp_path: Path) -> None:
    """The directory of 6.1.1 joins with its later revisions, several of them subtractive: they run as they always did.

    Autogenerate finds what its history leaves different from the models. The revisions for that, behind the whole
    history, bring another database of 1.5.1 to the models, too.
    """
    directory = tmp_path / "hub"
    directory.mkdir()
    jupyterhub = pytest.importorskip("jupyterhub")
    adopted = adopt(hub, directory, Path(str(jupyterhub.__file__)).parent, "bare")
    done(adopted, "upgrade", "heads")
    assert VANISHED not in hub.tables()
    assert revision(hub) == NEW_HEAD
    # Tables of its own JupyterHub makes when it starts, not by revisions; the new API tokens among them.
    hub.new_release("create")
    differences = refused(adopted, "check")
    assert "alter-type:services.cwd" in differences  # 2,047 characters in the revision, 4,095 in the models.
    assert "drop-default:services.timeout" in differences  # Which only the revision gives it.
    assert "add-" not in differences
    assert "create-" not in differences

    done(adopted, "revision", "--autogenerate", "-m", "settle")
    done(adopted, *WORD, "upgrade", "heads")
    assert "No new upgrade operations" in done(adopted, "check")

    another = scratch(hub, tmp_path)
    another.old_release("create")
    again = Adopted(another, directory)
    again.connect()
    assert "shut expand-done:services.timeout" in refused(again, *WORD, "upgrade", "heads")
    emc(again, "expand")  # What a hub that starts would make, too.
    done(again, *WORD, "upgrade", "heads")
    assert "No new upgrade operations" in done(again, "check")
    assert schema(another) == schema(hub)
