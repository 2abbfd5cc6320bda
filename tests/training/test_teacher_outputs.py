"""Stored logits are the teacher's own, are found by what a row says, and whatever does not belong is refused."""

import json
import os
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
from kd_dist.training.teacher_outputs import StoredOutputs, identify, verify, write_part
from tests.conftest import ROOT, LabelledWorld
from tests.stages import run_entry

BLOCK_ROWS = 8
NUM_BLOCKS = 8 + 3  # of 60 training and 24 validation rows


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_dist.training.teacher_blocks.BLOCK_ROWS", BLOCK_ROWS)


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


def keys_of(labelled: LabelledWorld) -> np.ndarray:
    splits = [TokenRows(labelled.tokens, split, 0) for split in ("train", "validation")]
    return np.concatenate([row_keys(rows.collate(np.arange(len(rows)))) for rows in splits])


FILES_OF_A_PART = ("keys_0000.npy", "logits_0000.npy", "manifest.json")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
        alone = [rows.collate(np.array([row])) for row in range(len(rows))]
        for one in alone:
            torch.testing.assert_close(one["teacher_logits"], teacher(one).logits, atol=1e-5, rtol=0)


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
    damaged = folder / "part_00000001" / f"{what}_0000.npy"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match=f"part_00000001/{what}_0000.npy has a different SHA-256"):
        stored(labelled, folder)
    untouched = (folder / "part_00000000" / "keys_0000.npy").stat().st_mtime_ns
    write(labelled, tmp_path, monkeypatch, shards=2)
    assert damaged.read_bytes() == whole
    assert (folder / "part_00000000" / "keys_0000.npy").stat().st_mtime_ns == untouched


def test_a_missing_shard_is_refused(labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    shutil.rmtree(folder / "part_00000001")
    with pytest.raises(RunError, match=f"6 of {NUM_BLOCKS} blocks are there. Remove"):
        stored(labelled, folder)
    shutil.rmtree(folder / "part_00000000")
    with pytest.raises(RunError, match="no part of them is there"):
        stored(labelled, folder)


def test_another_number_of_shards_goes_on_with_what_is_there(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(labelled, tmp_path / "changed", monkeypatch, shards=3)
    shutil.rmtree(folder / "part_00000001")
    assert contents(write(labelled, tmp_path / "changed", monkeypatch, shards=2)).keys() == {
        "manifest.json",
        *(f"part_{number:08d}/{name}" for number in (0, 1, 2, 4) for name in FILES_OF_A_PART),
    }
    expected = stored(labelled, write(labelled, tmp_path / "expected", monkeypatch))
    found, keys = stored(labelled, folder), keys_of(labelled)
    np.testing.assert_array_equal(found.of(keys), expected.of(keys))


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


WAITING = """
import sys, time
from pathlib import Path
from kd_dist.runs.blocks import Blocks
from kd_dist.training import teacher_blocks, teacher_outputs
from tests.stages import run_entry
teacher_blocks.BLOCK_ROWS = {block_rows}
{wait}
run_entry(Path(sys.argv[1]))
"""

BETWEEN_BLOCKS = """
write = Blocks.write
def slowly(self, *block):
    write(self, *block)
    time.sleep(600 if self.folder.joinpath("block_00000004.parquet").exists() else 0)
Blocks.write = slowly
"""

IN_A_PART = """
write = teacher_outputs._write_sorted
def slowly(*rows):
    write(*rows)
    time.sleep(600)
teacher_outputs._write_sorted = slowly
"""


@pytest.mark.parametrize(
    ("wait", "there", "left"),
    [(BETWEEN_BLOCKS, "block_00000004.parquet", 5), (IN_A_PART, ".part_*/output/logits_*.npy", NUM_BLOCKS)],
    ids=["between two blocks", "in the files of a part"],
)
def test_a_shard_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(
    wait: str, there: str, left: int, labelled: LabelledWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, killed = stage_dir(labelled, tmp_path / "undisturbed"), stage_dir(labelled, tmp_path / "killed")
    run_entry(undisturbed)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = WAITING.format(block_rows=BLOCK_ROWS, wait=wait)
    process = subprocess.Popen([sys.executable, "-c", program, str(killed)], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 240
    while not list((killed / "outputs").glob(there)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(RunError, match="no part of them is there"):
        stored(labelled, killed / "outputs")
    (killed / "outputs" / ".block_00000007.parquet.tmp-1-ab").touch()  # as of a kill a moment later
    capsys.readouterr()
    run_entry(killed)
    assert f"{left} of {NUM_BLOCKS} blocks are there" in capsys.readouterr().out
    assert contents(killed / "outputs") == contents(undisturbed / "outputs")
    run_entry(killed)
    assert capsys.readouterr().out == "outputs, shard 0: the outputs are there\n"


def test_blocks_of_other_settings_are_refused(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(labelled, tmp_path, monkeypatch)
    directory = tmp_path / "outputs" / "r" / "outputs"
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["teacher"]["path"] = str(labelled.other_teacher)
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"holds blocks of other settings or inputs \(teacher\); remove the folder"):
        run_entry(directory)


def random_pieces(num_rows: int, num_classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    chance = np.random.default_rng(0)
    keys = chance.integers(2**64, size=num_rows, dtype=np.uint64)
    logits = chance.standard_normal((num_rows, num_classes), dtype=np.float32)
    return list(zip(np.array_split(keys, 3), np.array_split(logits, 3), strict=True))


def test_files_hold_about_as_many_bytes_as_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_dist.training.teacher_outputs.FILE_BYTES", 100_000)
    pieces = random_pieces(num_rows=5_000, num_classes=65)
    identity = {"label2id": {str(number): number for number in range(65)}, "num_blocks": 1}
    write_part(tmp_path, [0], identity, 5_000, pieces)
    sizes = [path.stat().st_size for path in (tmp_path / "part_00000000").glob("logits_*.npy")]
    assert len(sizes) == 14  # of 1,340,000 bytes
    assert 80_000 < min(sizes) < max(sizes) < 120_000
    outputs = StoredOutputs(tmp_path)
    for keys, logits in pieces:
        np.testing.assert_array_equal(outputs.of(keys), logits)


MEASURED = """
import sys
from pathlib import Path
import numpy as np
from kd_dist.runs import blocks
from kd_dist.training import teacher_outputs
from kd_dist.training.teacher_blocks import arrays_of, table_of
blocks.FILE_BYTES = teacher_outputs.FILE_BYTES = 1 << 22
folder, num_blocks = Path(sys.argv[1]), int(sys.argv[2])
def kilobytes(what):
    return int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0])
def make(numbers):
    for number in numbers:
        chance = np.random.default_rng(number)
        keys = chance.integers(2**64, size=4096, dtype=np.uint64)
        yield table_of(keys, chance.standard_normal((4096, 65), dtype=np.float32)), blocks.Tally(rows=4096)
found, own = blocks.Blocks.agreed(folder, {}), range(num_blocks)
found.fill(own, make, "shard 0")
identity = {"label2id": {str(number): number for number in range(65)}, "num_blocks": num_blocks}
teacher_outputs.write_part(folder, own, identity, num_blocks * 4096, map(arrays_of, found.tables(own)))
written = kilobytes("VmHWM")
outputs = teacher_outputs.StoredOutputs(folder)
for number in own:
    keys = np.random.default_rng(number).integers(2**64, size=4096, dtype=np.uint64)
    for start in range(0, 4096, 256):
        outputs.of(keys[start : start + 256])
print(written, kilobytes("RssAnon"))
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """What training maps into memory is the page cache's, so that only anonymous memory counts there."""
    peaks = []
    for num_blocks in (48, 192):
        folder = tmp_path / str(num_blocks)
        folder.mkdir()
        command = [sys.executable, "-c", MEASURED, str(folder), str(num_blocks)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        peaks.append([int(kilobytes) for kilobytes in ended.stdout.split()])
        assert len(list(folder.glob("part_00000000/logits_*"))) == num_blocks * 4096 * 268 // (1 << 22) + 1
    grown = np.subtract(*peaks[::-1])
    assert (grown < 40_000).all(), peaks  # kB, where there are 158 MB more of outputs


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
    keys = keys_of(labelled)
    assert swapped.of(keys) == pytest.approx(straight.of(keys)[:, ::-1], abs=1e-6)


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
    (folder / "part_00000000" / "manifest.json").write_text(content)
    with pytest.raises(RunError, match="part_00000000/manifest.json is not readable .* to write them again"):
        stored(labelled, folder)
    write(labelled, tmp_path, monkeypatch, shards=2)
    assert len(stored(labelled, folder).of(keys_of(labelled))) == 84


def test_a_damaged_manifest_of_another_number_of_shards_is_removed(
    labelled: LabelledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(labelled, tmp_path, monkeypatch, shards=2)
    (folder / "part_00000001" / "manifest.json").write_text("")
    write(labelled, tmp_path, monkeypatch, shards=1)
    assert len(stored(labelled, folder).of(keys_of(labelled))) == 84
