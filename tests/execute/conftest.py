from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tests.execute.course import Course, make_course


@pytest.fixture
def course(engine: Engine) -> Course:
    """A course on each database, with a table of users."""
    return make_course(engine)


@pytest.fixture
def pg(postgresql_url: str) -> Iterator[Course]:
    """A course on PostgreSQL, with a table of users."""
    engine = create_engine(postgresql_url)
    yield make_course(engine)
    engine.dispose()


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Course]:
    """A course on SQLite, with a table of users."""
    engine = create_engine(sqlite_url)
    yield make_course(engine)
    engine.dispose()
