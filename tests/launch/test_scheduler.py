"""Questions to SLURM: states of jobs and arrays, jobs that are live, and cancelling."""

from pathlib import Path

import pytest

from kd_dist.errors import UserError
from launch.scheduler import cancel_jobs, job_states, live_jobs, submitted_jobs, summed_up
from tests.launch.launching import answers, program, submitted


def test_the_queue_comes_before_the_accounting(scheduler: Path) -> None:
    answers(scheduler, sacct={"101": "CANCELLED by 0", "102": "RUNNING"}, squeue={"102": "PENDING"})
    assert job_states(["101", "102"]) == {"101": ["CANCELLED"], "102": ["PENDING"]}


def test_an_array_has_the_states_of_its_elements(scheduler: Path) -> None:
    answers(scheduler, sacct={"101_1": "COMPLETED"}, squeue={"101_0": "RUNNING", "101_2": "RUNNING"})
    states = job_states(["101"])["101"]
    assert sorted(states) == ["COMPLETED", "RUNNING", "RUNNING"]
    assert summed_up(states) == "1 COMPLETED, 2 RUNNING"


def test_nobody_is_asked_about_no_jobs(scheduler: Path) -> None:
    program(scheduler, "squeue", "touch $0.asked")
    assert job_states([]) == {}
    assert not (scheduler / "squeue.asked").exists()


def test_without_slurm_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert job_states(["101"]) == {}


def test_a_forgotten_job_is_looked_up_in_the_accounting(scheduler: Path) -> None:
    answers(scheduler, sacct={"101": "FAILED"})
    program(scheduler, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert job_states(["101"]) == {"101": ["FAILED"]}


def test_a_scheduler_that_does_not_answer_is_an_error(scheduler: Path) -> None:
    program(scheduler, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="SLURM does not answer .*Unable to contact.*try again later"):
        job_states(["101"])


def test_only_live_jobs_are_live(tmp_path: Path, scheduler: Path) -> None:
    assert live_jobs(tmp_path) == {}
    submitted(tmp_path, first="101", second="102", third="103")
    answers(scheduler, sacct={"101": "COMPLETED"}, squeue={"102_0": "FAILED", "102_2": "RUNNING", "103": "PENDING"})
    assert live_jobs(tmp_path) == {"second": ("102", "1 FAILED, 1 RUNNING"), "third": ("103", "PENDING")}
    assert submitted_jobs(tmp_path)["first"] == "101"


def test_jobs_are_cancelled_with_one_call(scheduler: Path) -> None:
    cancel_jobs(["101", "102"])
    assert (scheduler / "scancel.asked").read_text() == "101 102\n"


def test_a_refusal_to_cancel_is_an_error(scheduler: Path) -> None:
    program(scheduler, "scancel", "echo 'Access denied' >&2; exit 1")
    with pytest.raises(UserError, match="scancel 101: Access denied"):
        cancel_jobs(["101"])
