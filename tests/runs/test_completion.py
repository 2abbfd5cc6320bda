"""When a stage counts as complete, and what becomes the export of the run."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from kd_dist import files
from kd_dist.runs import completion
from kd_dist.runs.completion import (
    companions,
    complete,
    drop_stale_markers,
    is_complete,
    mark_complete,
    shard_marker,
    unfinished_together,
)
from tests.conftest import ROOT


def test_stage_with_other_inputs_than_it_ran_with_is_not_complete(texts: Path) -> None:
    complete(texts, seconds=1.0)
    files.write_json(texts / "inputs.json", {"fingerprint": "another", "files": []})
    assert not is_complete(texts)


def test_export_of_the_result_stage_becomes_the_export_of_the_run(texts: Path) -> None:
    for content in ("first", "second"):
        (texts / "export").mkdir(exist_ok=True)
        (texts / "export" / "model").write_text(content, encoding="utf-8")
        complete(texts, seconds=1.0)
        assert (texts.parent / "export" / "model").read_text(encoding="utf-8") == content


def test_the_export_of_a_run_has_one_for_each_student(texts: Path) -> None:
    run_dir = texts.parent
    job = files.read_json(run_dir / "job.json")
    names = [f"distill_{size}" for size in ("small", "large")]
    files.write_json(run_dir / "job.json", job | {"result": "distill", "together": {"distill": names}})
    for name in names:
        shutil.copytree(texts, run_dir / name)
        (run_dir / name / "export").mkdir()
        (run_dir / name / "export" / "model").write_text(name, encoding="utf-8")
    assert companions(run_dir / names[0]) == [run_dir / names[1]]
    assert companions(texts) == []
    assert unfinished_together(run_dir / names[1]) == [run_dir / names[1], run_dir / names[0]]
    for name in names:
        complete(run_dir / name, seconds=1.0)
    assert unfinished_together(run_dir / names[1]) == [run_dir / names[1]]
    assert {path.name: (path / "model").read_text() for path in (run_dir / "export").iterdir()} == {
        "small": "distill_small",
        "large": "distill_large",
    }


DIE_AT_THE_SECOND_RENAME = """
import os, signal, sys; from pathlib import Path; from kd_dist.runs.completion import complete
renames = []
def replace(*paths, rename=os.replace):
    renames.append(paths)
    os.kill(os.getpid(), signal.SIGKILL) if len(renames) == 2 else rename(*paths)
os.replace = replace
complete(Path(sys.argv[1]), seconds=1.0)
"""


def test_a_stage_that_is_killed_at_its_end_is_not_complete_without_the_export_of_the_run(texts: Path) -> None:
    (texts / "export").mkdir()
    killed = subprocess.run([sys.executable, "-c", DIE_AT_THE_SECOND_RENAME, str(texts)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (texts.parent / "export").exists()
    assert not is_complete(texts)


def test_shards_of_another_number_or_with_other_inputs_do_not_count(texts: Path) -> None:
    for shard in (0, 1):
        mark_complete(shard_marker(texts, shard), seconds=1.0, shards=3)
    assert completion.unfinished_shards(texts, 3) == [2]
    assert completion.unfinished_shards(texts, 2) == [0, 1]
    drop_stale_markers(texts, 2)
    assert completion.unfinished_shards(texts, 3) == [0, 1, 2]
    mark_complete(shard_marker(texts, 1), seconds=1.0, shards=3)
    files.write_json(texts / "inputs.json", {"fingerprint": "another", "files": []})
    assert completion.unfinished_shards(texts, 3) == [0, 1, 2]
