"""Run one stage, or shards of it, in this process."""

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stage import Stage
from kd_dist.errors import RunError, UserError
from kd_dist.files import read_json, sweep_below
from kd_dist.runs.caches import keep_caches_in
from kd_dist.runs.completion import (
    complete,
    is_complete,
    mark_complete,
    shard_marker,
    unfinished_shards,
    unfinished_together,
)
from kd_dist.runs.layout import read_stage
from kd_dist.runs.offspring import end_forks_with_this
from kd_dist.runs.results import gather_results
from kd_dist.runs.tries import Tries


def run_stage(stage_dir: Path, shard: int | None = None) -> None:
    """Run one stage on this rank; rank 0 marks it complete. A stage that is complete already is skipped.

    Args:
        stage_dir: The folder of the stage, with its config.json.
        shard: The shard to run of a stage in shards; None runs all of them, one after another.

    Raises:
        RunError: The stage failed over a mistake of the user, whenever it found it.
    """
    if is_complete(stage_dir):
        return
    stage = read_stage(stage_dir)
    end_forks_with_this()
    keep_caches_in(stage_dir.parent)
    with Tries(stage_dir, shard).noting_mistakes():
        if isinstance(stage.resources, ShardResources):
            _run_shards(stage, stage_dir, shard)
        else:
            _run_whole(stage, stage_dir)


def _run_whole(stage: Any, stage_dir: Path) -> None:
    """Run a stage that is not in shards; rank 0 first removes what a try that was killed left half-written.

    With it run the stages that are trained together with it.
    """
    is_first, together = int(os.environ.get("RANK", "0")) == 0, unfinished_together(stage_dir)
    if is_first:
        for each in together:
            sweep_below(each)
        Tries(stage_dir).forget_step()
        gather_results(stage_dir.parent)  # stages that ended at the same time may have missed each other
    started = time.monotonic()
    _run(stage, stage_dir, 0)
    if is_first:
        for each in reversed(together):  # this stage last: another try of it would not complete the others
            complete(each, (time.monotonic() - started) / len(together))


def entry_of(stage: Stage) -> Callable[[Any, Path, int], None]:
    """Import the function that runs a stage: `entry(stage, stage_dir, shard)`."""
    module, function = stage.entry.split(":")
    return getattr(importlib.import_module(module), function)


def _run(stage: Stage, stage_dir: Path, shard: int) -> None:
    """Run the entry; a UserError becomes a RunError, because earlier stages may have run for hours."""
    try:
        entry_of(stage)(stage, stage_dir, shard)
    except RunError:
        raise
    except UserError as error:
        raise RunError(str(error)) from error


def _run_shards(stage: Any, stage_dir: Path, shard: int | None) -> None:
    """Run shards; the process that finishes the last one marks the stage complete."""
    shards = stage.resources.shards
    for number in unfinished_shards(stage_dir, shards):
        if shard in (None, number):
            started = time.monotonic()
            _run(stage, stage_dir, number)
            mark_complete(shard_marker(stage_dir, number), time.monotonic() - started, shards=shards)
    if not unfinished_shards(stage_dir, shards):
        markers = [read_json(shard_marker(stage_dir, number)) for number in range(shards)]
        complete(stage_dir, seconds=sum(marker["seconds"] for marker in markers))
