#!/bin/sh
# Installs the Debian packages behind the private SLURM cluster of tests/slurm; a second run changes nothing.
set -eu

# The -core packages of MariaDB hold the server and its set-up tool, but start no database service on this machine.
wanted="slurmctld slurmd slurm-client slurmdbd slurm-wlm-mysql-plugin munge mariadb-server-core mariadb-client-core"

absent=""
for package in $wanted; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || absent="$absent $package"
done

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    else
        echo "install.sh: need root or a password-free sudo to install:$absent" >&2
        return 1
    fi
}

get_absent() {
    # shellcheck disable=SC2086  # one word per package
    as_root apt-get -o DPkg::Lock::Timeout=120 install --yes --quiet --no-install-recommends $absent
}

# The package lists are fetched anew only if those at hand are missing or too old to serve.
if [ -n "$absent" ]; then
    get_absent || { as_root apt-get -o DPkg::Lock::Timeout=120 --quiet update && get_absent; }
fi
echo "SLURM for the tests is installed: $wanted"
