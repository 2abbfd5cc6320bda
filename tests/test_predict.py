"""One answer for every line, in order, in any format; mistakes are one clear message."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kd_dist import predict
from kd_dist.config.paths import REPOSITORY
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import UserError, exit_with_message
from kd_dist.models.classifier import load_classifier
from kd_dist.models.classifier_output import ClassifierOutput
from kd_dist.serving import prediction_files, predictions
from tests.data.files import damage
from tests.models.random_models import LABELS, NUM_LAYERS, save_classifier, save_fastbert

TEXTS = ["体育新闻", "", "今天股市大涨，投资者信心增强", "旅游", "一" * 200]


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("predict") / "classifier"
    save_classifier(directory, tiny.tokenizer, initializer_range=1.0)
    Preprocessing(max_length=32).save(directory)
    return directory


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py", "--model", str(model), *arguments])
    assert predict.main() == 0


def expected(folder: Path) -> list[tuple[str, float]]:
    """Label and probability of each text alone."""
    classifier = load_classifier(folder)
    records = [predictions.predict(classifier, Preprocessing.load(folder), [(text,)], 1)[0][0] for text in TEXTS]
    return [(record["label"], record["probability"]) for record in records]


def test_a_filter_from_stdin_to_stdout(folder: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "kd_dist" / "predict.py"), "--model", str(folder)]
    done = subprocess.run(script, input="\n".join(TEXTS) + "\n", capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [label for label, _ in lines] == [label for label, _ in expected(folder)]
    assert [float(p) for _, p in lines] == pytest.approx([p for _, p in expected(folder)], abs=1e-4)
    assert done.stderr.splitlines()[-1] == "note: 1 of 5 texts were longer than 32 tokens and were truncated"


def test_lines_that_end_in_cr_alone(folder: Path, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "in.txt").write_bytes("\r".join(TEXTS).encode())
    run(monkeypatch, folder, "--input", str(tmp_path / "in.txt"))
    found = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert found == [label for label, _ in expected(folder)]


@pytest.mark.parametrize("suffix", prediction_files.FORMATS)
def test_halves_of_surrogate_pairs_are_left_out(suffix: str, folder: Path, tmp_path, monkeypatch) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    source.write_text("".join(json.dumps({"title": f"{text}\ud83d"}) + "\n" for text in TEXTS), encoding="utf-8")
    run(monkeypatch, folder, "--input", str(source), "--columns", "title", "--output", str(target))
    assert read_labels(target) == [label for label, _ in expected(folder)]


def test_a_reader_that_leaves_ends_it_quietly(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("体育\n" * 30_000, encoding="utf-8")
    script = f"{sys.executable} {REPOSITORY}/kd_dist/predict.py --model {folder} < {tmp_path}/texts.txt | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def write_texts(file: Path) -> None:
    if file.suffix == ".txt":
        file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    elif file.suffix == ".jsonl":
        file.write_text("".join(f"{json.dumps({'title': text})}\n" for text in TEXTS), encoding="utf-8")
    elif file.suffix == ".json":
        file.write_text(json.dumps([{"title": text} for text in TEXTS]), encoding="utf-8")
    elif file.suffix in (".parquet", ".arrow"):
        table = pa.table({"id": range(len(TEXTS)), "title": [text or None for text in TEXTS]})
        if file.suffix == ".parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_stream(str(file), table.schema) as stream:
                stream.write_table(table)
    else:
        with open(file, "w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, delimiter="," if file.suffix == ".csv" else "\t")
            table.writerows([["id", "title"], *([number, text] for number, text in enumerate(TEXTS))])


def read_labels(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return pq.read_table(file)["label"].to_pylist()
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix == ".jsonl":
        return [json.loads(line)["label"] for line in lines]
    if file.suffix == ".txt":
        return [line.split("\t")[0] for line in lines]
    return [row["label"] for row in csv.DictReader(lines, delimiter="," if file.suffix == ".csv" else "\t")]


@pytest.mark.parametrize("suffix", [*prediction_files.FORMATS, ".json", ".arrow", ".TSV"])
def test_every_format_in_and_out_in_chunks(suffix, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(predict, "CHUNK_ROWS", 2)
    source = tmp_path / f"in{suffix}"
    target = tmp_path / f"out{'.csv' if suffix in ('.json', '.arrow') else suffix}"
    write_texts(source)
    columns = [] if suffix == ".txt" else ["--columns", "title"]
    run(monkeypatch, folder, "--input", str(source), "--output", str(target), *columns)
    assert read_labels(target) == [label for label, _ in expected(folder)]
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_files_and_folders_are_read_in_order_with_their_names(folder, tmp_path, monkeypatch, capsys) -> None:
    """Labelled files, as for training: their labels are not read."""
    labels = [label for label, _ in expected(folder)]
    (tmp_path / "in" / "more").mkdir(parents=True)
    for name, texts in (("a.tsv", TEXTS[:2]), ("more/b.TSV", TEXTS[2:4]), ("more/c.tsv.gz", TEXTS[4:])):
        rows = "".join(f"L\t{text}\n" for text in texts).encode()
        (tmp_path / "in" / name).write_bytes(gzip.compress(rows) if name.endswith(".gz") else rows)
    (tmp_path / "in" / "about.md").write_text("x")
    source, output = tmp_path / "in", ["--columns", "label,text", "--header", "no", "--output"]
    run(monkeypatch, folder, "--input", str(source), *output, str(tmp_path / "out.jsonl"))
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in found] == labels
    assert [row["text"] for row in found] == TEXTS
    files = [str(source / name) for name in ("a.tsv", "more/b.TSV", "more/c.tsv.gz")]
    assert [row["file"] for row in found] == [files[0]] * 2 + [files[1]] * 2 + [files[2]]
    unread = f"note: files in the given folders that are of no kind that is read here: 1 ({source}/about.md)"
    assert unread in capsys.readouterr().err.splitlines()
    run(monkeypatch, folder, "--input", *reversed(files), *output, str(tmp_path / "out.csv"))
    assert read_labels(tmp_path / "out.csv") == labels[4:] + labels[2:4] + labels[:2]
    run(monkeypatch, folder, "--input", str(source / "*" / "*.[tT][sS][vV]"), *output, str(tmp_path / "out.tsv"))
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()[0] == "text\tlabel\tprobability"


def test_documents_in_folders_of_labels_are_texts(folder, tmp_path, monkeypatch, capsys) -> None:
    for number, text in enumerate(TEXTS):
        (tmp_path / "in" / f"label{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"label{number % 2}" / f"{number}.txt").write_text(text, encoding="utf-8")
    run(monkeypatch, folder, "--input", str(tmp_path / "in"))
    labels = [label for label, _ in expected(folder)]
    found = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert found == labels[::2] + labels[1::2]


def test_what_has_no_suffix_is_plain_text_even_a_pipe(folder, tmp_path) -> None:
    (tmp_path / "texts").write_text("\n".join(TEXTS), encoding="utf-8")
    script = f"{sys.executable} {REPOSITORY}/kd_dist/predict.py --model {folder} --input"
    for source in ("texts", "<(cat texts)"):
        done = subprocess.run(
            ["bash", "-c", f"{script} {source}"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [label for label, _ in expected(folder)]


def test_a_table_without_a_header_from_stdin(folder) -> None:
    script = [sys.executable, str(REPOSITORY / "kd_dist" / "predict.py"), "--model", str(folder)]
    text = "".join(f"{text};L\n" for text in TEXTS)
    options = ["--columns", "text,label", "--separator", ";"]
    done = subprocess.run([*script, *options], input=text, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [label for label, _ in expected(folder)]
    assert "note: /dev/stdin, line 1 is taken for a text, not for a header; --header yes or no decides" in done.stderr


def test_several_labels(tiny, tmp_path, monkeypatch, capsys) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, problem_type="multi_label_classification")
    logits = torch.tensor([[1.0, -1.0, 3.0], [-1.0, -1.0, -1.0]])
    monkeypatch.setattr("kd_dist.serving.predictions.answers_to", lambda *_: ClassifierOutput(logits))
    (tmp_path / "in.txt").write_text("a\nb\n", encoding="utf-8")
    run(monkeypatch, model, "--input", str(tmp_path / "in.txt"))
    assert capsys.readouterr().out == f"{LABELS[2]}|{LABELS[0]}\t0.9526|0.7311\n\t\n"
    run(monkeypatch, model, "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.parquet"))
    assert read_labels(tmp_path / "out.parquet") == [[LABELS[2], LABELS[0]], []]


def test_numbers(tiny, tmp_path, monkeypatch, capsys) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    monkeypatch.setattr("kd_dist.serving.predictions.answers_to", lambda *_: ClassifierOutput(torch.tensor([[2.5]])))
    (tmp_path / "in.txt").write_text("a\n", encoding="utf-8")
    run(monkeypatch, model, "--input", str(tmp_path / "in.txt"))
    assert capsys.readouterr().out == "2.5000\n"


def test_pairs_by_tab_and_by_two_columns(tiny, tmp_path, monkeypatch, capsys) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=1.0)
    Preprocessing(max_length=32, pairs=True).save(model)
    (tmp_path / "in.txt").write_text("中国\t新年\n\n", encoding="utf-8")
    (tmp_path / "in.csv").write_text("a,b\n中国,新年\n,\n", encoding="utf-8")
    run(monkeypatch, model, "--input", str(tmp_path / "in.txt"))
    by_tab = capsys.readouterr().out
    run(monkeypatch, model, "--input", str(tmp_path / "in.csv"), "--columns", "a,b")
    assert capsys.readouterr().out == by_tab
    assert by_tab.count("\n") == 2
    with pytest.raises(UserError, match="trained on pairs of texts: name two columns"):
        run(monkeypatch, model, "--input", str(tmp_path / "in.csv"), "--columns", "a")


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("in.xlsx", "x", [], r"cannot read `.xlsx`; give one of .txt"),
        (
            "in.jsonl",
            '{"titel": "x"}',
            ["--columns", "title"],
            "line 1: no column 'title'; the columns are titel; did you mean `titel`.*--columns",
        ),
        ("in.xlsx", "PK\x03\x04 xl/", [], "in.xlsx: this is a spreadsheet .*; save the sheet as `CSV UTF-8`"),
        ("in.jsonl", '{"text": 3}', [], "line 1: 'text' holds int, expected text"),
        ("in.jsonl", "[1]", [], "record 1: a JSON int"),
        ("in.csv", "title\nx\n", [], "line 1: no column 'text'; the columns are title; name the column in --columns"),
        ("in.csv", "text\nx\na,b\n", [], r"in.csv, line 3: 2 columns, expected 1 .*commas needs quotes"),
        ("in.tsv", "id\ttext\n1\tx\ty\n", [], r"in.tsv, line 2: 3 columns, expected 2 .*a text must not contain a tab"),
        ("in.parquet", "x", [], "this is text, not parquet"),
        ("in.txt", "x", ["--output", "out.xlsx"], "cannot write `.xlsx`"),
        ("in.txt", "x", ["--output", "/nowhere/out.txt"], "no such folder"),
        ("in.txt", "x", ["--model", "nowhere"], "nowhere does not exist"),
        ("in.txt", "x", ["--input", "other.txt"], "--input other.txt: no such file or folder"),
        ("in.txt", "x", ["--input", "other*.txt"], "no text file matches 'other\\*.txt'"),
        ("in.txt", "x", ["--separator", '"'], "--separator: neither quotes"),
        ("in.tsv", "x\ty\n", [], r"no column 'text'.*in order \(--columns label,text\)"),
        (
            "in.tsv",
            "x\ty\n",
            ["--columns", "text:title,label"],
            r"no column 'title'.*name it in --columns \(text:NAME\)",
        ),
        ("in.tsv", "x\ty\n", ["--columns", "title", "--header", "no"], "names columns, which --header no rules out"),
        ("in.csv", "label;text\nx;y\nz;w\n", [], "separated by semicolons, expected commas; set --separator ';'"),
        ("in.tsv", "x|y\nz|w\n", ["--columns", "label,text"], "separated by '\\|', expected tabs; set --separator '|'"),
    ],
)
def test_mistakes(name: str, content: str, options: list[Any], message: str, folder, tmp_path, monkeypatch) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        run(monkeypatch, folder, "--input", str(tmp_path / name), *options)


def test_damage_inside_a_parquet_file(folder, tmp_path, monkeypatch) -> None:
    damage(tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"in.parquet: not a readable parquet file \(Corrupt snappy"):
        run(monkeypatch, folder, "--input", str(tmp_path / "in.parquet"))


def test_a_text_of_a_million_characters(folder, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "in.txt").write_text("体育\n" + "天气" * 500_000 + "\n旅游\n", encoding="utf-8")
    (tmp_path / "cut.txt").write_text("体育\n" + "天气" * 100 + "\n旅游\n", encoding="utf-8")
    run(monkeypatch, folder, "--input", str(tmp_path / "in.txt"))
    shown = capsys.readouterr()
    assert shown.err == "note: 1 of 3 texts were longer than 32 tokens and were truncated\n"
    run(monkeypatch, folder, "--input", str(tmp_path / "cut.txt"))
    assert shown.out == capsys.readouterr().out


def test_progress_that_no_terminal_shows(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(predict, "CHUNK_ROWS", 1000)
    (tmp_path / "in.txt").write_text("体育\n" * 2100, encoding="utf-8")
    run(monkeypatch, folder, "--input", str(tmp_path / "in.txt"))
    shown = capsys.readouterr()
    assert shown.err == "1,000 texts\n2,000 texts\n"
    assert shown.out.count("\n") == 2100
    (tmp_path / "in.txt").write_text("体育\n" * 999, encoding="utf-8")
    run(monkeypatch, folder, "--input", str(tmp_path / "in.txt"))
    assert capsys.readouterr().err == ""


def test_an_encoder_is_refused(tiny, tmp_path, monkeypatch) -> None:
    (tmp_path / "in.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="not a trained classifier"):
        run(monkeypatch, tiny.teacher, "--input", str(tmp_path / "in.txt"))


# ----------------------------------------------------------------------------------------------------------- early exit


@pytest.fixture(scope="module")
def fast(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with branches that was calibrated to leave at the second layer."""
    directory = tmp_path_factory.mktemp("fast") / "export"
    save_fastbert(directory, tiny.tokenizer, TEXTS)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config |= {"thresholds": [0.0, 1.0, 0.0]}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def exit_layers(file: Path) -> list[int]:
    if file.suffix == ".parquet":
        assert pq.read_schema(file).field("exit_layer").type == pa.int64()
        return pq.read_table(file)["exit_layer"].to_pylist()
    return [json.loads(line)["exit_layer"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_text_has_a_line_that_says_where_it_left(fast, tmp_path, monkeypatch, capsys) -> None:
    write_texts(tmp_path / "in.txt")
    run(monkeypatch, fast, "--input", str(tmp_path / "in.txt"), "--speed", "0.5")
    shown = capsys.readouterr()
    classifier = load_classifier(fast).at(speed=0.5)
    alone = [predictions.predict(classifier, Preprocessing.load(fast), [(text,)], 1)[0][0] for text in TEXTS]
    assert shown.out.splitlines() == [f"{r['label']}\t{r['probability']:.4f}\t{r['exit_layer']}" for r in alone]
    assert shown.err == "note: 1 of 5 texts were longer than 32 tokens and were truncated\n"


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ([], {2}),  # as it was calibrated
        (["--speed", "0"], {NUM_LAYERS}),
        (["--speed", "1"], {1}),
        (["--patience", "1"], {1}),
        (["--patience", "3"], {3, NUM_LAYERS}),
        (["--speed", "1.0", "--patience", "4"], {1}),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_speed_and_patience(suffix: str, options: list[str], layers: set[int], fast, tmp_path, monkeypatch) -> None:
    write_texts(tmp_path / f"in{suffix}")
    target = tmp_path / f"out{suffix}"
    arguments = ["--input", str(tmp_path / f"in{suffix}"), "--output", str(target), "--columns", "title"]
    run(monkeypatch, fast, *arguments, *options)
    assert len(exit_layers(target)) == len(TEXTS)
    assert set(exit_layers(target)) <= layers


def test_columns_of_a_table_end_with_the_exit_layer(fast, tmp_path, monkeypatch) -> None:
    write_texts(tmp_path / "in.txt")
    for suffix, separator in ((".tsv", "\t"), (".csv", ",")):
        run(monkeypatch, fast, "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / f"out{suffix}"))
        header, *lines = (tmp_path / f"out{suffix}").read_text(encoding="utf-8").splitlines()
        assert header == separator.join(["text", "label", "probability", "exit_layer"])
        assert [line.split(separator)[-1] for line in lines] == ["2"] * len(TEXTS)


def test_an_input_without_texts_gives_no_line(fast, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "in.txt").touch()
    run(monkeypatch, fast, "--input", str(tmp_path / "in.txt"), "--speed", "0.5")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speed", "1.5"], "error: --speed 1.5: a speed is a number from 0 (all layers) to 1 (exit at the first)"),
        (["--speed", "-0.1"], "error: --speed -0.1: a speed is a number from 0"),
        (["--speed", "nan"], "error: --speed nan: a speed is a number from 0"),
        (["--speed", "fast"], "error: --speed fast: a speed is a number from 0"),
        (["--patience", "0"], "error: --patience 0: at least 1"),
        (["--patience", "two"], "argument --patience: invalid int value: 'two'"),
    ],
)
def test_mistakes_about_speed(options: list[str], message: str, fast, tmp_path, monkeypatch, capsys) -> None:
    assert message in refused(monkeypatch, capsys, fast, tmp_path, options)


@pytest.mark.parametrize("options", [["--speed", "0.5"], ["--speed", "0"], ["--patience", "2"]])
def test_a_model_without_branches_has_no_speed(options, folder, tmp_path, monkeypatch, capsys) -> None:
    message = refused(monkeypatch, capsys, folder, tmp_path, options)
    assert f"error: {folder} has no branches to exit early by" in message
    assert f"--job fastbert_stage1 model.path={folder} data.unlabelled=FILE" in message


def refused(monkeypatch, capsys, model: Path, tmp_path: Path, options: list[str]) -> str:
    (tmp_path / "in.txt").write_text("x", encoding="utf-8")
    arguments = ["predict.py", "--model", str(model), "--input", str(tmp_path / "in.txt"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        exit_with_message(predict.main)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err
