"""FastBERT (Liu et al. 2020): an encoder with a classifier after every layer, at which samples exit once it is certain.

`import kd_dist.early_exit` is all that `AutoModelForSequenceClassification.from_pretrained` needs to load one.

Shapes: B batch, S sequence, D width of the encoder, C classes; N all samples, M samples that have not exited yet; L
layers, E layers with a branch (all but the last).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from kd_dist.config.tasks import Task
from kd_dist.errors import UserError
from kd_dist.models.branches import Branch
from kd_dist.models.classifier_output import ClassifierOutput
from kd_dist.models.early_exit_config import FastBertConfig
from kd_dist.models.encoder_layers import EncoderLayers
from kd_dist.models.exit_rules import ExitRule, ExitTracker
from kd_dist.models.row_groups import Group, regroup
from kd_dist.models.uncertainty import predicted_classes, uncertainty

Inputs = Mapping[str, Tensor]

BRANCHES = "branches."  # how the names of their weights begin


class FastBertForSequenceClassification(PreTrainedModel):
    """A trained classifier, `backbone`, with a branch after every layer but the last, whose head it keeps."""

    config_class = FastBertConfig
    _supports_sdpa = True

    def __init__(self, config: FastBertConfig) -> None:
        super().__init__(config)
        backbone_config = config.backbone_config()
        self.backbone = AutoModelForSequenceClassification.from_config(
            backbone_config, attn_implementation=config._attn_implementation
        )
        self.layers = EncoderLayers.of(self.backbone)
        self.branches = nn.ModuleList(
            Branch(backbone_config.hidden_size, config.num_labels, config) for _ in self.layers.layers[1:]
        )
        self.post_init()
        self.freeze_backbone()

    @classmethod
    def from_classifier(cls, classifier: PreTrainedModel, **settings: Any) -> Self:
        """Put new branches, with random weights, around a copy of a trained classifier.

        Args:
            classifier: of one of the supported families.
            settings: those of `FastBertConfig`.
        """
        content = classifier.config.to_dict()
        labels = {name: content.pop(name) for name in ("id2label", "label2id", "problem_type")}
        model = cls(FastBertConfig(backbone=content, **labels, **settings))
        model.backbone.load_state_dict(classifier.state_dict())
        return model

    @property
    def task(self) -> Task:
        """The task of the model; one with branches is never one for regression."""
        return "multi_label" if self.config.problem_type == "multi_label_classification" else "single_label"

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Say whether training leaves the backbone as it is, which it does unless told otherwise."""
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the branches and of a backbone that is trained; a frozen one stays in eval mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()  # without dropout
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Any:
        """Return what the backbone predicts after all layers; `classify` is the call with early exit."""
        return self.backbone(input_ids=input_ids, attention_mask=attention_mask, **inputs)

    def exit_rule(self, speed: float | None = None, patience: int | None = None) -> ExitRule:
        """Return the rule for one speed at all layers or for a patience; without either, that of the configuration.

        Args:
            speed: from 0 (all layers) to 1 (exit at the first layer): the uncertainty below which a sample exits.
            patience: exit after so many layers in a row that agree.

        Raises:
            UserError: the configuration has more or fewer thresholds than there are branches.
        """
        config = self.config
        stored = config.thresholds or [0.0] * len(self.branches)
        if len(stored) != len(self.branches):
            raise UserError(
                f"the config.json of the model holds {len(stored)} thresholds for {len(self.branches)} branches: there "
                "is one for every layer but the last"
            )
        if speed is None and patience is None:
            thresholds, patience = stored, config.patience
        else:
            thresholds = [speed or 0.0] * len(self.branches)
        return ExitRule(tuple(thresholds), config.uncertainty, config.top_k, patience)

    def all_logits(self, inputs: Inputs) -> Tensor:
        """Return the logits of every branch and, last, of the backbone's head.

        One pass through the backbone serves them all; of a frozen one only the states that branches read are kept.

        Args:
            inputs: `input_ids`, `attention_mask` (0 at padding) and perhaps `token_type_ids`, each (B, S).

        Returns:
            (L, B, C) logits in fp32, with gradients for whatever is trained.
        """
        mask_BS = inputs["attention_mask"]
        # Without padding a CPU is faster without a mask; a GPU would have to be waited for to know.
        padding_BS = None if mask_BS.device.type == "cpu" and bool(mask_BS.all()) else mask_BS
        hidden_BSD = self.layers.embed(inputs)
        logits = []
        for layer in range(1, len(self.layers.layers) + 1):
            hidden_BSD = self.layers.run(layer, hidden_BSD, padding_BS)
            if layer <= len(self.branches):
                logits.append(self.branches[layer - 1](hidden_BSD, padding_BS).float())
        logits.append(self.layers.head(hidden_BSD).float())
        return torch.stack(logits)

    @torch.no_grad()
    def classify(self, batches: Sequence[Inputs], rule: ExitRule) -> ClassifierOutput:
        """Classify the samples of some batches with early exit.

        The batches go through the layers side by side. After each layer the samples whose prediction is certain exit;
        the rest are regrouped by similar length. Without that the last groups would be too small to be fast, and
        padding would use up what exits save. Memory holds one layer's states of all batches, before and after.

        The logits are those that each sample would get alone, up to rounding; not so with branches that attend to
        padding (`branch_mask=False`).

        Args:
            batches: each with `input_ids`, `attention_mask` (0 at padding, which stands at the end of rows) and perhaps
                `token_type_ids`, each (B, S), on the model's device.
            rule: when samples exit, such as `model.exit_rule(speed=0.5)`.

        Returns:
            The samples in their order, on the CPU.

        Example:
            >>> texts = tokenizer(["好看", "不好看"], padding=True, return_tensors="pt")
            >>> output = model.classify([texts], model.exit_rule(speed=0.5))
            >>> output.logits_NC.argmax(dim=1), output.layers_N
            (tensor([1, 0]), tensor([2, 5]))
        """
        if not any(map(rule.needs_branch, range(1, len(self.branches) + 1))):
            return self._through_all_layers(batches)
        size, groups = max(len(batch["input_ids"]) for batch in batches), list(self._embedded(batches))
        tracker = ExitTracker(rule, sum(map(len, groups)))
        collected = _Collected(tracker.num_samples, self.config.num_labels)
        for layer in range(1, len(self.branches) + 1):
            groups = [self._run(layer, group) for group in groups]
            if groups and rule.needs_branch(layer):
                groups = self._exit(layer, groups, tracker, collected, size)
        last = len(self.branches) + 1
        for group in groups:
            logits_BC = self.layers.head(self._run(last, group).hidden_BSD)
            collected.put(group.numbers_B, logits_BC, last)
        return ClassifierOutput(collected.logits_NC, collected.layers_N)

    def _through_all_layers(self, batches: Sequence[Inputs]) -> ClassifierOutput:
        """Run the plain backbone: no sample exits early, so the batches need not go side by side."""
        logits_NC = torch.cat([self.backbone(**batch).logits.float().cpu() for batch in batches])
        return ClassifierOutput(logits_NC, torch.full((len(logits_NC),), len(self.branches) + 1))

    def _embedded(self, batches: Sequence[Inputs]) -> Iterator[Group]:
        first = 0
        for batch in batches:
            lengths_B = batch["attention_mask"].sum(dim=1).cpu().numpy()
            yield Group.of(np.arange(first, first + len(lengths_B)), lengths_B, self.layers.embed(batch))
            first += len(lengths_B)

    def _run(self, layer: int, group: Group) -> Group:
        return replace(group, hidden_BSD=self.layers.run(layer, group.hidden_BSD, group.mask_BS))

    def _exit(
        self, layer: int, groups: list[Group], tracker: ExitTracker, collected: "_Collected", size: int
    ) -> list[Group]:
        """Collect the logits of the samples that exit, and return the rest in groups of up to `size`."""
        branch, numbers_M = self.branches[layer - 1], np.concatenate([group.numbers_B for group in groups])
        # One wait for the GPU a layer; the decisions are then made on the CPU.
        logits_MC = torch.cat([branch(group.hidden_BSD, group.mask_BS) for group in groups]).float().cpu()
        uncertainty_M = uncertainty(logits_MC, self.task, tracker.rule.measure, tracker.rule.top_k)
        predicted = predicted_classes(logits_MC, self.task)
        exits_M = tracker.exits(layer, torch.from_numpy(numbers_M), uncertainty_M, predicted).numpy()
        if not exits_M.any():
            return groups
        collected.put(numbers_M[exits_M], logits_MC[exits_M], layer)
        return list(regroup(groups, ~exits_M, size))


class _Collected:
    """The logits of samples and the layers that gave them, on the CPU."""

    def __init__(self, num_samples: int, num_labels: int) -> None:
        self.logits_NC = torch.zeros(num_samples, num_labels)
        self.layers_N = torch.zeros(num_samples, dtype=torch.long)

    def put(self, numbers_B: np.ndarray, logits_BC: Tensor, layer: int) -> None:
        self.logits_NC[numbers_B] = logits_BC.float().cpu()
        self.layers_N[numbers_B] = layer


AutoConfig.register(FastBertConfig.model_type, FastBertConfig)

AutoModelForSequenceClassification.register(FastBertConfig, FastBertForSequenceClassification)
