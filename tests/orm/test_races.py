"""Objects that are saved while the old release and a backfill write to the same rows."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

import emc.orm
from tests.data.support import migrate, only_work
from tests.orm.support import Declared, User, expanded, one

ROWS = 120


@pytest.fixture
def crowded(database_url: str) -> Iterator[Engine]:
    """A database whose sessions wait for each other, as long as it takes."""
    options = {"timeout": 60} if database_url.startswith("sqlite") else {}
    engine = create_engine(database_url, connect_args=options)
    expanded(engine, ROWS)
    yield engine
    engine.dispose()


def test_nothing_stale_is_ever_written(crowded: Engine) -> None:
    """What the old release wrote last before a row was converted is what was converted, whoever did it.

    Its writers count a value up in rows that are not converted yet. So in the end each row has to hold twice the same
    number; a value that was computed from an earlier one and written later would show.
    """
    declared = Declared()
    conversion = emc.orm.convert(declared.upgrade, on=(sessions := sessionmaker(crowded)))
    is_over = Event()

    def old_release(seed: int) -> None:
        dice, number = random.Random(seed), 0
        while not is_over.is_set():
            number += 1
            key = dice.randint(1, ROWS)
            with crowded.begin() as connection:
                connection.execute(
                    text("UPDATE users SET preferences = :old WHERE id = :id AND settings IS NULL"),
                    {"id": key, "old": json.dumps({"n": f"{seed}-{number}"})},
                )

    def new_release(seed: int) -> None:
        dice = random.Random(seed)
        keys = dice.sample(range(1, ROWS + 1), ROWS // 2)
        for key in keys:
            _save(sessions, key, str(seed))

    with ThreadPoolExecutor(5) as pool:
        old = [pool.submit(old_release, seed) for seed in (1, 2)]
        new = [pool.submit(new_release, seed) for seed in (3, 4)]
        for done in new:
            done.result()
        converted = one(crowded, "SELECT count(*) FROM users WHERE settings IS NOT NULL")
        result = migrate(crowded, only_work(declared.upgrade, crowded), small=10)
        is_over.set()
        for done in old:
            done.result()
    conversion.stop()
    assert converted > ROWS // 3
    assert result.outcome == "complete"
    assert result.rows_done == ROWS - converted
    with Session(crowded) as session:
        rows = session.execute(text("SELECT id, settings, preferences FROM users")).all()
    parsed = [
        (row.id, json.loads(row.settings) if isinstance(row.settings, str) else row.settings) for row in rows
    ]
    assert parsed == [(row.id, json.loads(row.preferences)) for row in rows]


def _save(sessions: sessionmaker[Session], key: int, email: str) -> None:
    """Load an object, change something else, and save it; once more after a deadlock or a conflict."""
    while True:
        try:
            with sessions.begin() as session:
                user = session.get_one(User, key)
                assert user.prefs is not None
                user.email = email
        except OperationalError:
            continue
        return
