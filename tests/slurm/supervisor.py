"""The init process (PID 1) of one private SLURM cluster; started by `PrivateCluster`, never by hand.

It runs in PID and mount namespaces of its own. The kernel kills everything in a PID namespace once its PID 1 ends,
so no daemon, job step or task can outlive this process, even one that detached itself with setsid.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

STARTUP_S = 60.0


class Supervisor:
    """Starts the daemons in the order in which they need each other, then waits for the owner or a daemon to end."""

    def __init__(self, root: Path, owner_fd: int, dbd_port: int, nodes: list[str]) -> None:
        self.root = root
        self.owner_fd = owner_fd
        self.dbd_port = dbd_port
        self.nodes = nodes
        self.daemons: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self.commands: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        self.ended: set[int] = set()

    def start(self) -> None:
        # The nodes get names of their own, which only processes in this mount namespace can resolve.
        subprocess.run(["mount", "--bind", self.root / "etc/hosts", "/etc/hosts"], check=True)
        self._start_munge()
        self._start_database()
        self._wait_for("munged", lambda: accepts(self.root / "run/munge.sock"))
        self._spawn("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(self.root / "run/mysql.sock"))
        self._wait_for("slurmdbd", lambda: accepts(("127.0.0.1", self.dbd_port)))
        self._spawn("slurmctld", "slurmctld", "-D")
        for node in self.nodes:
            (self.root / "spool" / node).mkdir(parents=True)
            # A UTS namespace for each node: its jobs see the node's name as the host name, as on separate machines.
            command = 'hostname "$0" && exec slurmd -D -N "$0"'
            self._spawn(f"slurmd.{node}", "unshare", "--uts", "sh", "-c", command, node)

    def watch(self) -> NoReturn:
        while True:
            self._tick(0.5)
            self._end_and_revive()

    def _end_and_revive(self) -> None:
        """End the daemons that `PrivateCluster.without` wants down, and start again those that it no longer does."""
        running = {name: pid for pid, (name, _) in self.daemons.items()}
        for name, (command, variables) in list(self.commands.items()):
            if self._is_down(name) and name in running:
                os.kill(running[name], signal.SIGTERM)  # Popen.terminate might collect it, which `reap` must
                self.ended.add(running[name])
            elif not self._is_down(name) and name not in running:
                self._spawn(name, *command, **variables)

    def _is_down(self, name: str) -> bool:
        return (self.root / "run" / f"{name}.down").exists()

    def _start_munge(self) -> None:
        run, etc = self.root / "run", self.root / "etc"
        files = [f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed"]
        files += [f"--key-file={etc}/munge.key", f"--log-file={self.root}/log/munged.log"]
        self._spawn("munged", "munged", "--foreground", "--force", "--num-threads=4", *files)

    def _start_database(self) -> None:
        data = ["--no-defaults", "--user=root", f"--datadir={self.root}/mysql", "--innodb-log-file-size=8M"]
        # It names temporary tables by its process id, which another cluster's has in a namespace of its own.
        data.append(f"--tmpdir={self.root}/run")
        with self._log("mariadb-install").open("ab") as log:
            create = ["mariadb-install-db", *data, "--auth-root-authentication-method=normal", "--skip-test-db"]
            subprocess.run(create, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        self._log("mariadb-install").unlink()  # long, and of use only after a failure
        # No network and no flushes: only slurmdbd talks to it, and nothing has to survive a crash.
        private = [f"--socket={self.root}/run/mysql.sock", f"--pid-file={self.root}/run/mysqld.pid"]
        private += ["--skip-networking", "--skip-log-bin"]
        small = ["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"]
        self._spawn("mariadbd", "mariadbd", *data, *private, *small)
        self._wait_for("mariadbd", lambda: accepts(self.root / "run/mysql.sock"))

    def _log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.out"

    def _spawn(self, name: str, *command: str, **variables: str) -> None:
        with self._log(name).open("ab") as log:
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **variables}
            )
        self.daemons[daemon.pid] = (name, daemon)
        self.commands[name] = (command, variables)

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STARTUP_S
        while not ready():
            if time.monotonic() > deadline:
                sys.exit(f"{name} is not up after {STARTUP_S:.0f} s")
            self._tick(0.02)

    def _tick(self, seconds: float) -> None:
        # A pidfd turns readable when its process ends, in whatever way; unlike PDEATHSIG it does not depend on the
        # thread that started us, and unlike a pipe no forked child of the owner can keep it open.
        if select.select([self.owner_fd], [], [], seconds)[0]:
            self._clean_up_after_owner()
        while pid := reap():
            if pid in self.daemons:
                name, _ = self.daemons.pop(pid)
                if pid not in self.ended:
                    sys.exit(f"{name} ended; its messages are in {self.root}/log")

    def _clean_up_after_owner(self) -> NoReturn:
        """The owner ended without stop(): nobody else is left to remove the cluster's files."""
        os.kill(-1, signal.SIGKILL)  # as PID 1 of the namespace: everything in it but ourselves
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        shutil.rmtree(self.root, ignore_errors=True)
        sys.exit(0)


def reap() -> int:
    """Collects one ended child (orphans of the namespace are ours too); its PID, or 0 when there is none."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0


def accepts(address: Path | tuple[str, int]) -> bool:
    """Whether a server takes connections at a UNIX socket's path or a TCP address."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as client:
        return client.connect_ex(str(address) if isinstance(address, Path) else address) == 0


if __name__ == "__main__":
    os.umask(0o022)
    supervisor = Supervisor(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    supervisor.start()
    supervisor.watch()
