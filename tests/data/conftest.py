"""Settings of a small corpus, and a tokenizer that is trained on random texts."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kd_dist.data.tokenizers import train_tokenizer
from tests.conftest import TinyWorld

WORDS = ["今天", "天气", "很好", "我们", "公园", "研究", "语言", "模型", "知识", "蒸馏", "学生", "老师", "北京", "大学"]
WORDS += ["快速", "训练", "test", "model", "small", "v2"]
LINES_TO_TOKENIZE = [
    "今天天气很好。我们去公园!",
    "知识蒸馏训练学生模型。",
    "老师很好?",
    "Small models train fast. Yes!",
    "北京大学",
]


def random_line(rng: random.Random, num_words: int) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(["", "", "", "。", "!", ". ", ","]) for _ in range(num_words))


@pytest.fixture
def arguments(tiny: TinyWorld) -> dict:
    return {
        "files": [tiny.corpus],
        "tokenizer_path": str(tiny.tokenizer),
        "max_length": 32,
        "pack": True,
        "text_field": "text",
        "word_starts": False,
        "validation_fraction": 0.1,
        "num_workers": 1,
    }


@pytest.fixture(scope="package")
def random_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 400 different lines in documents of up to 20 lines."""
    rng = random.Random(0)
    lines = ["" if rng.random() < 0.05 else random_line(rng, rng.randint(2, 30)) for _ in range(420)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="package")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory, random_text: Path) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    more = folder / "more.txt"
    more.write_text("\n".join(LINES_TO_TOKENIZE), encoding="utf-8")
    train_tokenizer([random_text, more], folder / "bert", vocabulary_size=200, text_field="text")
    return str(folder / "bert")


@pytest.fixture(scope="package")
def trained_tokenizer(tokenizer_dir: str):
    return AutoTokenizer.from_pretrained(tokenizer_dir)
