"""When a stage counts as complete, and what becomes the export of the run."""

from pathlib import Path

from kd_dist import files
from kd_dist.runs import completion
from kd_dist.runs.completion import complete, drop_stale_markers, is_complete, mark_complete, shard_marker


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
