"""Two ways to run a job that can be killed: forked, which costs no start, and the real command with real processes."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from kd_dist.training.ports import free_port
from tests.chaos.forker import Forker
from tests.ranks import ROOT

MARK = "KD_DIST_CHAOS"  # in the environment of everything that a command starts
SECONDS_TO_FOLLOW = 2  # a launcher gives the other ranks some time to notice that one has failed

SECONDS_TO_END = 120  # what a killed launcher leaves behind saves and ends


class Forked:
    """`kd_dist/train.py` on some ranks, as torchrun starts them, but forked.

    Args:
        forker: What forks.
        arguments: The command line.
        folder: Where it runs.
        log: Where its output goes.
        ranks: The number of processes.
        die_before: The number of the change to a file before which rank 0 kills itself; 0 for none.
    """

    name = "kd_dist/train.py"

    def __init__(
        self, forker: Forker, arguments: list[str], folder: Path, log: Path, ranks: int, die_before: int
    ) -> None:
        self._forker, self._log, self._failed_at = forker, log, 0.0
        self._began, port = time.monotonic(), str(free_port())
        self._record.touch()
        self._statuses: dict[int, int | None] = {}
        for rank in range(ranks):
            world = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            world |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            pid = forker.start(
                arguments,
                cwd=folder,
                log=log if rank == 0 else log.with_suffix(f".{rank}"),
                environment=world,
                group=next(iter(self._statuses), 0),
                die_before=die_before if rank == 0 else 0,
            )
            self._statuses[pid] = None

    @property
    def _record(self) -> Path:
        return Path(f"{self._log}.changes")

    def poll(self) -> int | None:
        """Return the first status that is not 0 once all ranks have ended; those that do not follow it are ended."""
        for pid, status in self._statuses.items():
            if status is None:
                self._statuses[pid] = self._forker.poll(pid)
        statuses = list(self._statuses.values())
        if None not in statuses:
            return next((status for status in statuses if status), 0)
        if any(statuses) and not self._failed_at:
            self._failed_at = time.monotonic()
        if self._failed_at and time.monotonic() - self._failed_at > SECONDS_TO_FOLLOW:
            self.kill_all()
        return None

    def kill(self, chance: random.Random) -> str:
        """Kill one rank, or all of them with what they have started; return which."""
        target = chance.choice(["one rank", "node"])
        if target == "node":
            self.kill_all()
        else:
            running = [pid for pid, status in self._statuses.items() if status is None]
            _kill(chance.choice(running))
        return target

    def kill_all(self) -> None:
        """Kill all ranks with what they have started."""
        with suppress(ProcessLookupError):
            os.killpg(next(iter(self._statuses)), signal.SIGKILL)

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def changes(self) -> tuple[int, str]:
        """Return how many changes rank 0 has made to files, and the path of the last one."""
        number, _, path = self._record.read_text(encoding="utf-8").strip().partition("\t")
        return int(number or 0), path.partition("\t")[2]


class Launched:
    """`launch/slurm.py --cluster local` with real processes; the arguments are those of `Forked`."""

    name = "launch/slurm.py"

    def __init__(self, arguments: list[str], folder: Path, log: Path, ranks: int) -> None:
        self._log, self._began = log, time.monotonic()
        self._mark = f"{MARK}={folder}".encode()
        command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--cluster", "local", *arguments]
        environment = {**os.environ, MARK: str(folder), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                [*command, f"resources.gpus_per_node={ranks}"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self, chance: random.Random) -> str:
        """Kill one rank, all ranks, the launcher, or everything; return which. What is left goes on as it can."""
        target, ranks = chance.choice(["one rank", "all ranks", "launcher", "node"]), self._processes(b"launch.task")
        if not ranks:
            target = "launcher"
        killed = {
            "one rank": lambda: [chance.choice(ranks)],
            "all ranks": lambda: ranks,
            "launcher": lambda: [self._process.pid],
            "node": lambda: self._processes(b""),
        }[target]()
        for pid in killed:
            _kill(pid)
        return target

    def _processes(self, word: bytes) -> list[int]:
        """Return everything that this command and those before it in its folder have started, and that still runs."""
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if self._mark in _read(folder / "environ").split(b"\0") and word in _read(folder / "cmdline")
        ]

    def wait_for_silence(self) -> None:
        """Wait until nothing runs that this command has started."""
        deadline = time.monotonic() + SECONDS_TO_END
        while left := self._processes(b""):
            assert time.monotonic() < deadline, (
                f"still running: {[_read(Path(f'/proc/{pid}/cmdline')) for pid in left]}"
            )
            time.sleep(0.05)

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-3000:]


Command = Forked | Launched


def wait(command: Command) -> int:
    """Return the exit status of a command once it has ended."""
    while (status := command.poll()) is None:
        time.sleep(0.01)
    return status


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _read(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""
