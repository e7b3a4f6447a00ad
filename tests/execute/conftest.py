from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from emc.steps import Transaction
from tests.execute.course import Course, make_course
from tests.mariadb_server import spelled


@pytest.fixture
def course(engine: Engine, request: pytest.FixtureRequest) -> Course:
    """A course on each database, with a table of users."""
    made = make_course(engine)
    callspec = getattr(request.node, "callspec", None)
    wanted = callspec.params.get("transaction") if callspec is not None else None
    if wanted is Transaction.TOGETHER and not made.dialect.transactional_ddl:
        pytest.skip("no transaction spans DDL here")
    return made


@pytest.fixture
def transactional(course: Course) -> Course:
    """A course on each database whose transactions span DDL."""
    if not course.dialect.transactional_ddl:
        pytest.skip("no transaction spans DDL here")
    return course


@pytest.fixture(params=["mariadb+pymysql", "mysql+mysqldb"])
def maria(mariadb_url: str, request: pytest.FixtureRequest) -> Iterator[Course]:
    """A course on MariaDB with each driver, with a table of users."""
    engine = create_engine(spelled(mariadb_url, request.param))
    yield make_course(engine)
    engine.dispose()


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
