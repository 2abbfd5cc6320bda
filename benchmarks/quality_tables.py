"""The tables of what distillation buys, made from results/quality*.json (`benchmarks/quality.py`)."""

from pathlib import Path
from statistics import mean

from benchmarks.quality import compared
from benchmarks.table import RESULTS, link, table
from kd_dist.files import read_json

QUALITY = "data|method|seeds|teacher|student alone|distilled student|of the teacher's|gain, points|figures"
SEVERAL_LABELS = "model|seeds|micro F1|macro F1|figures"
EPOCHS = "data|teacher|student alone|once|twice the epochs, seeds 1 and 2|of the teacher's, mean|figures"


def quality() -> list[str]:
    """Return what a student gains by distillation with default settings, and with one of them changed."""
    return _quality(RESULTS / "quality.json")


def projected() -> list[str]:
    """Return the same of students whose layers start from random weights, unless the method says otherwise."""
    return _quality(RESULTS / "quality_projected.json")


def demo() -> list[str]:
    """Return what the demo's student gains on reviews that the demo leaves aside, and with other starts and lengths."""
    return _quality(RESULTS / "quality_demo.json")


def _quality(file: Path) -> list[str]:
    return table(QUALITY, [[*cells, link(file)] for cells in compared(read_json(file))])


def settings() -> list[str]:
    """Return what a setting changes on validation rows, at the best checkpoint, from pruned students."""
    file = RESULTS / "quality_validation.json"
    by_data: dict[str, dict[str, dict[str, float]]] = read_json(file)  # data -> setting -> seed -> accuracy
    rows = []
    for setting in dict.fromkeys(name for found in by_data.values() for name in found):
        of_sets = [found.get(setting, {}) for found in by_data.values()]
        gains = [
            accuracy - found["default"][seed]
            for found in by_data.values()
            for seed, accuracy in found.get(setting, {}).items()
        ]
        means = [f"{mean(found.values()):.4f}" if found else "" for found in of_sets]
        gain = "" if setting == "default" else f"{100 * mean(gains):+.1f}"
        rows.append([setting, *means, str(len(gains)), gain, link(file)])
    return table("|".join(["setting", *by_data, "runs", "gain, points", "figures"]), rows)


def epochs() -> list[str]:
    """Return what twice as many epochs change on validation rows, of the best checkpoint."""
    file, rows = RESULTS / "quality_epochs.json", []
    for data, found in read_json(file).items():
        of_forms = [
            "; ".join(f"{one['best']:.4f}" for one in found[form]) for form in ("student_alone", "default", "twice")
        ]
        kept = mean(one["best"] for one in found["twice"]) / found["teacher"]
        rows.append([data, f"{found['teacher']:.4f}", *of_forms, f"{kept:.1%}", link(file)])
    return table(EPOCHS, rows)


def several_labels() -> list[str]:
    """Return what learning rate and perturbed rows change where a text may have several labels, on validation rows."""
    file, rows = RESULTS / "quality_several_labels.json", []
    for model, seeds in read_json(file).items():
        means = [f"{mean(found[score] for found in seeds.values()):.3f}" for score in ("micro_f1", "macro_f1")]
        rows.append([model, str(len(seeds)), *means, link(file)])
    return table(SEVERAL_LABELS, rows)
