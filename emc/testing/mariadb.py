"""Where does a test get a MariaDB server of its own?

`testing.mysqld` starts them. That package is older than the MariaDB it meets, so two scripts stand between them:
one initialises in a way that lets root in by TCP, the other notes the server's process for the watchdog.

A server belongs to one test process, so xdist workers never share one. A watchdog waits on a pipe to the process
that started the server: however that process ends (normally, Ctrl-C, SIGKILL), it stops the server and removes the
directory.
"""

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL

from emc.testing.failures import missing
from emc.testing.servers import ServerError, driver, made

PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
"""Where programs for the administrator are, which are not on everybody's PATH."""

CONFIGURATION: Final[dict[str, str | None]] = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": None,
    # Compiled in is latin1; distributions and MariaDB 11.6 say utf8mb4.
    "character-set-server": "utf8mb4",
    # Nothing here has to survive the machine. Commits still survive the server: crash tests rely on it.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "loose-innodb-buffer-pool-dump-at-shutdown": "0",
    "sync-frm": "0",
}
"""The server's settings. Those that emc has to cope with (sql_mode, lock_wait_timeout, …) are the server's defaults."""

_NONE: Final[Mapping[str, str | None]] = {}

INSTALL: Final = """\
#!/bin/sh
exec '{program}' --auth-root-authentication-method=normal --skip-test-db "$@" >'{directory}/install.log' 2>&1
"""

SERVE: Final = """\
#!/bin/sh
# testing.mysqld first tries how MySQL initialises its data, which MariaDB does not know.
case "$*" in *--initialize-insecure*) exit 1 ;; esac
echo $$ >'{directory}/pid' || exit 1
exec '{program}' "$@"
"""

# Reads until something is written or the writer has gone, whichever way. A killed server may need a moment to end.
WATCHDOG: Final = """
trap '' INT
read _
if [ -e "$1/pid" ]; then kill -KILL "$(cat "$1/pid")"; fi
for attempt in $(seq 100); do rm -rf "$1" && exit; sleep 0.1; done
"""


@dataclass(frozen=True)
class Software:
    """MariaDB's programs."""

    server: Path
    """mariadbd"""
    install: Path
    """mariadb-install-db"""


def installed() -> Software | None:
    """The MariaDB software found here."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    server, install = (shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db"))
    return Software(Path(server), Path(install)) if server and install else None


def require() -> Software:
    """The MariaDB software.

    Where it is missing the test is skipped on a laptop and fails where ``CI=true``.
    """
    software = installed()
    if software is None:
        missing(
            "MariaDB is not installed: mariadbd and mariadb-install-db are not found",
            remedy="Install it (apt-get install mariadb-server-core mariadb-client-core), or name a server that runs: "
            "emc_mariadb_server = mariadb+pymysql://user:password@host/",
        )
    if importlib.util.find_spec("testing.mysqld") is None:
        missing("testing.mysqld is not installed, which starts MariaDB", remedy="pip install testing.mysqld")
    return software


class WatchedDirectory:
    """A temporary directory that does not outlive this process, nor does the server whose process id is in `pid`."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="emc-mariadb-"))
        self._watchdog = subprocess.Popen(  # noqa: S603  # Every word is ours.
            ("/bin/sh", "-c", WATCHDOG, "watchdog", self.path),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def remove(self) -> None:
        """Remove it; once is enough, twice does no harm."""
        if self._watchdog.returncode is None:
            self._watchdog.communicate(b"stop\n", timeout=60)

    def mysqld(
        self,
        software: Software,
        base: Path,
        template: Path | None,
        settings: Mapping[str, str | None] = _NONE,
    ) -> Any:
        """`testing.mysqld`'s server in `base`, set up and not started.

        Args:
            software: Its programs.
            base: A directory inside this one.
            template: An initialised data directory to copy; without one it is made anew.
            settings: Besides `CONFIGURATION`.

        Raises:
            ServerError: Its data could not be initialised.
        """
        from testing.mysqld import Mysqld

        scripts = {}
        for name, text, program in (
            ("mysql_install_db", INSTALL, software.install),
            ("mysqld", SERVE, software.server),
        ):
            script = self.path / f"{name}.sh"
            script.write_text(text.format(program=program, directory=self.path))
            script.chmod(0o700)
            scripts[name] = str(script)
        base.mkdir()
        mysqld = Mysqld(
            base_dir=str(base),
            auto_start=0,
            boot_timeout=60,
            copy_data_from=template and str(template),
            # A new one each time: it is written to. Only root may, and must, name the account to run as.
            my_cnf=CONFIGURATION | dict(settings) | ({"user": "root"} if os.geteuid() == 0 else {}),
            **scripts,
        )
        mysqld.setup()
        if not (base / "var" / "mysql").exists():
            raise ServerError(f"MariaDB was not initialised:\n{(self.path / 'install.log').read_text()}")
        return mysqld


class MariaDBServer:
    """One running server.

    Args:
        software: Its programs.
        template: An initialised data directory to copy; without one it makes its own.
        settings: Besides `CONFIGURATION`.

    Raises:
        ServerError: It did not start.
    """

    host: Final = "127.0.0.1"
    user: Final = "root"

    def __init__(
        self,
        software: Software,
        template: Path | None = None,
        settings: Mapping[str, str | None] = _NONE,
    ) -> None:
        self._databases = itertools.count(1)
        self._watched = WatchedDirectory()
        self._mysqld: Any = None
        try:
            for attempts_left in reversed(range(5)):
                # Another process can take a free port before the server does.
                base = self.directory / str(attempts_left)
                self._mysqld = self._watched.mysqld(software, base, template, settings)
                try:
                    self._mysqld.start()
                except RuntimeError as error:
                    if not attempts_left:
                        raise ServerError(str(error)) from None
                else:
                    return
        except BaseException:
            self.stop()
            raise

    @property
    def directory(self) -> Path:
        """Everything that it keeps."""
        return self._watched.path

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._mysqld.my_cnf["port"]
        return port

    def log(self) -> str:
        """What the server wrote to its log since it was started last."""
        text: str = self._mysqld.read_bootlog()
        return text

    def restart(self, *, immediate: bool = False) -> None:
        """Restart, which breaks all connections; `immediate`: as a crash does, with recovery at the start."""
        self._mysqld.terminate(signal.SIGKILL if immediate else signal.SIGTERM)
        # A killed server leaves it behind, and testing.mysqld takes it for the sign that the new one is up.
        Path(self._mysqld.my_cnf["pid-file"]).unlink(missing_ok=True)
        self._mysqld.start()

    def stop(self) -> None:
        """Stop the server and remove its data; once is enough, twice does no harm."""
        if self._mysqld is not None:
            self._mysqld.terminate(signal.SIGKILL)  # What it would save in an orderly end is removed with it.
        (self.directory / "pid").unlink(missing_ok=True)
        self._watched.remove()

    def url(self, dbname: str | None = None) -> str:
        """The SQLAlchemy URL of one of the server's databases."""
        url = URL.create(driver("mariadb"), self.user, host=self.host, port=self.port, database=dbname)
        return url.render_as_string()

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, empty utf8mb4 database while the context lasts. Whoever is connected at its end is killed.

        Yields:
            Its SQLAlchemy URL.
        """
        with made(self.url(), f"emc_{next(self._databases)}", own=True) as url:
            yield url


class MariaDBPool:
    """The servers of one test process: initialised once, which takes seconds, then copied from there."""

    def __init__(self) -> None:
        self._template: WatchedDirectory | None = None
        self._shared: MariaDBServer | None = None

    def new(self, settings: Mapping[str, str | None] = _NONE) -> MariaDBServer:
        """A server of its own, for whoever stops it; skips or fails like `require`.

        Args:
            settings: Besides `CONFIGURATION`.
        """
        software = require()
        if self._template is None:
            template = WatchedDirectory()
            try:
                template.mysqld(software, template.path / "template", None)
            except BaseException:
                template.remove()
                raise
            self._template = template
        return MariaDBServer(software, self._template.path / "template" / "var", settings)

    def get(self) -> MariaDBServer:
        """The one that all tests of this process share."""
        if self._shared is None:
            self._shared = self.new()
        return self._shared

    def stop(self) -> None:
        """Stop the shared one, and forget how it was initialised."""
        if self._shared is not None:
            self._shared.stop()
        if self._template is not None:
            self._template.remove()
