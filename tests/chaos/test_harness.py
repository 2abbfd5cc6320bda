"""The harness itself, on a few kills: it kills where it says, the jobs survive, and it sees every difference."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.chaos.commands import wait
from tests.chaos.compare import differences
from tests.chaos.forker import Forker
from tests.chaos.jobs import World, settings_of
from tests.chaos.places import place
from tests.chaos.shaking import Shaker


@pytest.fixture(scope="module")
def shaken(forker: Forker, world: World, tmp_path_factory: pytest.TempPathFactory) -> Shaker:
    settings = settings_of("fastbert_stage1", world)
    return Shaker("fastbert_stage1", settings, tmp_path_factory.mktemp("shaken") / "job", forker)


def test_a_job_survives_kills_and_ends_as_if_there_had_been_none(shaken: Shaker) -> None:
    assert shaken.shake("here", 3) == []
    assert shaken.shake("there", 3) == []
    assert len(shaken.kills) >= 4  # a run may end before the last of its kills comes


def test_a_change_of_the_cache_of_corpora_is_placed_like_any_other(shaken: Shaker) -> None:
    change = shaken.run_dir.parent.parent / "cache" / "corpus" / "0123456789abcdef"
    assert place(shaken.run_dir, str(change)).stage == place(shaken.run_dir).stage


def test_it_dies_before_the_same_change_every_time(shaken: Shaker) -> None:
    places = []
    for _ in range(2):
        assert wait(command := shaken.start(die_before=100)) == -signal.SIGKILL
        places.append(re.sub(r"\.tmp-.*", "", command.changes()[1]))
        shutil.rmtree(shaken.runs)  # from the beginning again
    assert places[0] == places[1]
    assert command.changes()[0] == 100


def alter_weights(runs: Path) -> None:
    path = next(runs.glob("*/a/self_distill/export/model.safetensors"))
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1e-7
    save_file(tensors, path, {"format": "pt"})


def log_a_step_twice(runs: Path) -> None:
    path = next(runs.glob("*/a/self_distill/metrics.jsonl"))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]), encoding="utf-8")


def change_a_score(runs: Path) -> None:
    path = next(runs.glob("*/a/results.json"))
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([rows[0] | {"loss": rows[0]["loss"] + 1e-9}, *rows[1:]]), encoding="utf-8")


def swap_two_rows(runs: Path) -> None:
    import datasets

    folder = next(runs.glob("*/a/unlabelled/tokens/train"))
    rows = datasets.load_from_disk(str(folder), keep_in_memory=True)
    shutil.rmtree(folder)
    rows.select([1, 0, *range(2, len(rows))]).save_to_disk(str(folder))


def forget_a_stage(runs: Path) -> None:
    next(runs.glob("*/a/report/COMPLETE")).unlink()


def leave_half_a_file(runs: Path) -> None:
    next(runs.glob("*/a")).joinpath(".job.json.tmp-1-00000000").touch()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (alter_weights, "self_distill/export/model.safetensors differs"),
        (log_a_step_twice, "self_distill/metrics.jsonl differs"),
        (change_a_score, "a/results.json differs"),
        (swap_two_rows, "unlabelled/tokens/train/data-00000-of-00001.arrow differs"),
        (forget_a_stage, "report/COMPLETE is missing"),
        (leave_half_a_file, ".job.json.tmp-1-00000000 was left behind"),
    ],
)
def test_a_difference_is_noticed(shaken: Shaker, tmp_path: Path, change: object, said: str) -> None:
    shutil.copytree(shaken.undisturbed, tmp_path / "runs", symlinks=True)
    assert differences(shaken.undisturbed, tmp_path / "runs") == []
    change(tmp_path / "runs")
    (line,) = differences(shaken.undisturbed, tmp_path / "runs")
    assert line.endswith(said)
