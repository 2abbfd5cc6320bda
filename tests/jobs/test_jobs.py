"""What every file in jobs/ promises."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from kd_dist.augmentation.sources import sources_of
from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names, load_job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.base import Section
from kd_dist.config.seeds import with_seeds
from kd_dist.config.stages import Stage
from kd_dist.errors import UserError
from kd_dist.planning.checks import check_job
from launch.cluster import Cluster

JOBS = job_names()
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "wandb", "submitit"}

PROMISED = [
    "teacher.path",
    "student.config",
    "data.corpus",
    "data.max_length",
    "data.pack",
    "train.steps",
    "train.epochs",
    "train.global_batch_size",
    "train.micro_batch_size",
    "train.seed",
    "optim.learning_rate",
    "optim.warmup_fraction",
    "engine.zero_stage",
    "engine.precision",
    "resources.nodes",
    "resources.gpus_per_node",
    "resources.timeout_minutes",
    "cadence.log_every_n_steps",
    "cadence.save_every_n_steps",
    "cadence.evaluate_every_n_steps",
    "objective.layer_map",
    "objective.compat",
    "objective.projection",
    "objective.temperature",
]


def sections() -> list[tuple[str, str, str]]:
    return [
        (job, stage, section)
        for job in JOBS
        for stage, settings in find_job(job).stages.items()
        for section, _ in settings.sections()
    ]


def all_sections(base: type[Section] = Section) -> Iterator[type[Section]]:
    for section in base.__subclasses__():
        if not issubclass(section, (Stage, Job)):
            yield section
        yield from all_sections(section)


@pytest.mark.parametrize("name", JOBS)
def test_job_resolves(name: str) -> None:
    check_job(load_job(name, []), reads_files=False)


@pytest.mark.parametrize("name", JOBS)
def test_file_and_name_agree(name: str) -> None:
    assert find_job(name).name == name


@pytest.mark.parametrize("name", JOBS)
def test_description_is_one_line(name: str) -> None:
    assert 10 < len(find_job(name).description) < 110
    assert "\n" not in find_job(name).description


@pytest.mark.parametrize("name", JOBS)
def test_result_is_a_stage(name: str) -> None:
    assert find_job(name).result in find_job(name).stages


def test_stage_names_and_section_names_are_disjoint() -> None:
    stages = {stage for name in JOBS for stage in find_job(name).stages}
    assert not stages & {section for _, _, section in sections()}


@pytest.mark.parametrize("name", JOBS)
def test_stages_come_after_those_that_feed_them(name: str) -> None:
    order = list(find_job(name).stages)
    for stage, settings in find_job(name).stages.items():
        assert settings.inputs() <= set(order[: order.index(stage)])


@pytest.mark.parametrize(("job", "stage", "section"), sections())
def test_every_section_rejects_a_misspelt_key(job: str, stage: str, section: str) -> None:
    key = next(key for key in find_job(job).stages[stage].options() if key.startswith(f"{section}."))
    misspelt = f"{stage}.{key[:-1]}"
    with pytest.raises(UserError) as caught:
        load_job(job, [f"{misspelt}=1"])
    assert str(caught.value) == f"unknown option `{misspelt}`; did you mean `{stage}.{key}`?"


@pytest.mark.parametrize(("job", "stage", "section"), sections())
def test_every_section_refuses_an_unknown_field(job: str, stage: str, section: str) -> None:
    settings = find_job(job).model_dump()
    settings["stages"][stage][section]["unheard_of"] = 1
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        type(find_job(job)).model_validate(settings)


@pytest.mark.parametrize("model", [*all_sections(), Cluster], ids=lambda model: model.__name__)
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_jobs_and_configuration_import_nothing_heavy() -> None:
    modules = ", ".join(f"jobs.{name}" for name in JOBS)
    code = (
        f"import sys, kd_dist.config.jobs, kd_dist.planning.checks, kd_dist.runs.layout, {modules}; print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not HEAVY & set(shown.stdout.split())


@pytest.mark.parametrize("key", PROMISED)
def test_tinybert_general_has(key: str) -> None:
    assert key in {key for stage in find_job("tinybert_general").stages.values() for key in stage.options()}


def test_tinybert_general_defaults() -> None:
    stages = find_job("tinybert_general").stages
    assert stages["corpus"].data.corpus == ["data/*.txt"]
    assert stages["corpus"].tokenizer.path == stages["distill"].teacher.path == "google-bert/bert-base-chinese"


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs" / "models").glob("*.json")), ids=lambda file: file.stem)
def test_shipped_student_passes_the_checks(file: Path) -> None:
    check_job(load_job("pretrain", [f"student.config={file.stem}"]), reads_files=False)


# ------------------------------------------------------------------------------------- what settings make of `tinybert`


def tinybert(*overrides: str) -> Job:
    return load_job("tinybert", ["teacher.path=DIR", *overrides])


@pytest.fixture(autouse=True)
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIR is an encoder without a language-model head, MLM one with it."""
    monkeypatch.chdir(tmp_path)
    for name, architecture in (("DIR", "BertModel"), ("MLM", "BertForMaskedLM")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')


def test_without_a_corpus_general_distillation_reads_the_training_texts() -> None:
    job = tinybert()
    assert job.stages["corpus"].data.corpus == ["@labelled/texts"]
    assert any("training texts" in note for note in job.notes)
    assert tinybert("data.corpus=more.txt").stages["corpus"].data.corpus == ["more.txt"]


def test_a_given_student_needs_no_general_distillation() -> None:
    job = tinybert("student.path=STUDENT")
    assert not {"corpus", "general"} & set(job.stages)
    assert job.stages["layers"].student.path == "STUDENT"
    assert job.stages["alone"].student.path == "STUDENT"
    assert job.stages["distill"].student.path == "@layers/export"
    assert job.wire_problems() == []


def test_a_student_of_teacher_layers_needs_no_general_distillation() -> None:
    job = tinybert("student.teacher_layers=3,6,9,12")
    assert "general" not in job.stages
    assert (job.stages["layers"].student.path, job.stages["layers"].student.teacher_layers) == (None, [3, 6, 9, 12])


def test_augmentation_is_left_out_visibly_where_nothing_proposes_words() -> None:
    job = tinybert()
    assert not {"augmentation", "augmented"} & set(job.stages)
    assert {job.stages[name].data.tokens for name in ("outputs", "layers", "distill", "alone")} == {"@labelled/tokens"}
    assert any(note.startswith("no augmentation") for note in job.notes)


@pytest.mark.parametrize(
    "source", ["encoder.path=MLM", "teacher.path=MLM", "augment.mlm_path=MLM", "augment.word_vectors=vectors.txt"]
)
def test_augmentation_takes_part_where_something_does(source: str) -> None:
    job = tinybert(source)
    assert {"augmentation", "augmented"} <= set(job.stages)
    assert {job.stages[name].data.tokens for name in ("outputs", "layers", "distill", "alone")} == {"@augmented/tokens"}
    assert job.stages["evaluation"].data.tokens == "@labelled/tokens"


def test_a_filter_asks_the_trained_teacher() -> None:
    job = tinybert("augment.mlm_path=MLM", "augment.keep_confidence=0.5")
    assert job.stages["augmentation"].teacher.path == "@check/model"
    assert job.stages["augmentation"].augment.mlm_path == "MLM"
    assert job.wire_problems() == []


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
@pytest.mark.parametrize(
    ("settings", "steps", "epochs", "batch"),
    [
        ([], None, 8, 32),
        (["layers.train.epochs=4", "distill.train.epochs=2"], None, 6, 32),
        (["layers.train.steps=40", "distill.train.steps=20"], 60, 8, 32),
        (["train.steps=6"], 12, 8, 32),
        (["train.steps=6", "layers.train.steps=150"], 156, 8, 32),
        (["train.epochs=5"], None, 10, 32),
        (["train.global_batch_size=64"], None, 8, 64),
        (["layers.train.global_batch_size=256", "distill.train.global_batch_size=256"], None, 8, 256),
    ],
)
def test_the_student_alone_is_trained_as_long_as_the_distilled_one(
    name: str, settings: list[str], steps: int | None, epochs: float, batch: int
) -> None:
    train = load_job(name, settings).stages["alone"].train
    assert (train.steps, train.epochs, train.global_batch_size) == (steps, epochs, batch)


@pytest.mark.parametrize("name", ["tinybert", "tinybert_task"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["layers.train.steps=500"], "layers.train.steps=500 and distill.train.epochs=3.0 have no sum"),
        (["distill.train.steps=500"], "layers.train.epochs=5.0 and distill.train.steps=500 have no sum"),
        (
            ["layers.train.global_batch_size=256"],
            "layers.train.global_batch_size=256 and distill.train.global_batch_size=32 have no sum",
        ),
    ],
)
def test_lengths_that_cannot_be_added_up_are_refused_with_a_way_out(name: str, settings: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_job(name, settings)
    assert "set alone.train.steps=N yourself" in str(caught.value)
    job = load_job(name, [*settings, "alone.train.steps=500"])
    assert job.stages["alone"].train.steps == 500
    assert any("a length of its own: alone.train.steps=500" in note for note in job.notes)


@pytest.mark.parametrize("setting", ["steps=77", "epochs=12.0", "epochs=5.0", "epochs=3.0", "global_batch_size=64"])
def test_a_length_that_is_set_for_the_student_alone_stays(setting: str) -> None:
    job = load_job("tinybert_task", [f"alone.train.{setting}"])
    key, value = setting.split("=")
    assert getattr(job.stages["alone"].train, key) == float(value)
    assert any(f"alone.train.{setting}" in note for note in job.notes)


def test_the_teacher_that_is_checked_is_the_one_that_is_named() -> None:
    assert load_job("tinybert_task", ["teacher.path=DIR"]).stages["check"].evaluate.models == {"teacher": "DIR"}
    named = load_job("tinybert_task", ["teacher.path=DIR", "check.evaluate.models=teacher:TRAINED"])
    assert named.stages["check"].evaluate.models == {"teacher": "TRAINED"}
    assert named.stages["labelled"].tokenizer.path == "DIR"


def test_word_vectors_do_for_a_filter_where_the_teacher_has_no_language_model(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").touch()
    settings = ["augment.word_vectors=vectors.txt", "augment.keep_confidence=0.5"]
    assert sources_of(tinybert(*settings).stages["augmentation"]).masked_language_model is None
    assert sources_of(tinybert(*settings, "encoder.path=MLM").stages["augmentation"]).masked_language_model == "MLM"


def test_a_run_can_be_repeated_from_its_own_description(tmp_path: Path) -> None:
    job = tinybert("student.path=STUDENT", "layers.train.steps=9", "distill.train.steps=7")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    again = load_job("tinybert", ["distill.objective.temperature=2"], tmp_path / "job.json")
    assert again.stages["distill"].objective.temperature == 2
    assert again.stages["distill"].train.steps == 7
    assert again.stages["alone"].train.steps == 16
    assert set(again.stages) == set(job.stages)


# ------------------------------------------------------------------------------------- what settings make of `fastbert`


def fastbert(*overrides: str) -> Job:
    return load_job("fastbert", ["teacher.path=DIR", *overrides])


def test_without_texts_branches_learn_from_the_training_rows() -> None:
    job = fastbert()
    assert "unlabelled" not in job.stages
    assert job.stages["self_distill"].data.tokens == "@labelled/tokens"
    assert job.notes == ["branches learn from the training texts; data.unlabelled names others"]
    assert job.wire_problems() == []


def test_with_texts_branches_learn_from_them_and_are_judged_by_labelled_rows() -> None:
    job = fastbert("data.unlabelled=more.txt")
    assert job.stages["unlabelled"].data.unlabelled == ["more.txt"]
    assert job.stages["unlabelled"].data.tokens == "@labelled/tokens"
    assert job.stages["self_distill"].data.tokens == "@unlabelled/tokens"
    assert {job.stages[name].data.tokens for name in ("check", "calibration", "evaluation")} == {"@labelled/tokens"}
    assert job.notes == []


def test_a_trained_classifier_needs_no_fine_tuning() -> None:
    job = fastbert("check.evaluate.models=teacher:TRAINED")
    assert "finetune" not in job.stages
    assert job.stages["self_distill"].model.path == "@check/model"
    assert any(note.startswith("no fine-tuning") for note in job.notes)
    assert job.wire_problems() == []


def test_branches_that_are_there_are_only_calibrated_and_measured() -> None:
    job = fastbert("check.evaluate.models=teacher:TRAINED", "calibration.model.path=BRANCHED")
    assert list(job.stages) == ["labelled", "check", "calibration", "evaluation", "report"]
    assert [note.split(":")[0].split(",")[0] for note in job.notes] == ["no self-distillation", "no fine-tuning"]
    assert job.seeded == ["calibration"]
    assert job.wire_problems() == []


def test_branches_without_a_separate_classifier_are_measured_once() -> None:
    job = fastbert("calibration.model.path=BRANCHED")
    assert list(job.stages) == ["labelled", "calibration", "evaluation", "report"]
    assert job.stages["evaluation"].evaluate.models == {"fastbert": "@calibration/export"}
    assert [note.split(";")[0] for note in job.notes] == [
        "no self-distillation, and data.unlabelled is not read: BRANCHED has its branches",
        "its own last classifier is what it is compared with",
    ]
    assert job.seeded == ["calibration"]
    assert job.wire_problems() == []


def test_branches_grow_on_what_passed_the_guard_and_the_calibrated_model_is_the_result() -> None:
    job = fastbert()
    assert job.stages["check"].guards is not None
    assert job.edges()["self_distill"] == ["labelled", "check"]
    assert job.edges()["calibration"] == ["labelled", "self_distill"]
    assert list(job.stages["evaluation"].evaluate.models.values()) == ["@check/model", "@calibration/export"]
    assert job.result == "calibration"


def test_each_seed_of_fastbert_is_calibrated_and_scored() -> None:
    job = with_seeds(fastbert(), 2)
    assert job.stages["self_distill_seed43"].train.seed == 43
    assert job.stages["self_distill_seed43"].model.path == "@check/model"
    assert job.stages["calibration_seed43"].model.path == "@self_distill_seed43/export"
    assert job.stages["evaluation"].evaluate.models["fastbert@43"] == "@calibration_seed43/export"
    assert job.wire_problems() == []


def test_stage_1_alone_needs_a_classifier_and_texts_but_no_labels() -> None:
    job = load_job("fastbert_stage1", ["model.path=DIR", "data.unlabelled=more.txt"])
    assert list(job.stages) == ["unlabelled", "self_distill", "report"]
    assert job.stages["unlabelled"].model.path == job.stages["self_distill"].model.path == "DIR"
    assert job.stages["self_distill"].data.tokens == "@unlabelled/tokens"
    assert job.stages["self_distill"].objective == find_job("fastbert").stages["self_distill"].objective


@pytest.mark.parametrize("name", ["fastbert", "fastbert_stage1"])
def test_a_dry_run_shows_the_stages_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), "--job", name, "--dry-run", "--verbose"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"sbatch file of {stage}" in done.stdout for stage in load_job(name, []).stages)
    assert not (tmp_path / "runs").exists()
