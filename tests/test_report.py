"""The page shows a run as it is: whole, half done or odd, and loads nothing from elsewhere."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from kd_dist.config import REPOSITORY
from kd_dist.errors import UserError
from kd_dist.report import VOID, run, write_report

ODD = '<script>alert("1")</script> & 中文'
ODD_TERM = '<b class="x"> & 损失'


class Page(HTMLParser):
    """Text and attributes of a page; every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name.split(":")[-1] in ("src", "href", "srcset")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run in the middle: one training stage done, one that has not begun, and text that looks like markup."""
    directory, teacher = tmp_path / "runs" / "the_job" / "run-1", tmp_path / "teacher"
    (directory / "distill" / "export").mkdir(parents=True)
    teacher.mkdir()
    save_file({"a": np.zeros((100, 50), np.float16), "b": np.zeros(1000, np.float32)}, teacher / "model.safetensors")
    save_file({"a": np.zeros((10, 150), np.float32)}, directory / "distill" / "export" / "model.safetensors")
    stages = {
        "prepare": {"kind": "prepare", "data": {"corpus": [ODD]}},
        "distill": {"kind": "train", "teacher": {"path": str(teacher)}, "data": {"tokens": "@prepare/tokens"}},
        "later": {"kind": "train", "teacher": {"path": ODD}, "data": {"tokens": "@prepare/tokens"}},
        "report": {"kind": "report", "report": {"stages": ["@distill", "@later"]}},
    }
    write(directory / "job.json", {"name": ODD, "description": ODD, "stages": stages, "result": "distill"})
    write(directory / "environment.json", {"python": "3.11", "packages": {"torch": "9.9"}, "git": {"commit": "c" * 40}})
    write(directory / "prepare" / "COMPLETE", {"fingerprint": "x", "seconds": 61.0})
    write(directory / "distill" / "COMPLETE", {"fingerprint": "x", "seconds": 7300.0})
    write(
        directory / "prepare" / "tokens" / "statistics.json",
        {"files": [ODD], "rows": 12345, "pack": True, "length_percentiles": {"50": 77}},
    )
    write(
        directory / "results.json",
        [
            {"stage": "distill", "model": ODD, "split": "validation", "parameters": 1500, "loss": float("nan")},
            {"stage": "distill", "model": "teacher", "accuracy": 0.87654321},
        ],
    )
    with open(directory / "distill" / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1, 301):
            row = {"global_step": step, "train/loss": 100 / step, "train/a": 60 / step, f"train/{ODD_TERM}": 40 / step}
            row |= {"optim/learning_rate": 1e-4, "speed/samples_per_second": 2000.0, "speed/padding_share": 0.25}
            row |= {"speed/teacher_share": 0.5, "train/weighted/a": 1.0}
            row |= {"train/loss": None} if step == 7 else {}
            row |= {"train/a": float("nan")} if step == 8 else {}
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"global_step": 300, "evaluation/loss": 0.5}) + "\n" + '{"global_st')
    return directory


def test_the_page_is_whole_escaped_and_self_contained(run_dir: Path) -> None:
    run(run_dir / "report")
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


def test_a_wide_loss_is_on_a_logarithmic_axis(run_dir: Path, tmp_path: Path) -> None:
    write_report(run_dir, tmp_path / "page.html")
    wide = Page(tmp_path / "page.html").texts
    assert {"1", "10", "100"} <= set(wide)


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


def test_the_command_line(run_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "kd_dist" / "report.py"), str(run_dir)]
    output = tmp_path / "page.html"
    subprocess.run([*command, "--output", str(output)], check=True, cwd=tmp_path, capture_output=True)
    assert Page(output).text
    refused = subprocess.run([command[0], command[1], str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
