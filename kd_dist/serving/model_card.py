"""Write the model card of an export."""

from typing import Any

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.model_files.model_folders import read_manifest
from kd_dist.models.classifier import Classifier
from kd_dist.serving.check import takes_raw_texts
from kd_dist.serving.tokenizer import segments_words


def model_card(classifier: Classifier, preprocessing: Preprocessing, report: dict[str, Any]) -> str:
    """Return the README.md of an export: what the model is, its scores, its labels and how to use it.

    Args:
        report: what `export_onnx` returned.
    """
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
    parts.append(f"## Use\n\n{_usage(classifier, preprocessing)}")
    parts.append(
        f"`onnx/model.onnx` ({report['size_mb']:.1f} MB) takes any batch size and length and gives `logits`; they "
        f"differ from PyTorch's by at most {report['max_difference']:.1e}."
    )
    return "\n\n".join(parts) + "\n"


def _usage(classifier: Classifier, preprocessing: Preprocessing) -> str:
    argument = '{"text": "...", "text_pair": "..."}' if preprocessing.pairs else '"..."'
    has_words = segments_words(classifier.tokenizer, preprocessing)
    code = ", trust_remote_code=True" if classifier.brings_code or has_words else ""  # the code beside the weights
    example = (
        "```python\nfrom transformers import pipeline\n\n"
        f'classify = pipeline("text-classification", model="PATH OF THIS FOLDER"{code})\n'
        f"print(classify({argument}, truncation=True, max_length={preprocessing.max_length}))\n```"
    )
    if takes_raw_texts(classifier, preprocessing):
        also = ", and segments them into words, for which it needs `pip install jieba`" if has_words else ""
        return f"Pass raw texts: the tokenizer cleans them as the training texts were cleaned{also}.\n\n{example}"
    return (
        "Texts are segmented or get hint words before the tokenizer sees them (`preprocessing.json`): use kd_dist, "
        f"`python kd_dist/predict.py --model PATH < texts.txt`, or do the same before this:\n\n{example}"
    )
