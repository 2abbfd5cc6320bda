"""Models to score, and texts to score them on."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TinyWorld
from tests.evaluation.labelled_tokens import logits_of, sample_texts, save_early_exit, save_teacher


@pytest.fixture(scope="session")
def texts(tiny: TinyWorld) -> list[str]:
    return sample_texts(tiny)


@pytest.fixture(scope="session")
def teacher(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("models") / "teacher", tiny)


@pytest.fixture(scope="session")
def predicted(texts: list[str], teacher: Path) -> np.ndarray:
    """(N, C) logits of the teacher."""
    return logits_of(teacher, texts)


@pytest.fixture(scope="session")
def fast(tiny: TinyWorld, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_early_exit(tmp_path_factory.mktemp("fast") / "export", tiny, texts)
