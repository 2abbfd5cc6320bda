"""`pretrain_xlnet` trains a given XLNet with its own tokens, and an export that can be fine-tuned comes out."""

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from kd_dist.config.objectives.permutation import PermutationObjective
from kd_dist.runs.layout import open_run
from tests.conftest import TinyWorld
from tests.jobs.test_families import save_encoder, save_xlnet_tokenizer
from tests.loading import load_job
from tests.planning.refusals import model, problems
from tests.ranks import run_ranks


def test_the_tokens_are_those_of_the_model() -> None:
    stages = load_job("pretrain_xlnet", ["student.path=DIR"]).stages
    assert (stages["corpus"].tokenizer.path, stages["pretrain"].student.path) == ("DIR", "DIR")
    assert stages["pretrain"].objective == PermutationObjective(max_span=5, predicted_share=1 / 6)


def test_another_family_is_refused(tmp_path: Path) -> None:
    said = problems(f"student.path={model(tmp_path)}", job="pretrain_xlnet")
    assert "is a `bert` model, which has no second stream to predict words in any order" in said


def test_the_job_goes_from_text_to_an_encoder(tiny: TinyWorld, tmp_path: Path) -> None:
    save_xlnet_tokenizer(tiny.corpus, tmp_path / "tokenizer")
    xlnet = save_encoder("xlnet", tmp_path / "tokenizer", tmp_path / "xlnet")
    settings = [f"student.path={xlnet}", f"data.corpus={tiny.corpus}", "data.max_length=48", "data.num_workers=1"]
    settings += ["train.steps=2", "train.global_batch_size=8", "train.micro_batch_size=8"]
    run_dir = open_run(load_job("pretrain_xlnet", settings), tmp_path, "a")
    run_ranks(1, "tests.jobs.test_families:run_stages", [str(run_dir)], timeout=600)
    found = AutoModelForSequenceClassification.from_pretrained(run_dir / "pretrain" / "export")
    before = AutoModelForSequenceClassification.from_pretrained(xlnet)
    assert found.config.model_type == "xlnet"
    assert not torch.equal(found.transformer.mask_emb, before.transformer.mask_emb)  # which only this objective reads
