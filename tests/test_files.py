"""Files and folders are there as a whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist import files
from tests.conftest import ROOT
from tests.runs.runs import written


def test_files_are_written_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"old": "价值"})
    with pytest.raises(TypeError):
        files.write_json(path, {"new": object()})
    assert written(path) == {"old": "价值"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_writing_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_text(tmp_path / "x", "old")

    def die(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="no space"):
        files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    for target in ("a", "b"):
        (tmp_path / target).mkdir()
        files.link(tmp_path / "link", Path(target))
        assert (tmp_path / "link").resolve() == tmp_path / target
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "link"}


def test_a_folder_is_replaced_by_what_was_built(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for content in ("first", "second"):
        with files.replaced_folder(place) as (work, output):
            (work / "scratch").write_text("gone")
            (output / "file").write_text(content)
        assert [path.name for path in place.iterdir()] == ["file"]
        assert (place / "file").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_building_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("old")

    def build() -> None:
        with files.replaced_folder(place) as (_, output):
            (output / "file").write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        build()
    assert (place / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_remains_of_killed_writers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from kd_dist import files; path = Path(sys.argv[1]);"
        "os.replace = os.rename = lambda *_: os._exit(9);"
        "folder = files.temporary_folder(path); folder.__enter__(); files.write_text(path, 'new')"
    )
    for name in ("x", "y"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 4
    files.sweep(tmp_path / "x")
    assert {path.name.split(".")[1] for path in tmp_path.iterdir()} == {"y"}


def test_a_link_that_a_killed_writer_left_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    code = (
        "import os, signal, sys; from pathlib import Path; from kd_dist import files\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); files.link(Path(sys.argv[1]), Path('export'))"
    )
    for remove in (lambda: files.sweep(tmp_path / "link"), lambda: files.sweep_below(tmp_path)):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "link")], cwd=ROOT, check=False)
        assert len(list(tmp_path.iterdir())) == 2
        remove()
        assert list(tmp_path.iterdir()) == [tmp_path / "export"]


def test_a_new_folder_can_be_read_by_whoever_may_read_others(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with files.temporary_folder(tmp_path / "place") as folder:
        assert folder.stat().st_mode == (tmp_path / "other").stat().st_mode
