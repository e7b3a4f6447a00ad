"""What commands make sure of before they begin, and what they leave behind."""

from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, insert

import emc
from emc.errors import DatabaseUnavailableError
from emc.state.ledger import Event


def upgrade_of(*columns: Column[object]) -> tuple[emc.Upgrade, Table]:
    """An upgrade with one table."""
    metadata = MetaData()
    users = Table("users", metadata, Column("id", Integer, primary_key=True), *columns)
    return emc.Upgrade(metadata, release="2"), users


@pytest.mark.parametrize("command", [emc.plan, emc.status, emc.migrate, emc.contract])
def test_a_missing_file_is_no_database(tmp_path: Path, command: object) -> None:
    """Whoever only looks is told that the SQLite file is not there, and does not make an empty one by looking."""
    path = tmp_path / "typo.db"
    engine = create_engine(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailableError, match="there is no file"):
        command(upgrade_of()[0], engine)  # type: ignore[operator]
    assert not path.exists()
    assert emc.expand(upgrade_of()[0], engine).done == ("create-table:users",)
    engine.dispose()


def test_migrate_is_in_the_ledger(engine: Engine) -> None:
    """Each run of a data migration is kept with its outcome and its rows."""
    upgrade, _ = upgrade_of()
    emc.expand(upgrade, engine)
    upgrade, users = upgrade_of(Column("name", String(20), nullable=False))
    upgrade.fill(users.c.name, lambda row: f"user {row.id}")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (id) VALUES (1), (2)")
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    [entry] = [one for one in emc.history(engine) if one.event is Event.FINISHED]
    assert (entry.operation, entry.release, str(entry.phase)) == ("fill:users.name", "2", "migrate")
    assert dict(entry.details) == {"outcome": "complete", "rows_done": 2, "rows_left": 0, "failed": 0}
    with engine.begin() as connection:
        connection.execute(insert(users).values(id=3, name="c"))
    emc.migrate(upgrade, engine)
    assert len([one for one in emc.history(engine) if one.event is Event.FINISHED]) == 1
