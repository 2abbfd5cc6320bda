"""Stored logits are the teacher's own, are found by what a row says, and whatever does not belong is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_dist.config.job import Job
from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Teacher as TeacherSettings
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import TeacherOutputsStage
from kd_dist.data.token_rows import TokenRows, row_keys
from kd_dist.errors import RunError, UserError
from kd_dist.models.teacher import Teacher, Wanted
from kd_dist.runs.layout import open_run
from kd_dist.training.teacher_outputs import StoredOutputs, identify, verify
from tests.conftest import ROOT, LabelledWorld
from tests.stages import run_entry


def stage_dir(labelled: LabelledWorld, runs_dir: Path, shards: int = 1) -> Path:
    stage = TeacherOutputsStage(
        teacher=TeacherSettings(path=str(labelled.teacher)),
        data=DistillationData(tokens=str(labelled.tokens)),
        resources=ShardResources(shards=shards),
    )
    job = Job(name="outputs", description="", stages={"outputs": stage}, result="outputs")
    return open_run(job, runs_dir, "r") / "outputs"


def write(labelled: LabelledWorld, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, shards: int = 1) -> Path:
    directory = stage_dir(labelled, runs_dir, shards)
    for shard in range(shards):
        run_entry(directory, shard)
    return directory / "outputs"


def stored(labelled: LabelledWorld, folder: Path) -> StoredOutputs:
    verify(folder, labelled.teacher, labelled.tokens)
    return StoredOutputs(folder)


@pytest.mark.parametrize("shards", [1, 3])
def test_stored_logits_equal_the_teachers(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    outputs = stored(labelled, write(labelled, tmp_path, monkeypatch, shards))
    label2id = json.loads((labelled.tokens / "label2id.json").read_text(encoding="utf-8"))
    teacher = Teacher(
        str(labelled.teacher), Wanted(logits=True), precision="fp32", device=torch.device("cpu"), label2id=label2id
    )
    for split in ("train", "validation"):
        rows = TokenRows(labelled.tokens, split, 0, outputs)
        batch = rows.collate(np.arange(len(rows))[::-1].copy())  # another order and other neighbours than when written
        torch.testing.assert_close(batch["teacher_logits"], teacher(batch).logits, atol=1e-5, rtol=0)


def test_a_key_depends_on_tokens_and_types_but_not_on_padding() -> None:
    ids, mask = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 0]])
    key = row_keys({"input_ids": ids, "attention_mask": mask})
    assert key == row_keys({"input_ids": ids[:, :3], "attention_mask": mask[:, :3]})
    assert key != row_keys({"input_ids": ids + mask, "attention_mask": mask})
    types = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    assert row_keys(types) != row_keys(types | {"token_type_ids": torch.tensor([[0, 0, 1, 0]])})


def test_outputs_of_another_teacher_are_refused(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(labelled, tmp_path, monkeypatch)
    with pytest.raises(RunError, match="another teacher"):
        verify(folder, labelled.other_teacher, labelled.tokens)


def test_a_row_without_an_output_is_refused(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = stored(labelled, write(labelled, tmp_path, monkeypatch))
    with pytest.raises(RunError, match="no output for 1 rows"):
        outputs.of(np.array([12345], dtype=np.uint64))


@pytest.mark.parametrize("what", ["keys", "logits"])
def test_a_damaged_shard_is_refused_and_written_again(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    damaged, whole = folder / f"{what}_00001.npy", (folder / f"{what}_00001.npy").read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match=f"{what}_00001.npy has a different SHA-256"):
        stored(labelled, folder)
    untouched = (folder / "keys_00000.npy").stat().st_mtime_ns
    write(labelled, tmp_path, monkeypatch, shards=2)
    assert damaged.read_bytes() == whole
    assert (folder / "keys_00000.npy").stat().st_mtime_ns == untouched


def test_a_missing_shard_is_refused(labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    (folder / "manifest_00001.json").unlink()
    with pytest.raises(RunError, match="1 of 2 shards exist"):
        stored(labelled, folder)


def test_another_number_of_shards_starts_anew(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(labelled, tmp_path, monkeypatch, shards=3)
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    assert stored(labelled, folder)._keys
    assert sorted(path.name for path in folder.glob("keys_*")) == ["keys_00000.npy", "keys_00001.npy"]


def test_a_teacher_of_other_labels_is_refused(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for file in labelled.teacher.iterdir():
        (renamed / file.name).write_bytes(file.read_bytes())
    config = json.loads((renamed / "config.json").read_text())
    config["id2label"] = {"0": "sport", "1": "weather"}
    config["label2id"] = {"sport": 0, "weather": 1}
    (renamed / "config.json").write_text(json.dumps(config))
    world = replace(labelled, teacher=renamed)
    with pytest.raises(UserError, match="weather"):
        write(world, tmp_path, monkeypatch)


KILLED = """
import sys, time
from pathlib import Path
from kd_dist.training import teacher_outputs
from tests.stages import run_entry
write = teacher_outputs._write
def slowly(path, array):
    if path.name.startswith("logits"):
        time.sleep(600)
    return write(path, array)
teacher_outputs._write = slowly
run_entry(Path(sys.argv[1]))
"""


def test_a_shard_killed_half_way_is_written_again(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = stage_dir(labelled, tmp_path)
    folder = directory / "outputs"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(directory)], cwd=ROOT)
    deadline = time.monotonic() + 240
    while not (folder / "keys_00000.npy").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "manifest_00000.json").exists()
    with pytest.raises(RunError, match="0 of at least 1 shards"):
        stored(labelled, folder)
    (folder / ".logits_00000.npy.tmp-1-ab").touch()  # as of a kill a moment later
    run_entry(directory)
    assert len(stored(labelled, folder)._keys[0])
    assert not list(folder.glob(".*"))


def copied(teacher: Path, to: Path, **settings: object) -> Path:
    """The teacher with another config.json; a setting of None leaves the key out."""
    shutil.copytree(teacher, to)
    content = json.loads((to / "config.json").read_text()) | settings
    content = {key: value for key, value in content.items() if value is not None}
    (to / "config.json").write_text(json.dumps(content))
    return to


def test_a_teacher_need_not_say_its_labels_twice(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"id2label": {"0": "sport", "1": "finance"}, "label2id": None}  # in the other order than the data
    world = replace(labelled, teacher=copied(labelled.teacher, tmp_path / "teacher", **settings))
    swapped = stored(world, write(world, tmp_path / "swapped", monkeypatch))
    straight = stored(labelled, write(labelled, tmp_path / "straight", monkeypatch))
    assert swapped._logits[0] == pytest.approx(straight._logits[0][:, ::-1], abs=1e-6)


def test_other_weights_are_another_teacher_in_whatever_format(labelled: LabelledWorld, tmp_path: Path) -> None:
    teacher = copied(labelled.teacher, tmp_path / "teacher")
    (teacher / "model.safetensors").unlink()
    with pytest.raises(RunError, match=f"teacher.path={teacher} has no weights"):
        identify(teacher, labelled.tokens)
    found = []
    for bias in (0.0, 1.0):
        torch.save({"classifier.bias": torch.tensor([bias])}, teacher / "pytorch_model.bin")
        found.append(identify(teacher, labelled.tokens)["teacher"])
    assert found[0] != found[1]


@pytest.mark.parametrize("content", ["", '{"teacher": "ab', "[]", "{}"])
def test_a_damaged_manifest_is_explained_and_written_again(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    (folder / "manifest_00000.json").write_text(content)
    with pytest.raises(RunError, match="manifest_00000.json is not readable .* to write them again"):
        stored(labelled, folder)
    write(labelled, tmp_path, monkeypatch, shards=2)
    assert len(stored(labelled, folder)._keys) == 2


def test_a_damaged_manifest_of_another_number_of_shards_is_removed(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    (folder / "manifest_00001.json").write_text("")
    write(labelled, tmp_path, monkeypatch, shards=1)
    assert len(stored(labelled, folder)._keys) == 1
