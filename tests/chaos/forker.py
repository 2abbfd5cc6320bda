"""A process that has imported everything and forks commands: `with Forker() as forker: forker.start(...)`.

Python with torch needs seconds to start, a fork a moment. Each command runs in a process of its own, with its own
environment, and can be told to kill itself before its n-th change to the files of a folder.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

CHANGES = {"os.rename": (1, 3), "os.mkdir": (0, 2), "os.remove": (0, 1), "os.rmdir": (0, 1), "os.symlink": (1, 2)}
"""The audit events of changes, and where among their arguments the path and the folder that it starts from are."""


class Forker:
    """The client's side: it talks to the process that forks over a pair of pipes."""

    def __enter__(self) -> "Forker":
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forker"],
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._receive()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        log: Path,
        environment: Mapping[str, str],
        group: int = 0,
        die_before: int = 0,
    ) -> int:
        """Fork `kd_dist/train.py` with these arguments and return its process id.

        Args:
            arguments: The command line behind the program's name.
            cwd: The working folder, whose `runs` is watched for changes.
            log: Where its output is added; `log`.changes gets the number of its last change, and the change.
            environment: Variables beside those of this process.
            group: The process group to join; 0 for one of its own.
            die_before: The number of the change below `runs` before which it kills itself; 0 for none.
        """
        order = {"arguments": list(arguments), "cwd": str(cwd), "log": str(log), "environment": dict(environment)}
        return self._ask({**order, "group": group, "die_before": die_before})

    def poll(self, pid: int) -> int | None:
        """Return the exit status of a process, negative for a signal; None while it runs."""
        return self._ask({"poll": pid})

    def _ask(self, order: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)


# ------------------------------------------------------------------------------------------- the process that forks


def serve() -> None:
    """Fork what is asked for, one line of JSON after another."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what imports print is no answer
    _import_everything()
    # A fork takes one thread along, and the locks of all others; pyarrow's allocator, which has one, expects that.
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert threads <= {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}, threads
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif answer := os.fork():
            _join_group(answer, order["group"])
        else:
            _run(order)
        print(json.dumps(answer), file=answers)


def _import_everything() -> None:
    import importlib
    import pkgutil

    import kd_dist

    for module in pkgutil.walk_packages(kd_dist.__path__, "kd_dist."):
        importlib.import_module(module.name)
    for name in ("datasets", "onnx", "onnxscript", "matplotlib.pyplot", "sklearn.metrics"):
        importlib.import_module(name)


def _join_group(pid: int, group: int) -> None:
    with suppress(PermissionError, ProcessLookupError):  # parent and child both try, and one of them may be late
        os.setpgid(pid, group or pid)


def _run(order: dict[str, Any]) -> NoReturn:
    _join_group(0, order["group"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    _forget_shared_chance()
    watch_changes(Path(order["cwd"]) / "runs", Path(order["log"] + ".changes"), order["die_before"])
    sys.argv = ["kd_dist/train.py", *order["arguments"]]
    from kd_dist import train
    from kd_dist.errors import exit_with_message

    exit_with_message(train.main, is_rank=True)


def _forget_shared_chance() -> None:
    """Seed anew what a fresh process would: what depends on unseeded chance must not be the same in every fork."""
    import numpy as np

    random.seed()
    np.random.seed()


def watch_changes(folder: Path, record: Path, die_before: int) -> None:
    """Count the changes that this process makes to the files of a folder, and die before one of them."""
    prefix, process, count = str(folder), os.getpid(), 0
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if os.getpid() != process or not (path := _changed(event, arguments)).startswith(prefix):
            return
        count += 1
        os.pwrite(descriptor, f"{count}\t{event}\t{path}\n".encode().ljust(400), 0)
        if count == die_before:
            os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)


def _changed(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the absolute path that an event is about to change; empty for other events."""
    if event == "open":
        path, _, flags = arguments
        return os.path.abspath(path) if isinstance(path, str | os.PathLike) and flags & os.O_ACCMODE else ""
    if event not in CHANGES:
        return ""
    place, start = (arguments[index] for index in CHANGES[event])
    folder = os.getcwd() if start == -1 else os.readlink(f"/proc/self/fd/{start}")
    return os.path.abspath(os.path.join(folder, place))


if __name__ == "__main__":
    serve()
