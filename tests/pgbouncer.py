"""A real PgBouncer in front of a test server: where it comes from, how it starts, and that it always stops."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import URL, make_url

from tests.servers import Account, PostgresServer, ServerError, missing

PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")
"""Where Debian and others keep it, which need not be on everybody's PATH."""

CONFIGURATION: Final = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
logfile = {directory}/log
max_client_conn = 200
default_pool_size = 20
{more}
"""

# Ends it and removes its directory when the test process writes something, or has gone, whichever way.
WATCHDOG: Final = 'read _; kill "$1" 2>/dev/null; rm -rf "$2"'

STARTS_WITHIN: Final = 30.0
"""Seconds after which it counts as dead."""

Mode = Literal["session", "transaction", "statement"]


@dataclass(frozen=True)
class PgBouncer:
    """One running pooler."""

    port: int
    directory: Path

    def url(self, url: str, user: str | None = None) -> str:
        """The database of *url*, through the pooler."""
        address = make_url(url).set(host="127.0.0.1", port=self.port)
        return address.set(username=user or address.username).render_as_string()

    def socket_url(self, url: str) -> str:
        """The same through the pooler's Unix socket."""
        address = make_url(url)
        where = {"host": str(self.directory), "port": str(self.port)}
        return URL.create(
            address.drivername, address.username, database=address.database, query=where
        ).render_as_string()


def program() -> str:
    """The program; where it is missing the test is skipped on a laptop, and fails where ``CI=true``."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    if found is None:
        missing("PgBouncer is not installed")
    return found


@contextmanager
def pooler(
    server: PostgresServer, mode: Mode, *, users: Sequence[str] = (), **settings: str | int
) -> Iterator[PgBouncer]:
    """A PgBouncer in front of *server*, while the context lasts.

    Args:
        server: Where it leads.
        mode: What a client has a session of the server for.
        users: Who may log in, besides the superuser; without a password.
        settings: More of pgbouncer.ini.

    Raises:
        ServerError: It did not start.
    """
    command = program()
    account = Account.for_servers()
    directory = Path(tempfile.mkdtemp(prefix="emc-bouncer-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    directory.joinpath("users").write_text("".join(f'"{user}" ""\n' for user in (server.user, *users)))
    directory.joinpath("ini").write_text(
        CONFIGURATION.format(
            host=server.host,
            server_port=server.port,
            port=port,
            directory=directory,
            mode=mode,
            more="\n".join(f"{name} = {value}" for name, value in settings.items()),
        )
    )
    for path in (directory, *directory.iterdir()):
        os.chown(path, account.uid, account.gid)
    process = account.popen(command, directory / "ini", stdout=subprocess.DEVNULL)
    watchdog = account.popen(
        *("sh", "-c", WATCHDOG, "watchdog", str(process.pid), directory), stdin=subprocess.PIPE
    )
    try:
        _await(process, port, directory)
        yield PgBouncer(port, directory)
    finally:
        watchdog.communicate("stop\n", timeout=60)
        process.wait(timeout=60)


def _await(process: "subprocess.Popen[str]", port: int, directory: Path) -> None:
    """Return once it listens."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                log = directory / "log"
                raise ServerError(log.read_text() if log.exists() else "PgBouncer did not start") from None
            time.sleep(0.01)
        else:
            return
