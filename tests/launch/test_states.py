"""States of stages and runs, by SLURM's word or by a launcher's notes."""

import shutil
import socket
from pathlib import Path

import pytest

from kd_dist.files import read_json, write_json
from kd_dist.runs.completion import complete
from kd_dist.runs.layout import open_run
from launch.launcher import note_end, note_stage
from launch.logs import newest_log
from launch.states import StageState, is_over, state_of_run, states_of_run, states_of_runs
from tests.launch.launching import CORPUS, DISTILL, REPORT, answers, general_job, metrics, program, submitted


def texts(run_dir: Path) -> list[str]:
    return [state.text for state in states_of_run(run_dir)]


def test_without_slurm_files_tell(run_dir: Path) -> None:
    complete(run_dir / CORPUS, seconds=1.0)
    metrics(run_dir / DISTILL, step=30, speed=25.6)  # started by torchrun, perhaps: nobody knows whether it runs
    assert texts(run_dir) == ["COMPLETED", "STARTED", "WAITING"]
    shutil.rmtree(run_dir / REPORT)
    assert texts(run_dir)[2] == "REMOVED"


def test_the_stage_of_a_living_launcher_runs(run_dir: Path) -> None:
    note_stage(run_dir / DISTILL)
    assert texts(run_dir) == ["WAITING", "RUNNING", "WAITING"]


def test_students_that_are_trained_with_it_run_too(tmp_path: Path, settings: list[str]) -> None:
    job = general_job(settings, "students=bert_base@1,bert_base@2")
    run_dir = open_run(job, tmp_path / "runs", "a")
    note_stage(run_dir / "distill_bert_base_init1")
    assert texts(run_dir) == ["WAITING", "RUNNING", "RUNNING", "WAITING"]
    (run_dir / "distill_bert_base_init1" / "log" / "rank_0.txt").write_text("both", encoding="utf-8")
    log = newest_log(run_dir / "distill_bert_base_init2")
    assert log is not None
    assert log.read_text(encoding="utf-8") == "both"


def test_the_stage_of_a_killed_launcher_is_stopped(run_dir: Path) -> None:
    note_stage(run_dir / DISTILL)
    write_json(run_dir / "launcher.json", read_json(run_dir / "launcher.json") | {"started": "1"})
    assert texts(run_dir)[1] == "STOPPED"


@pytest.mark.parametrize(("name", "text"), [("", "FAILED"), ("SIGINT", "STOPPED")])
def test_how_a_stage_ended_here_is_remembered(run_dir: Path, name: str, text: str) -> None:
    note_end(run_dir / DISTILL, 1, name)
    assert texts(run_dir) == ["WAITING", text, "WAITING"]


def test_slurm_knows_better_than_files(run_dir: Path, scheduler: Path) -> None:
    note_end(run_dir / DISTILL, 1)
    submitted(run_dir, **{CORPUS: "101", DISTILL: "102"})
    answers(scheduler, sacct={"101": "CANCELLED by 0", "102": "RUNNING"}, squeue={"102": "PENDING"})
    states = states_of_run(run_dir)
    assert [(state.text, state.job) for state in states] == [("CANCELLED", "101"), ("PENDING", "102"), ("WAITING", "")]


def test_a_launcher_that_took_over_knows_better_than_slurm(run_dir: Path, scheduler: Path) -> None:
    submitted(run_dir, **{DISTILL: "102"})
    answers(scheduler, sacct={"102": "FAILED"})
    note_stage(run_dir / DISTILL)
    assert socket.gethostname() == read_json(run_dir / "launcher.json")["host"]
    assert texts(run_dir)[1] == "RUNNING"


def test_slurm_is_asked_once_for_all_runs_and_not_about_what_is_complete(run_dir: Path, scheduler: Path) -> None:
    other = run_dir.parent / "b"
    shutil.copytree(run_dir, other)
    complete(run_dir / CORPUS, seconds=1.0)
    submitted(run_dir, **{CORPUS: "101", DISTILL: "102"})
    submitted(other, **{CORPUS: "201"})
    program(scheduler, "squeue", 'echo "$@" >> $0.asked', "echo '102|RUNNING'", "echo '201|PENDING'")
    found = states_of_runs([run_dir, other])
    assert [[state.text for state in states] for states in found] == [
        ["COMPLETED", "RUNNING", "WAITING"],
        ["PENDING", "WAITING", "WAITING"],
    ]
    (asked,) = (scheduler / "squeue.asked").read_text().splitlines()
    assert asked.endswith("--jobs=102,201")


def run_of(*states: str) -> list[StageState]:
    return [StageState(f"stage{number}", text.split("+")) for number, text in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "over", "word"),
    [
        (["COMPLETED", "COMPLETED"], True, "COMPLETED"),
        (["COMPLETED", "RUNNING", "PENDING"], False, "RUNNING"),
        (["FAILED", "RUNNING"], False, "RUNNING"),
        (["COMPLETED", "FAILED", "WAITING"], True, "FAILED"),
        (["COMPLETED", "FAILED", "CANCELLED"], True, "FAILED"),
        (["STOPPED", "WAITING"], True, "STOPPED"),
        (["PENDING", "PENDING"], False, "PENDING"),
        (["FAILED+RUNNING", "PENDING"], False, "RUNNING"),
        (["COMPLETED", "STARTED", "WAITING"], False, "STARTED"),
        (["WAITING", "WAITING"], False, "WAITING"),
        (["COMPLETED", "REMOVED"], False, "REMOVED"),
    ],
)
def test_a_run_is_over_when_nothing_will_change(states: list[str], over: bool, word: str) -> None:
    assert (is_over(run_of(*states)), state_of_run(run_of(*states))) == (over, word)
