"""FastBERT's self-distillation (Liu et al. 2020, equations 7 and 8): branches learn from the final classifier.

As published, the backbone and its head are frozen and in eval mode, and labels are not used. Or the backbone learns at
the same time, from the labels and through the branches.

Shapes: B batch, L layers, E layers with a branch (all but the last), C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.stages import TrainStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError
from kd_dist.files import write_text
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.inputs import model_inputs
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.prediction_losses import label_count, label_error, prediction_divergence

README = """\
# A text classifier with early exit (FastBERT)

A text exits after the first layer whose prediction is certain enough; `speed`, from 0 (all layers) to 1 (the first),
sets how certain. The model classes are part of the package `kd_dist`: install it (`pip install .` in its repository),
and run this in the folder of this file:

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import kd_dist.early_exit  # registers this kind of model with transformers

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".").eval()
texts = tokenizer(["一段文字", "另一段更长的文字"], padding=True, return_tensors="pt")
exits = model.classify([texts], model.exit_rule(speed=0.5))  # without a speed: the thresholds in config.json
print(exits.logits_NC.argmax(dim=1), exits.layers_N)  # index of the label, and the layer of the exit
```

From files, with the preprocessing of training (preprocessing.json):

```
python -m kd_dist.predict --model FOLDER --speed 0.5 < texts.txt
```
"""


class FastBert(Objective):
    """The KL divergence between every branch and the final classifier, summed over branches and samples.

    Divided by the number of samples, so it is a sum over branches of means over samples.
    """

    student: FastBertForSequenceClassification

    def __init__(self, student: FastBertForSequenceClassification, settings: FastBertObjective) -> None:
        super().__init__()
        self.student, self._direction = student, settings.direction
        student.branches.requires_grad_(True)  # a model loaded for inference has them frozen
        student.freeze_backbone(settings.backbone == "frozen")

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"branches": float(len(batch["input_ids"]))}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        *branches_EBC, last_BC = self.student.all_logits(model_inputs(self.student, batch))
        return Outcome({"branches": self._divergences(branches_EBC, last_BC).sum()})

    def _divergences(self, branches_EBC: Sequence[Tensor], last_BC: Tensor) -> Tensor:
        """Return (E) the divergence of each branch from the final classifier, through which no gradient flows."""
        task, direction = self.student.task, self._direction
        return torch.stack([prediction_divergence(own_BC, last_BC, task, direction) for own_BC in branches_EBC])

    def save_extras(self, directory: Path) -> None:
        """Write a README.md about loading the model, which transformers alone cannot."""
        write_text(directory / "README.md", README)


class JointFastBert(FastBert):
    """The same divergence, and the errors of all classifiers against the labels, with a backbone that learns.

    The terms of branches are sums over branches with `depth_weights`. No gradient of the divergence flows through the
    final classifier, which is the teacher: the encoder learns from the divergence only below the branches.
    """

    _depth_weights_E: Tensor

    def __init__(self, student: FastBertForSequenceClassification, settings: FastBertObjective) -> None:
        super().__init__(student, settings)
        self.task, self._backbone_rate = student.task, settings.backbone_rate
        self.register_buffer("_depth_weights_E", depth_weights(len(student.branches)), persistent=False)

    def rate_of(self, name: str) -> float:
        return self._backbone_rate if name.startswith("student.backbone.") else 1.0

    def counts(self, batch: Batch) -> dict[str, float]:
        labels = float(label_count(batch["labels"], self.student.task))
        return super().counts(batch) | {"branch_labels": labels, "label": labels}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        *branches_EBC, last_BC = self.student.all_logits(model_inputs(self.student, batch))
        labels, task = batch["labels"], self.student.task
        errors_E = torch.stack([label_error(own_BC, labels, task) for own_BC in branches_EBC])
        sums = {
            "branches": (self._depth_weights_E * self._divergences(branches_EBC, last_BC)).sum(),
            "branch_labels": (self._depth_weights_E * errors_E).sum(),
            "label": label_error(last_BC, labels, task),
        }
        return Outcome(sums, last_BC)


def depth_weights(num_branches: int) -> Tensor:
    """Return (E) the weight l / (E + 1) of the branch after each layer l, in proportion to depth; that of the final
    classifier, after layer E + 1, is 1 (PABEE, Zhou et al. 2020, which also divides all by their sum).
    """
    return torch.arange(1, num_branches + 1) / (num_branches + 1)


def build(stage: TrainStage, tokenizer: Any) -> FastBert:
    """Add new branches to a trained classifier; a model with branches keeps them, whatever `objective.branch_*` says.

    Raises:
        UserError: The model is not a trained classifier.
        RunError: It predicts a number, which has no uncertainty, or it has a single layer; or the backbone is to learn
            from rows without labels.
    """
    assert isinstance(stage.objective, FastBertObjective)
    assert stage.model is not None
    settings = stage.objective
    classifier = load_classifier(stage.model.path, torch.device("cpu"))
    if classifier.task == "regression":
        raise RunError(
            f"{stage.model.path} predicts a number, not labels: there is no uncertainty for early exit to use"
        )
    if classifier.num_layers == 1:
        raise RunError(f"{stage.model.path} has a single layer: there is no layer before the last to exit from")
    model = classifier.model
    if isinstance(model, FastBertForSequenceClassification):
        model.config.update(
            {"thresholds": None, "patience": None}
        )  # they were calibrated for the branches before this training
    else:
        model = FastBertForSequenceClassification.from_classifier(
            model,
            branch_width=settings.branch_width,
            branch_heads=settings.branch_heads,
            branch_activation=settings.branch_activation,
            branch_mask=settings.branch_mask,
        )
    model.train()
    if settings.backbone == "frozen":
        return FastBert(model, settings)
    if "labels" not in PreparedRows(Path(stage.data.tokens)).dataset("train").column_names:
        raise RunError(
            f"{stage.data.tokens} has no labels, which objective.backbone={settings.backbone} learns from: give rows "
            "of a `labelled` stage, or set objective.backbone=frozen"
        )
    if stage.engine.activation_checkpointing:
        model.backbone.activation_checkpointing_enable({"use_reentrant": False})
    return JointFastBert(model, settings)
