"""A classifier made ready to be served: a Hugging Face directory with ONNX beside it, both checked.

Shapes: B batch, S sequence, C classes.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, normalizers
from torch import Tensor, nn
from transformers import AutoTokenizer

from kd_dist.classifier import Classifier, load_classifier, load_preprocessing, predict_logits, read_manifest
from kd_dist.config import read_stage
from kd_dist.errors import RunError
from kd_dist.examples import Examples, read_split
from kd_dist.preprocessing import FILE_NAME, Encoding, Preprocessing
from kd_dist.runs import rebuilt_export, write_json, write_text
from kd_dist.stages import ExportStage
from kd_dist.texts import INVISIBLE

TOLERANCE = 1e-4
CHECKED_ROWS = 8
LATENCY_ROUNDS = 30
NOT_COPIED = ("onnx", "README.md", "checkpoint-*", "*.onnx", "*.bin", "*.h5", "*.msgpack", ".*")

WHITE_SPACE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # as `str.split` takes it
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


def run(stage_dir: Path) -> None:
    """The export stage: `stage_dir`/export, there as a whole or not at all, and `stage_dir`/onnx_check.json.

    Raises:
        UserError: the model is no trained classifier.
        RunError: what was written gives other logits than the model.
    """
    stage: ExportStage = read_stage(stage_dir)
    source, tokens = Path(stage.model.path), Path(stage.data.tokens)
    classifier = load_classifier(source, torch.device("cpu"))
    examples = read_split(tokens, "validation")
    with rebuilt_export(stage_dir) as directory:
        _copy(source, directory, classifier, Preprocessing.load(tokens))
        preprocessing = Preprocessing.load(directory)
        rows = _encoded(classifier, examples, preprocessing)
        check_as_stranger(directory, classifier, examples, preprocessing)
        report = export_onnx(classifier, rows, directory / "onnx" / "model.onnx")
        write_json(stage_dir / "onnx_check.json", report)
        _refuse_differences(report)
        write_text(directory / "README.md", model_card(classifier, preprocessing, report))
    latency = report["latency_ms"]
    print(
        f"{stage_dir / 'export'}: ONNX of {report['size_mb']:.1f} MB differs from torch by at most "
        f"{report['max_difference']:.1e}; one text takes {latency['onnxruntime']:.2f} ms in onnxruntime, "
        f"{latency['torch']:.2f} ms in torch (CPU)",
        flush=True,
    )


def _copy(source: Path, target: Path, classifier: Classifier, default: Preprocessing) -> None:
    """The files of a model, links followed; a tokenizer that cleans texts; and how they become tokens, where it does
    not say."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)
    if not any(target.glob("*.safetensors")):
        classifier.model.save_pretrained(target)  # weights of another format
    if not (target / FILE_NAME).is_file():
        load_preprocessing(classifier, default).save(target)
    save_cleaning_tokenizer(target)


def save_cleaning_tokenizer(directory: Path) -> None:
    """Make the tokenizer of a model clean raw texts by itself, as all that the model was trained on was cleaned.

    What is clean already gives the same tokens as before. The class becomes the general one, which takes the tokenizer
    as its file has it: those of a family make theirs anew and would lose the cleaning.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*_cleaning(), *own])
    tokenizer.save_pretrained(str(directory))
    file = directory / "tokenizer_config.json"
    general = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | general)


def _cleaning() -> list[normalizers.Normalizer]:
    """`texts.clean`, step by step; the two differ in some 70 rare letters that are newer than the tokenizer's NFKC."""
    invisible = INVISIBLE.pattern.replace("\ud800-\udfff", "")  # surrogates do not get as far as a tokenizer
    return [
        normalizers.Replace(Regex(invisible), ""),
        normalizers.NFKC(),
        normalizers.Replace(Regex(f"{WHITE_SPACE}+"), " "),
        normalizers.Strip(),
    ]


def _encoded(classifier: Classifier, examples: Examples, preprocessing: Preprocessing) -> list[Encoding]:
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
    rows = _encoded(classifier, examples, preprocessing)
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


# ---------------------------------------------------------------------------------------------------------------- ONNX


class _Logits(nn.Module):
    """A classifier that returns its logits (B, C) alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits


def export_onnx(classifier: Classifier, rows: list[Encoding], path: Path) -> dict[str, Any]:
    """Write a classifier on the CPU as ONNX, for any batch size and length, and compare it with torch.

    Returns the largest difference of the logits by shape of the input, `max_difference`, `size_mb`, and the median
    `latency_ms` in both of one text of `latency_tokens` tokens.
    """
    import onnxruntime  # type: ignore[import-untyped]

    model = _Logits(classifier.model).eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=classifier.max_length)
    example = _random_inputs(classifier, 2, 8)  # sizes 0 and 1 would be taken for constants
    path.parent.mkdir(parents=True, exist_ok=True)
    with _silence():
        torch.onnx.export(
            model,
            kwargs=example,
            f=str(path),
            dynamo=True,  # the older exporter is silently wrong at other lengths
            dynamic_shapes={name: {0: batch, 1: length} for name in example},
            input_names=list(example),
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
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


def _refuse_differences(report: dict[str, Any]) -> None:
    if not report["max_difference"] <= TOLERANCE:
        raise RunError(
            f"the ONNX file gives logits that differ from torch by {report['max_difference']:.1e}, more than "
            f"{TOLERANCE:.0e} (by shape: {report['difference_by_shape']}); serve the Hugging Face directory instead"
        )


def _checked_inputs(classifier: Classifier, rows: list[Encoding]) -> Iterator[dict[str, Tensor]]:
    """Batches of other sizes and lengths than the exported one, with padding; then real rows."""
    longest = min(classifier.max_length, 128)
    for batch_size, length in ((1, 3), (1, longest), (3, longest // 2 + 1), (7, longest)):
        yield _random_inputs(classifier, batch_size, length)
    yield _complete(classifier, classifier.batch(rows))


def _random_inputs(classifier: Classifier, batch_size: int, length: int) -> dict[str, Tensor]:
    """Random tokens, (B, S); every row but the first is padded by some tokens more than the one before."""
    random = np.random.default_rng(length)
    lengths = [max(1, length - 2 * row) for row in range(batch_size)]
    ids = [random.integers(0, classifier.model.config.vocab_size, size).tolist() for size in lengths]
    return _complete(classifier, classifier.batch([Encoding(row, None, truncated=False) for row in ids]))


def _complete(classifier: Classifier, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """With token types where the tokenizer gives some: who serves feeds ONNX what the tokenizer gives."""
    has_types = "token_type_ids" in classifier.tokenizer.model_input_names
    if has_types and hasattr(classifier.model.config, "type_vocab_size") and "token_type_ids" not in batch:
        return batch | {"token_type_ids": torch.zeros_like(batch["input_ids"])}
    return batch


@torch.inference_mode()
def _difference(model: nn.Module, session: Any, inputs: dict[str, Tensor]) -> float:
    found = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    return float(np.abs(found - model(**inputs).numpy()).max())


@torch.inference_mode()
def _latency(model: nn.Module, session: Any, inputs: dict[str, Tensor]) -> dict[str, float]:
    """Median milliseconds of one row, both taking turns."""
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
    """The exporter has much to say, and nothing that its user could act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---------------------------------------------------------------------------------------------------------- model card


def model_card(classifier: Classifier, preprocessing: Preprocessing, report: dict[str, Any]) -> str:
    """README.md of the export: what it is, how good, and how it is used."""
    manifest = read_manifest(classifier.directory)
    shown = {name: value for name, value in manifest.get("scores", {}).items() if isinstance(value, int | float)}
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in shown.items())
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-classification\n---",
        f"# A {classifier.task.replace('_', '-')} text classifier",
        f"{parameters:,} parameters; texts of up to {preprocessing.max_length} tokens.",
    ]
    if scores:
        parts.append(f"## Scores\n\n| metric | value |\n|---|---|\n{scores}")
    if classifier.task != "regression":
        parts.append("## Labels\n\n" + ", ".join(classifier.labels))
    parts.append(f"## Use\n\n{_usage(preprocessing)}")
    parts.append(
        f"`onnx/model.onnx` ({report['size_mb']:.1f} MB) takes any batch size and length and gives `logits`; they "
        f"differ from PyTorch's by at most {report['max_difference']:.1e}."
    )
    return "\n\n".join(parts) + "\n"


def _usage(preprocessing: Preprocessing) -> str:
    argument = '{"text": "...", "text_pair": "..."}' if preprocessing.pairs else '"..."'
    example = (
        "```python\nfrom transformers import pipeline\n\n"
        'classify = pipeline("text-classification", model="PATH OF THIS FOLDER")\n'
        f"print(classify({argument}, truncation=True, max_length={preprocessing.max_length}))\n```"
    )
    if is_plain(preprocessing):
        return f"Give raw texts: the tokenizer cleans them as those of training were cleaned.\n\n{example}"
    return (
        "Texts are cut or given hint words before the tokenizer sees them (`preprocessing.json`): use kd_dist, "
        f"`python kd_dist/predict.py --model PATH < texts.txt`, or do the same before\n\n{example}"
    )
