#!/usr/bin/env bash
# Installs, on Debian or Ubuntu and as root, the one test server that no Python wheel brings: PostgreSQL 15.
# Called by the nox sessions in CI; on a laptop its tests are skipped without it.
set -euo pipefail

version=15
if [ -x "/usr/lib/postgresql/$version/bin/initdb" ]; then
    exit 0
fi

# The tests start servers of their own: the package must not start one.
mkdir -p /etc/postgresql-common
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends "postgresql-$version"
