"""Seconds of steps: those that were measured, scaled where something else was, and assumed where nothing was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.paths import model_config_file
from kd_dist.files import read_json, write_json
from kd_dist.model_files.model_folders import read_config
from kd_dist.planning.shapes import Shape
from kd_dist.planning.step_times import StepTimes, Work, at_length, folder, keep, record, step_times

SMALL, LARGE = (Shape.of(read_config(model_config_file(name))) for name in ("tinybert_4l_312", "bert_base"))
WORK = Work("tinybert", "fp32", 8, SMALL, LARGE)
POINTS = [(16, 1.0), (48, 3.0), (128, 11.0)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def content(work: Work = WORK, scale: float = 1.0, name: str = "A Processor (R)", threads: int = 2) -> dict[str, Any]:
    points = [(length, seconds * scale) for length, seconds in POINTS]
    found = {
        "micro_batch": points,
        "forward": points,
        "optimizer": scale,
        "once": 7.0,
        "memory_gb": [(16, 2.0), (128, 9.0)],
    }
    device = {"kind": "cpu", "name": name, "threads": threads, "memory_gb": 8.0}
    return {
        "device": device,
        "start_seconds": 3.0,
        "characters_per_second": 1e6,
        "measured": "2026-01-01T00:00",
        "records": [record(work, found)],
    }


def test_what_was_measured_is_kept_and_found_again() -> None:
    path = keep(content())
    assert path == folder() / "cpu_a_processor_r_2_threads.json"
    times = step_times("cpu", "a processor", 2)
    assert times.is_exact(WORK)
    assert [times.micro_batch(WORK, length, 2) for length, _ in POINTS] == [1.0, 3.0, 11.0]
    assert times.micro_batch(WORK, 32, 2) == 2.0
    assert (times.memory_gb(WORK, 128), times.memory_gb(replace(WORK, rows=16), 128)) == (9.0, None)
    assert (times.optimizer(WORK, 16, 2), times.once(WORK), times.characters_per_second) == (1.0, 10.0, 1e6)


def test_lengths_between_and_beside_those_measured() -> None:
    assert [at_length(POINTS, length) for length in (16, 32, 128, 256)] == [1.0, 2.0, 11.0, 23.8]
    assert at_length(POINTS, 1) == 0.5  # a batch has a cost of its own, however short its rows
    assert at_length([(16, 1.0)], 32) == 2.0


def test_other_work_is_scaled_by_its_operations_from_the_most_similar() -> None:
    other = Work("finetune", "fp32", 8, LARGE)
    both = content()
    both["records"] += content(other, scale=10.0)["records"]
    keep(both)
    times = step_times("cpu", None, 2)
    twice = replace(WORK, rows=16)
    assert not times.is_exact(twice)
    assert times.micro_batch(twice, 16, 2) == pytest.approx(2.0)
    small = replace(other, student=SMALL)
    expected = 10.0 * small.operations(16) / other.operations(16)
    assert times.micro_batch(small, 16, 2) == pytest.approx(expected)
    assert times.optimizer(small, 16, 2) == pytest.approx(10.0 * SMALL.parameters() / LARGE.parameters())


def test_fewer_threads_take_longer_and_as_many_are_preferred() -> None:
    keep(content(threads=2))
    assert step_times("cpu", None, 1).micro_batch(WORK, 16, 1) == 2.0
    keep(content(threads=1, scale=1.5))
    assert step_times("cpu", None, 1).micro_batch(WORK, 16, 1) == 1.5
    assert step_times("cpu", None, 2).micro_batch(WORK, 16, 2) == 1.0


def test_a_second_calibration_replaces_the_same_work_and_adds_other_work() -> None:
    keep(content())
    other = replace(WORK, objective="finetune")
    again = content(scale=2.0)
    again["records"] += content(other, scale=5.0)["records"]
    keep(again)
    times = step_times("cpu", None, 2)
    assert (times.micro_batch(WORK, 16, 2), times.micro_batch(other, 16, 2)) == (2.0, 5.0)
    keep(content(scale=3.0))
    times = step_times("cpu", None, 2)
    assert (times.micro_batch(WORK, 16, 2), times.micro_batch(other, 16, 2)) == (3.0, 5.0)


def test_files_of_another_format_and_other_devices_are_not_read() -> None:
    path = keep(content())
    write_json(path, read_json(path) | {"format": 0})
    assert step_times("cpu", None, 2).device is None
    keep(content())
    assert step_times("cpu", "another", 2).device is None
    assert step_times("gpu", None).device is None


def test_without_a_calibration_a_rate_is_assumed() -> None:
    cpu, gpu = step_times("cpu", None, 2), StepTimes("gpu")
    assert cpu.micro_batch(WORK, 64, 2) == pytest.approx(WORK.operations(64) / 60e9)
    assert cpu.forward(WORK, 64, 2) < cpu.micro_batch(WORK, 64, 2)
    large = Work("finetune", "fp32", 64, LARGE)
    assert gpu.micro_batch(large, 128, 4) == pytest.approx(large.operations(128) / 8e12)
    assert gpu.micro_batch(replace(large, precision="bf16"), 512, 4) == pytest.approx(large.operations(512) / 40e12)
    assert gpu.micro_batch(replace(large, rows=1), 8, 4) == pytest.approx(0.4e-3 * 36)  # kernels are begun one by one


def test_what_is_not_trained_has_no_backward_pass() -> None:
    frozen = replace(WORK, is_trained=False, teacher=None)
    assert frozen.operations(64) == 8 * SMALL.operations(64) == frozen.operations(64, forward_only=True)
    assert WORK.operations(64) == 8 * (3 * SMALL.operations(64) + LARGE.operations(64))
