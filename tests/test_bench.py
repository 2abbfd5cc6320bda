"""The rows of `make bench`: what each script measures, and the one table that they end in."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from benchmarks import (
    bench,
    cheaper_steps,
    data_path,
    dry_run,
    exit_speed,
    host_waits,
    int8,
    measuring,
    outputs_memory,
    outputs_speed,
    ranks,
    students,
)
from benchmarks.bench import Aim, Figure
from benchmarks.world import World, world_job
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import RunError
from kd_dist.files import read_json
from kd_dist.models.classifier import load_classifier
from kd_dist.planning.checks import check_job
from kd_dist.training import engine
from tests.conftest import LabelledWorld, TinyWorld
from tests.ranks import run_ranks

MACHINE = {"versions": {"python": "3", "torch": "2"}, "cores": 2, "processor": "a processor"}


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


def test_forms_take_turns_after_a_round_that_warms_up() -> None:
    calls: list[str] = []
    seconds = measuring.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(seconds[name]) for name in "ab"] == [2, 2]
    assert measuring.ratio_of({"a": [4.0, 9.0, 8.0], "b": [1.0, 3.0, 2.0]}, "a", "b") == 4.0


def test_an_aim_is_a_least_or_a_largest_figure() -> None:
    assert Aim(0.9).is_met(0.9)
    assert not Aim(0.9).is_met(0.89)
    assert Aim(0.7, " s", is_least=False).is_met(0.3)
    assert not Aim(0.7, " s", is_least=False).is_met(0.8)
    assert [str(Aim(12, "x")), str(Aim(0.7, " s", is_least=False))] == [">= 12x", "<= 0.7 s"]


def test_the_page_says_what_is_met_and_what_takes_the_rest() -> None:
    figures = [
        Figure("speed", 15.25, Aim(12, "x"), "nothing"),
        Figure("share", 0.5, Aim(0.9), "copies"),
        Figure("rate", 12_345.6, None, ""),
    ]
    text = bench.page(figures, MACHINE, minutes=12.3, rounds=5)
    assert "| speed | 15.25x | >= 12x | met |" in text
    assert "| share | 0.50 | >= 0.9 | copies |" in text
    assert "| rate | 12,346 |" in text
    assert "1 of 2 aims are met" in text
    assert "Medians of 5 rounds" in text


def test_every_script_is_there_and_reads_what_a_world_has() -> None:
    world = World(Path("run"))
    for script in bench.SCRIPTS:
        assert (bench.BENCHMARKS / script.name).is_file()
        assert all(isinstance(getattr(world, name), Path) for name in script.inputs.values())
    assert bench.SCRIPTS[0].arguments(world, rounds=3)[:2] == ["--teacher", "run/pretrained/export"]
    with_rounds = [script.arguments(world, rounds=3)[-2:] == ["--rounds", "3"] for script in bench.SCRIPTS]
    assert with_rounds == [script.has_rounds and not script.more for script in bench.SCRIPTS]


def test_every_aim_of_a_script_is_read_from_what_it_writes() -> None:
    cases = ("titles", "text128", "text512")
    forms = {"as it is taken": 1.0, "attention in bf16": 0.7, "all in fp32": 0.5, "only the teacher in bf16": 0.8}
    forms |= {"the teacher in int8": 1.1}
    read = {
        "distillation_step.py": {"cases": {name: {"share_of_the_floor": 0.95} for name in cases}},
        "exit_speed.py": {"sizes": {size: {"share": 0.95} for size in ("1", "32")}},
        "int8.py": {"faster": 13.0, "points_lost": 0.1},
        "outputs_speed.py": {"share": 0.95},
        "augmentation.py": {"ratio": {"of_medians": 16.0}, "share_of_the_forward_pass": 0.85},
        "ranks.py": {"faster": 1.9},
        "students.py": {"students": 3, "over_the_bound": 1.05},
        "dry_run.py": {"longest": 0.3},
        "preparation.py": {"share_of_tokenizer": {"whole_texts": 1.2, "what_fits": 0.85}},
        "cheaper_steps.py": {
            "cases": {
                "titles": {
                    "faster": forms,
                    "difference_of_the_loss": dict.fromkeys(forms, 0.001),
                    "errors_of_the_teacher": dict.fromkeys(forms, {"hidden_states": 0.01, "attention": 0.01}),
                    "padding_share": 0.01,
                }
            }
        },
        "host_waits.py": {"waits": {name: {"micro_batch": 0, "step": 1} for name in ("tinybert", "finetune")}},
        "outputs_memory.py": {"rows": 1000, "own_memory_mb": [100.0, 101.0], "growth": 1.01},
        "data_path.py": dict.fromkeys(("sequences_per_second", "cold_sequences_per_second"), 1e5)
        | {"mean_length": 20.0, "pinned": False},
    }  # fmt: skip
    figures = [figure for script in bench.SCRIPTS for figure in script.figures(read[script.name])]
    assert len(figures) == 25
    assert all(figure.aim.is_met(figure.value) for figure in figures if figure.aim)


def test_figures_of_a_gpu_and_of_large_preparations_are_read_from_results() -> None:
    figures = {figure.measure: figure for figure in bench.recorded()}
    found = read_json(bench.RECORDED / "gpu" / "last.json")
    card, rows = found["machine"]["device"], {row["measure"]: row for row in found["rows"]}
    for length in ("titles", "128 tokens", "512 tokens"):
        name = f"training, {length}: sequences per second"
        (figure,) = (one for measure, one in figures.items() if measure.startswith(f"{card}, {name} (at first "))
        assert (figure.value, figure.aim) == (rows[name]["figure"], Aim(rows[name]["aim"]))
        assert figure.rest
    assert sum("peak memory" in measure for measure in figures) == len(list(bench.RECORDED.glob("preparation_*.json")))


def test_a_script_runs_in_a_process_of_its_own_and_a_failure_is_said(tmp_path: Path) -> None:
    chosen = [script for script in bench.SCRIPTS if script.name in ("dry_run.py", "exit_speed.py")][::-1]
    figures, machine = bench.run_scripts(chosen[:1], World(tmp_path), tmp_path, rounds=1)
    assert [figure.measure for figure in figures] == ["dry run on a login node, seconds"]
    assert machine["cores"] > 0
    with pytest.raises(RunError, match="benchmarks/exit_speed.py failed"):
        bench.run_scripts(chosen[1:], World(tmp_path), tmp_path, rounds=1)


def test_the_world_is_made_by_a_job_that_holds_together() -> None:
    job = world_job()
    check_job(job)
    assert job.stages[job.result].train.steps == 300


def test_early_exit_is_timed_with_as_many_exits_at_every_layer(labelled: LabelledWorld) -> None:
    classifier = load_classifier(labelled.teacher)
    texts = read_split(labelled.tokens, "validation").texts
    rows, _ = classifier.encode(Preprocessing.load(labelled.tokens), texts, None)
    found = exit_speed.measure(classifier, rows, rounds=2)
    assert list(found) == ["1", "32"]
    for one in found.values():
        assert one["mean_layer"] == pytest.approx(2, abs=0.2)  # a third of the rows at each of three layers
        assert one["fewer_operations"] > 0
        assert one["share"] == one["faster"] / one["fewer_operations"]


def test_a_student_is_served_in_int8_and_scored(labelled: LabelledWorld) -> None:
    pytest.importorskip("onnxruntime")
    student, teacher = load_classifier(labelled.teacher), load_classifier(labelled.other_teacher)
    found = int8.measure(student, teacher, labelled.tokens, num_texts=2, rounds=2)
    assert found["faster"] > 0
    assert 0 < found["accuracy"]["fp32"] < 1
    assert found["points_lost"] == pytest.approx(100 * (found["accuracy"]["fp32"] - found["accuracy"]["int8"]))
    assert (found["texts"], found["test_rows"]) == (2, 20)


def test_outputs_are_timed_against_the_same_number_of_rows(labelled: LabelledWorld) -> None:
    found = outputs_speed.measure(labelled.teacher, labelled.tokens, shards=2, rounds=1)
    assert found["rows"] == 15 + 6  # of 60 training and 24 validation rows, a quarter
    assert found["rounds"][0].keys() == {"shard", "half", "forward"}


def test_one_thread_of_the_data_path_is_timed(labelled: LabelledWorld) -> None:
    found = data_path.measure(labelled.tokens, batch_size=4, number=2, rounds=2)
    assert found["sequences_per_second"] == pytest.approx(64 / sorted(found["seconds"])[0], rel=1)
    assert found["mean_length"] == pytest.approx(TokenRows(labelled.tokens, "train", 0).lengths[:].mean())
    assert found["cold_sequences_per_second"] > 0


def test_forms_of_a_step_are_compared_with_the_one_that_is_taken(labelled: LabelledWorld) -> None:
    rows = [TokenRows(labelled.tokens, "train", 0).collate(np.arange(n, n + 4)) for n in range(4)]
    found = cheaper_steps.measure(cheaper_steps.forms_of(str(labelled.teacher), str(labelled.student), False), rows)
    assert found["faster"]["as it is taken"] == 1
    assert found["difference_of_the_loss"]["all in fp32"] == 0
    assert found["difference_of_the_loss"]["as it is taken"] < 0.05
    errors = found["errors_of_the_teacher"]
    assert errors["all in fp32"] == {"hidden_states": 0, "attention": 0}
    assert min(errors["the teacher in int8"].values()) > 0
    assert {len(seconds) for seconds in found["seconds"].values()} == {4}
    assert 0 <= found["padding_share"] < 1


@pytest.mark.parametrize("method", host_waits.METHODS)
def test_waits_of_the_host_are_counted(labelled: LabelledWorld, method: str) -> None:
    teacher, settings = str(labelled.teacher), host_waits.METHODS[method]
    stage = host_waits.stage_of(settings, teacher, str(labelled.student), labelled.tokens)
    assert host_waits.count(stage, teacher, rows=4) == {"micro_batch": 0, "step": 1}


def test_a_value_that_is_read_is_a_wait() -> None:
    total = torch.ones(3, device=host_waits.META).sum()
    with host_waits.on_meta() as waits:
        assert (float(total), bool(total)) == (1.0, True)
        float(torch.ones(3).sum())  # on the CPU already
    assert waits.number == 2


def test_the_memory_of_outputs_is_measured_at_two_sizes(tmp_path: Path) -> None:
    found = outputs_memory.measure(tmp_path, rows=3_000)
    assert found["growth"] == found["own_memory_mb"][1] / found["own_memory_mb"][0] > 0


def test_a_training_run_is_timed_by_its_own_metrics(labelled: LabelledWorld, tmp_path: Path) -> None:
    shutil.copytree(labelled.teacher, tmp_path / "student")
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    stage = ranks.training(tmp_path / "student", labelled.tokens, steps=ranks.WARM_UP + 2)
    assert stage.problems("train") == []
    assert ranks.speed(stage, sorted(ranks.os.sched_getaffinity(0))[:1]) > 0


def time_students(teacher: str, student: str, tokens: str, work: str) -> dict[str, Any]:
    engine.start()
    return students.measure(teacher, student, Path(tokens), Path(work), rounds=1)


def test_students_are_timed_together_and_alone(tiny: TinyWorld, tmp_path: Path) -> None:
    paths = [str(path) for path in (tiny.teacher, tiny.student, tiny.tokens, tmp_path)]
    found = run_ranks(1, "tests.test_bench:time_students", *paths)
    seconds = {name: of_form[0] for name, of_form in found["seconds"].items()}
    bound = 3 * seconds["alone"] - 2 * seconds["teacher"]  # T + 3 S
    assert found["over_the_bound"] == pytest.approx(seconds["together"] / bound)


def test_dry_runs_are_timed() -> None:
    found = dry_run.measure(rounds=1)
    assert found["longest"] == max(found["median_seconds"].values())
    assert re.fullmatch(r"tinybert_general fastbert", " ".join(found["median_seconds"]))
