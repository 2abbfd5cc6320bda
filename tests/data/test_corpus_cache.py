"""A corpus is prepared once for equal files, tokenizer and options."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from kd_dist.data import blocks, corpus_cache, corpus_parts, corpus_rows
from kd_dist.errors import CorpusError
from kd_dist.files import sweep_below
from tests.conftest import TinyWorld
from tests.data.kills import blocks_written, contents, run_until_killed


def test_the_cache_is_reused_until_a_file_changes(tmp_path: Path, arguments: dict):
    file, cache, link = tmp_path / "a.txt", tmp_path / "cache", tmp_path / "runs" / "one" / "data"
    file.write_text("今天天气\n很好\n", encoding="utf-8")
    arguments["files"] = [file]
    first = corpus_cache.cached_prepare(cache, link, **arguments)
    again = corpus_cache.cached_prepare(cache, link, **{**arguments, "num_workers": 2})
    assert (first["cached"], again["cached"]) == (False, True)
    assert {**first, "cached": True} == again
    assert not os.path.isabs(os.readlink(link))
    before = link.resolve()
    file.write_text("今天天气\n很好\n我们\n", encoding="utf-8")
    changed = corpus_cache.cached_prepare(cache, link, **arguments)
    assert (changed["cached"], changed["lines_kept"]) == (False, 3)
    assert link.resolve() != before
    assert before.exists()
    assert sorted(os.listdir(link.parent)) == ["data"]
    assert len(os.listdir(cache)) == 2


def test_the_cache_spares_what_is_not_a_link(tmp_path: Path, arguments: dict):
    (tmp_path / "data").mkdir()
    with pytest.raises(CorpusError, match="data is not a link"):
        corpus_cache.cached_prepare(tmp_path / "cache", tmp_path / "data", **arguments)


def test_the_fingerprint_follows_content_not_place(tmp_path: Path, tiny: TinyWorld):
    file = Path(shutil.copy2(tiny.corpus, tmp_path / tiny.corpus.name))
    folder = shutil.copytree(tiny.tokenizer, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"weights do not matter")
    reference = corpus_cache.fingerprint(
        files=[tiny.corpus], tokenizer_path=str(tiny.tokenizer), max_length=8, num_workers=1
    )
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, num_workers=2) == reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=9) != reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, max_lines=None) == reference
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8, max_lines=9) != reference
    (folder / "tokenizer.json").write_text("{}")
    assert corpus_cache.fingerprint(files=[file], tokenizer_path=str(folder), max_length=8) != reference


def test_a_corpus_is_built_where_the_next_try_sweeps(tmp_path: Path, arguments: dict):
    cache, place = tmp_path / "cache", tmp_path / "stage" / "tokens"
    child = os.fork()
    if child == 0:  # it is killed when most is written
        corpus_rows.write_splits = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        corpus_cache.cached_prepare(cache, place, **arguments)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert os.listdir(cache) == []
    assert any(place.parent.iterdir())
    sweep_below(place.parent)
    assert os.listdir(place.parent) == ["blocks"]
    corpus_cache.cached_prepare(cache, place, **arguments)
    assert os.listdir(place.parent) == ["tokens"]


@pytest.mark.parametrize("after_blocks", [1, 6, 13])
def test_a_killed_corpus_goes_on_and_ends_as_if_nothing_had_been(
    after_blocks: int, tmp_path: Path, arguments: dict, random_text: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(corpus_parts, "MAX_PART_BYTES", 2_000)
    monkeypatch.setattr(blocks, "MAX_GROUP_ITEMS", 7)  # lines of a block are in several groups
    again = tmp_path / "again.txt"  # lines of the first file, and of earlier parts, are duplicates
    again.write_text(random_text.read_text(encoding="utf-8") + "\nnew\n", encoding="utf-8")
    arguments["files"] = [random_text, arguments["files"][0], again]

    def prepare(name: str) -> None:
        corpus_cache.cached_prepare(tmp_path / name / "cache", tmp_path / name / "stage" / "tokens", **arguments)

    undisturbed = blocks_written(lambda: prepare("undisturbed"))
    run_until_killed(lambda: prepare("killed"), after_blocks)
    assert len(list((tmp_path / "killed" / "stage" / "blocks").iterdir())) == after_blocks
    sweep_below(tmp_path / "killed" / "stage")
    assert blocks_written(lambda: prepare("killed")) == undisturbed - after_blocks
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert os.listdir(tmp_path / "killed" / "stage") == ["tokens"]
    assert undisturbed > 20
