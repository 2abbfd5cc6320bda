"""The commands a user types on one machine, with real processes and real signals."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.data import LabelledData, TokenData
from kd_dist.config.sections.models import Student, TokenizerSource
from kd_dist.config.sections.training import Train
from kd_dist.config.stages import LabelledStage, TrainStage
from kd_dist.planning.checks import load_checked_job
from kd_dist.runs.claim import claim
from kd_dist.runs.fingerprints import stage_fingerprint
from kd_dist.runs.layout import open_run
from kd_dist.runs.metrics import read_metrics
from kd_dist.runs.stage_runner import run_stage
from tests.conftest import LabelledWorld, TinyWorld
from tests.ranks import ROOT, run_ranks

BIN = Path(sys.executable).parent
STEPS = 60


def settings(tiny: TinyWorld) -> list[str]:
    return [
        f"data.corpus={tiny.corpus}",
        f"teacher.path={tiny.teacher}",
        f"student.config={tiny.student}",
        "data.max_length=48",
        f"train.steps={STEPS}",
        "engine.precision=fp32",  # in bf16 weights that differ by rounding are far apart a few steps later
        "train.global_batch_size=16",
        "train.micro_batch_size=4",
        "optim.learning_rate=2e-3",
        "objective.attention=raw",  # centred scores ignore key biases, and Adam takes whole steps of rounding errors
        "cadence.save_every_n_steps=20",
        "cadence.log_every_n_steps=1",
        "cadence.keep_checkpoints=3",
    ]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RANK", "WORLD_SIZE", "MASTER"))}
    return kept | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def finish(command: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, timeout=300)


def weights(root: Path, run_id: str) -> dict[str, object]:
    return load_file(root / "runs" / "tinybert_general" / run_id / "export" / "model.safetensors")


def assert_close(first: dict[str, object], second: dict[str, object], tolerance: float) -> None:
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) <= tolerance


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def plain(root: Path, tiny: TinyWorld) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", "tinybert_general", "--run-id", "plain"]
    return finish([*script, *settings(tiny)], root)


def test_plain_python_trains_on_one_rank_from_text_to_report(
    root: Path, plain: subprocess.CompletedProcess[str]
) -> None:
    assert plain.returncode == 0, plain.stderr
    run_dir = root / "runs" / "tinybert_general" / "plain"
    assert (run_dir / "report" / "index.html").stat().st_size > 10_000
    rows = [row for row in read_metrics(run_dir / "distill" / "metrics.jsonl") if "train/loss" in row]
    assert [row["global_step"] for row in rows] == list(range(1, STEPS + 1))
    for term in ("attention", "hidden", "embeddings"):
        first, last = (statistics.mean(row[f"train/{term}"] for row in part) for part in (rows[:10], rows[-10:]))
        assert last < first


def test_students_of_one_teacher_are_trained_by_one_command_and_each_goes_on_by_itself(
    tmp_path: Path, tiny: TinyWorld, labelled: LabelledWorld
) -> None:
    given = [text for text in settings(tiny) if not text.startswith(("student.", "train.steps"))]
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", "tinybert_general", "--run-id", "both"]
    ended = finish([*script, *given, f"students={tiny.student}@1,{tiny.student}@2", "train.steps=4"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert all(f"distill_student_init{seed}  step 4/4" in ended.stderr for seed in (1, 2))
    run_dir = tmp_path / "runs" / "tinybert_general" / "both"
    first, second = (load_file(run_dir / "export" / f"student_init{seed}" / "model.safetensors") for seed in (1, 2))
    assert any((first[name] != second[name]).any() for name in first)
    rows = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in rows] == ["distill_student_init1", "distill_student_init2"]
    page = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f"distill_student_init{seed}/export" in page for seed in (1, 2))
    labels = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    student = f"student.path={run_dir / 'export' / 'student_init2'}"
    load_checked_job("tinybert_task", [*labels, "data.max_length=48", f"teacher.path={labelled.teacher}", student])


def test_the_learning_rate_is_the_schedule_of_transformers(root: Path, plain: subprocess.CompletedProcess[str]) -> None:
    import torch
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    schedule = get_linear_schedule_with_warmup(optimizer, STEPS // 10, STEPS)
    rows = read_metrics(root / "runs" / "tinybert_general" / "plain" / "distill" / "metrics.jsonl")
    for rate in [row["optim/learning_rate"] for row in rows if "optim/learning_rate" in row]:
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def manifest(stage_dir: Path) -> dict[str, object]:
    return json.loads((stage_dir / "export" / "manifest.json").read_text(encoding="utf-8"))


def test_the_export_names_the_corpus_it_learnt_from(root: Path, plain: subprocess.CompletedProcess[str]) -> None:
    run_dir = root / "runs" / "tinybert_general" / "plain"
    assert manifest(run_dir / "distill")["data_fingerprint"] == (run_dir / "corpus" / "tokens").resolve().name
    assert len(list((root / "runs" / "cache" / "corpus").iterdir())) == 1


def run_stages(run_dir: str) -> None:
    for name in ("prepare", "alone_seed43"):
        run_stage(Path(run_dir) / name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, labelled: LabelledWorld) -> Path:
    """A student that learns from labels alone, under another seed than the job's."""
    prepare = LabelledStage(
        data=LabelledData(train=[str(labelled.files / "train.tsv")], max_length=48, num_workers=1),
        tokenizer=TokenizerSource(path=str(labelled.teacher)),
    )
    training = TrainStage(
        student=Student(config=str(labelled.student)),
        data=TokenData(tokens="@prepare/tokens"),
        objective=FinetuneObjective(),
        train=Train(steps=2, global_batch_size=8, micro_batch_size=4, seed=43),
    )
    job = Job(name="alone", description="", stages={"prepare": prepare, "alone_seed43": training}, result="prepare")
    run_dir = open_run(job, tmp_path_factory.mktemp("alone"), "a")
    run_ranks(1, "tests.test_train:run_stages", str(run_dir))
    return run_dir


def test_the_row_of_a_training_stage_says_whose_it_is_and_how_fast_it_trained(alone: Path) -> None:
    (row,) = json.loads((alone / "results.json").read_text(encoding="utf-8"))
    named = {"stage": "alone_seed43", "model": "student_alone", "seed": 43, "split": "validation", "steps": 2}
    assert row.items() >= named.items()
    assert row["training_samples_per_second"] > 0
    assert "samples_per_second" not in row  # which is that of inference


def test_the_export_names_the_labelled_rows_it_learnt_from(alone: Path) -> None:
    assert manifest(alone / "alone_seed43")["data_fingerprint"] == stage_fingerprint(alone / "prepare")


def test_rows_that_a_stage_refuses_are_a_failure_of_the_run(tmp_path: Path, labelled: LabelledWorld) -> None:
    (tmp_path / "rows.tsv").write_text("sport\t一\nno label\n", encoding="utf-8")
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", "finetune", "--run-id", "a"]
    data = [f"data.train={tmp_path / 'rows.tsv'}", "data.max_length=48"]
    result = finish([*script, f"teacher.path={labelled.teacher}", *data], tmp_path)
    assert result.returncode == 1, result.stderr
    assert "rows.tsv" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_job_that_trains_nothing_is_run_as_well(tmp_path: Path, tiny: TinyWorld, labelled: LabelledWorld) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    AutoModelForMaskedLM.from_pretrained(tiny.teacher).save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(tiny.tokenizer).save_pretrained(tmp_path / "encoder")
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", "augment", "--run-id", "a"]
    data = [f"data.train={labelled.files / 'train.tsv'}", "data.max_length=48"]
    result = finish([*script, "encoder.path=encoder", *data], tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "augment" / "a" / "augmented" / "COMPLETE").exists()


def launched(root: Path, tiny: TinyWorld, launcher: str, *options: str) -> dict[str, object]:
    """Return what a run learns that nobody disturbs, under a launcher that is not ours."""
    script = [str(ROOT / "kd_dist" / "train.py"), "--job", "tinybert_general", "--run-id", launcher]
    result = finish([str(BIN / launcher), *options, *script, *settings(tiny)], root)
    assert result.returncode == 0, result.stderr
    return weights(root, launcher)


@pytest.fixture(scope="module")
def on_two_ranks(root: Path, tiny: TinyWorld) -> dict[str, object]:
    return launched(root, tiny, "torchrun", "--nproc-per-node", "2")


def test_torchrun_starts_two_ranks_that_learn_the_same(
    root: Path, plain: subprocess.CompletedProcess[str], on_two_ranks: dict[str, object]
) -> None:
    assert_close(on_two_ranks, weights(root, "plain"), tolerance=1e-4)


def test_deepspeed_starts_two_ranks_that_learn_the_same(
    root: Path, tiny: TinyWorld, plain: subprocess.CompletedProcess[str]
) -> None:
    learned = launched(root, tiny, "deepspeed", "--num_accelerators", "2")
    assert_close(learned, weights(root, "plain"), tolerance=1e-4)


class Launched:
    """`launch/slurm.py --cluster local` in the background, as from a terminal."""

    def __init__(self, root: Path, tiny: TinyWorld, run_id: str) -> None:
        self.stage = root / "runs" / "tinybert_general" / run_id / "distill"
        script = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "tinybert_general", "--cluster", "local"]
        self.command = [*script, "--run-id", run_id, *settings(tiny), "resources.gpus_per_node=2"]
        self.root = root

    def interrupt_at_step(self, step: int, action: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
        process = subprocess.Popen(
            self.command, cwd=self.root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        metrics = self.stage / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (metrics.exists() and any(row["global_step"] >= step for row in read_metrics(metrics))):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        action(process)
        output = process.communicate(timeout=120)[0]
        return process.returncode, output

    def finish(self) -> subprocess.CompletedProcess[str]:
        return finish(self.command, self.root)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_ctrl_c_saves_and_the_same_command_goes_on_even_past_a_damaged_checkpoint(
    root: Path, tiny: TinyWorld, on_two_ranks: dict[str, object]
) -> None:
    launched = Launched(root, tiny, "interrupted")
    status, output = launched.interrupt_at_step(25, lambda process: process.send_signal(signal.SIGINT))
    assert status == 128 + signal.SIGINT, output
    assert re.search(r"stage distill is saved at step \d+; .*goes on from there:\n.* --run-id interrupted ", output)
    assert "Traceback" not in output
    newest = sorted((launched.stage / "checkpoints").glob("step_*"))[-1]
    assert newest.name > "step_00000025"
    flip_last_byte(newest / "weights.safetensors")
    result = launched.finish()
    assert result.returncode == 0, result.stderr
    assert "corpus: complete, skipped" in result.stdout
    assert f"checkpoint {newest.name} is damaged" in result.stderr
    assert "resumed at step 20" in result.stderr
    assert_close(weights(root, "interrupted"), on_two_ranks, tolerance=0.0)


def test_a_killed_rank_costs_only_what_was_not_saved(
    root: Path, tiny: TinyWorld, on_two_ranks: dict[str, object]
) -> None:
    def kill_a_rank(process: subprocess.Popen[str]) -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)

    launched = Launched(root, tiny, "killed")
    status, output = launched.interrupt_at_step(25, kill_a_rank)
    assert status == 0, output
    assert re.search(r"stage distill crashed at step \d+: it is started again, 1 of at most 3 times", output)
    assert "resumed at step 20" in output
    assert_close(weights(root, "killed"), on_two_ranks, tolerance=0.0)


def test_a_run_of_another_process_is_refused(tmp_path: Path, tiny: TinyWorld) -> None:
    claim(tmp_path / "runs" / "tinybert_general" / "taken")
    script = [sys.executable, str(ROOT / "kd_dist" / "train.py"), "--job", "tinybert_general", "--run-id", "taken"]
    result = finish([*script, *settings(tiny)], tmp_path)
    assert result.returncode == 2
    assert f"run taken is being started or run already, by process {os.getpid()} on " in result.stderr
