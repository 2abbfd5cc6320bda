"""A profile holds the operators of the steps that were asked for, and of no others."""

import json
from pathlib import Path

import torch

from kd_dist.config.sections.training import Train
from kd_dist.training.profiling import Profile
from tests.config.refusals import refusal


def profiled(folder: Path, steps: range, last: int) -> None:
    """At step n, multiply matrices n times."""
    profile = Profile(steps, folder)
    for step in range(1, last + 1):
        profile.begin(step)
        for _ in range(step):
            torch.ones(8, 8) @ torch.ones(8, 8)
    profile.end()


def multiplications(folder: Path) -> int:
    events = json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    return sum(event["name"] == "aten::mm" for event in events)


def test_the_steps_that_were_asked_for_are_recorded(tmp_path: Path) -> None:
    profiled(tmp_path / "middle", Train(profile_steps="2-3").profiled(), last=5)
    assert multiplications(tmp_path / "middle") == 2 + 3
    line = next(
        line for line in (tmp_path / "middle" / "operators.txt").read_text().splitlines() if "aten::mm" in line.split()
    )
    assert line.split()[-1] == "5"


def test_a_run_that_ends_within_them_keeps_what_there_is(tmp_path: Path) -> None:
    profiled(tmp_path / "end", Train(profile_steps="4-9").profiled(), last=5)
    assert multiplications(tmp_path / "end") == 4 + 5
    profiled(tmp_path / "later", Train(profile_steps="6-9").profiled(), last=5)
    profiled(tmp_path / "none", Train().profiled(), last=5)
    assert {path.name for path in tmp_path.iterdir()} == {"end"}


def test_steps_are_given_as_the_first_and_the_last() -> None:
    for value in ("20", "25-20", "0-3", "all"):
        expected = f"distill.train.profile_steps: expected a first and a last step, such as 20-25, but got {value!r}"
        assert refusal(f"train.profile_steps={value}") == expected
