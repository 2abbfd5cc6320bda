"""Read what earlier versions wrote about jobs and stages: some kinds and sections have other names now."""

from typing import Any

Content = dict[str, Any]

KINDS = {"prepare": "corpus", "export": "serve"}


def modernized_job(content: Content) -> Content:
    """Return the content of a job.json under today's names; a current one comes back equal."""
    return content | {"stages": {name: modernized_stage(stage) for name, stage in content["stages"].items()}}


def modernized_stage(content: Content) -> Content:
    """Return the description of a stage under today's names; a current one comes back equal.

    One section, `teacher`, used to name whatever model a stage took: the source of its tokenizer, the encoder to
    fine-tune, the donor of layers, the model that proposes words.
    """
    kind, path = content.get("kind"), (content.get("teacher") or {}).get("path")
    others = {key: value for key, value in content.items() if key not in ("kind", "teacher")}
    if kind == "prepare":
        tokenizer = (content.get("tokenizer") or {}) | ({"path": path} if path else {})
        return others | {"kind": KINDS[kind], "tokenizer": tokenizer}
    if kind == "labelled" and path:
        return others | {"kind": kind, "tokenizer": {"path": path}}
    if kind == "augment" and "encoder" not in content:
        asked = path if content["augment"].get("keep_confidence") is not None else None
        return others | {"kind": kind, "encoder": {"path": path}, "teacher": {"path": asked}}
    if kind == "train" and path and "encoder" not in content:
        return others | {"kind": kind, _part_in_training(content): {"path": path}}
    return content | {"kind": KINDS.get(kind or "", kind)}


def _part_in_training(content: Content) -> str:
    if content.get("student") is None:
        return "encoder"
    return "donor" if content["objective"]["name"] == "finetune" else "teacher"
