"""Translate jobs and stages that earlier versions wrote.

Some kinds and sections have been renamed since, and some settings, which they did not write, have new defaults.
"""

from typing import Any

Content = dict[str, Any]

KINDS = {"prepare": "corpus", "export": "serve"}

FORMER_DEFAULTS: dict[str, Content] = {  # of stages that train
    "student": {"init": "random"},
    "objective": {"attention": "raw", "units": "absolute"},  # of layer distillation
}


def modernized_job(content: Content) -> Content:
    """Return the content of a job.json under the current names; current content is returned unchanged."""
    return content | {"stages": {name: modernized_stage(stage) for name, stage in content["stages"].items()}}


def modernized_stage(content: Content) -> Content:
    """Return the description of a stage under the current names; a current description is returned unchanged."""
    return _with_former_defaults(_renamed(content))


def _with_former_defaults(content: Content) -> Content:
    """Return a stage with what settings that it does not have were before they existed."""
    former = dict(FORMER_DEFAULTS) if content.get("kind") == "train" else {}
    if (content.get("objective") or {}).get("name") != "tinybert":
        former.pop("objective", None)
    changed = {name: settings | content[name] for name, settings in former.items() if content.get(name)}
    return content | changed


def _renamed(content: Content) -> Content:
    """Return the stage under the current names.

    One section, `teacher`, used to name any model that a stage used: the source of its tokenizer, the encoder to
    fine-tune, the donor of layers, or the model that proposes words.
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
    """Return the section that now names what a train stage called its teacher."""
    if content.get("student") is None:
        return "encoder"
    return "donor" if content["objective"]["name"] == "finetune" else "teacher"
