"""A classifier of every family is trained, teaches by its predictions, and is served, whatever pads its rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, XLNetTokenizer, pipeline

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.data import DistillationData, LabelledData, TokenData
from kd_dist.config.sections.models import Encoder, Student, Teacher
from kd_dist.config.sections.training import Precision, Train
from kd_dist.config.stages import AnyStage, TeacherOutputsStage, TrainStage
from kd_dist.data.cleaning import clean
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.models.classifier import Classifier, load_classifier, predict_logits
from kd_dist.runs.layout import open_run
from kd_dist.training.teacher_outputs import StoredOutputs, verify
from tests.conftest import LabelledWorld, TinyWorld
from tests.models.random_models import random_config
from tests.models.recurrent_models import write_recurrent_config
from tests.ranks import run_ranks

TRAIN = Train(steps=2, global_batch_size=8, micro_batch_size=4)
FAMILIES = sorted(ALL_FAMILIES.keys() - {"bert", "ernie", "roberta", "xlm-roberta", "xlnet"})
"""Those that are neither built like BERT, which all other tests are about, nor have tokens of their own."""
XLNET_TOKENS = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>", "▁"]


def save_xlnet_tokenizer(corpus: Path, folder: Path) -> None:
    characters = sorted({*corpus.read_text(encoding="utf-8")} - {"\n", " "})
    XLNetTokenizer(vocab=[(piece, -3.0) for piece in [*XLNET_TOKENS, *characters]]).save_pretrained(folder)


def save_encoder(kind: str, tokenizer: Path, folder: Path) -> Path:
    """An encoder with random weights, of the width that its family's padding needs, and its tokenizer."""
    names = AutoTokenizer.from_pretrained(tokenizer)
    config = random_config(kind, vocab_size=len(names), pad_token_id=names.pad_token_id)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    names.save_pretrained(folder)
    return folder


def tokens_of(labelled: LabelledWorld, tokenizer: Path, folder: Path) -> Path:
    from kd_dist.data.labelled import prepare

    splits = {name: [str(labelled.files / f"{name}.tsv")] for name in ("train", "validation", "test")}
    prepare(LabelledData(**splits, max_length=48), str(tokenizer), folder, folder.with_suffix(".txt"))
    return folder


def job_for(encoder: Path, tokens: Path, **students: str) -> Job:
    """A teacher that writes its outputs, students that read them, and each once more beside a teacher that runs."""
    data, teacher = TokenData(tokens=str(tokens)), Teacher(path="@finetune/export")
    stages: dict[str, AnyStage] = {
        "finetune": TrainStage(
            encoder=Encoder(path=str(encoder)), data=data, objective=FinetuneObjective(), train=TRAIN
        ),
        "outputs": TeacherOutputsStage(
            teacher=teacher, data=DistillationData(tokens=str(tokens)), engine=Precision(precision="fp32")
        ),
    }
    for name, config in students.items():
        stages[name] = TrainStage(
            teacher=teacher,
            student=Student(config=config),
            data=data.model_copy(update={"teacher_outputs": "@outputs/outputs"}),
            objective=SoftLabelsObjective(hard_weight=1.0),
            train=TRAIN,
        )
        stages[f"{name}_online"] = stages[name].model_copy(update={"data": data})
    return Job(name="families", description="", stages=stages, result="finetune")


def run_stages(run_dirs: list[str]) -> None:
    """What the rank runs."""
    from kd_dist.runs.stage_runner import run_stage

    for run_dir in run_dirs:
        for name in json.loads((Path(run_dir) / "job.json").read_text(encoding="utf-8"))["stages"]:
            run_stage(Path(run_dir) / name)


def test_every_family_teaches_by_its_predictions(
    tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as transformers' pipeline sets it, for good
    save_xlnet_tokenizer(tiny.corpus, tmp_path / "tokenizer")
    tokens = {"xlnet": tokens_of(labelled, tmp_path / "tokenizer", tmp_path / "tokens")}
    xlnet = save_encoder("xlnet", tmp_path / "tokenizer", tmp_path / "xlnet")
    students = {"bert": str(labelled.student), "recurrent": str(write_recurrent_config(tmp_path))}
    runs = {"xlnet": open_run(job_for(xlnet, tokens["xlnet"], **students), tmp_path, "xlnet")}
    for kind in FAMILIES:
        encoder = save_encoder(kind, tiny.tokenizer, tmp_path / kind)
        runs[kind] = open_run(job_for(encoder, labelled.tokens), tmp_path, kind)
    run_ranks(1, "tests.jobs.test_families:run_stages", list(map(str, runs.values())), timeout=900)
    for kind, run_dir in runs.items():
        check_teacher(run_dir, tokens.get(kind, labelled.tokens), kind)
    for name in students:
        check_piped(runs["xlnet"] / name / "export", tokens["xlnet"], name)


def check_teacher(run_dir: Path, tokens: Path, kind: str) -> None:
    """Compare the stored outputs with what is predicted for rows alone."""
    teacher, rows, alone = check_piped(run_dir / "finetune" / "export", tokens, kind)
    assert len({len(row.input_ids) for row in rows}) > 3
    assert alone.std(axis=0).max() > 1e-4
    outputs = run_dir / "outputs" / "outputs"
    verify(outputs, teacher.directory, tokens)
    assert StoredOutputs(outputs).of(keys_of(tokens)) == pytest.approx(alone, abs=1e-5)


def check_piped(folder: Path, tokens: Path, kind: str) -> tuple[Classifier, list[Encoding], np.ndarray]:
    """Compare what is predicted for rows alone with batches of ours, and of transformers' pipeline."""
    classifier = load_classifier(folder, torch.device("cpu"))
    assert classifier.model.config.model_type == kind
    texts = [clean(text) for text in read_split(tokens, "validation").texts]  # as served tokenizers do
    rows = Preprocessing.load(folder).encode(classifier.tokenizer, texts)
    alone = predict_logits(classifier, rows, batch_size=1)
    assert predict_logits(classifier, rows, batch_size=7) == pytest.approx(alone, abs=1e-5)
    assert piped(folder, texts) == pytest.approx(alone.max(axis=1), abs=1e-5)
    return classifier, rows, alone


def keys_of(tokens: Path) -> np.ndarray:
    from kd_dist.data.token_rows import TokenRows, row_keys

    rows = TokenRows(tokens, "validation", 0)
    return row_keys(rows.collate(np.arange(len(rows))))


def piped(folder: Path, texts: list[str]) -> list[float]:
    """The largest logit of every text, from batches that transformers pads."""
    code: dict[str, Any] = {"trust_remote_code": True} if "auto_map" in (folder / "config.json").read_text() else {}
    classify = pipeline("text-classification", model=str(folder), device="cpu", **code)
    options = {"truncation": True, "max_length": 48, "function_to_apply": "none"}
    return [answer["score"] for answer in classify(texts, batch_size=7, **options)]
