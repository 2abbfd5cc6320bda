"""Overrides and overlays: what reaches which stage, and what the user is told about a mistake."""

from pathlib import Path

import pytest

from tests.config.refusals import refusal
from tests.loading import load_job

# ------------------------------------------------------------ overrides


def test_key_reaches_every_stage_that_has_it() -> None:
    job = load_job("demo", ["train.seed=7"])
    assert [job.stages[name].train.seed for name in ("finetune", "distill")] == [7, 7]


def test_stage_key_reaches_one_stage() -> None:
    plain, job = load_job("demo", []), load_job("demo", ["distill.train.steps=7"])
    changed = [name for name in job.stages if job.stages[name] != plain.stages[name]]
    assert changed == ["distill"]
    assert job.stages["distill"].train.steps == 7


def test_later_override_wins() -> None:
    assert load_job("tinybert_general", ["train.steps=1", "train.steps=2"]).stages["distill"].train.steps == 2


def test_key_leaves_wired_fields_alone() -> None:
    settings = {name: load_job("demo", ["data.max_length=32"]).stages[name].data for name in ("labelled", "distill")}
    assert settings["labelled"].max_length == 32
    assert settings["distill"].tokens == "@labelled/tokens"


def test_key_that_is_wired_in_every_stage_is_refused_with_the_way_out() -> None:
    message = refusal("data.tokens=elsewhere", job="demo")
    assert "fed by an earlier stage" in message
    assert "finetune.data.tokens=... or check.data.tokens=... or " in message


def test_value_may_hold_an_equals_sign() -> None:
    assert load_job("tinybert_general", ["data.corpus=a=b.txt"]).stages["corpus"].data.corpus == ["a=b.txt"]


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("trian.steps", "train.steps"),
        ("train.stepz", "train.steps"),
        ("distill.optim.learning_rte", "distill.optim.learning_rate"),
        ("learning_rate", "optim.learning_rate"),
        ("resources.cpu", "resources.cpus"),
    ],
)
def test_unknown_key_is_answered_with_the_nearest(key: str, meant: str) -> None:
    assert refusal(f"{key}=1") == f"unknown option `{key}`; did you mean `{meant}`?"


@pytest.mark.parametrize("key", ["distill", "distill.", "train", "objective.name", "distill.kind", "", "."])
def test_what_is_no_setting_is_unknown(key: str) -> None:
    assert f"unknown option `{key}`" in refusal(f"{key}=1")


@pytest.mark.parametrize(
    ("key", "job", "having"),
    [
        ("guards.teacher", "finetune", "`demo`, `fastbert`, `rnn`, `soft_labels`, `tinybert`, `tinybert_task` have it"),
        ("calibrate.patience", "tinybert", "`demo`, `fastbert` have it"),
        ("layers.train.steps", "finetune", "`tinybert`, `tinybert_task` have it"),
    ],
)
def test_option_of_other_jobs_is_answered_with_their_names(key: str, job: str, having: str) -> None:
    message = refusal(f"{key}=1", job=job)
    assert message.startswith(f"unknown option `{key}`: {having}, `{job}` has not; did you mean `")


def test_override_without_equals_sign_is_explained() -> None:
    assert "`train.steps` is not of the form key=value" in refusal("train.steps")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps=abc", "distill.train.steps: input should be a valid integer"),
        ("train.steps=0", "distill.train.steps: input should be greater than or equal to 1"),
        ("data.pack=maybe", "corpus.data.pack: input should be a valid boolean"),
        ("engine.precision=fp16", "distill.engine.precision: input should be 'fp32', 'bf16' or 'auto'"),
        ("engine.zero_stage=3", "distill.engine.zero_stage: input should be"),
        ("objective.compat=google", "distill.objective.compat: input should be 'none' or 'huawei'"),
        ("objective.layer_map=3,x", "distill.objective.layer_map.1: input should be a valid integer"),
        ("train.epochs=inf", "distill.train.epochs: input should be a finite number"),
        ("optim.learning_rate=nan", "distill.optim.learning_rate: input should be a finite number"),
        ("objective.temperature=2", "objective.temperature=2.0 softens predictions"),
    ],
)
def test_bad_value_names_its_key_and_what_was_expected(override: str, said: str) -> None:
    message = refusal(override)
    assert said in message
    assert "\n" not in message


def test_all_problems_are_reported_at_once() -> None:
    message = refusal("trian.steps=1", "train.steps=x", "data.max_length=1", "data.tokens=t", "oops")
    assert message.startswith("5 problems:\n")
    for part in ("trian.steps", "distill.train.steps", "corpus.data.max_length", "`data.tokens`", "`oops`"):
        assert part in message


# ------------------------------------------------------------ overlays


def overlay(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_overlay_sets_values(tmp_path: Path) -> None:
    path = overlay(tmp_path, "train:\n  steps: 7\ndistill:\n  optim:\n    learning_rate: 1e-3\n")
    stage = load_job("tinybert_general", [], path).stages["distill"]
    assert (stage.train.steps, stage.optim.learning_rate) == (7, 1e-3)


def test_a_setting_of_one_stage_beats_that_of_all_in_whatever_order(tmp_path: Path) -> None:
    for texts in (["distill.train.seed=3", "train.seed=7"], ["train.seed=7", "distill.train.seed=3"]):
        stages = load_job("tinybert_task", texts).stages
        assert (stages["distill"].train.seed, stages["alone"].train.seed) == (3, 7)
    path = overlay(tmp_path, "distill:\n  train:\n    seed: 3\ntrain:\n  seed: 7\n")
    assert load_job("tinybert_task", [], path).stages["distill"].train.seed == 3
    assert load_job("tinybert_task", ["train.seed=9"], path).stages["distill"].train.seed == 9


def test_command_line_beats_overlay(tmp_path: Path) -> None:
    path = overlay(tmp_path, "train:\n  steps: 7\n")
    assert load_job("tinybert_general", ["train.steps=8"], path).stages["distill"].train.steps == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: [1\n", "is not valid YAML"),
        ("- train\n", "expected `key: value` lines, found list"),
        ("", "expected `key: value` lines, found NoneType"),
        ("trian:\n  steps: 1\n", "unknown option `trian.steps`; did you mean `train.steps`?"),
        ("train: 5\n", "unknown option `train`"),
        ("stages: 5\n", "unknown option `stages`"),
        ("stages:\n  distill:\n    train:\n      stepz: 5\n", "did you mean `distill.train.steps`?"),
        ("train:\n  steps: many\n", "distill.train.steps: input should be a valid integer"),
    ],
)
def test_bad_overlay_is_explained(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(overlay=overlay(tmp_path, text))


def test_missing_overlay_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refusal(overlay=path) == f"--config {path}: No such file or directory"


def test_binary_overlay_is_explained(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not valid YAML" in refusal(overlay=tmp_path / "settings.yaml")
