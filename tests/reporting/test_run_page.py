"""The page shows a run as it is: whole, half done or odd, and loads nothing from elsewhere."""

import re
from pathlib import Path

import pytest

from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.stages import ReportStage
from kd_dist.errors import UserError
from kd_dist.reporting.run_page import run, write_report
from tests.reporting.pages import (
    ODD,
    ODD_TERM,
    Page,
    text_of,
    write,
    write_results,
)


def test_the_page_is_whole_escaped_and_self_contained(run_dir: Path) -> None:
    run(ReportStage(page=ReportOptions(stages=[])), run_dir / "report", 0)
    source = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    page = Page(run_dir / "report" / "index.html")
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"@import|url\((?!#)", source)
    assert "<script>" not in source
    assert ODD_TERM not in source
    assert ODD_TERM in page.text
    assert page.text.count(ODD) >= 6  # title, heading, description, results, settings, files
    assert not [path for path in (run_dir / "report").iterdir() if path.name != "index.html"]


def test_the_page_shows_every_stage_and_number(run_dir: Path, tmp_path: Path) -> None:
    write_report(run_dir, tmp_path / "new" / "page.html")
    page = Page(tmp_path / "new" / "page.html")
    for shown in (
        "2 of 3 stages complete",
        "complete · 1 min 01 s",
        "complete · 2 h 01 min",
        "later waiting",
        "This stage has not logged anything yet.",
        "4.0×",  # 6000 parameters to 1500
        "100.0 → 0.3333",
        "25.0%",
        "50.0%",
        "2 h 02 min",
        "1 of 300 logged losses are not finite.",
        "12,345",
        "0.8765",
        "nan",
        "torch 9.9",
        "c" * 12,
        "Gradient norm not recorded",
    ):
        assert shown in page.text
    for name in ("prepare", "distill", "later", "report"):
        assert page.text.count(name) >= 2
    assert page.tags.count("svg") == 6  # the stages, and what `distill` has logged


def test_what_stages_have_not_written_is_left_out(scored_run: Path) -> None:
    for name in ("prepare/tokens/data_report", "augmented/tokens/data_report", "export/onnx_check"):
        (scored_run / f"{name}.json").unlink()
    (scored_run / "augment" / "shards" / "block_00000000.parquet").write_bytes(b"damaged")
    (scored_run / "evaluate" / "evaluation.json").unlink()
    (scored_run / "check" / "evaluation.json").unlink()
    write_results(scored_run, {"stage": "evaluate", "model": "teacher", "accuracy": float("nan")})
    text = text_of(scored_run)
    assert "Data ·" not in text
    assert "Class by class" not in text


def test_a_run_that_has_just_been_submitted(tmp_path: Path) -> None:
    directory = tmp_path / "job" / "run"
    write(directory / "job.json", {"name": "job", "stages": {"train": {"kind": "train"}}, "result": "train"})
    write_report(directory, tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    for missing in ("0 of 1 stages complete", "No results yet.", "No model has been exported yet.", "Not recorded."):
        assert missing in text


def test_damaged_metrics_are_told_and_stop_nothing(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "distill" / "metrics.jsonl").write_text("what\n{}\n")
    write_report(run_dir, tmp_path / "page.html")
    assert "metrics.jsonl:1: expected a JSON object" in Page(tmp_path / "page.html").text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        write_report(tmp_path, tmp_path / "page.html")
