"""A student served through onnxruntime in int8 against its teacher in torch, one text at a time, and what int8 costs.

    python benchmarks/int8.py --student STUDENT --teacher TEACHER --tokens TOKENS --output int8.json

The weights are quantized as onnxruntime does it without data (dynamically). Teacher and student take turns
(A B A B ...) on the same texts. Accuracy is that of the student on the test rows, before and after.

Shapes: N rows, C classes.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import logging
import tempfile
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console

from benchmarks.measuring import describe_machine, in_turn, positive, ratio_of, silence_transformers, write_result
from kd_dist.data.examples import Examples, read_split
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.errors import exit_with_message
from kd_dist.models.classifier import Classifier, by_length, load_classifier
from kd_dist.serving.onnx import export_onnx

BATCH_SIZE = 32


class Served:
    """A quantized student in onnxruntime, with as many threads as torch has."""

    def __init__(self, student: Classifier, rows: list[Encoding], work: Path) -> None:
        export_onnx(student, rows[:8], work / "model.onnx")
        model = onnx.load(work / "model.onnx")
        model.graph.ClearField("value_info")  # shapes that the quantizer would infer anew, and find contradicted
        quantize_dynamic(model, work / "int8.onnx", weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.megabytes = (work / "int8.onnx").stat().st_size / 1e6
        self._student = student
        self._session = onnxruntime.InferenceSession(work / "int8.onnx", options, providers=["CPUExecutionProvider"])
        self._names = {one.name for one in self._session.get_inputs()}

    def inputs(self, rows: list[Encoding]) -> dict[str, np.ndarray]:
        batch = {name: tensor.numpy() for name, tensor in self._student.batch(rows).items()}
        batch |= {name: np.zeros_like(batch["input_ids"]) for name in self._names - batch.keys()}
        return batch

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return logits (N, C)."""
        return self._session.run(["logits"], inputs)[0]


def measure(student: Classifier, teacher: Classifier, tokens: Path, num_texts: int, rounds: int) -> dict[str, Any]:
    """Return how much faster the served student is, and the points of accuracy that int8 costs."""
    examples = read_split(tokens, "test")
    preprocessing = Preprocessing.load(tokens)
    rows, _ = student.encode(preprocessing, examples.texts, None)
    teachers, _ = teacher.encode(preprocessing, examples.texts[:num_texts], None)
    with tempfile.TemporaryDirectory() as work:
        served = Served(student, rows, Path(work))
        own = [served.inputs([row]) for row in rows[:num_texts]]
        of_teacher = [teacher.batch([row]) for row in teachers]
        forms = {
            "teacher": lambda: [teacher.run([batch]) for batch in of_teacher],
            "student": lambda: [served.logits(inputs) for inputs in own],
        }
        seconds = in_turn(forms, rounds)
        exact = accuracy(examples, rows, partial(exact_logits, student))
        quantized = accuracy(examples, rows, lambda some: served.logits(served.inputs(some)))
    return {
        "texts": num_texts,
        "median_ms": {name: 1000 * float(np.median(of_form)) / num_texts for name, of_form in seconds.items()},
        "faster": ratio_of(seconds, "teacher", "student"),
        "accuracy": {"fp32": exact, "int8": quantized},
        "points_lost": 100 * (exact - quantized),
        "test_rows": len(rows),
        "megabytes": served.megabytes,
        "seconds": seconds,
    }


def exact_logits(classifier: Classifier, rows: list[Encoding]) -> np.ndarray:
    """Return the logits (N, C) of a classifier in torch."""
    return classifier.run([classifier.batch(rows)]).logits_NC.numpy()


def accuracy(examples: Examples, rows: list[Encoding], logits: Any) -> float:
    """Return the accuracy of what gives the logits of some rows."""
    right = 0
    for numbers in by_length(rows, BATCH_SIZE):
        found = logits([rows[number] for number in numbers]).argmax(1)
        right += int((found == examples.labels[numbers]).sum())
    return right / len(rows)


def show(result: dict[str, Any]) -> None:
    times, scores = result["median_ms"], result["accuracy"]
    Console().print(
        f"one text: teacher {times['teacher']:.2f} ms, student in int8 {times['student']:.2f} ms, "
        f"{result['faster']:.1f}x; accuracy of the student {scores['fp32']:.4f}, in int8 {scores['int8']:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Times a student in onnxruntime's int8 against its teacher in torch.")
    parser.add_argument("--student", type=Path, required=True, metavar="DIR", help="a trained classifier")
    parser.add_argument("--teacher", type=Path, required=True, metavar="DIR", help="a larger one of the same labels")
    parser.add_argument("--tokens", type=Path, required=True, metavar="DIR", help="labelled rows, prepared")
    parser.add_argument("--texts", type=positive, default=64, metavar="N", help="texts of a round (default: 64)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    silence_transformers()
    logging.disable(logging.WARNING)  # the quantizer advises a preparation that is meant for images
    cpu = torch.device("cpu")
    student, teacher = load_classifier(options.student, cpu), load_classifier(options.teacher, cpu)
    result = measure(student, teacher, options.tokens, options.texts, options.rounds)
    result["machine"] = describe_machine()
    show(result)
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
