"""Load what was exported where none of this project can be imported, and compare."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.data.examples import Examples
from kd_dist.data.preprocessing import Encoding, Preprocessing
from kd_dist.errors import RunError
from kd_dist.models.classifier import Classifier, predict_logits

TOLERANCE = 1e-4

CHECKED_ROWS = 8

# Goes before a text, where no cut loses it: full-width forms, invisible characters, and space of several kinds.
UNCLEAN = "\u3000２０２６年，\u200bＡｐｐ！\ufeff  好？\t…  "

# Runs where none of this project can be imported; prints the logits of the rows, and the label that a pipeline gives a
# text and its logit.
STRANGER = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, rows = sys.argv[1], json.load(sys.stdin)
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
with torch.inference_mode():
    logits = [model(**{k: torch.tensor([v]) for k, v in row.items()}).logits[0].tolist() for row in rows["inputs"]]
text = {key: value for key, value in (("text", rows["text"]), ("text_pair", rows["text_pair"])) if value is not None}
classify = pipeline("text-classification", model=folder, device="cpu", dtype=torch.float32)
answer = classify(text, truncation=True, max_length=rows["length"], function_to_apply="none")
answer = answer[0] if isinstance(answer, list) else answer
print(json.dumps({"logits": logits, "ours": "kd_dist" in sys.modules} | answer))
"""


def encode_examples(classifier: Classifier, examples: Examples, preprocessing: Preprocessing) -> list[Encoding]:
    pairs = examples.text_pairs and examples.text_pairs[:CHECKED_ROWS]
    return classifier.encode(preprocessing, examples.texts[:CHECKED_ROWS], pairs)[0]


def check_as_stranger(
    directory: Path, classifier: Classifier, examples: Examples, preprocessing: Preprocessing
) -> None:
    """Load the directory in a process that has transformers but none of this project, and compare.

    Logits are compared on the tokens of some examples; a pipeline's answer on a raw text, unless texts are cut or given
    hint words before any tokenizer sees them.

    Raises:
        RunError: it does not load there, or gives other logits or labels.
    """
    rows = encode_examples(classifier, examples, preprocessing)
    text = UNCLEAN + examples.texts[0]
    pair = UNCLEAN + examples.text_pairs[0] if examples.text_pairs else None
    answer = _ask_stranger(
        directory,
        {
            "inputs": [{name: tensor[0].tolist() for name, tensor in classifier.batch([row]).items()} for row in rows],
            "length": min(classifier.max_length, preprocessing.max_length),
            "text": text,
            "text_pair": pair,
        },
    )
    difference = np.abs(np.array(answer["logits"]) - predict_logits(classifier, rows)).max()
    if not difference <= TOLERANCE or answer["label"] not in classifier.labels or answer["ours"]:
        raise RunError(
            f"{directory}, loaded with transformers alone, gives logits that differ by {difference:.1e} and the label "
            f"{answer['label']!r} (the labels are {', '.join(classifier.labels[:20])})"
        )
    if is_plain(preprocessing):
        encoded, _ = classifier.encode(preprocessing, [text], pair and [pair])
        _refuse_other_answer(directory, answer, classifier.labels, predict_logits(classifier, encoded)[0])


def _ask_stranger(directory: Path, question: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-I", "-c", STRANGER, str(directory.absolute())],
            input=json.dumps(question),
            capture_output=True,
            encoding="utf-8",
            cwd=elsewhere,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
        )
    if done.returncode:
        raise RunError(f"{directory} does not load with transformers alone: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _refuse_other_answer(directory: Path, answer: dict[str, Any], labels: list[str], logits_C: np.ndarray) -> None:
    best = int(logits_C.argmax())
    if answer["label"] != labels[best] or not abs(answer["score"] - logits_C[best]) <= TOLERANCE:
        raise RunError(
            f"{directory}, as a pipeline of transformers, gives a raw text the label {answer['label']!r} and the logit "
            f"{answer['score']:.4f}, but kd_dist gives {labels[best]!r} and {logits_C[best]:.4f}: its tokenizer makes "
            "other tokens of the text than training saw; serve it with kd_dist/predict.py instead"
        )


def is_plain(preprocessing: Preprocessing) -> bool:
    """Whether texts go to the tokenizer as they are, so that others can do the same."""
    return preprocessing.segment == "none" and not preprocessing.hint_words
