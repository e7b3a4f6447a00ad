"""Which upgrade and which database are meant, and what if that cannot be told?"""

import json
import re
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from emc.cli.config import settings
from tests.cli.conftest import APP, Project
from tests.mariadb_server import MariaDBServer, make_account, spelled

PASSWORD = "s3cret-Pa55word"


def refused(project: Project, *arguments: str, **environment: str) -> dict[str, str]:
    """Run a command that has to fail, both ways; the error as JSON."""
    plain = project.emc(*arguments, **environment)
    assert plain.exit_code == 2, plain.output
    assert not plain.stdout
    assert "Traceback" not in plain.stderr
    result = project.emc(*arguments, "--format", "json", **environment)
    assert result.exit_code == 2
    assert not result.stdout
    error: dict[str, str] = json.loads(result.stderr)
    assert sorted(error) == ["error", "message", "remedy"]
    assert error["remedy"]
    assert error["remedy"] in plain.stderr
    assert error["message"] in plain.stderr
    assert PASSWORD not in plain.output + result.output
    return error


def test_options_before_environment_before_file(tmp_path: Path) -> None:
    """Each of upgrade and url is taken from its option, else from the environment, else from the nearest file."""
    (tmp_path / "pyproject.toml").write_text('[tool.emc]\nupgrade = "file:u"\nurl = "file"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    environment = {"EMC_UPGRADE": "environment:u"}

    found = settings(None, None, environment=environment, directory=below)
    assert found.upgrade is not None
    assert found.url is not None
    assert (found.upgrade.value, found.upgrade.directory) == ("environment:u", below)
    assert (found.url.value, found.url.directory) == ("file", tmp_path)

    found = settings("option:u", "option", environment=environment, directory=below)
    assert found.upgrade is not None
    assert found.url is not None
    assert (found.upgrade.value, found.url.value) == ("option:u", "option")


def test_a_file_is_found_from_below(sqlite_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyproject.toml further up serves, with modules and SQLite files relative to where it is."""
    sqlite_project.configure(upgrade="app:upgrade", url="sqlite:///../emc.db")
    below = sqlite_project.directory / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert sqlite_project.json("plan")["release"] == "2"
    assert list(below.iterdir()) == []


@pytest.mark.parametrize("upgrade", ["app:upgrade", "app:made"])
def test_options(bare_project: Project, upgrade: str) -> None:
    """Options alone are enough; the upgrade may be an object or a function that answers one."""
    bare_project.write("app.py", APP)
    result = bare_project.emc("plan", "--upgrade", upgrade, "--url", bare_project.url)
    assert result.exit_code == 0
    assert "create-table:users" in result.stdout


def test_environment(bare_project: Project) -> None:
    """The environment alone is enough, and env: works there and in options too."""
    bare_project.write("app.py", APP)
    assert bare_project.emc("plan", EMC_UPGRADE="app:upgrade", EMC_URL=bare_project.url).exit_code == 0
    named = bare_project.emc(
        "plan", "--url", "env:MY_URL", EMC_UPGRADE="app:upgrade", MY_URL=bare_project.url
    )
    assert named.exit_code == 0


def test_what_a_module_prints_stays_out_of_the_answer(sqlite_project: Project) -> None:
    """A module that prints while it is imported does not spoil JSON on stdout."""
    sqlite_project.write("app.py", "print('hello')\n" + APP)
    result = sqlite_project.process("plan", "--format", "json")
    assert json.loads(result.stdout)["release"] == "2"
    assert "hello" in result.stderr


def test_nothing_configured(bare_project: Project) -> None:
    """Without an upgrade or without a database, the remedy says the three places to name it."""
    error = refused(bare_project, "plan")
    assert error["error"] == "configuration-error"
    assert all(place in error["remedy"] for place in ("--upgrade", "EMC_UPGRADE", "[tool.emc]"))
    bare_project.write("app.py", APP)
    error = refused(bare_project, "plan", "--upgrade", "app:upgrade")
    assert all(place in error["remedy"] for place in ("--url", "EMC_URL", "[tool.emc]"))


@pytest.mark.parametrize("spec", ["app", "app:", ":upgrade"])
def test_no_module_and_attribute(bare_project: Project, spec: str) -> None:
    """An upgrade that is not written as module:attribute is refused with the form."""
    bare_project.write("app.py", APP)
    assert "module:attribute" in refused(bare_project, "plan", "--upgrade", spec)["remedy"]


def test_module_not_found(bare_project: Project) -> None:
    """A module that is not there is named, with where it was looked for."""
    error = refused(bare_project, "plan", "--upgrade", "no.such:upgrade")
    assert "'no'" in error["message"]
    assert str(bare_project.directory) in error["remedy"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("from json import nothing_of_it", "nothing_of_it"),
        ("raise KeyError('SETTINGS')", "KeyError: 'SETTINGS'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_module_that_cannot_be_imported(bare_project: Project, line: str, said: str) -> None:
    """An import that fails in the user's module is reported with its own error and the line where it happened."""
    path = bare_project.write("broken.py", f"import os\n\n{line}\n")
    error = refused(bare_project, "plan", "--upgrade", "broken:upgrade")
    assert said in error["message"]
    assert f"{path}:3" in error["message"]


def test_error_in_a_library_is_placed_in_the_users_line(bare_project: Project) -> None:
    """Where a library raises, the line of the user's module that called it is the one to look at."""
    path = bare_project.write("broken.py", "import json\n\nvalue = json.loads('{')\n")
    assert f"{path}:3" in refused(bare_project, "plan", "--upgrade", "broken:upgrade")["message"]


def test_attribute_missing(bare_project: Project) -> None:
    """A missing attribute is answered with the upgrades that the module has, ready to paste."""
    bare_project.write("app.py", APP)
    error = refused(bare_project, "plan", "--upgrade", "app:upgraed")
    assert "--upgrade app:upgrade" in error["remedy"]
    assert "--upgrade app:undeclared" in error["remedy"]


@pytest.mark.parametrize("attribute", ["Base", "os", "signal.SIGTERM", "Base.metadata", "nick_to_name"])
def test_not_an_upgrade(bare_project: Project, attribute: str) -> None:
    """An attribute that is no Upgrade, and answers none, is refused."""
    bare_project.write("app.py", APP)
    assert refused(bare_project, "plan", "--upgrade", f"app:{attribute}")["error"] == "configuration-error"


def test_declaration_errors_are_their_own(bare_project: Project) -> None:
    """An error of a declaration in the module is shown as such, with the place of the declaration."""
    bare_project.write("app.py", APP + "\nupgrade.fill(User.tz, 'again')\n")
    error = refused(bare_project, "plan", "--upgrade", "app:upgrade")
    assert error["error"] == "declaration-error"
    assert "app.py:" in error["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.emc\n", "pyproject.toml"),
        ("[tool]\nemc = 1\n", "tool.emc"),
        ('[tool.emc]\nupgrad = "app:upgrade"\n', "upgrad"),
        ("[tool.emc]\nurl = 5\n", "url"),
    ],
)
def test_bad_files(bare_project: Project, text: str, said: str) -> None:
    """A pyproject.toml that cannot be read, or says something that emc does not know, is refused by name."""
    bare_project.write("pyproject.toml", text)
    assert said in refused(bare_project, "plan")["message"]


@pytest.mark.parametrize(
    "url",
    [
        f"not a url {PASSWORD}",
        f"postgresql+psycopg://user:{PASSWORD}@host:port/name",
        f"postgresql//user:{PASSWORD}@host/name",
    ],
)
def test_bad_urls_are_not_repeated(sqlite_project: Project, url: str) -> None:
    """A URL that cannot be parsed is refused without being repeated: it may hold a password."""
    error = refused(sqlite_project, "plan", "--url", url)
    assert error["error"] == "configuration-error"
    assert "--url" in error["message"]


@pytest.mark.parametrize(
    ("url", "name", "said"),
    [
        (f"oracle://user:{PASSWORD}@host/name", "unsupported-database-error", "It knows"),
        (f"postgres://user:{PASSWORD}@host/name", "unsupported-database-error", "postgresql+psycopg://"),
        (f"nothing+at_all://user:{PASSWORD}@host/name", "unsupported-database-error", "It knows"),
        (f"postgresql+nothing://user:{PASSWORD}@host/name", "configuration-error", "postgresql+psycopg://"),
        (f"postgresql+asyncpg://user:{PASSWORD}@host/name", "configuration-error", "postgresql+psycopg://"),
        (f"postgresql+pg8000://u:{PASSWORD}@h/n", "configuration-error", "emc-migrations[postgresql]"),
        (f"mysql2://user:{PASSWORD}@host/name", "unsupported-database-error", "mysql+pymysql://"),
        (f"mysqldb://user:{PASSWORD}@host/name", "unsupported-database-error", "mysql+mysqldb://"),
        (f"mysql+nothing://user:{PASSWORD}@host/name", "configuration-error", "mysql+pymysql://"),
        (f"mariadb+aiomysql://user:{PASSWORD}@host/name", "configuration-error", "mariadb+pymysql://"),
        (f"mariadb+cymysql://u:{PASSWORD}@h/n", "configuration-error", "emc-migrations[mysql]"),
        (f"mysql+pymysql://u:{PASSWORD}@h/n?connect_timeout=soon", "configuration-error", "question mark"),
        ("sqlite:///file.db?timeout=soon", "configuration-error", "question mark"),
    ],
)
def test_databases_and_drivers(sqlite_project: Project, url: str, name: str, said: str) -> None:
    """A database that emc does not know, and a driver that is not there or does not serve, get their remedy."""
    error = refused(sqlite_project, "plan", "--url", url)
    assert error["error"] == name
    assert said in error["remedy"]


@pytest.mark.parametrize("url", ["mysql", "mariadb", "mysql+mysqldb"])
def test_mysqlclient_is_missing(sqlite_project: Project, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without a driver means mysqlclient to SQLAlchemy; without it, both ways to a driver are told."""
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    error = refused(sqlite_project, "plan", "--url", f"{url}://user:{PASSWORD}@host/name")
    assert error["error"] == "configuration-error"
    assert "pip install emc-migrations[mysql]" in error["remedy"]
    assert f"{url.removesuffix('+mysqldb')}+pymysql://" in error["remedy"]
    assert "pip install mysqlclient" in error["remedy"]


@pytest.mark.parametrize("value", [None, ""])
def test_unset_variable(sqlite_project: Project, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the configuration asks for and that is not set is named."""
    monkeypatch.delenv("NO_SUCH_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_SUCH_URL", value)
    sqlite_project.configure(upgrade="app:upgrade", url="env:NO_SUCH_URL")
    error = refused(sqlite_project, "plan")
    assert "NO_SUCH_URL" in error["message"]
    assert "NO_SUCH_URL" in error["remedy"]


def test_unreachable_server(sqlite_project: Project) -> None:
    """A server that does not answer is reported with its URL, the password hidden."""
    error = refused(sqlite_project, "plan", "--url", f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/name")
    assert error["error"] == "database-unavailable-error"
    assert "user:***@127.0.0.1" in error["message"]


def test_password_in_a_drivers_message(sqlite_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is blotted out of whatever message, as it is and as a URL spells it, in tracebacks too."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("could not log in with p@ss+word or p%40ss%2Bword or postgresql://user:p@h")

    monkeypatch.setattr("emc.commands.plan", fail)
    result = sqlite_project.emc(
        "plan", "--traceback", "--url", "postgresql+psycopg://user:p%40ss%2Bword@127.0.0.1:1/name"
    )
    assert result.exit_code == 2
    for spelling in ("p@ss", "p%40ss", "user:p@"):
        assert spelling not in result.output


def test_wrong_password(postgresql_url: str, sqlite_project: Project) -> None:
    """Nothing that a real server's session shows holds the password of the URL."""
    url = postgresql_url.replace("postgres@", f"postgres:{PASSWORD}@")
    assert PASSWORD in url
    for command in (["plan"], ["expand"], ["migrate"], ["status"], ["contract"], ["history"]):
        for form in ("table", "json"):
            result = sqlite_project.emc(*command, "--url", url, "--format", form)
            assert PASSWORD not in result.output
            assert result.exit_code in (0, 3)


DRIVERS = pytest.mark.parametrize("drivername", ["mysql+pymysql", "mariadb+mysqldb"])


@DRIVERS
def test_unreachable_mariadb(sqlite_project: Project, drivername: str) -> None:
    """A MariaDB server that does not answer is reported with its URL, the password hidden, and the error's number."""
    url = spelled(f"mysql://user:{PASSWORD}@127.0.0.1:1/name", drivername)
    error = refused(sqlite_project, "plan", "--url", url)
    assert error["error"] == "database-unavailable-error"
    assert "user:***@127.0.0.1" in error["message"]
    assert re.search(r"connect.*\(error 200[23]\)$", error["message"])
    assert "that the server runs" in error["remedy"]


@DRIVERS
def test_mariadb_lets_nobody_in(sqlite_project: Project, mariadb_url: str, drivername: str) -> None:
    """A wrong password, and a database that is not there or not for the account, are told with their remedies."""
    server = make_url(spelled(make_account(mariadb_url, "app_owner", "owner"), drivername))
    for url, number, remedy in (
        (server.set(password=PASSWORD), 1045, "user and password"),
        (server.set(username="root", database="emc_nowhere"), 1049, "CREATE DATABASE"),
        (server.set(database="mysql"), 1044, "grant"),
    ):
        error = refused(sqlite_project, "plan", "--url", url.render_as_string(hide_password=False))
        assert error["error"] == "database-unavailable-error"
        assert f"(error {number})" in error["message"]
        assert remedy in error["remedy"]


@DRIVERS
@pytest.mark.parametrize("end", ["", "/", "/?connect_timeout=9"])
def test_no_database_is_named(
    sqlite_project: Project, mariadb_server: MariaDBServer, drivername: str, end: str
) -> None:
    """MariaDB lets in who names no database; emc asks for its name instead of failing later."""
    url = spelled(mariadb_server.url(), drivername)
    error = refused(sqlite_project, "plan", "--url", url + end)
    assert error["error"] == "database-unavailable-error"
    assert "names no database" in error["message"]
    assert "name of the database" in error["remedy"]


@DRIVERS
def test_what_the_driver_does_not_know(sqlite_project: Project, mariadb_url: str, drivername: str) -> None:
    """An option of the URL that the driver does not know is the URL's fault, and no bug of emc."""
    url = make_url(spelled(mariadb_url, drivername)).set(query={"colour": "blue"})
    error = refused(sqlite_project, "plan", "--url", url.render_as_string(hide_password=False))
    assert error["error"] == "configuration-error"
    assert "colour" in error["message"]
    assert "question mark" in error["remedy"]


@DRIVERS
def test_password_of_mariadb(bare_project: Project, mariadb_url: str, drivername: str) -> None:
    """Nothing that a whole upgrade of an account with a password shows holds the password, and all of it is done."""
    url = spelled(make_account(mariadb_url, "app_secret", "owner", password=PASSWORD), drivername)
    bare_project.url = url
    bare_project.write("app.py", APP)
    bare_project.configure(upgrade="app:upgrade", url=url)
    bare_project.old_database()
    for command in (
        ["plan"],
        ["expand"],
        ["migrate"],
        ["status"],
        ["contract", "--old-code-gone"],
        ["history"],
    ):
        result = bare_project.emc(*command)
        assert PASSWORD not in result.output
        assert result.exit_code == 0, result.output
    assert bare_project.json("plan")["phases"] == {"expand": [], "migrate": [], "contract": []}
