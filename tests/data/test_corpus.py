"""The stage makes a link to a corpus that is built once, with a tokenizer that is trained once."""

import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.sections.data import CorpusData
from kd_dist.config.sections.models import Tokenizer
from kd_dist.config.stages import CorpusStage
from kd_dist.data import corpus
from kd_dist.data.prepared_rows import PreparedRows
from tests.conftest import TinyWorld
from tests.stages import run_entry


def test_importing_is_cheap():
    code = (
        "import sys, kd_dist.data.corpus; "
        "print({'torch', 'transformers', 'datasets', 'pyarrow', 'jieba'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def stage_at(
    folder: Path, tokenizer: Tokenizer, tiny: TinyWorld, corpus: Path | None = None, **settings: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = CorpusData(corpus=[str(corpus or tiny.corpus)], max_length=32, num_workers=1, **settings)
    stage = CorpusStage(data=data, tokenizer=tokenizer)
    (folder / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    return folder


def test_runs_share_a_corpus(tiny: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tokenizer = Tokenizer(path=str(tiny.tokenizer))
    first, second, other = (tmp_path / "runs" / "pretrain" / name / "corpus" for name in ("one", "two", "other"))
    for folder in (first, second):
        run_entry(stage_at(folder, tokenizer, tiny))
    run_entry(stage_at(other, tokenizer, tiny, max_lines=20))
    lines = capsys.readouterr().out.splitlines()
    assert "built in" in lines[0]
    assert lines[1].endswith("found in the cache")
    assert "built in" in lines[2]
    assert (first / "tokens").resolve() == (second / "tokens").resolve() != (other / "tokens").resolve()
    assert PreparedRows(other / "tokens").statistics["lines_read"] == 20
    assert PreparedRows(first / "tokens").num_rows("train") > 20


def test_a_tokenizer_is_trained_once(tiny: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "runs" / "pretrain" / "one" / "corpus"
    stage_at(folder, Tokenizer(vocabulary_size=300), tiny, max_lines=50)
    run_entry(folder)
    assert PreparedRows(folder / "tokens").statistics["vocabulary_size"] == 300
    monkeypatch.setattr(corpus, "train_tokenizer", None)  # would fail
    run_entry(folder)


def test_files_that_nobody_reads_are_named(tiny: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "A.TXT").write_bytes(tiny.corpus.read_bytes())
    (texts / "b.docx").touch()
    folder = tmp_path / "runs" / "pretrain" / "one" / "corpus"
    run_entry(stage_at(folder, Tokenizer(path=str(tiny.tokenizer)), tiny, texts))
    assert capsys.readouterr().out.endswith(f"that is read here: 1 ({texts / 'b.docx'})\n")
