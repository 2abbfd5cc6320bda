"""A rank that hangs in a step is named and ended, with two real ranks; one that waits for good reason is not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.training import Cadence, Engine, Train
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from kd_dist.training.ports import free_port
from kd_dist.training.watchdog import HUNG
from tests.conftest import LabelledWorld
from tests.objectives.builders import stage
from tests.ranks import ROOT, environment

HERE = "tests.training.test_watchdog"
STEP = 3

# ------------------------------------------------------------------------------------------ what runs on the ranks


def fall_asleep() -> None:
    time.sleep(600)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def train_until(directory: str, rank: int, action: str) -> None:
    """Train; at the third step one rank does something else."""
    from kd_dist.runs.stage_runner import run_stage
    from kd_dist.training.trainer import Trainer

    step = Trainer._train_step

    def hanging_step(self: Trainer, batches: Any) -> Any:
        if self.step == STEP and os.environ["RANK"] == str(rank):
            globals()[action]()
        return step(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", hanging_step)
        run_stage(Path(directory))


def train_slowly(directory: str, seconds: float) -> None:
    """Train, with a slow first step everywhere, and an evaluation and a save that take rank 0 long."""
    from kd_dist.runs.stage_runner import run_stage
    from kd_dist.training import trainer
    from kd_dist.training.trainer import Trainer

    def slow(function: Any, is_due: Any) -> Any:
        def slowed(*arguments: Any) -> Any:
            if is_due(*arguments):
                time.sleep(seconds)
            return function(*arguments)

        return slowed

    is_first_rank = os.environ["RANK"] == "0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", slow(Trainer._train_step, lambda self, _: self.step == 1))
        patch.setattr(Trainer, "_evaluate", slow(Trainer._evaluate, lambda *_: is_first_rank))
        patch.setattr(trainer, "save_checkpoint", slow(trainer.save_checkpoint, lambda *_: True))
        run_stage(Path(directory))


# ------------------------------------------------------------------------------------------------------------- tests


def opened(labelled: LabelledWorld, runs_dir: Path, hang_minutes: float) -> Path:
    described = stage(
        labelled,
        FinetuneObjective(),
        train=Train(steps=4, global_batch_size=8, micro_batch_size=4),
        cadence=Cadence(evaluate_every_n_steps=4, save_every_n_steps=4, log_every_n_steps=4),
        engine=Engine(hang_minutes=hang_minutes),
    )
    return open_run(Job(name="x", description="", stages={"train": described}, result="train"), runs_dir, "a") / "train"


def start(function: str, *arguments: Any) -> list[subprocess.Popen[str]]:
    port, call = free_port(), json.dumps([f"{HERE}:{function}", arguments])
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks", call],
            env=environment(rank, 2, port),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def test_a_rank_that_hangs_in_a_step_is_named_with_its_place_and_ends_the_run(
    labelled: LabelledWorld, tmp_path: Path
) -> None:
    directory = opened(labelled, tmp_path, hang_minutes=0.2)
    Tries(directory).begin()
    ranks = start("train_until", str(directory), 1, "fall_asleep")
    said = [process.communicate(timeout=240)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [HUNG, HUNG], said
    asleep = r"in fall_asleep (tests/training/test_watchdog.py, line "
    assert "error: rank 0 hangs: step 3 has taken 0.2 minutes; it is in " in said[0]
    assert f"\n  rank 1: step 3, {asleep}" in said[0]
    assert f"error: rank 1 hangs: step 3 has taken 0.2 minutes; it is {asleep}" in said[1]
    assert "(kd_dist/training/" in said[1].split("rank 0: step 3, in ")[1].splitlines()[0]  # in which collective
    assert "raise engine.hang_minutes (now 0.2) if a step may take longer" in said[0]
    assert all("Current thread" in text and "most recent call first" in text for text in said)  # all stacks
    verdict = Tries(directory).verdict(3)
    assert verdict == (True, "stage train hung at step 3: it is started again, 1 of at most 3 times")


@pytest.mark.parametrize(
    ("stopped", "named"),
    [(1, "rank 1: no answer: it is stopped or gone"), (0, "rank 0: no answer, and it keeps the places of all others")],
)
def test_a_rank_that_is_stopped_is_named_by_the_others(
    labelled: LabelledWorld, tmp_path: Path, stopped: int, named: str
) -> None:
    directory = opened(labelled, tmp_path, hang_minutes=0.1)
    ranks = start("train_until", str(directory), stopped, "stop")
    other = ranks[1 - stopped]
    try:
        said = other.communicate(timeout=240)[0]
    finally:
        ranks[stopped].kill()
        ranks[stopped].communicate()
    assert other.returncode == HUNG, said
    assert f"error: rank {1 - stopped} hangs: step 3 has taken 0.1 minutes" in said
    assert named in said


def test_a_slow_first_step_evaluation_and_save_are_no_hang(labelled: LabelledWorld, tmp_path: Path) -> None:
    minutes = 0.1
    directory = opened(labelled, tmp_path, minutes)
    ranks = start("train_slowly", str(directory), 1.3 * minutes * 60)
    said = [process.communicate(timeout=240)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], "\n\n".join(said)
    assert is_complete(directory)


def test_the_time_that_a_process_was_stopped_does_not_count(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from kd_dist.runs.tries import Tries; from kd_dist.training.watchdog import Watchdog\n"
        "with Watchdog(0.02, Tries(Path(sys.argv[1]))) as watchdog:\n"
        "    watchdog.at(1); watchdog.at(2)\n"
        "    print('stopping', flush=True); os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    watchdog.at(3); print('went on', flush=True)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        time.sleep(3)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "went on\n"
    assert process.returncode == 0
