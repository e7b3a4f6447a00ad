"""Is the plugin silent until it is asked for, and does a project turn its checks on with a line?"""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from pathlib import Path

import pytest
from pytest_postgresql.executors import NoopExecutor, PostgreSQLExecutor
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

import emc.testing.mariadb
from emc.errors import ConfigurationError
from emc.testing import ExistingServer, MissingSoftwareError, checks, url_of
from emc.testing.databases import server
from emc.testing.failures import missing
from emc.testing.mariadb import PLACES
from emc.testing.postgresql import free_port
from emc.testing.servers import server_of
from tests.mariadb_server import require as require_mariadb
from tests.servers import PostgresServer
from tests.testing import shop

SHOP = Path(shop.__file__).read_text()
ALL = len(checks.__all__)
"""How many checks there are."""
PYPROJECT = """
[tool.emc]
upgrade = "shop:upgrade"

[tool.pytest.ini_options]
emc_databases = "{databases}"
emc_old_models = "old_shop:metadata"
filterwarnings = ["error"]
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with two releases that turns the checks on with a line."""
    pytester.makepyfile(
        shop=SHOP,
        old_shop="from shop import old_metadata\n\nmetadata = old_metadata()\n",
        test_upgrade="from emc.testing.checks import *\n",
    )
    pytester.makepyprojecttoml(PYPROJECT.format(databases="sqlite"))
    return pytester


USUAL = ("-p", "no:cacheprovider", "-ra")


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the project's tests by a pytest of their own, in this process, which is quicker."""
    return project.runpytest_inprocess(*USUAL, *options)


def run_apart(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run them in a process of their own."""
    return project.runpytest_subprocess(*USUAL, *options)


def test_importing_the_plugin_imports_pytest_alone() -> None:
    """Whoever has emc installed and does not use it pays nothing in runs of pytest."""
    program = (
        "import sys, pytest; before = set(sys.modules); import emc.pytest_plugin;"
        " print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['emc']"


def test_silent(pytester: pytest.Pytester) -> None:
    """A run that asks for nothing of emc's loads nothing of it, sets up no fixture, and shows no option of emc's."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing(request):
            heavy = {"sqlalchemy", "alembic", "sqlparse", "rich", "click"} & set(sys.modules)
            loaded = {name for name in sys.modules if name.startswith("emc.")}
            assert (heavy, loaded) == (set(), {"emc.pytest_plugin", "emc.lazy"})
            assert [name for name in request.fixturenames if name.startswith("emc")] == []
        """
    )
    result = run_apart(pytester, "--strict-config", "--strict-markers", "--setup-show", "-W", "error")
    result.assert_outcomes(passed=1)
    assert [line for line in result.outlines if "emc_" in line] == []
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    assert "--emc" not in shown
    assert "emc_databases" in shown


def test_one_line(project: pytest.Pytester) -> None:
    """With one line in a test module every check is there; they run on the upgrade that `[tool.emc]` names."""
    result = run(project, "-k", "undo or additive or revisions", "-v")
    result.assert_outcomes(passed=2, skipped=1, deselected=ALL - 3)
    result.stdout.fnmatch_lines(
        [
            "*test_upgrade.py::test_undo_leaves_what_was_there?sqlite? PASSED*",
            "SKIPPED * no alembic.ini in *: emc_alembic_config names it where it is elsewhere",
        ]
    )


def test_each_kind(project: pytest.Pytester) -> None:
    """The databases are those that are configured, and an unknown one is refused."""
    result = run(project, "--collect-only", "-q", "-o", "emc_databases=postgresql mariadb")
    assert "test_upgrade.py::test_expand_is_additive[mariadb]" in result.outlines
    assert "test_upgrade.py::test_expand_is_additive[postgresql]" in result.outlines
    result = run(project, "-o", "emc_databases=oracle")
    result.stdout.fnmatch_lines(["*emc_databases names oracle; it knows sqlite, postgresql, mariadb*"])


def test_parametrize_by_keyword(pytester: pytest.Pytester) -> None:
    """A test may be parametrized by keyword arguments, and may name its databases so."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize(argnames="n", argvalues=[1])
        def test_usual(emc_database_kind, n):
            pass

        @pytest.mark.parametrize(argnames=["emc_database_kind"], argvalues=[["mariadb"]], indirect=True)
        def test_named(emc_database_kind):
            pass
        """
    )
    result = run(pytester, "--collect-only", "-q")
    assert {line.partition("::")[2] for line in result.outlines if "::" in line} == {
        "test_usual[sqlite-1]",
        "test_named[mariadb]",
    }


def test_server_by_url(
    project: pytest.Pytester, pg_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs is used by its URL, a database per test, and is left as it was.

    Fixtures of pytest-postgresql can be built on it, and what they answer used in the place of emc's.
    """
    monkeypatch.setenv("OUR_SERVER", pg_server.url())
    project.makepyfile(
        test_theirs="""
        import pytest
        from pytest_postgresql import factories
        from emc.testing.checks import test_create_all_is_in_step

        def load(**connection):
            import psycopg
            with psycopg.connect(**connection) as opened:
                opened.execute("CREATE TABLE theirs (id integer PRIMARY KEY)")

        their_template = factories.postgresql_noproc(depends_on="emc_postgresql_server", dbname="theirs", load=[load])
        their_database = factories.postgresql("their_template")

        @pytest.fixture
        def emc_postgresql_url(their_database):
            return their_database

        def test_is_a_copy_of_theirs(emc_engine):
            from sqlalchemy import inspect
            assert inspect(emc_engine).get_table_names() == ["theirs"]
        """
    )
    with create_engine(pg_server.url(), poolclass=NullPool).connect() as connection:
        query = text(
            "SELECT datname FROM pg_database WHERE datname LIKE 'emc_test_%' OR datname LIKE 'theirs%'"
        )
        result = run(
            project,
            *("-k", "twice or create_all or theirs", "-o", "emc_databases=postgresql"),
            *("-o", "emc_postgresql_server=env:OUR_SERVER"),
        )
        result.assert_outcomes(passed=4, deselected=ALL - 2)
        assert connection.execute(query).all() == []


def test_servers_of_other_plugins(
    project: pytest.Pytester, pg_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project's fixtures of pytest-postgresql and testing.mysqld serve by their names, or as fixtures of emc's."""
    require_mariadb()
    monkeypatch.setenv("PATH", ":".join([os.environ["PATH"], *PLACES]))
    project.makeconftest(
        """
        import pytest
        from testing.mysqld import Mysqld

        @pytest.fixture(scope="session")
        def our_mysqld():
            with Mysqld(my_cnf={"skip-networking": None}) as mysqld:
                yield mysqld

        @pytest.fixture(scope="session")
        def emc_postgresql_server(postgresql_noproc):
            return postgresql_noproc
        """
    )
    result = run(
        project,
        *("-k", "twice or create_all", "-o", "emc_databases=postgresql mariadb"),
        *("-o", "emc_mariadb_server=fixture:our_mysqld"),
        *("--postgresql-host", pg_server.host, "--postgresql-port", str(pg_server.port)),
    )
    result.assert_outcomes(passed=4, deselected=2 * (ALL - 2))


def test_what_names_a_database() -> None:
    """Of a URL, an engine, or pytest-postgresql's executors the URL is known, password and all; of others it is not."""
    url = "postgresql+psycopg://me:p%40ss@db:5433/shop"
    assert url_of(url) == url_of(make_url(url)) == url_of(create_engine(url)) == url
    there = NoopExecutor("db", 5433, "me", "-c jit=off", "tests", "p@ss", "home")
    assert url_of(there) == "postgresql+psycopg://me:p%40ss@db:5433/home?options=-c+jit%3Doff"
    started = PostgreSQLExecutor("pg_ctl", "127.0.0.1", 5433, "/data", "/tmp", "/log", "", "tests", user="me")
    assert url_of(started) == "postgresql+psycopg://me@127.0.0.1:5433/postgres"
    given = server_of(url)
    assert isinstance(given, ExistingServer)
    assert (given.host, given.port, given.user, given.password) == ("db", 5433, "me", "p@ss")
    with pytest.raises(TypeError, match="int names no database"):
        url_of(5)


def test_failure_reads_like_a_message(project: pytest.Pytester) -> None:
    """A failing check shows cause, who is affected and remedy, and no line of emc's own code but the check's."""
    project.makepyfile(
        test_upgrade="""
        from emc.testing import check_models_match

        def test_it(emc_old_engine, emc_upgrade):
            check_models_match(emc_old_engine, emc_upgrade)
        """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *CheckFailedError: Models and database differ, so that a release would meet another schema than *",
            "E *expand: add-column:users.full_name",
            "E *Finish the upgrade: emc expand, emc migrate, emc contract.*",
            "test_upgrade.py:4: CheckFailedError",
        ]
    )
    assert "comparing.py" not in result.stdout.str()


def test_not_configured(project: pytest.Pytester) -> None:
    """What is not configured fails the tests that need it, with the line to write."""
    project.makepyprojecttoml("[tool.pytest.ini_options]\nemc_databases = 'sqlite'\n")
    project.makepyfile(test_before="def test_before(emc_old_release):\n    pass\n")
    result = run(project, "-k", "before or create_all")
    result.assert_outcomes(errors=2, deselected=ALL - 1)
    result.stdout.fnmatch_lines(
        ["No upgrade is configured.", 'Write upgrade = "myapp.db:upgrade" below *, or emc_upgrade = *'],
        consecutive=True,
    )
    assert "emc_old_models = myapp.models:Base.metadata" in result.stdout.str()


def test_missing_server(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server is not installed its tests are skipped with the reason on a laptop, and fail where CI=true."""
    monkeypatch.setattr(emc.testing.mariadb, "PLACES", ())
    monkeypatch.setenv("PATH", str(project.path))
    options = ("-k", "create_all", "-o", "emc_databases=mariadb")
    monkeypatch.delenv("CI", raising=False)
    result = run(project, *options)
    result.assert_outcomes(skipped=1, deselected=ALL - 1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*MariaDB is not installed: mariadbd and mariadb-install-db are not found*"]
    )
    monkeypatch.setenv("CI", "true")
    result = run(project, *options)
    result.assert_outcomes(errors=1, deselected=ALL - 1)
    result.stdout.fnmatch_lines(["MariaDB is not installed: mariadbd and mariadb-install-db are not found"])


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing skips, for unittest and pytest alike, and fails where CI=true; with the way to get it."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(unittest.SkipTest, match=r"no fork\. Run it on Linux"):
        missing("no fork", remedy="Run it on Linux")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(MissingSoftwareError, match="no fork"):
        missing("no fork", remedy="Run it on Linux")


def test_unset_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that should hold the server's URL and does not is named."""
    monkeypatch.delenv("OUR_SERVER", raising=False)
    with pytest.raises(ConfigurationError, match="OUR_SERVER"), server("postgresql", "env:OUR_SERVER"):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://me:s3cret@127.0.0.1:{}/", "Cannot reach the database *//me:???@127.0.0.1:*"),
        ("mariadb+pymysql://me:s3cret@127.0.0.1:{}/", "Cannot reach the database *//me:???@127.0.0.1:*"),
        (
            "postgresql+asyncpg://me:s3cret@127.0.0.1:{}/",
            "The driver of *//me:???@* is asynchronous; emc works *",
        ),
        (
            "postgresql://me:s3cret@127.0.0.1:{}x/",
            "The URL of the database, given by OUR_SERVER, cannot be parsed.",
        ),
    ],
)
def test_server_that_does_not_answer(
    project: pytest.Pytester, url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cannot be used is named, by its URL without the password, and no line of code is shown."""
    kind = make_url(url.format(1).replace("x/", "/")).get_backend_name()
    monkeypatch.setenv("OUR_SERVER", url.format(free_port()))
    result = run(
        project,
        *("-k", "create_all or twice", "--showlocals"),
        *("-o", f"emc_databases={kind}", "-o", f"emc_{kind}_server=env:OUR_SERVER"),
    )
    result.assert_outcomes(errors=2, deselected=ALL - 2)
    result.stdout.fnmatch_lines([said])
    assert "s3cret" not in result.stdout.str()
