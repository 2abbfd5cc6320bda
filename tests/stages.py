"""Run a stage's entry directly, without the run folder's bookkeeping."""

from pathlib import Path

from kd_dist.runs.layout import read_stage
from kd_dist.runs.stage_runner import entry_of


def run_entry(stage_dir: Path, shard: int = 0) -> None:
    stage = read_stage(stage_dir)
    entry_of(stage)(stage, stage_dir, shard)
