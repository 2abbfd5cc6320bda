"""Texts without labels become rows just as labelled texts do, in flat memory; what is wrong is said with its place."""

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job
from kd_dist.config.sections.data import LabelledData, UnlabelledData
from kd_dist.config.stages import AugmentStage, UnlabelledStage
from kd_dist.data import arrow_rows, blocks, labelled, unlabelled
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import CorpusError, RunError, UserError
from kd_dist.files import write_json
from kd_dist.planning.architectures import prepared_by as _prepared_by
from kd_dist.planning.checks import stage_problems
from kd_dist.runs.fingerprints import input_files
from kd_dist.runs.layout import open_run
from kd_dist.runs.stage_runner import run_stage
from tests.augmentation.world import write_vectors
from tests.conftest import LabelledWorld, TinyWorld
from tests.stages import run_entry

Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, labelled: LabelledWorld) -> Run:
    """Runs a stage over files, by default made as the labelled rows were; returns the tokens."""

    def run(*files: Path | str, name: str = "unlabelled", model: Path | None = None, **settings: Any) -> Path:
        settings = {"num_workers": 1, "tokens": None if model else str(labelled.tokens)} | settings
        data = {"unlabelled": [str(file) for file in files], **settings}
        stage = UnlabelledStage(data=data, model={"path": str(model)} if model else None)
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        write_json(tmp_path / name / "inputs.json", {"files": input_files(stage)})
        run_entry(tmp_path / name)
        return tmp_path / name / "tokens"

    return run


@pytest.fixture(scope="session")
def lines(tiny: TinyWorld) -> list[str]:
    """Texts of many lengths, none of which is in the labelled rows."""
    text = "".join(tiny.corpus.read_text(encoding="utf-8").split())
    return [text[start : start + 3 + start % 61] for start in range(0, 60 * 100, 100)]


@pytest.fixture
def text_file(tmp_path: Path, lines: list[str]) -> Path:
    return write(tmp_path / "texts.txt", lines)


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ids(tokens: Path, split: str = "train") -> list[list[int]]:
    return load_from_disk(str(tokens / split))["input_ids"][:]


def statistics(tokens: Path) -> dict[str, Any]:
    return json.loads((tokens / "statistics.json").read_text(encoding="utf-8"))


def encoded(tokens: Path, *columns: list[str]) -> list[Any]:
    return Preprocessing.load(tokens).encode(AutoTokenizer.from_pretrained(tokens / "tokenizer"), *columns)


def test_importing_is_cheap():
    code = (
        "import sys, kd_dist.data.unlabelled; print({'torch', 'transformers', 'datasets', 'pyarrow'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# ---------------------------------------------------------------------------------------------------------------- stage


def test_the_stage_writes_what_training_reads(run: Run, labelled: LabelledWorld, text_file, lines, capsys):
    write(text_file, [*lines, "", " \u200b"])
    tokens = run(text_file)
    expected = encoded(labelled.tokens, lines)
    rows = load_from_disk(str(tokens / "train"))
    assert {name: str(feature) for name, feature in rows.features.items()} == {"input_ids": "List(Value('int32'))"}
    assert rows["input_ids"][:] == [encoding.input_ids for encoding in expected]
    lengths = np.load(tokens / "train_lengths.npy", mmap_mode="r")
    assert (lengths.dtype, lengths.tolist()) == (np.uint16, [len(encoding.input_ids) for encoding in expected])
    found, theirs = statistics(tokens), statistics(labelled.tokens)
    assert found.pop("seconds") >= 0
    assert found.pop("length_percentiles")["100"] == max(lengths)
    assert found.pop("words") > found.pop("unknown_words") > 0
    kept = ("vocabulary_size", "pad_token_id", "max_length", "word_starts", "task", "num_labels", "pairs")
    held_out = ("validation_rows", "test_rows")
    truncated = sum(encoding.truncated for encoding in expected)
    assert truncated > 0
    assert found == {name: theirs[name] for name in (*kept, *held_out)} | {
        "train_rows": len(lines), "rows": len(lines), "tokens": int(lengths.sum()), "truncated_rows": truncated,
        "texts": len(lines), "texts_empty": 2, "texts_held_out": 0, "files_empty": 0, "files": [str(text_file)],
        "files_unread": [],
    }  # fmt: skip
    said = capsys.readouterr().out
    assert f"unlabelled: {len(lines)} train and {theirs['validation_rows']} validation rows, " in said
    assert f"of {len(lines)} texts, {truncated} longer than a row and truncated, 2 empty and left out; built in" in said


def test_files_that_nobody_reads_are_named(run: Run, tmp_path: Path, lines, capsys):
    write(tmp_path / "texts" / "A.TXT", lines)
    (tmp_path / "texts" / "b.docx").touch()
    tokens = run(tmp_path / "texts")
    assert statistics(tokens)["files_unread"] == [str(tmp_path / "texts" / "b.docx")]
    assert f"that is read here: 1 ({tmp_path / 'texts' / 'b.docx'}); " in capsys.readouterr().out


def test_texts_that_end_in_cr_alone(run: Run, tmp_path: Path, labelled: LabelledWorld, lines):
    (tmp_path / "texts.txt").write_bytes("\r".join(lines).encode())
    assert ids(run(tmp_path / "texts.txt")) == [row.input_ids for row in encoded(labelled.tokens, lines)]


def test_the_rows_are_read_as_any_others(run: Run, labelled: LabelledWorld, text_file, lines):
    tokens = run(text_file)
    batch = TokenRows(tokens, "train", 0).collate(np.array([3, 5]))
    assert batch.keys() == {"input_ids", "attention_mask"}
    assert batch["input_ids"][0][: batch["attention_mask"][0].sum()].tolist() == ids(tokens)[3]
    assert PreparedRows(tokens).labels == PreparedRows(labelled.tokens).labels
    for split in ("validation", "test"):
        assert (tokens / split).is_symlink()
        shared, own = (TokenRows(folder, split, 0).collate(np.arange(4)) for folder in (tokens, labelled.tokens))
        assert all(shared[name].equal(own[name]) for name in own)


def test_texts_in_validation_or_test_are_left_out(run: Run, labelled: LabelledWorld, text_file, lines, capsys):
    splits = {
        split: load_from_disk(str(labelled.tokens / split))["text"][:] for split in ("train", "validation", "test")
    }
    held_out = [splits["validation"][0], f" {splits['test'][1]}\u200b", splits["validation"][0]]
    write(text_file, [lines[0], *held_out, splits["train"][0], lines[1]])
    tokens = run(text_file)
    expected = encoded(labelled.tokens, [lines[0], splits["train"][0], lines[1]])
    assert ids(tokens) == [encoding.input_ids for encoding in expected]
    assert (statistics(tokens)["texts"], statistics(tokens)["texts_held_out"]) == (6, 3)
    assert "3 removed that are also in validation or test" in capsys.readouterr().out
    write(text_file, held_out)
    with pytest.raises(RunError, match=rf"all 3 texts of {text_file} are also in validation or test: none is left"):
        run(text_file)


def test_a_classifier_says_how_texts_are_made_and_rows_are_held_out(run: Run, labelled: LabelledWorld, tmp_path, lines):
    file = write(tmp_path / "texts.txt", lines[:50])
    model = tmp_path / "model"
    model.mkdir()
    for path in labelled.teacher.iterdir():
        (model / path.name).symlink_to(path)
    plain = run(file, name="plain", model=model, validation_fraction=0.1)
    assert Preprocessing.load(plain) == Preprocessing(64)  # the model has no more positions
    Preprocessing(16, "char").save(model)
    own = run(file, name="own", model=model, validation_fraction=0.1)
    assert Preprocessing.load(own) == Preprocessing(16, "char")
    for tokens in (plain, own):
        expected = [encoding.input_ids for encoding in encoded(tokens, lines[:50])]
        assert ids(tokens, "validation") == expected[9::10]
        assert ids(tokens) == [row for number, row in enumerate(expected) if number % 10 != 9]
        assert np.load(tokens / "validation_lengths.npy").tolist() == [len(row) for row in expected[9::10]]
        assert (statistics(tokens)["train_rows"], statistics(tokens)["validation_rows"]) == (45, 5)
        assert PreparedRows(tokens).labels == Labels("single_label", {"finance": 0, "sport": 1})
        assert len(TokenRows(tokens, "validation", 0)) == 5


def test_the_rows_do_not_depend_on_the_processes_or_on_the_files(run: Run, labelled, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_GROUP_ITEMS", 7)  # several units, so that several workers have something to do
    whole = write(tmp_path / "whole.txt", lines)
    for number, start in enumerate((0, 1, 25)):
        part = lines[start : (1, 25, None)[number]]
        write(tmp_path / "parts" / f"{number}.txt", part)
    one = run(whole, name="one", model=labelled.teacher, validation_fraction=0.2)
    two = run(whole, name="two", model=labelled.teacher, validation_fraction=0.2, num_workers=2)
    parts = run(tmp_path / "parts", name="sharded", model=labelled.teacher, validation_fraction=0.2, num_workers=3)
    for other in (two, parts):
        assert [ids(one, split) for split in ("train", "validation")] == [
            ids(other, split) for split in ("train", "validation")
        ]
        assert {**statistics(one), "seconds": 0, "files": 0} == {**statistics(other), "seconds": 0, "files": 0}


def test_no_more_rows_are_held_out_than_an_evaluation_needs(run: Run, labelled, text_file, lines, monkeypatch):
    monkeypatch.setattr(arrow_rows, "MAX_HELD_OUT_ROWS", 3)
    tokens = run(text_file, model=labelled.teacher, validation_fraction=0.2)
    assert (len(ids(tokens, "validation")), len(ids(tokens))) == (3, len(lines) - 3)


def test_pairs(run: Run, tiny: TinyWorld, tmp_path, lines):
    rows = [(str(number % 2), f"一{number}", f"二{number}") for number in range(20)]
    train = write(tmp_path / "train.tsv", ["\t".join(row) for row in rows])
    data = LabelledData(train=[str(train)], columns=["label", "text", "text_pair"], max_length=24)
    labelled.prepare(data, str(tiny.tokenizer), tmp_path / "pairs", tmp_path / "pairs.txt")
    first, second = lines[:20], lines[20:40]
    held_out = load_from_disk(str(tmp_path / "pairs" / "test"))[0]
    first, second = [*first, held_out["text"]], [*second, "另一个"]  # half of a pair is no pair
    records = [{"text": a, "text_pair": b} for a, b in zip(first, second, strict=True)]
    records += [{"text": held_out["text"], "text_pair": held_out["text_pair"]}, {"text": "一", "text_pair": None}]
    files = [
        write(tmp_path / "a.txt", [f"{record['text']}\t{record['text_pair'] or ''}" for record in records]),
        write(tmp_path / "a.jsonl", [json.dumps(record) for record in records]),
        tmp_path / "a.parquet",
    ]
    pq.write_table(pa.Table.from_pylist([{"labels": 1, **record} for record in records]), files[-1])
    expected = encoded(tmp_path / "pairs", first, second)
    for file in files:
        tokens = run(file, tokens=str(tmp_path / "pairs"))
        found = load_from_disk(str(tokens / "train"))
        assert found["input_ids"][:] == [encoding.input_ids for encoding in expected]
        assert found["token_type_ids"][:] == [encoding.token_type_ids for encoding in expected]
        assert str(found.features["token_type_ids"]) == "List(Value('int8'))"
        counts = statistics(tokens)
        assert (counts["texts_held_out"], counts["texts_empty"], counts["pairs"]) == (1, 1, True)
    with pytest.raises(CorpusError, match=r"b.txt, line 2: 1 texts with tabs between them, expected 2"):
        run(write(tmp_path / "b.txt", ["一\t二", "三"]), tokens=str(tmp_path / "pairs"))
    pq.write_table(pa.table({"text": ["一"]}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match=r"b.parquet: no column 'text_pair'; .* the second text of a pair has"):
        run(tmp_path / "b.parquet", tokens=str(tmp_path / "pairs"))


def test_every_format_gives_the_same_rows(run: Run, text_file, tmp_path, lines):
    columns = {"labels": range(len(lines)), "input_ids": [[1]] * len(lines), "title": lines}
    table = pa.table(columns)
    files = [tmp_path / name for name in ("a.parquet", "a.arrow", "b.arrow", "a.jsonl")]
    pq.write_table(table, files[0])
    with pa.ipc.new_stream(str(files[1]), table.schema) as stream:
        stream.write_table(table, max_chunksize=9)
    with pa.ipc.new_file(str(files[2]), table.schema) as file:
        file.write_table(table, max_chunksize=9)
    write(files[3], [json.dumps({"label": "x", "title": line}) for line in lines])
    for path in [text_file, *files]:
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    expected = ids(run(text_file))
    for path in [file for name in (*files, text_file) for file in (name, Path(f"{name}.gz"))]:
        assert ids(run(path, text_field="title")) == expected, path


def test_saved_datasets_and_shards_of_the_augment_stage_are_read(run: Run, labelled, tmp_path, lines, monkeypatch):
    assert len(ids(run(labelled.tokens / "train"))) == statistics(labelled.tokens)["train_rows"]
    monkeypatch.setattr("kd_dist.augmentation.blocks.BLOCK_ROWS", 16)
    rows = load_from_disk(str(labelled.tokens / "train"))["text"][:]
    write_vectors(tmp_path / "vectors.txt", rows)
    stage = AugmentStage(
        encoder={"path": str(labelled.teacher)},
        data={"tokens": str(labelled.tokens)},
        augment={"copies": 2, "candidates": 4, "word_vectors": str(tmp_path / "vectors.txt")},
    )
    (tmp_path / "augment").mkdir()
    (tmp_path / "augment" / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    run_entry(tmp_path / "augment")
    shards = tmp_path / "augment" / "shards"
    written = [text for path in sorted(shards.glob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]
    tokens = run(shards)
    assert len(written) > len(rows)
    assert ids(tokens) == [encoding.input_ids for encoding in encoded(labelled.tokens, written)]
    assert len(statistics(tokens)["files"]) == len(list(shards.glob("*.parquet")))


def test_a_rerun_replaces_what_is_there_and_a_failure_leaves_it(run: Run, labelled, text_file, tmp_path, monkeypatch):
    tokens = run(text_file)
    before = ids(tokens)
    (tokens / "left").touch()
    (tokens.parent / ".tokens.tmp-1-x" / "work").mkdir(parents=True)
    assert ids(run(text_file)) == before
    assert {path.name for path in tokens.parent.iterdir()} == {"config.json", "inputs.json", "tokens"}
    assert not (tokens / "left").exists()
    assert (labelled.tokens / "validation").is_dir()  # what is only linked stays

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrow_rows, "_write_split", fail)
    with pytest.raises(OSError, match="No space"):
        run(text_file)
    assert {path.name for path in tokens.parent.iterdir()} == {"config.json", "inputs.json", "tokens"}
    assert ids(tokens) == before


# ------------------------------------------------------------------------------------------------------------ bad input


def test_shards_without_texts_are_counted(run: Run, text_file, tmp_path, lines, capsys):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    (tmp_path / "b.txt").touch()
    tokens = run(tmp_path / "a.parquet", tmp_path / "b.txt", text_file)
    assert len(ids(tokens)) == len(lines)
    assert statistics(tokens)["files_empty"] == 2
    assert "; 2 of 3 files hold no text; built in" in capsys.readouterr().out
    with pytest.raises(CorpusError, match=r"no text in .*a.parquet, .*b.txt: 0 texts read, all empty"):
        run(tmp_path / "a.parquet", tmp_path / "b.txt")
    with pytest.raises(CorpusError, match=r"b.txt: there is no text in these files, all are empty"):
        run(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", r"a.parquet: not a readable parquet file \(.*\); write it again"),
        ("a.parquet", b"PAR1 and no more", r"a.parquet: not a readable parquet file"),
        ("a.arrow", b"ARROW1 and no more", r"a.arrow: not a readable Arrow file"),
        ("a.arrow", b"", r"a.arrow: not a readable Arrow file"),
        ("a.txt", "一\n".encode() + "天气".encode("gb18030"), r"a.txt, line 2: not UTF-8 text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a.jsonl, line 2: not JSON"),
        (
            "a.jsonl",
            b'{"title": "a"}',
            r"a.jsonl, line 1: no column 'text'; the columns are title; set data.text_field",
        ),
        ("a.jsonl", b'{"text": 3}', r"a.jsonl, line 1: 'text' holds int"),
        ("a.txt.gz", b"no gzip", r"a.txt.gz: this is text, not gzip"),
        ("a.tsv", b"x\ta", r"a.tsv: a table does not say which of its columns is the text"),
    ],
)
def test_bad_files_are_named(run: Run, text_file, tmp_path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        run(text_file, tmp_path / name)
    assert {path.name for path in (tmp_path / "unlabelled").iterdir()} == {"config.json", "inputs.json"}


def test_a_table_without_the_field(run: Run, tmp_path):
    pq.write_table(pa.table({"title": ["a"], "labels": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet: no column 'text'; the columns are title, labels; set"):
        run(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_that_is_damaged_inside(run: Run, tmp_path, lines, suffix: str):
    table, path = pa.table({"text": lines * 50}), tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path, write_page_checksum=True, use_dictionary=False)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # where only a checksum can tell
    else:
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
        content = bytearray(path.read_bytes()[:-100])
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"a.{suffix}: not a readable"):
        run(path)


def test_a_shard_that_vanishes(run: Run, text_file, tmp_path, lines, monkeypatch):
    second = write(tmp_path / "vanishing.txt", lines)
    read = unlabelled.read_texts

    def vanishing(*arguments: Any) -> Any:
        second.unlink(missing_ok=True)
        return read(*arguments)

    monkeypatch.setattr(unlabelled, "read_texts", vanishing)
    with pytest.raises(CorpusError, match=r"vanishing.txt was there when .* is gone; put it back and start the same"):
        run(text_file, second)


@pytest.fixture
def submitted(tmp_path: Path, labelled: LabelledWorld, lines: list[str]) -> Path:
    """The folder of a stage that has not run yet, over two files in a folder."""
    for number in (1, 2):
        write(tmp_path / "texts" / f"{number}.txt", lines[number::2])
    data = {"unlabelled": [str(tmp_path / "texts")], "validation_fraction": 0.2, "num_workers": 1}
    stage = UnlabelledStage(data=data, model={"path": str(labelled.teacher)})
    job = Job(name="branches", description="", stages={"unlabelled": stage}, result="unlabelled")
    return open_run(job, tmp_path / "runs", "a") / "unlabelled"


def test_files_that_are_not_those_of_the_submission(submitted: Path, tmp_path, lines):
    first, second = (tmp_path / "texts" / f"{number}.txt" for number in (1, 2))
    before = second.read_bytes()
    way_out = "; put them back and start the same run again, or start another run (--run-id)"

    def refused(*problems: str) -> None:
        message = f"not as they were when the run was submitted: {', '.join(problems)}{way_out}"
        with pytest.raises(RunError, match=re.escape(message)):
            run_stage(submitted)
        assert not (submitted / "tokens").exists()

    second.unlink()
    refused(f"{second} is gone")
    second.write_bytes(before[::-1])
    first.unlink()
    refused(f"{first} is gone", f"{second} has changed")
    write(first, lines)
    second.write_bytes(before)
    refused(f"{first} has changed", f"{second} has changed")  # of the second only the time


def test_files_that_were_not_there_at_the_submission(submitted: Path, tmp_path, lines):
    write(tmp_path / "texts" / "notes.md", lines)  # no text that would be read
    third = write(tmp_path / "texts" / "3.txt", lines)
    with pytest.raises(RunError, match=f"{third} is new; put them back"):
        run_stage(submitted)
    third.unlink()
    run_stage(submitted)
    assert len(statistics(submitted / "tokens")["files"]) == 2


def test_what_a_stage_before_has_made_is_no_change(tmp_path: Path, labelled: LabelledWorld, lines):
    data = UnlabelledData(unlabelled=["@augmentation/shards"], num_workers=1)
    stages = {
        "augmentation": AugmentStage(encoder={"path": str(labelled.teacher)}, data={"tokens": str(labelled.tokens)}),
        "unlabelled": UnlabelledStage(data=data, model={"path": str(labelled.teacher)}),
    }
    run_dir = open_run(Job(name="b", description="", stages=stages, result="unlabelled"), tmp_path / "runs", "a")
    write(run_dir / "augmentation" / "shards" / "a.txt", lines)
    run_stage(run_dir / "unlabelled")
    assert statistics(run_dir / "unlabelled" / "tokens")["rows"] == len(lines)


def test_rows_and_models_that_do_not_say_how(run: Run, tiny: TinyWorld, text_file, tmp_path):
    with pytest.raises(RunError, match=r"data.tokens=.* was not written by a `labelled` stage \(.*label2id.json"):
        run(text_file, tokens=str(tiny.tokens))
    with pytest.raises(RunError, match=r"set data.tokens \(labelled rows\) or model.path \(a classifier\)"):
        run(text_file, tokens=None)
    with pytest.raises(UserError, match=r"teacher is not a trained classifier"):
        run(text_file, model=tiny.teacher)
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        run(text_file, model=tmp_path / "nowhere")


# --------------------------------------------------------------------------------------------------------------- checks


def problems(model: str | None = None, **data: Any) -> str:
    stage = UnlabelledStage(data=UnlabelledData(**data), model={"path": model} if model else None)
    return "; ".join(stage_problems(find_job("finetune"), stage, reads_files=True))


def test_mistakes_are_found_before_any_work(labelled: LabelledWorld, text_file, tmp_path):
    files, tokens = [str(text_file)], str(labelled.tokens)
    assert problems(unlabelled=files, tokens=tokens) == problems(unlabelled=["@a/shards"], tokens="@b/tokens") == ""
    assert problems(unlabelled=files, model=str(labelled.teacher)) == ""
    assert "data.unlabelled is empty: name files of texts" in problems(tokens=tokens)
    assert "data.unlabelled: no text file matches 'nothing*.txt'" in problems(
        unlabelled=[*files, "nothing*.txt"], tokens=tokens
    )
    (tmp_path / "empty.txt").touch()
    assert "all are empty" in problems(unlabelled=[str(tmp_path / "empty.txt")], tokens=tokens)
    (tmp_path / "a.csv").write_text("x,a\n")
    assert "a.csv: a table does not say" in problems(unlabelled=[str(tmp_path / "a.csv")], tokens=tokens)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    assert "is gone" in problems(unlabelled=[str(tmp_path / "g*.txt")], tokens=tokens)
    assert "nothing decides how texts are tokenized" in problems(unlabelled=files)
    assert "model.path=/nowhere: no such folder" in problems(unlabelled=files, model="/nowhere")
    assert "was not written by a `labelled` stage" in problems(unlabelled=files, tokens=str(tmp_path))


def test_checks_see_who_made_the_rows():
    job = find_job("finetune")
    stage = UnlabelledStage(data=UnlabelledData(unlabelled=["a"], tokens="@labelled/tokens"))
    by_model = UnlabelledStage(data=UnlabelledData(unlabelled=["a"]), model={"path": "model"})
    finetune = job.stages["finetune"].rewired(lambda wire: wire.replace("@labelled/tokens", "@texts/tokens"))
    for source, expected in ((stage, job.stages["labelled"]), (by_model, by_model)):
        with_texts = job.model_copy(update={"stages": {**job.stages, "texts": source}})
        assert _prepared_by(with_texts, finetune) == expected
