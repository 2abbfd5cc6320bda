"""Run the labelled stage, and split labelled files, in tests of several modules."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.sections.models import TokenizerSource
from kd_dist.config.stages import LabelledStage
from kd_dist.data.data_report import Report
from kd_dist.data.labelled_rows import RawRow
from kd_dist.data.labels import Labels
from kd_dist.data.splits import load_splits
from kd_dist.errors import CorpusError
from tests.conftest import TinyWorld
from tests.stages import run_entry


def numbered(name: str, count: int) -> list[tuple[str, str]]:
    return [(name, f"{name} {number}") for number in range(count)]


def loaded(data: LabelledData) -> tuple[dict[str, list[RawRow]], Labels, Report]:
    """Load splits, and their rows into memory."""
    with tempfile.TemporaryDirectory() as blocks:
        splits, labels, report = load_splits(data, Path(blocks))
        return {split: list(rows) for split, rows in splits.items()}, labels, report


def message_of(**settings: Any) -> str:
    with pytest.raises(CorpusError) as error:
        loaded(LabelledData(**settings))
    return str(error.value)


def run_stage(stage_dir: Path, tiny: TinyWorld, **settings: Any) -> Path:
    stage = LabelledStage(data=LabelledData(**settings), tokenizer=TokenizerSource(path=str(tiny.teacher)))
    stage_dir.mkdir(parents=True, exist_ok=True)
    (stage_dir / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    run_entry(stage_dir)
    return stage_dir / "tokens"


def content(tokens: Path, name: str) -> Any:
    return json.loads((tokens / f"{name}.json").read_text(encoding="utf-8"))
