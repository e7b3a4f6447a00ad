"""A streaming replica of a PostgreSQL test server."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Account, PostgresServer, free_port


@contextmanager
def standby(primary: PostgresServer, name: str) -> Iterator[str]:
    """A standby that streams from *primary* under the application name *name*; its URL, and gone in the end."""
    account = Account.for_servers()
    directory = Path(tempfile.mkdtemp(prefix="emc-pg-standby-", dir=primary.directory))
    os.chown(directory, account.uid, account.gid)
    data, port = directory / "data", free_port()
    source = f"host={primary.host} port={primary.port} user={primary.user} application_name={name}"
    account.run(
        primary.programs / "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-d", source, "-D", data
    )
    with data.joinpath("postgresql.conf").open("a") as file:
        file.write(f"port = {port}\nunix_socket_directories = '{directory}'\n")
    control = primary.programs / "pg_ctl"
    account.run(control, "start", "-w", "-D", data, "-l", directory / "log")
    try:
        yield f"postgresql+psycopg://{primary.user}@{primary.host}:{port}/postgres"
    finally:
        account.run(control, "stop", "-w", "-m", "immediate", "-D", data)
