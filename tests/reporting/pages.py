"""Read pages, and write what stages of a run have written."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from kd_dist.reporting.page import VOID
from kd_dist.reporting.run_page import write_report

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


LABELS = ["财经", ODD, "体育"]


def score(model: str, accuracy: float, **more: Any) -> dict[str, Any]:
    """A row of an evaluate stage; every model but the teacher is four times as small and fast."""
    size = 4 if model == "teacher" else 1
    row = {"stage": "evaluate", "model": model, "split": "test", "rows": 200, "accuracy": accuracy}
    row |= {"macro_f1": accuracy - 0.01, "rows_cut": 3, "parameters": size * 10**6, "size_mb": size * 4.0}
    row |= {"operations_per_sample": size * 10**8, "latency_ms": size * 2.0, "samples_per_second": 400 / size}
    return row | {"device": "CPU, 2 threads"} | more


def details(accuracy: float) -> dict[str, Any]:
    classes = [{"label": label, "precision": 0.5, "recall": 0.25, "f1": 0.3333, "support": 100} for label in LABELS]
    return {"accuracy": accuracy, "per_class": classes, "confusion_matrix": [[90, 10, 0], [7, 43, 0], [0, 0, 50]]}


def data_report(rows: int, **more: Any) -> dict[str, Any]:
    empty = {"rows": 0, "labels": dict.fromkeys(LABELS, 0), "token_percentiles": {"50": 0, "100": 0}, "truncated": 0}
    some = {"rows": rows, "labels": dict(zip(LABELS, (rows - 30, 20, 10), strict=True)), "files": [ODD]}
    some |= {"token_percentiles": {"50": 17, "100": 96}, "truncated": 2, "skipped": {"empty text": 5}}
    leaks = {"train_rows": 13, "test_rows_in_validation": 0, "removed": True}
    report = {"task": "single_label", "train": some, "validation": some, "test": empty, "leaks": leaks}
    report |= {"duplicates_in_train": 11, "rare_labels": [], "largest_share": 0.7, "largest_to_smallest": 7.0}
    return report | {"samples": {ODD: [f"{ODD}\nsecond"]}} | more


def write_results(run_dir: Path, *rows: dict[str, Any]) -> None:
    write(run_dir / "results.json", rows)


def text_of(run_dir: Path) -> str:
    write_report(run_dir, run_dir / "page.html")
    return Page(run_dir / "page.html").text


SPEEDS = {0.0: (0.9, 3.0, 1.0), 0.5: (0.875, 1.75, 2.0), 1.0: (0.6, 1.0, 3.5)}


def exit_score(accuracy: float, layers: float, saved: float, **more: Any) -> dict[str, Any]:
    """A row of a model with early exit; half as much of what it saves is time."""
    row = score("fast", accuracy, mean_layers=layers, quality_kept=accuracy / 0.9)
    row |= {"operations_per_sample": round(4e8 / saved), "operations_padded": round(9e8 / saved)}
    row |= {"latency_ms": 8 / saved, "samples_per_second": 50 * saved, "speedup_realised": 0.5}
    return row | {"operations_ratio": saved, "latency_ratio": saved, "throughput_ratio": saved / 2} | more


def calibration_of(thresholds: list[float], **rule: Any) -> dict[str, Any]:
    rule = {"thresholds": thresholds, "measure": "entropy", "top_k": 5, "patience": None} | rule
    chosen = {"rule": rule, "quality": 0.8712, "speedup": 1.75, "mean_layers": 1.9}
    full = {"rule": rule | {"thresholds": [0.0, 0.0]}, "quality": 0.8765, "speedup": 1.0, "mean_layers": 3.0}
    odd = {"rule": rule, "quality": float("nan"), "speedup": 2.0, "mean_layers": 1.0}
    return {"rows": 150, "metric": "accuracy", "chosen": chosen, "outcomes": [full, chosen, odd]}
