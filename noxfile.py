"""What CI checks, one session each: `nox` runs all of it, `nox -s NAME` one, `nox -l` lists them."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
CI = os.environ.get("CI") == "true"


def installed_pythons() -> list[str]:
    """The versions that the classifiers promise and that run on this machine, lowest first."""
    if shutil.which("pyenv"):
        # pyenv's python3.12 only works where 3.12 is among the chosen versions: choose them all.
        versions = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True)
        os.environ.setdefault("PYENV_VERSION", ":".join(versions.stdout.split()))
    commands = {version: f"python{version}" for version in nox.project.python_versions(PYPROJECT)}
    return [
        version
        for version, command in commands.items()
        if shutil.which(command) and subprocess.run([command, "-c", ""], check=False).returncode == 0
    ]


PYTHONS = installed_pythons()
PYTHON = PYTHONS[0]  # CI tests on the oldest; the other sessions do not depend on the version.

nox.options.default_venv_backend = "venv"
nox.options.sessions = [
    "lint",
    "typing",
    "floors",
    "changelog",
    f"tests-{PYTHON}",
    "tests_sqlalchemy20",
    "docs",
    "wheel",
]


def install(session: nox.Session, *groups: str) -> None:
    """Install emc as it is in the tree, with dependency groups."""
    session.install("-e", ".[postgresql]", *nox.project.dependency_groups(PYPROJECT, *groups))


def install_for_tests(session: nox.Session) -> None:
    """Install what the tests need: in CI all of it, elsewhere what can be had without asking for more."""
    if CI:
        session.run("bash", "tests/install_servers.sh", external=True)
    install(session, "test")
    if CI or has_mysql_headers():
        # It is compiled. Where that fails its tests are skipped, but not in CI.
        mysqlclient = nox.project.dependency_groups(PYPROJECT, "mysqlclient")
        session.install(*mysqlclient, success_codes=[0] if CI else [0, 1])
    else:
        session.log("no C headers of MariaDB or MySQL: the tests of mysqlclient will be skipped")


def has_mysql_headers() -> bool:
    """Whether pkg-config, which mysqlclient asks, knows MariaDB's or MySQL's C library."""
    libraries = ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient")
    return shutil.which("pkg-config") is not None and any(
        subprocess.run(["pkg-config", "--exists", library], check=False).returncode == 0
        for library in libraries
    )


def run_tests(session: nox.Session, *options: str) -> None:
    """Run the suite on every core, with *options* and the arguments of the command line."""
    workers = str(os.cpu_count() or 1)
    session.run("pytest", "-n", workers, "-m", "not jupyterhub", "--durations=30", *options, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, with the newest SQLAlchemy and Alembic that are allowed; in CI on the newest PostgreSQL too."""
    install_for_tests(session)
    run_tests(session, *(["--all-servers"] if CI else []))


@nox.session(python=PYTHON)
def tests_sqlalchemy20(session: nox.Session) -> None:
    """Run the tests with the oldest series of SQLAlchemy and Alembic that are allowed."""
    install_for_tests(session)
    session.install("sqlalchemy==2.0.*", "alembic==1.18.*")
    # These show what servers keep and let through, whichever SQLAlchemy spoke to them, and take minutes.
    slow = [
        "tests/alembic/test_running_crashes.py",
        "tests/data/test_kill.py",
        "tests/dialects/test_postgresql_poolers.py",
        "tests/execute",
        "tests/lifecycle/test_interruptions.py",
        "tests/lifecycle/test_two_runners.py",
        "tests/sync/test_no_drift.py",
        "tests/test_docs_howto.py",
        "tests/testing",
    ]
    run_tests(session, *(f"--ignore={path}" for path in slow))


@nox.session(python=PYTHON)
def typing(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    install(session, "typing")
    session.run("mypy", *session.posargs)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=PYTHON)
def floors(session: nox.Session) -> None:
    """Check that imports point down only."""
    install(session, "floors")
    session.run("lint-imports", "--no-cache")


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """Build the documentation without a warning, and run its snippets."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-E", "-q", "docs", "docs/_build/html")
    session.run("pytest", "tests/test_docs.py")


@nox.session(python=PYTHON)
def changelog(session: nox.Session) -> None:
    """Check that a branch tells its news, and that all news fragments can be read."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "changelog"))
    base = "origin/main"
    known = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", base], capture_output=True, check=False
    )
    if known.returncode == 0:
        session.run("towncrier", "check", "--compare-with", base)
    else:
        session.log(f"no {base} to compare with")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session(python=PYTHON)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it where there is nothing else, and use it with SQLite alone."""
    with tempfile.TemporaryDirectory() as directory:
        session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ".")
        session.install(*map(str, Path(directory).glob("*.whl")))
        session.chdir(directory)
        shipped = "import emc, pathlib; assert pathlib.Path(emc.__file__).with_name('py.typed').exists()"
        session.run("python", "-c", shipped)
        session.run("emc", "--version")
        session.run("emc", "quickstart")


@nox.session(python=PYTHON)
def jupyterhub(session: nox.Session) -> None:
    """Upgrade the database of a real project, JupyterHub, along its own history."""
    install_for_tests(session)
    session.install("jupyterhub==6.1.1")
    session.run("pytest", "tests/jupyterhub", "-m", "jupyterhub", *session.posargs)


@nox.session(python=PYTHON)
def interruptions(session: nox.Session) -> None:
    """Kill and cut off runs at every moment there is, on every database: an hour or more."""
    install_for_tests(session)
    every = {"EMC_ALL_MOMENTS": "1", "EMC_KILLS": "50"}
    files = ("tests/lifecycle/test_interruptions.py", "tests/data/test_kill.py")
    session.run("pytest", *files, *session.posargs, env=every)


@nox.session(python=PYTHON)
def drift(session: nox.Session) -> None:
    """Copy 200,000 rows while six writers go on, on every database, and look for a row out of step."""
    install_for_tests(session)
    session.run("pytest", "tests/sync/test_no_drift.py", *session.posargs, env={"EMC_DRIFT_ROWS": "200000"})


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Run one benchmark: `nox -s bench -- NAME [ARGUMENTS]`."""
    name, *arguments = session.posargs or session.error("which one? nox -s bench -- NAME")
    install_for_tests(session)
    session.run("python", "-m", f"benchmarks.{name}", *arguments)
