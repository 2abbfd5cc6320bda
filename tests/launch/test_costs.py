"""`--plan`: the tables of what a job would cost, and what is said about them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_dist.config.jobs import job_names
from kd_dist.config.paths import model_config_file
from kd_dist.model_files.model_folders import read_config
from kd_dist.planning.shapes import Shape
from kd_dist.planning.step_times import Work, keep, record
from tests.launch.launching import SCRIPT, command, shown


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def site(folder: Path, **facts: object) -> str:
    """Write a profile and return its path."""
    (folder / "site.yaml").write_text(json.dumps({"gres": "gpu:a100", **facts}), encoding="utf-8")
    return str(folder / "site.yaml")


def cells(text: str) -> list[list[str]]:
    """The cells of all rows of the tables."""
    lines = [line for line in text.splitlines() if line[:1] in "│┃"]
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines]


def test_it_is_quick_imports_no_torch_and_writes_nothing(tmp_path: Path, settings: list[str]) -> None:
    arguments = ["--job", "tinybert_general", "--plan", *settings]
    script = (
        f"import runpy, sys\nsys.argv = ['slurm.py', *{arguments!r}]\n"
        f"try:\n    runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\nprint('MODULES', *sys.modules)\n"
    )
    before, began = sorted(tmp_path.rglob("*")), time.monotonic()
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert time.monotonic() - began < 10  # of a busy machine; 0.6 s of an idle one
    assert ended.returncode == 0, ended.stderr
    modules = set(ended.stdout.rpartition("MODULES")[2].split())
    assert not modules & {"torch", "transformers", "deepspeed", "datasets", "wandb", "huggingface_hub", "submitit"}
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


def test_every_stage_and_every_number_of_gpus_has_a_row(tmp_path: Path, settings: list[str]) -> None:
    profile = site(tmp_path, price_per_gpu_hour=2.5, currency="EUR", gpus_of_a_node=4, bandwidth_gbit=25)
    more = [
        "train.steps=20000",
        "train.micro_batch_size=32",
        "--rows",
        "corpus=1000000",
        "resources.gpus_per_node=2",
        "--cluster",
        profile,
    ]
    text = shown(tmp_path, "--job", "tinybert_general", "--plan", *settings, *more)
    first, *stages = cells(text)[:5]
    assert first == ["stage", "rows", "steps", "ranks", "time", "memory", "disk", "GPU-hours", "EUR"]
    assert [row[0] for row in stages] == ["corpus", "distill", "report", "all"]
    assert stages[1][1:4] == ["1,000,000", "20,000", "2 GPU"]
    assert float(stages[3][8]) == pytest.approx(2.5 * float(stages[3][7]), abs=0.02)
    by_gpus = cells(text)[5:]
    assert by_gpus[0] == ["GPUs", "distill", "all", "memory", "GPU-hours", "EUR"]
    assert [row[0] for row in by_gpus[1:]] == ["1", "2", "4", "8", "16", "32", "64"]
    assert by_gpus[4][1].endswith("h") or by_gpus[4][1].endswith("min")
    assert by_gpus[5][1].endswith("*")  # 8 micro-batches a step
    assert "times are estimates: operations at 8 trillion multiply-adds a second on a GPU (40 in bf16)" in text
    assert "with --calibrate in place of --plan" in text
    assert "network: 200 Gbit/s within a node of 4 GPUs, 25 between nodes" in text
    assert "not estimated, minutes as a rule: report" in text


def test_a_calibration_of_that_kind_of_gpu_is_used(tmp_path: Path, settings: list[str]) -> None:
    student = Shape.of(read_config(model_config_file("tinybert_4l_312")))
    points = [(16, 1.0), (128, 4.0)]
    found = {"micro_batch": points, "forward": points, "optimizer": 0.5, "once": 10.0}
    for name, memory in (("NVIDIA H100", 80.0), ("NVIDIA A100-SXM4-40GB", 40.0)):
        keep(
            {
                "device": {"kind": "gpu", "name": name, "threads": 1, "memory_gb": memory},
                "start_seconds": 2.0,
                "characters_per_second": 1e6,
                "measured": "2026-01-01T00:00",
                "records": [record(Work("tinybert", "fp32", 32, student), found)],
            }
        )
    text = shown(tmp_path, "--job", "tinybert_general", "--plan", *settings, "--cluster", site(tmp_path))
    assert "times measured on NVIDIA A100-SXM4-40GB, 2026-01-01T00:00; by operations from other models" in text


def test_what_does_not_fit_is_warned_of_with_a_way_out(tmp_path: Path, settings: list[str]) -> None:
    large = ["train.global_batch_size=4096", "train.micro_batch_size=1024", "--rows", "corpus=100000"]
    profile = site(tmp_path, gpu_memory_gb=2)
    text = shown(tmp_path, "--job", "tinybert_general", "--plan", *settings, *large, "--cluster", profile)
    warning = re.search(
        r"warning: distill needs [\d.]+ GB, and a GPU has 2.0 GB: set distill.train.micro_batch_size=(\d+) "
        r"\(each rank accumulates (\d+) a step\)",
        text,
    )
    assert warning
    assert int(warning[1]) * int(warning[2]) == 4096
    fits = [f"distill.train.micro_batch_size={warning[1]}", "train.global_batch_size=4096", "--rows", "corpus=100000"]
    assert "warning" not in shown(
        tmp_path, "--job", "tinybert_general", "--plan", *settings, *fits, "--cluster", profile
    )


def test_on_this_machine_ranks_are_as_many_as_cores(tmp_path: Path, settings: list[str]) -> None:
    text = shown(tmp_path, "--job", "tinybert_general", "--plan", *settings, "--cluster", "local")
    rows = [row[0] for row in cells(text)[5:]]
    counted = [number for number in (1, 2, 4, 8, 16, 32, 64) if number <= len(os.sched_getaffinity(0))]
    assert rows == ["CPU ranks", *map(str, counted)]
    assert "GPU-hours" not in text


@pytest.mark.parametrize("job", job_names())
def test_every_job_has_a_plan_once_the_rows_that_it_asks_for_are_given(job: str, tmp_path: Path) -> None:
    given: list[str] = []
    ended = command(tmp_path, "--job", job, "--plan")
    while (asked := re.search(r"add (--rows .*)", ended.stderr)) and not given:
        given = asked[1].replace("=N", "=1000").split()
        ended = command(tmp_path, "--job", job, "--plan", *given)
    assert ended.returncode == 0, ended.stderr
    assert f"{job}, with the resources that it asks for" in ended.stdout


def test_unknown_rows_are_asked_for(tmp_path: Path) -> None:
    ended = command(tmp_path, "--job", "tinybert_general", "--plan")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nobody can know yet how many rows corpus will make: add --rows corpus=N" in ended.stderr
    ended = command(tmp_path, "--job", "tinybert_general", "--plan", "--rows", "distill=3")
    assert ended.returncode == 2
    assert "--rows distill=3: expected STAGE=N, the number of rows that a stage makes, one of corpus" in ended.stderr
    text = shown(tmp_path, "--job", "tinybert_general", "--plan", "--rows", "corpus=1000")
    assert "taken for a BERT-base, as their config.json is not here: google-bert/bert-base-chinese" in text
