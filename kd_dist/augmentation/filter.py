"""Filter copies by the confidence of the teacher in their label.

Shapes: B rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError


class Confidence:
    """Compute the probability that the teacher gives to the labels of rows.

    Raises:
        UserError: the teacher's labels are not those of the data.
        RunError: the data has numbers in place of labels.
    """

    def __init__(self, teacher: str, rows: PreparedRows, device: Any) -> None:
        from kd_dist.data.tokenizer_folders import load_tokenizer
        from kd_dist.models.teacher import Teacher, Wanted

        self._task = rows.labels.task
        if self._task == "regression":
            raise RunError("augment.keep_confidence needs labels with a probability; regression has none")
        self._preprocessing = rows.preprocessing
        self._tokenizer = load_tokenizer(rows.tokenizer_folder)
        self._device = device
        self._teacher = Teacher(
            teacher,
            Wanted(logits=True),
            precision="auto" if device.type == "cuda" else "fp32",  # on CPUs whatever they have, results stay the same
            device=device,
            label2id=rows.label2id,
        )

    def __call__(self, rows: Sequence[tuple[str, ...]], labels: Sequence[Any]) -> np.ndarray:
        """Return (B) the probability of the label; for several labels, of the one the teacher agrees with least."""
        from kd_dist.augmentation.masked_words import TOKENS_PER_BATCH
        from kd_dist.data.token_rows import batches_of_tokens
        from kd_dist.evaluation.scores import probabilities

        columns = [list(column) for column in zip(*rows, strict=True)]
        encodings = self._preprocessing.encode(self._tokenizer, *columns) if rows else []
        confidence = np.zeros(len(rows))
        for batch in batches_of_tokens([len(encoding.input_ids) for encoding in encodings], TOKENS_PER_BATCH):
            probability_BC = probabilities(self._task, self._logits([encodings[row] for row in batch]))
            if self._task == "single_label":
                confidence[batch] = probability_BC[np.arange(len(batch)), [labels[row] for row in batch]]
            else:
                labels_BC = np.array([labels[row] for row in batch]) > 0.5
                confidence[batch] = np.where(labels_BC, probability_BC, 1 - probability_BC).min(axis=1)
        return confidence

    def _logits(self, encodings: list[Any]) -> np.ndarray:
        columns = {"input_ids": [encoding.input_ids for encoding in encodings]}
        if encodings[0].token_type_ids is not None:
            columns["token_type_ids"] = [encoding.token_type_ids for encoding in encodings]
        batch = self._tokenizer.pad(columns, return_tensors="pt").to(self._device)
        logits_BC = self._teacher(batch).logits
        assert logits_BC is not None
        return logits_BC.cpu().numpy()
