"""`minilm` distils a teacher into a student with other heads, and what is cut short goes on as if it had not been."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel

from kd_dist.files import read_json, write_json
from kd_dist.runs.layout import open_run
from tests.conftest import TinyWorld
from tests.loading import load_job
from tests.ranks import assert_same, run_ranks
from tests.stages import run_entry

STEPS = 6


def test_neither_ranks_nor_interruptions_change_what_is_learned(tmp_path: Path, tiny: TinyWorld) -> None:
    architecture = tmp_path / "student.json"
    write_json(architecture, read_json(tiny.student) | {"num_attention_heads": 3})

    def opened(run_id: str, *settings: str) -> str:
        given = [
            f"teacher.path={tiny.teacher}",
            f"tokenizer.path={tiny.tokenizer}",
            f"student.config={architecture}",
            f"data.corpus={tiny.corpus}",
            "data.max_length=48",
            f"train.steps={STEPS}",
            "engine.precision=fp32",
            "train.global_batch_size=16",
            "optim.learning_rate=5e-3",
            "cadence.log_every_n_steps=1",
            "cadence.save_every_n_steps=3",
            *settings,
        ]
        run_dir = open_run(load_job("minilm", given), tmp_path, run_id)
        run_entry(run_dir / "corpus")
        return str(run_dir / "distill")

    def weights(run_id: str) -> dict[str, torch.Tensor]:
        checkpoint = tmp_path / "minilm" / run_id / "distill" / "checkpoints" / f"step_{STEPS:08d}"
        return load_file(checkpoint / "weights.safetensors")

    train, two = "tests.training.test_trainer:train", opened("two", "resources.gpus_per_node=2")
    run_ranks(1, train, [[opened("one"), None, []], [opened("stopped"), 4, []]])
    run_ranks(1, train, [[opened("stopped"), None, []]])
    run_ranks(2, train, [[two, None, []]])
    assert_same(weights("one"), weights("stopped"))
    assert_same(weights("one"), weights("two"), tolerance=1e-5)

    rows = map(json.loads, (tmp_path / "minilm" / "one" / "distill" / "metrics.jsonl").read_text().splitlines())
    assert all({"train/queries", "train/keys", "train/values"} <= row.keys() for row in rows if "train/loss" in row)
    student = AutoModel.from_pretrained(tmp_path / "minilm" / "one" / "distill" / "export")
    assert student.config.num_attention_heads == 3
