#!/usr/bin/env bash
# Installs, on Debian or Ubuntu and as root, what the tests need and no Python wheel brings: the servers of
# PostgreSQL 15 and MariaDB, a plugin of MariaDB, PgBouncer, and what mysqlclient is built with. Starts nothing.
# Called by the nox sessions in CI; on a laptop the tests of what is missing are skipped.
set -euo pipefail

postgresql=15
packages=()
if [ ! -x "/usr/lib/postgresql/$postgresql/bin/initdb" ]; then
    packages+=("postgresql-$postgresql")
fi
if [ ! -x /usr/sbin/mariadbd ] || [ ! -x /usr/bin/mariadb-install-db ]; then
    # The programs alone: the packages without -core would bring a running server.
    packages+=(mariadb-server-core mariadb-client-core)
fi
if [ ! -x /usr/sbin/pgbouncer ]; then
    packages+=(pgbouncer)
fi
if ! pkg-config --exists libmariadb 2>/dev/null; then
    packages+=(libmariadb-dev pkg-config)
fi
# Tells who holds a lock on a table. No program: one file, and its package would bring a running server.
plugin=/usr/lib/mysql/plugin/metadata_lock_info.so
if [ "${#packages[@]}" -eq 0 ] && [ -e "$plugin" ]; then
    exit 0
fi

# The tests start servers of their own: PostgreSQL's package must not start one.
mkdir -p /etc/postgresql-common
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
fi
# Nor is PgBouncer's to start one, as a package does where there is an init; 101: "not allowed" (invoke-rc.d(8)).
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
if [ "${#packages[@]}" -gt 0 ]; then
    apt-get install --quiet --yes --no-install-recommends "${packages[@]}"
fi
if [ ! -e "$plugin" ]; then
    directory=$(mktemp -d)
    (cd "$directory" && apt-get download --quiet mariadb-server)
    dpkg-deb --fsys-tarfile "$directory"/mariadb-server_*.deb | tar --extract --directory / ".$plugin"
    rm -r "$directory"
fi
