"""Export a classifier as ONNX, and compare it with PyTorch.

Shapes: B batch, S sequence, C classes.
"""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_dist.config.families import takes_token_types
from kd_dist.data.preprocessing import Encoding
from kd_dist.errors import RunError
from kd_dist.models.classifier import Classifier
from kd_dist.models.recurrent import RecurrentForSequenceClassification
from kd_dist.serving.check import TOLERANCE
from kd_dist.serving.onnx_recurrent import with_onnx_layers

LATENCY_ROUNDS = 30


class _Logits(nn.Module):
    """A classifier that returns nothing but its logits (B, C)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        # XLNet computes with its mask, and the exporter does not make a floating-point number of an integer in between.
        self.mask_type = model.dtype if model.config.model_type == "xlnet" else torch.long

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask.to(self.mask_type), **types).logits


def export_onnx(classifier: Classifier, rows: list[Encoding], path: Path) -> dict[str, Any]:
    """Write a classifier as ONNX for any batch size and length, and compare it with PyTorch.

    Args:
        classifier: it has to be on the CPU.
        rows: real rows to compare on, beside random ones of several shapes.
        path: the file to write; its folder is created.

    Returns:
        `difference_by_shape`, the largest difference of the logits for each shape of the input, `max_difference`,
        `tolerance`, `size_mb`, and the median `latency_ms` of one text of `latency_tokens` tokens in both.
    """
    import onnxruntime

    recurrent = isinstance(classifier.model, RecurrentForSequenceClassification)
    exported = _Logits(with_onnx_layers(classifier.model) if recurrent else classifier.model).eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=classifier.max_length)
    example = _random_inputs(classifier, 2, 8)  # sizes 0 and 1 would be taken for constants
    path.parent.mkdir(parents=True, exist_ok=True)
    with _silence():
        torch.onnx.export(
            exported,
            kwargs=example,
            f=str(path),
            dynamo=True,  # the older exporter is silently wrong at other lengths
            dynamic_shapes={name: {0: batch, 1: length} for name in example},
            input_names=list(example),
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
    model, options = _Logits(classifier.model).eval(), onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    differences = {
        " x ".join(map(str, inputs["input_ids"].shape)): _difference(model, session, inputs)
        for inputs in _checked_inputs(classifier, rows)
    }
    return {
        "max_difference": float(np.max(list(differences.values()))),  # `max` would lose a NaN
        "difference_by_shape": differences,
        "tolerance": TOLERANCE,
        "size_mb": path.stat().st_size / 1e6,
        "latency_tokens": len(rows[0].input_ids),
        "latency_ms": _latency(model, session, _complete(classifier, classifier.batch(rows[:1]))),
    }


def refuse_differences(report: dict[str, Any]) -> None:
    """Raise RunError when the largest difference is above the tolerance, or is not a number."""
    if not report["max_difference"] <= TOLERANCE:
        raise RunError(
            f"the ONNX file gives logits that differ from torch by {report['max_difference']:.1e}, more than "
            f"{TOLERANCE:.0e} (by shape: {report['difference_by_shape']}); serve the Hugging Face directory instead"
        )


def _checked_inputs(classifier: Classifier, rows: list[Encoding]) -> Iterator[dict[str, Tensor]]:
    """Yield batches of other sizes and lengths than the exported example, with padding, and then real rows."""
    longest = min(classifier.max_length, 128)
    for batch_size, length in ((1, 3), (1, longest), (3, longest // 2 + 1), (7, longest)):
        yield _random_inputs(classifier, batch_size, length)
    yield _complete(classifier, classifier.batch(rows))


def _random_inputs(classifier: Classifier, batch_size: int, length: int) -> dict[str, Tensor]:
    """Return random tokens, each (B, S), where every row is a few tokens shorter than the one before."""
    random = np.random.default_rng(length)
    lengths = [max(1, length - 2 * row) for row in range(batch_size)]
    ids = [random.integers(0, classifier.model.config.vocab_size, size).tolist() for size in lengths]
    return _complete(classifier, classifier.batch([Encoding(row, None, truncated=False) for row in ids]))


def _complete(classifier: Classifier, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add token types where the tokenizer returns them: a server passes ONNX what the tokenizer returns."""
    config, returned = classifier.model.config, classifier.tokenizer.model_input_names
    takes_types = hasattr(config, "type_vocab_size") or takes_token_types(config.model_type, 0)
    if takes_types and "token_type_ids" in returned and "token_type_ids" not in batch:
        return batch | {"token_type_ids": torch.zeros_like(batch["input_ids"])}
    return batch


@torch.inference_mode()
def _difference(model: nn.Module, session: Any, inputs: dict[str, Tensor]) -> float:
    found = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    return float(np.abs(found - model(**inputs).numpy()).max())


@torch.inference_mode()
def _latency(model: nn.Module, session: Any, inputs: dict[str, Tensor]) -> dict[str, float]:
    """Return the median milliseconds of one row in each, measured in turns."""
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    seconds: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
    for _ in range(LATENCY_ROUNDS):
        started = time.perf_counter()
        model(**inputs)
        between = time.perf_counter()
        session.run(["logits"], arrays)
        seconds["torch"].append(between - started)
        seconds["onnxruntime"].append(time.perf_counter() - between)
    return {name: 1000 * median(taken) for name, taken in seconds.items()}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporter, whose warnings a user can do nothing about."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
