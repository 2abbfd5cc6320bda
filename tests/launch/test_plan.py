"""Dry runs: the table of stages, the settings that differ, and the sbatch files."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.layout import open_run
from launch.cluster import Cluster
from launch.plan import print_plan
from tests.launch.launching import CORPUS, DISTILL, REPORT, SCRIPT, command, general_job, opened, shown


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dry run of the defaults: no corpus, no teacher, no SLURM; then the modules that it imported."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "bin").mkdir()
    script = (
        "import runpy, sys\n"
        "sys.argv = ['slurm.py', '--job', 'tinybert_general', '--dry-run', '--run-id', 'a', 'train.steps=7']\n"
        "try:\n"
        f"    runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        "print('MODULES', *sys.modules)\n"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - began < 5
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["bin"], "a dry run wrote something"
    return ended.stdout


def table(text: str) -> list[list[str]]:
    """The cells of the table that a dry run begins with."""
    block = text.split("\n\n")[1]
    assert block.startswith("stage ")
    return [re.split(r" {2,}", line) for line in block.splitlines()]


def test_imports_nothing_heavy(plan: str) -> None:
    modules = set(plan.rpartition("MODULES")[2].split())
    assert "launch.submit" in modules
    assert not modules & {"torch", "transformers", "deepspeed", "datasets", "wandb", "huggingface_hub"}


def test_stages_come_in_order_with_what_they_ask_for(plan: str) -> None:
    assert table(plan) == [
        ["stage", "waits for", "nodes x GPUs", "cores", "time limit"],
        [CORPUS, "-", "1 x 0", "8", "4 h"],
        [DISTILL, CORPUS, "1 x 1", "4", "24 h"],
        [REPORT, DISTILL, "1 x 0", "1", "30 min"],
    ]


def test_only_settings_that_differ_are_shown(plan: str) -> None:
    assert plan.split("\n\n")[2] == f"settings that differ from the defaults:\n  train.steps=7  in {DISTILL}"


def test_only_the_first_stage_with_gpus_shows_its_sbatch_file(plan: str) -> None:
    assert re.findall(r"=== (.*)", plan) == [f"sbatch file of {DISTILL} (--verbose: of every stage, and all settings)"]
    assert plan.count("#!/bin/bash") == 1
    assert "#SBATCH --gpus-per-node=1" in plan
    assert f"#SBATCH --dependency='afterok:<job id of {CORPUS}>'" in plan
    assert plan.count("--kill-on-bad-exit=1") == 1


def test_verbose_shows_all_settings_and_every_sbatch_file(tmp_path: Path) -> None:
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--verbose", "train.steps=7")
    assert text.count("#!/bin/bash") == 3
    assert text.count("#SBATCH --gpus-per-node=1") == 1
    for setting in ('"steps": 7', f'"tokens": "@{CORPUS}/tokens"', '"warmup_fraction": 0.1'):
        assert setting in text


def test_on_this_machine_there_is_no_sbatch_file(tmp_path: Path) -> None:
    text = shown(tmp_path, "--job", "demo", "--dry-run", "--cluster", "local")
    assert "every setting has its default" in text
    assert "#SBATCH" not in text


def test_complete_stages_will_be_skipped(tmp_path: Path, settings: list[str]) -> None:
    complete(open_run(general_job(settings), tmp_path / "runs", "a") / CORPUS, seconds=1.0)
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--run-id", "a", *settings)
    assert [row[:2] for row in table(text)[1:3]] == [[CORPUS, "complete, will be skipped"], [DISTILL, CORPUS]]


def test_nothing_is_skipped_behind_a_removed_stage(tmp_path: Path, settings: list[str]) -> None:
    _, run_dir = opened(tmp_path, settings, REPORT)
    shutil.rmtree(run_dir / CORPUS)
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--run-id", "a", *settings)
    assert [row[1] for row in table(text)[1:]] == ["-", CORPUS, DISTILL]
    assert is_complete(run_dir / DISTILL)  # it only looked


def test_arrays_and_notes(tmp_path: Path, sharded: Job, capfd: pytest.CaptureFixture[str]) -> None:
    print_plan(sharded, sharded, tmp_path / "runs" / "sharded" / "a", Cluster(), verbose=True)
    text = capfd.readouterr().out
    assert "note: !\n" in text
    assert table(text)[1] == ["augment", "-", "3 shards of 1 x 0", "8", "4 h"]
    assert "#SBATCH --array=0-2%3" in text
    assert "#SBATCH --dependency='afterok:<job id of augment>'" in text


def test_a_setting_of_several_stages_is_shown_once_and_copies_only_differ_in_their_seed(
    tmp_path: Path, settings: list[str]
) -> None:
    files = [f"data.train={tmp_path / 'train.tsv'}", *settings[1:]]
    (tmp_path / "train.tsv").write_text("a\t好\n", encoding="utf-8")
    config = (tmp_path / "teacher" / "config.json").read_text(encoding="utf-8")
    classifier = config.replace("{", '{"architectures": ["BertForSequenceClassification"], ', 1)
    (tmp_path / "teacher" / "config.json").write_text(classifier, encoding="utf-8")
    text = shown(tmp_path, "--job", "tinybert_task", "--dry-run", *files, "--seeds", "2", "optim.weight_decay=0.5")
    names = [
        name
        for seeded in find_job("tinybert_task").seeded
        for name in (seeded, f"{seeded}_seed43")
        if seeded != "layers"
    ]
    assert f"  optim.weight_decay=0.5  in {', '.join(names)}\n" in text
    assert f"  train.seed=43  in {', '.join(names[1::2])}\n" in text
    assert "student.path=@" not in text.split("settings that differ")[1].split("===")[0]


def test_settings_of_students_are_compared_with_those_of_the_stage_that_they_are_copies_of(
    tmp_path: Path, settings: list[str]
) -> None:
    text = shown(
        tmp_path, "--job", "tinybert_general", "--dry-run", *settings, "students=bert_base@1,bert_base@2",
        "distill.optim.weight_decay=0.5",
    )  # fmt: skip
    first, second = "distill_bert_base_init1", "distill_bert_base_init2"
    given, following = text.split("settings that differ")[1].split("===")[0].split("settings that follow:")
    assert f"  optim.weight_decay=0.5  in {first}, {second}\n" in given
    assert f"  student.config=bert_base  in {first}, {second}\n" in following
    assert f"  student.init=projected  in {first}, {second}\n  student.seed=1  in {first}\n" in following
    assert "cadence." not in given + following


def test_a_long_list_of_stages_wraps_and_no_name_is_cut(tmp_path: Path) -> None:
    job = find_job("demo")
    script = (
        "from launch import plan\nfrom kd_dist.config.jobs import find_job\nfrom launch.cluster import Cluster\n"
        "from pathlib import Path\nplan.terminal_width = lambda: 80\n"
        "plan.print_plan(find_job('demo'), find_job('demo'), Path('a'), Cluster(executor='local'))"
    )
    text = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    lines = text.split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= 80
    words = set(" ".join(lines).replace(",", " ").split())
    assert words >= set(job.stages)


def test_job_json_runs_again(tmp_path: Path, settings: list[str]) -> None:
    written = open_run(general_job(settings, "train.steps=7"), tmp_path / "runs", "a") / "job.json"
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--verbose", "--config", str(written))
    assert '"steps": 7' in text
    assert str(tmp_path / "corpus.txt") in text


def test_a_problem_is_reported_before_anything_is_shown(tmp_path: Path) -> None:
    ended = command(tmp_path, "--job", "tinybert_general", "--dry-run", "train.steps=0")
    assert (ended.returncode, ended.stdout) == (2, "")
