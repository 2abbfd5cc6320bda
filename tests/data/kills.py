"""Kill a preparation when it has written some of its blocks, and compare what two preparations wrote."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_dist.data.kept_blocks import KeptBlocks

ONCE = ("seconds", "_fingerprint")  # facts that no two preparations share


def run_until_killed(prepare: Callable[[], object], after_blocks: int) -> None:
    """Run a preparation in a process that is killed when it is about to write one block more than these."""
    child = os.fork()
    if child == 0:
        _count_blocks(pytest.MonkeyPatch(), lambda number: number == after_blocks and os.kill(os.getpid(), 9))
        prepare()
        os._exit(0)  # it wrote fewer
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _count_blocks(patch: pytest.MonkeyPatch, before: Callable[[int], object]) -> None:
    number, write = 0, KeptBlocks.write

    def counted(*arguments: Any, **facts: Any) -> None:
        nonlocal number
        before(number)
        number += 1
        write(*arguments, **facts)

    patch.setattr(KeptBlocks, "write", counted)


def blocks_written(prepare: Callable[[], object]) -> int:
    """Run a preparation and return how many blocks it wrote."""
    found: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        _count_blocks(patch, found.append)
        prepare()
    return len(found)


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each file below a folder, apart from how long it took."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: hashlib.sha256(_content(path)).hexdigest() for name, path in files.items()}


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_bytes())
    return json.dumps({key: value for key, value in content.items() if key not in ONCE}).encode()
