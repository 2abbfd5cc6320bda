"""Patterns name files, each once and in order; hidden files and descriptions of tables do not count."""

import os
from pathlib import Path

import pytest

from kd_dist.data import discovery
from kd_dist.errors import CorpusError
from tests.data.files import write


def test_find_files_expands_globs_and_folders_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/d.parquet", "sub/picture.png", "e.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert discovery.find_files(["*.txt", "sub", "e.log", str(tmp_path / "a.txt")]) == [
        Path(name) for name in ("a.txt", "b.txt", "sub/c.jsonl.gz", "sub/d.parquet", "e.log")
    ]


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path):
    for name in ("a.txt", ".b.txt", ".ipynb_checkpoints/a.txt", "sub/.cache/c.txt", "sub/d.txt"):
        (tmp_path / ".data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".data" / name).touch()
    found = discovery.find_files([str(tmp_path / ".data")])
    assert found == [tmp_path / ".data" / "a.txt", tmp_path / ".data" / "sub" / "d.txt"]


def test_find_files_names_every_bad_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as error:
        discovery.find_files(["good.txt", "*.jsonl", "empty", "missing.txt"])
    for name in ("'*.jsonl'", "'empty'", "'missing.txt'", str(tmp_path)):
        assert name in str(error.value)
    assert "good.txt" not in str(error.value)


def test_the_suffix_says_how_to_read_a_file():
    names = {"a.txt": ".txt", "a.TSV": ".tsv", "a.b.JSON.GZ": ".json", "a.gz": "", "Arrow": "", ".arrow.gz": ""}
    assert {name: discovery.format_suffix(Path("folder.csv") / name) for name in names} == names
    assert [discovery.is_compressed(Path(name)) for name in ("a.gz", "a.GZ", "gz", "a.gz.txt")] == [
        True, True, False, False
    ]  # fmt: skip


def test_folders_are_searched_for_suffixes_of_any_case_but_not_for_descriptions(tmp_path: Path):
    names = ["1.TXT", "2.Jsonl.GZ", "3.arrow", "dataset_info.json", "state.json", "4.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [file.name for file in discovery.find_files([str(tmp_path)])] == names[:3]


def test_globs_match_suffixes_of_any_case(tmp_path: Path):
    for name in ("a.tsv", "B.TSV", "c.Tsv.GZ", "d.csv"):
        (tmp_path / name).touch()
    assert [file.name for file in discovery.find_files([str(tmp_path / "*.tsv")])] == ["B.TSV", "a.tsv"]
    assert [file.name for file in discovery.find_files([str(tmp_path / "*.tsv.gz")])] == ["c.Tsv.GZ"]


def test_files_in_folders_that_nobody_reads(tmp_path: Path):
    for name in ("a.txt", "b.xlsx", "c.log", "deep/d.TSV", "deep/e", ".hidden/f.doc", "dataset_info.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    patterns = [str(tmp_path), str(tmp_path / "c.log"), str(tmp_path / "d*")]
    unread = discovery.unread_files(patterns, discovery.find_files(patterns))
    assert unread == [tmp_path / "b.xlsx", tmp_path / "deep" / "d.TSV", tmp_path / "deep" / "e"]
    labelled = discovery.unread_files(patterns, discovery.find_files(patterns, discovery.LABELLED_SUFFIXES))
    assert labelled == [tmp_path / "b.xlsx", tmp_path / "deep" / "e"]
    assert discovery.unread_note(labelled) == (
        f"files in the given folders that are of no kind that is read here: 2 ({tmp_path}/b.xlsx, {tmp_path}/deep/e)"
    )
    assert discovery.unread_note(["x"] * 1234).endswith(f": 1,234 ({', '.join('x' * 10)} ...)")


def test_a_folder_without_a_file_to_read_says_what_it_holds(tmp_path: Path):
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(CorpusError, match=r"no text file matches .*; there is .*a.xlsx$"):
        discovery.find_files([str(tmp_path)])


def test_a_folder_for_each_class_holds_documents_and_no_table(tmp_path: Path):
    for name in ("tree/a/1.txt", "tree/b/2", "tables/a/1.arrow", "tables/b/2.txt", "files/1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {name: discovery.is_class_tree(tmp_path / name) for name in ("tree", "tables", "files", "nowhere")}
    assert found == {"tree": True, "tables": False, "files": False, "nowhere": False}
    assert discovery.labelled_files([str(tmp_path / "tree")]) == [
        (tmp_path / "tree" / "a" / "1.txt", "a"),
        (tmp_path / "tree" / "b" / "2", "b"),
    ]
    assert [label for _, label in discovery.labelled_files([str(tmp_path / "tables")])] == [None, None]


def test_names_that_are_not_utf_8(tmp_path: Path):
    folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), "体育".encode("gb18030")))
    os.mkdir(folder)
    Path(folder, "1.txt").touch()
    for patterns in ([str(tmp_path)], [str(tmp_path / "*")], [folder]):
        for find in (discovery.find_files, discovery.labelled_files):
            with pytest.raises(CorpusError, match=r"\\udccc.*the name is not UTF-8; rename it, or unpack the archive"):
                find(patterns)


def test_a_folder_that_cannot_be_listed(tmp_path: Path):
    with pytest.raises(CorpusError, match="gone: No such file or directory; make the folder readable"):
        list(discovery.visible_files(tmp_path / "gone"))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (["train/pos/1.txt", "test/pos/2.txt"], "data.train={0}/train data.test={0}/test"),
        (["Train/a/1", "valid/a/2", "unsup/3"], "data.train={0}/Train data.validation={0}/valid"),
        (["test/a/1.txt"], "data.test={0}/test"),
        (["train/a/1.txt", "dev/a/1.txt", "docs/1"], "data.train={0}/train data.validation={0}/dev"),
        (["train/1.tsv", "test/1.tsv"], "data.train={0}/train data.test={0}/test"),
        (["dev.json", "train.json.gz", "test.json", "names.txt"],
         "data.train={0}/train.json.gz data.validation={0}/dev.json data.test={0}/test.json"),
        (["val.csv", "dev.csv", "train.csv"], "data.train={0}/train.csv data.validation={0}/dev.csv,{0}/val.csv"),
    ],
)  # fmt: skip
def test_splits_are_neither_classes_nor_one_split(names: list[str], settings: str, tmp_path: Path):
    touch(tmp_path, *names)
    with pytest.raises(CorpusError) as error:
        discovery.labelled_files([str(tmp_path)])
    assert str(error.value).endswith(f"are splits, not classes of one split; name each: {settings.format(tmp_path)}")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["car/1.txt", "plane/1.txt", "train/1.txt"], ["car", "plane", "train"]),  # vehicles
        (["train.tsv", "more.tsv"], [None, None]),
        (["test/1.txt", "train.md", "other/1.txt"], ["other", "test"]),
    ],
)
def test_what_is_only_called_like_a_split(names: list[str], labels: list[str | None], tmp_path: Path):
    touch(tmp_path, *names)
    assert [label for _, label in discovery.labelled_files([str(tmp_path)])] == labels


def test_documents_without_a_label_are_no_class(tmp_path: Path):
    touch(tmp_path, "neg/1.txt", "pos/1.txt", "unsup/1.txt", "other/Unlabelled/1.txt")
    (tmp_path / "unlabeled").mkdir()
    found = discovery.labelled_files([str(tmp_path)])
    assert {label: discovery.is_unlabelled(label) for _, label in found} == {
        "neg": False, "pos": False, "unsup": True, "other": False,
    }  # fmt: skip
    assert not discovery.is_class_tree(tmp_path / "other")


def test_what_is_unread_beside_class_folders_and_tables(tmp_path: Path):
    for name in (
        "tree/a/1.txt",
        "tree/b/deep/2.pdf",
        "tree/beside.md",
        "tree/.hidden",
        "tables/a.tsv",
        "tables/b.docx",
    ):
        write(tmp_path / name, "x")
    tree, tables = str(tmp_path / "tree"), str(tmp_path / "tables")
    unread = [tmp_path / "tables" / "b.docx", tmp_path / "tree" / "beside.md"]
    assert discovery.unread_labelled_files([tree, tables]) == unread
    assert discovery.unread_labelled_files([tree, tree + "/beside.md"]) == []
    twice = discovery.labelled_files([tree, tables, tree, tables + "/*.tsv"])
    assert [(file.name, label) for file, label in twice] == [("1.txt", "a"), ("2.pdf", "b"), ("a.tsv", None)]
