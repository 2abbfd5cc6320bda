"""The serve stage: a classifier as a Hugging Face directory with an ONNX file, both checked."""

import shutil
from pathlib import Path

import torch

from kd_dist.config.stages import ServeStage
from kd_dist.data.examples import read_split
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import FILE_NAME, Preprocessing
from kd_dist.files import replaced_folder, write_json, write_text
from kd_dist.models.classifier import Classifier, load_classifier, load_preprocessing
from kd_dist.serving.check import check_in_isolation, encode_examples
from kd_dist.serving.model_card import model_card
from kd_dist.serving.onnx import export_onnx, refuse_differences
from kd_dist.serving.tokenizer import save_cleaning_tokenizer

NOT_COPIED = ("onnx", "README.md", "checkpoint-*", "*.onnx", "*.bin", "*.h5", "*.msgpack", ".*")


def run(stage: ServeStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/export, which is complete or absent, and `stage_dir`/onnx_check.json.

    Raises:
        UserError: the model is not a trained classifier.
        RunError: the exported model gives other logits than the model.
    """
    source, tokens = Path(stage.model.path), Path(stage.data.tokens)
    classifier = load_classifier(source, torch.device("cpu"))
    examples = read_split(tokens, "validation")
    with replaced_folder(stage_dir / "export") as (_, directory):
        _copy(source, directory, classifier, PreparedRows(tokens).preprocessing)
        preprocessing = Preprocessing.load(directory)
        rows = encode_examples(classifier, examples, preprocessing)
        check_in_isolation(directory, classifier, examples, preprocessing)
        report = export_onnx(classifier, rows, directory / "onnx" / "model.onnx")
        write_json(stage_dir / "onnx_check.json", report)
        refuse_differences(report)
        write_text(directory / "README.md", model_card(classifier, preprocessing, report))
    latency = report["latency_ms"]
    print(
        f"{stage_dir / 'export'}: ONNX of {report['size_mb']:.1f} MB differs from torch by at most "
        f"{report['max_difference']:.1e}; one text takes {latency['onnxruntime']:.2f} ms in onnxruntime, "
        f"{latency['torch']:.2f} ms in torch (CPU)",
        flush=True,
    )


def _copy(source: Path, target: Path, classifier: Classifier, default: Preprocessing) -> None:
    """Copy the files of a model, following links, with a tokenizer that cleans texts.

    A model that does not say how texts become tokens gets the `default`.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)
    if not any(target.glob("*.safetensors")):
        classifier.model.save_pretrained(target)  # weights of another format
    if not (target / FILE_NAME).is_file():
        load_preprocessing(classifier, default).save(target)
    save_cleaning_tokenizer(target, Preprocessing.load(target))
