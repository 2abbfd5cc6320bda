"""Batches of the tiny worlds."""

import numpy as np
import pytest
import torch

from kd_dist.data.token_rows import TokenRows
from tests.conftest import LabelledWorld, TinyWorld


@pytest.fixture
def corpus_batch(tiny: TinyWorld) -> dict[str, torch.Tensor]:
    """Rows of raw text, the shortest and the longest among them."""
    rows = TokenRows(tiny.tokens, "train", 0)
    shortest, longest = int(rows.lengths.argmin()), int(rows.lengths.argmax())
    return rows.collate(np.array([shortest, longest, 3, 4]))


@pytest.fixture
def labelled_batch(labelled: LabelledWorld) -> dict[str, torch.Tensor]:
    """Labelled rows."""
    return TokenRows(labelled.tokens, "train", 0).collate(np.arange(8))
