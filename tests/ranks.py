"""Real ranks: processes that meet over gloo, each running the same function of a test module."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kd_dist.config.paths import python_path
from kd_dist.training.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


def environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
        "WANDB_MODE": "disabled",
        "PYTHONPATH": python_path(ROOT),
    }
    return {**os.environ, **{key: str(value) for key, value in variables.items()}}


def run_ranks(world_size: int, function: str, *arguments: Any, timeout: float = 240) -> Any:
    """Call `module:function(*arguments)` on every rank; returns rank 0's result. A failing rank fails the test."""
    port = free_port()
    call = json.dumps([function, arguments])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks", call],
            env=environment(rank, world_size, port),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return json.loads(outputs[0].splitlines()[-1].removeprefix("RESULT "))


def assert_same(first: dict[str, Any], second: dict[str, Any], tolerance: float = 0.0) -> None:
    """Compare tensors by name: exactly, or within a tolerance those whose gradients are not rounding alone.

    What is added to a key's bias changes no attention, so its gradient is 0 but for rounding, which Adam makes as large
    as any other.
    """
    assert first.keys() == second.keys()
    for name in first:
        if not (tolerance and name.endswith("key.bias")):
            assert float((first[name] - second[name]).abs().max()) <= tolerance, name


def main() -> None:
    import importlib

    function, arguments = json.loads(sys.argv[1])
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(*arguments)
    from kd_dist.training import distributed

    distributed.shut_down()
    print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
