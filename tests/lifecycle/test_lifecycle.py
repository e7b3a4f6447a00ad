"""The one lifecycle test: every pair of models on every database goes through the same ritual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from tests.lifecycle import (
    pairs_columns,
    pairs_constraints,
    pairs_indexes,
    pairs_mariadb,
    pairs_mariadb_keys,
    pairs_mixed,
    pairs_postgresql,
    pairs_syncs,
    pairs_tables,
    pairs_types,
)
from tests.lifecycle.pairs import Pair
from tests.lifecycle.ritual import drop_schemas, run_lifecycle
from tests.mariadb_server import SPELLINGS, spelled

MODULES = (
    pairs_tables,
    pairs_columns,
    pairs_types,
    pairs_constraints,
    pairs_indexes,
    pairs_mixed,
    pairs_mariadb,
    pairs_mariadb_keys,
    pairs_postgresql,
    pairs_syncs,
)
PAIRS: tuple[Pair, ...] = tuple(pair for module in MODULES for pair in module.PAIRS)


def force(engine: Engine) -> str:
    """What a DROP DATABASE ends with to throw out whoever is connected, where it would not do so anyway."""
    return " WITH (FORCE)" if engine.dialect.name == "postgresql" else ""


@pytest.fixture
def fresh(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A second, empty database of the same kind."""
    with beside(engine, tmp_path) as other:
        yield other


@contextmanager
def beside(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A second, empty database of the kind of *engine*."""
    if engine.dialect.name == "sqlite":
        other = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
        yield other
        other.dispose()
        return
    name = f"{engine.url.database}_fresh"
    admin = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    other = create_engine(engine.url.set(database=name))
    yield other
    other.dispose()
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}{force(engine)}")
    admin.dispose()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_lifecycle(pair: Pair, engine: Engine, fresh: Engine) -> None:
    """Old and new code work at every phase, nothing is lost, and the end is what `create_all` would have made."""
    try:
        run_lifecycle(pair, engine, fresh)
    finally:
        drop_schemas(pair, engine)


@pytest.mark.parametrize("pair", [pairs_mixed.SHOP, *pairs_mariadb.SPELLED], ids=lambda pair: pair.name)
@pytest.mark.parametrize("drivername", SPELLINGS[1:])
def test_lifecycle_by_every_way_to_connect(
    pair: Pair, drivername: str, mariadb_url: str, tmp_path: Path
) -> None:
    """It is the same with SQLAlchemy's other name for MariaDB, and with the other driver."""
    engine = create_engine(spelled(mariadb_url, drivername))
    with beside(engine, tmp_path) as fresh:
        run_lifecycle(pair, engine, fresh)
    engine.dispose()


def test_pairs_have_names_and_promises() -> None:
    """Every pair has a name of its own and says what it shows."""
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)
    assert [pair.name for pair in PAIRS if not pair.promise.endswith(".")] == []
