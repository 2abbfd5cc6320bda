"""The benchmarks run, prove that they compare like with like, and write what they promise."""

import argparse
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from benchmarks import dashboard, distillation_step, gpu, measuring, preparation, size, table, tracking
from kd_dist.config.jobs import find_job
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.paths import REPOSITORY
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizers import train_tokenizer
from kd_dist.errors import RunError, UserError
from kd_dist.runs.layout import open_run
from launch.panels import Panel

SCRIPT = REPOSITORY / "benchmarks" / "distillation_step.py"
CHARACTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"


@pytest.fixture
def text_files(tmp_path: Path) -> tuple[Path, Path]:
    chance = random.Random(0)

    def sentence(length: int) -> str:
        return "".join(chance.choices(CHARACTERS, k=length))

    titles, text = tmp_path / "titles.txt", tmp_path / "text.txt"
    titles.write_text("\n".join(f"{sentence(chance.randint(5, 30))}\t3" for _ in range(40)), encoding="utf-8")
    text.write_text("\n".join(sentence(60) + "。" for _ in range(60)), encoding="utf-8")
    return titles, text


@pytest.fixture
def teacher(tmp_path: Path, text_files: tuple[Path, Path]) -> Path:
    folder = tmp_path / "teacher"
    train_tokenizer(list(text_files), folder, 100, "text")
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=100, **sizes)).save_pretrained(folder)
    return folder


def _run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_distillation_step_compares_two_forms_of_one_loss(tmp_path, text_files, teacher):
    titles, text = text_files
    output = tmp_path / "result.json"
    inputs = ["--teacher", teacher, "--student", "bert_tiny_2l_64", "--titles", titles, "--text", text]
    sizes = ["--rounds", 1, "--batch-size-titles", 4, "--batch-size-text512", 2]
    finished = _run(*inputs, *sizes, "--cases", "titles", "text512", "--output", output)

    assert finished.returncode == 0, finished.stderr
    assert "The same loss in both forms" in finished.stdout
    result = json.loads(output.read_text(encoding="utf-8"))
    assert 0 <= result["equality"]["relative_difference"] < result["equality"]["tolerance"] == 1e-4
    assert result["equality"]["published"] > 0
    assert result["machine"]["versions"].keys() == {"python", "torch", "transformers"}
    assert list(result["cases"]) == ["titles", "text512"]
    for case in result["cases"].values():
        (timing,) = case["rounds"]
        assert timing["padded_to"]["published"] == case["max_length"] >= timing["padded_to"]["ours"]
        assert {form: timing["seconds"][form] for form in ("published", "ours")} == case["median_seconds"]
        assert case["share_of_the_floor"] == timing["seconds"]["floor"] / timing["seconds"]["ours"]
    assert result["cases"]["titles"]["rounds"][0]["padded_to"]["ours"] <= 32
    memory = result["cases"]["text512"]["memory"]
    assert memory["published"]["of_steps_bytes"] > memory["ours"]["of_steps_bytes"] > 0


def test_another_reduction_of_the_loss_is_noticed(tmp_path, text_files, teacher, monkeypatch):
    case = distillation_step.CASES["titles"]._replace(batch_size=4)
    distillation_step.prepare_rows(case, [str(text_files[0])], str(teacher), tmp_path / "tokens")
    batch = next(distillation_step.batches(tmp_path / "tokens", case))["published"]
    models = distillation_step.Models(str(teacher), "bert_tiny_2l_64", "fp32")
    assert distillation_step.check_equality(models, batch)["relative_difference"] < 1e-4
    monkeypatch.setattr(distillation_step, "TinyBertObjective", lambda **_: TinyBertObjective(projection="shared"))
    with pytest.raises(RunError, match="different losses"):
        distillation_step.check_equality(models, batch)


def test_what_wants_a_gpu_runs_small_without_one(tmp_path, text_files):
    titles, text = text_files
    command = [sys.executable, REPOSITORY / "benchmarks" / "gpu.py", "--small", "--titles", titles, "--text", text]
    command += ["--work", tmp_path / "work", "--output", tmp_path / "output", "--parts"]
    command += [part for part in gpu.PARTS if part != "resuming"]  # tests/chaos resumes without a GPU
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=600)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((tmp_path / "output" / "gpu.json").read_text(encoding="utf-8"))["rows"]
    right = [row for row in rows if row["measure"].startswith(("attention", "ZeRO", "bf16", "early exit: "))]
    assert [row["met"] for row in right] == ["yes"] * 6
    assert (
        sum(row["measure"].endswith(("sequences per second", "of its floor")) and row["figure"] > 0 for row in rows)
        == 2
    )


def test_a_case_without_its_text_is_refused(teacher):
    options = distillation_step.parse(["--teacher", str(teacher), "--cases", "text128"])
    with pytest.raises(UserError, match="text128 needs --text FILE"):
        distillation_step.chosen_cases(options)


def test_many_rows_are_made_by_repetition(tmp_path, monkeypatch):
    monkeypatch.setattr(size, "REPEATED", 500)
    facts = size.write_rows(tmp_path, num_rows=1_500, num_classes=3)
    rows = TokenRows(tmp_path / "tokens", "train", 0)
    assert len(rows) == facts["rows"] == 1_500
    batch = rows.collate(np.array([7, 507, 1007, 8]))["input_ids"]
    assert (batch[:3] == batch[0]).all()
    assert (batch[3] != batch[0]).any()
    assert len({path.stat().st_ino for path in (tmp_path / "tokens" / "train").glob("*.arrow")}) == 1


def test_every_part_of_the_cost_of_many_rows_is_measured(tmp_path):
    words = ["--rows", "3000", "--output-rows", "3000", "--classes", "5", "--work", tmp_path / "work"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "size.py"), *words, "--output", tmp_path / "result.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert finished.returncode == 0, finished.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (result["store"]["rows"], result["store"]["files"]) == (3_000, 4)
    assert (result["start"]["step"], result["resume"]["step"]) == (1, 93)
    assert all(result[part]["own_memory_mb"] >= 0 for part in ("read", "plan", "collate", "start", "resume"))
    cells = table._size_cells(result)
    assert len(cells) == 6
    assert cells[-1][0] == "write blocks of outputs of 5 classes; distribute them to files"


def test_rounds_are_compared_by_their_medians_and_the_range_of_their_ratios():
    seconds = [(4.0, 1.0), (9.0, 3.0), (8.0, 2.0)]
    rounds = [{"seconds": {"published": published, "ours": ours}} for published, ours in seconds]
    compared = measuring.compare(rounds)
    assert compared["median_seconds"] == {"published": 8.0, "ours": 2.0}
    assert compared["ratio"] == {"of_medians": 4.0, "lowest": 3.0, "highest": 4.0}
    assert measuring.comparison_cells(compared, num_rows=16, digits=1) == ["2.0", "8.0", "4.0", "3.0 to 4.0"]


def test_inputs_are_the_lines_up_to_their_first_tab(text_files):
    titles, _ = text_files
    expected = [line.split("\t")[0] for line in titles.read_text(encoding="utf-8").splitlines()]
    assert list(measuring.read_first_lines([str(titles)])) == expected


def test_a_count_is_a_whole_number_above_0():
    assert measuring.positive("3") == 3
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number above 0"):
            measuring.positive(text)


def test_results_outside_the_repository_are_no_row_of_a_table(tmp_path):
    with pytest.raises(UserError, match="not inside"):
        table.evaluated(tmp_path)
    with pytest.raises(UserError, match=r"holds no results\.json"):
        table.evaluated(REPOSITORY / "benchmarks")


def test_the_time_of_training_is_shown_where_it_was_kept(tmp_path):
    assert table.training_time(tmp_path, "student") == ""
    (tmp_path / "training.json").write_text('{"student": 423.4}', encoding="utf-8")
    assert table.training_time(tmp_path, "student") == "7 min 03 s"
    assert table.training_time(tmp_path, "teacher") == ""


def test_a_stage_is_tracked_at_every_step_and_nothing_else_takes_its_time(tmp_path):
    job = find_job("tinybert_general")
    run_dir = open_run(job, tmp_path, "a")
    stage = tracking.shortened(run_dir / "distill", steps=7)
    assert (stage.train.steps, stage.cadence.log_every_n_steps, stage.selection) == (7, 1, None)
    assert min(stage.cadence.save_every_n_steps, stage.cadence.evaluate_every_n_steps) > 7
    with pytest.raises(UserError, match="is no training stage of a run"):
        tracking.shortened(run_dir / "corpus", steps=7)


def test_the_cost_of_tracking_is_the_mean_of_its_calls_over_the_median_step():
    rounds = [{"steps": [1.0, 2.0, 9.0], "calls": [0.1, 0.3]}, {"steps": [4.0], "calls": [0.2]}]
    assert tracking._summary(rounds) == {
        "median_seconds_of_a_step": 3.0,
        "mean_seconds_of_calls": pytest.approx(0.2),
        "longest_seconds_of_a_call": 0.3,
        "share_of_a_step": pytest.approx(0.2 / 3),
    }


def test_a_dashboard_is_drawn_from_what_a_run_has_and_without_what_it_lacks():
    rows = [{"global_step": step, "time": 60.0 * step, "starts": 1 + step // 3, "train/loss": 1.0} for step in range(5)]
    sections = {
        "One": [Panel("Loss", ["train/loss"]), Panel("Nothing", ["speed/gpu_utilization"])],
        "Two": [Panel("Starts", ["starts"], "time"), Panel("Accuracy", ["student/accuracy"], "bars")],
        "Three": [Panel("Exits", ["evaluation/exit_layers"], "pictures")],
    }
    models = {"student": {"accuracy": 0.9, "exit_layers": [3, 1]}}
    picture = dashboard.draw_panels(sections, rows, models)
    shown = set(re.findall(r">(\w+)<", picture))
    assert {"One", "Two", "Three", "Loss", "Starts", "Accuracy", "Exits"} <= shown
    assert "Nothing" not in picture
    assert picture == dashboard.draw_panels(sections, rows, models)


@pytest.mark.parametrize("form", preparation.FORMS)
def test_preparation_makes_the_documents_that_it_says_and_measures_them(form: str, tmp_path: Path):
    options = argparse.Namespace(documents=60, characters=300, form=form, rounds=1)
    result = preparation.run(options, tmp_path)
    statistics = json.loads((tmp_path / "out" / "tokens" / "statistics.json").read_text(encoding="utf-8"))
    assert sum(statistics[f"{split}_rows"] for split in ("train", "validation", "test")) == 60
    assert (statistics["num_labels"], statistics["truncated_rows"]) == (14, 60)
    assert 0.1 < result["peak_gb"] <= result["peak_gb_shared_pages_counted_twice"]
    assert result["rows_per_second"] == pytest.approx(60 / result["seconds"])
    assert min(result["share_of_tokenizer"].values()) > 0
