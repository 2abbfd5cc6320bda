"""Check that an exported model works with transformers alone."""

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
from kd_dist.serving.tokenizer import segments_words

TOLERANCE = 1e-4

CHECKED_ROWS = 8

# Put before a text, where truncation cannot remove it: full-width forms, invisible characters, several kinds of space.
UNCLEAN = "\u3000２０２６年，\u200bＡｐｐ！\ufeff  好？\t…  "

# Runs where kd_dist cannot be imported. Prints the logits of the rows, and the label and logit that a pipeline predicts
# for a raw text.
ISOLATED_PROGRAM = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, rows = sys.argv[1], json.load(sys.stdin)
code = {"trust_remote_code": rows["brings_code"]}
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **code).eval()
with torch.inference_mode():
    logits = [model(**{k: torch.tensor([v]) for k, v in row.items()}).logits[0].tolist() for row in rows["inputs"]]
text = {key: value for key, value in (("text", rows["text"]), ("text_pair", rows["text_pair"])) if value is not None}
classify = pipeline("text-classification", model=folder, device="cpu", dtype=torch.float32, **code)
answer = classify(text, truncation=True, max_length=rows["length"], function_to_apply="none")
answer = answer[0] if isinstance(answer, list) else answer
print(json.dumps({"logits": logits, "ours": "kd_dist" in sys.modules} | answer))
"""


def encode_examples(classifier: Classifier, examples: Examples, preprocessing: Preprocessing) -> list[Encoding]:
    """Encode the first few examples."""
    pairs = examples.text_pairs and examples.text_pairs[:CHECKED_ROWS]
    return classifier.encode(preprocessing, examples.texts[:CHECKED_ROWS], pairs)[0]


def check_in_isolation(
    directory: Path, classifier: Classifier, examples: Examples, preprocessing: Preprocessing
) -> None:
    """Load an exported model in a process that has transformers but not kd_dist, and compare its predictions.

    The logits are compared on the tokens of a few examples. What a pipeline predicts for a raw text is compared too,
    unless the text needs characters apart or hint words before the tokenizer.

    Args:
        directory: the exported model.
        classifier: the model that it has to agree with.

    Raises:
        RunError: it does not load there, or gives other logits or labels.
    """
    rows = encode_examples(classifier, examples, preprocessing)
    text = UNCLEAN + examples.texts[0]
    pair = UNCLEAN + examples.text_pairs[0] if examples.text_pairs else None
    answer = _run_in_isolation(
        directory,
        {
            "inputs": [{name: tensor[0].tolist() for name, tensor in classifier.batch([row]).items()} for row in rows],
            "length": min(classifier.max_length, preprocessing.max_length),
            "text": text,
            "text_pair": pair,
            "brings_code": classifier.brings_code or segments_words(classifier.tokenizer, preprocessing),
        },
    )
    difference = np.abs(np.array(answer["logits"]) - predict_logits(classifier, rows)).max()
    if not difference <= TOLERANCE or answer["label"] not in classifier.labels or answer["ours"]:
        raise RunError(
            f"{directory}, loaded with transformers alone, gives logits that differ by {difference:.1e} and the label "
            f"{answer['label']!r} (the labels are {', '.join(classifier.labels[:20])})"
        )
    if takes_raw_texts(classifier, preprocessing):
        encoded, _ = classifier.encode(preprocessing, [text], pair and [pair])
        _refuse_other_prediction(directory, answer, classifier.labels, predict_logits(classifier, encoded)[0])


def _run_in_isolation(directory: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-I", "-c", ISOLATED_PROGRAM, str(directory.absolute())],
            input=json.dumps(inputs),
            capture_output=True,
            encoding="utf-8",
            cwd=elsewhere,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
        )
    if done.returncode:
        raise RunError(f"{directory} does not load with transformers alone: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _refuse_other_prediction(directory: Path, answer: dict[str, Any], labels: list[str], logits_C: np.ndarray) -> None:
    best = int(logits_C.argmax())
    if answer["label"] != labels[best] or not abs(answer["score"] - logits_C[best]) <= TOLERANCE:
        raise RunError(
            f"{directory}, as a pipeline of transformers, predicts the label {answer['label']!r} with the logit "
            f"{answer['score']:.4f} for a raw text, but kd_dist predicts {labels[best]!r} with {logits_C[best]:.4f}: "
            "its tokenizer does not give the tokens that the model was trained on; serve it with kd_dist/predict.py "
            "instead"
        )


def takes_raw_texts(classifier: Classifier, preprocessing: Preprocessing) -> bool:
    """Return whether the tokenizer alone turns a text into tokens, without other segmentation or hint words before."""
    by_itself = preprocessing.segment == "none" or segments_words(classifier.tokenizer, preprocessing)
    return by_itself and not preprocessing.hint_words
