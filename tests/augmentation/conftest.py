"""Stages over small models and rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.sections.data import LabelledData
from kd_dist.config.stages import AugmentedStage, AugmentStage
from kd_dist.data import labelled
from tests.augmentation.world import BLOCK, ROWS, World, write_models, write_vectors
from tests.conftest import TinyWorld


@pytest.fixture(scope="session")
def world(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("augment")
    text = "".join(tiny.corpus.read_text(encoding="utf-8").split())
    texts = [text[start : start + 24] for start in range(0, 24 * 2 * (ROWS + 60), 24)]
    files = {name: root / name for name in ("train.tsv", "validation.tsv", "pairs.tsv")}
    files["train.tsv"].write_text("".join(f"{i % 3}\t{t}\n" for i, t in enumerate(texts[:ROWS])), "utf-8")
    files["validation.tsv"].write_text(
        "".join(f"{i % 3}\t{t}\n" for i, t in enumerate(texts[ROWS : ROWS + 30])), "utf-8"
    )
    couples = zip(texts[: ROWS // 3], texts[ROWS : ROWS + ROWS // 3], strict=True)
    files["pairs.tsv"].write_text("".join(f"{i % 2}\t{a}\t{b}\n" for i, (a, b) in enumerate(couples)), "utf-8")
    settings: dict[str, Any] = {"max_length": 48, "num_workers": 1, "validation": [str(files["validation.tsv"])]}
    data = LabelledData(train=[str(files["train.tsv"])], **settings)
    labelled.prepare(data, str(tiny.tokenizer), root / "tokens", root / "train.txt")
    columns = {"columns": ["label", "text", "text_pair"], "max_length": 64, "num_workers": 1}
    data = LabelledData(train=[str(files["pairs.tsv"])], **columns)
    labelled.prepare(data, str(tiny.tokenizer), root / "pairs", root / "pairs.txt")
    write_models(root, tiny.tokenizer)
    write_vectors(root / "vectors.txt", texts)
    return World(*(root / name for name in ("tokens", "pairs", "mlm", "encoder", "classifier", "vectors.txt")))


@pytest.fixture
def stage_of(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the folder of an augment stage over little blocks."""
    monkeypatch.setattr("kd_dist.augmentation.blocks.BLOCK_ROWS", BLOCK)

    def write(
        name: str = "augment",
        *,
        encoder: Path = world.encoder,
        teacher: Path | None = None,
        tokens: Path = world.tokens,
        shards: int = 1,
        **settings: Any,
    ) -> Path:
        settings = {"copies": 4, "candidates": 6, "word_vectors": str(world.vectors)} | settings
        stage = AugmentStage(
            encoder={"path": str(encoder)},
            teacher={"path": teacher and str(teacher)},
            data={"tokens": str(tokens)},
            augment=settings,
            resources={"shards": shards},
        )
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def long_rows(tiny: TinyWorld, tmp_path: Path) -> Callable[..., Path]:
    """Labelled rows of these texts, seen through a window of 24 tokens."""

    def prepare(*texts: str, tokenizer: Path = tiny.tokenizer, held_out: str = "国家", **settings: Any) -> Path:
        for name, contents in (("train", texts), ("validation", [held_out])):
            lines = [f"{number % 2}\t{text}\n" for number, text in enumerate(contents)]
            (tmp_path / f"long_{name}.tsv").write_text("".join(lines), encoding="utf-8")
        files = {name: [str(tmp_path / f"long_{name}.tsv")] for name in ("train", "validation")}
        data = LabelledData(max_length=24, num_workers=1, **files, **settings)
        labelled.prepare(data, str(tokenizer), tmp_path / "long", tmp_path / "long.txt")
        return tmp_path / "long"

    return prepare


@pytest.fixture
def collected_of(tmp_path: Path) -> Callable[..., Path]:
    def write(shards: Path, tokens: Path) -> Path:
        stage = AugmentedStage(data={"tokens": str(tokens), "shards": str(shards), "num_workers": 2})
        (tmp_path / "augmented").mkdir(exist_ok=True)
        (tmp_path / "augmented" / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
        return tmp_path / "augmented"

    return write
