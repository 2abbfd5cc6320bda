"""FastBERT (Liu et al. 2020): an encoder with a classifier after every layer, which samples leave once they are sure.

`import kd_dist.early_exit` is all that `AutoModelForSequenceClassification.from_pretrained` needs to load one.

Shapes: B batch, S sequence, D width of the encoder, W width of a branch, H heads, K head size, C classes; N rows, M
rows that are still on their way, L layers, E layers with a branch (all but the last).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from kd_dist.config.tasks import Task
from kd_dist.errors import UserError
from kd_dist.models.branches import Branch
from kd_dist.models.early_exit_config import FastBertConfig
from kd_dist.models.encoder_layers import EncoderLayers
from kd_dist.models.exit_rules import ExitRule, Leaving
from kd_dist.models.row_groups import Group, regroup
from kd_dist.models.uncertainty import decided, uncertainty

Inputs = Mapping[str, Tensor]

BRANCHES = "branches."  # how the names of their weights begin


@dataclass(frozen=True)
class Exits:
    """(N, C) logits, and (N) the layer, from 1, that gave them; both on the CPU."""

    logits_NC: Tensor
    layers_N: Tensor


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
        self.backbone.eval()  # as `train` keeps it

    @classmethod
    def from_classifier(cls, classifier: PreTrainedModel, **settings: Any) -> Self:
        """New branches around a trained classifier; `settings` are those of `FastBertConfig`."""
        content = classifier.config.to_dict()
        labels = {name: content.pop(name) for name in ("id2label", "label2id", "problem_type")}
        model = cls(FastBertConfig(backbone=content, **labels, **settings))
        model.backbone.load_state_dict(classifier.state_dict())
        return model

    @property
    def task(self) -> Task:
        return "multi_label" if self.config.problem_type == "multi_label_classification" else "single_label"

    def train(self, mode: bool = True) -> Self:
        """The backbone is never trained: it stays in eval mode, without dropout."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Any:
        """The backbone's own answer after all layers; `classify` is the one with early exit."""
        return self.backbone(input_ids=input_ids, attention_mask=attention_mask, **inputs)

    def exit_rule(self, speed: float | None = None, patience: int | None = None) -> ExitRule:
        """The rule for one speed at all layers or for a patience; without either, what the configuration says.

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
        """(L, B, C) logits of every branch and, last, of the backbone's head.

        One pass through the frozen backbone, without autograd, serves them all; of it only the states that branches
        read are kept.
        """
        mask_BS = inputs["attention_mask"]
        # Without padding a CPU is faster without a mask; a GPU would have to be waited for to know.
        padding_BS = None if mask_BS.device.type == "cpu" and bool(mask_BS.all()) else mask_BS
        with torch.no_grad():
            hidden_BSD = self.layers.embed(inputs)
        logits = []
        for layer in range(1, len(self.layers.layers) + 1):
            with torch.no_grad():
                hidden_BSD = self.layers.run(layer, hidden_BSD, padding_BS)
            if layer <= len(self.branches):
                logits.append(self.branches[layer - 1](hidden_BSD, padding_BS).float())
        with torch.no_grad():
            logits.append(self.layers.head(hidden_BSD).float())
        return torch.stack(logits)

    @torch.no_grad()
    def classify(self, batches: Sequence[Inputs], rule: ExitRule) -> Exits:
        """Answer the rows of some batches, in their order; who is sure leaves, and the others close ranks.

        A batch holds `input_ids`, `attention_mask` (0 at padding, which stands at the end of rows) and perhaps
        `token_type_ids`, each (B, S), on the model's device.

        The batches go through the layers side by side. After each layer those that stay are put together anew, by like
        length, or the last ones would be too few to be fast, and padding would take what leaving saves. In memory are
        one layer's states of all batches, before and after. The answers are those that each row would get by itself, up
        to rounding; not so with branches that attend to padding (`branch_mask=False`).
        """
        if not any(map(rule.asks, range(1, len(self.branches) + 1))):
            return self._through_all_layers(batches)
        size, groups = max(len(batch["input_ids"]) for batch in batches), list(self._embedded(batches))
        leaving = Leaving(rule, sum(map(len, groups)))
        answers = _Answers(leaving.num_rows, self.config.num_labels)
        for layer in range(1, len(self.branches) + 1):
            groups = [self._run(layer, group) for group in groups]
            if groups and rule.asks(layer):
                groups = self._without_the_sure(layer, groups, leaving, answers, size)
        last = len(self.branches) + 1
        for group in groups:
            logits_BC = self.layers.head(self._run(last, group).hidden_BSD)
            answers.take(group.numbers_B, logits_BC, last)
        return answers.exits

    def _through_all_layers(self, batches: Sequence[Inputs]) -> Exits:
        """The plain encoder: nobody leaves, so one batch after the other goes all the way."""
        logits_NC = torch.cat([self.backbone(**batch).logits.float().cpu() for batch in batches])
        return Exits(logits_NC, torch.full((len(logits_NC),), len(self.branches) + 1))

    def _embedded(self, batches: Sequence[Inputs]) -> Iterator[Group]:
        first = 0
        for batch in batches:
            lengths_B = batch["attention_mask"].sum(dim=1).cpu().numpy()
            yield Group.of(np.arange(first, first + len(lengths_B)), lengths_B, self.layers.embed(batch))
            first += len(lengths_B)

    def _run(self, layer: int, group: Group) -> Group:
        return replace(group, hidden_BSD=self.layers.run(layer, group.hidden_BSD, group.mask_BS))

    def _without_the_sure(
        self, layer: int, groups: list[Group], leaving: "Leaving", answers: "_Answers", size: int
    ) -> list[Group]:
        """Those who stay, in groups of up to `size` rows; the answers of the others are taken down."""
        branch, numbers_M = self.branches[layer - 1], np.concatenate([group.numbers_B for group in groups])
        # One wait for the GPU a layer; who leaves is then a matter of the CPU.
        logits_MC = torch.cat([branch(group.hidden_BSD, group.mask_BS) for group in groups]).float().cpu()
        doubt_M = uncertainty(logits_MC, self.task, leaving.rule.measure, leaving.rule.top_k)
        decisions = decided(logits_MC, self.task)
        leaves_M = leaving.after(layer, torch.from_numpy(numbers_M), doubt_M, decisions).numpy()
        if not leaves_M.any():
            return groups
        answers.take(numbers_M[leaves_M], logits_MC[leaves_M], layer)
        return list(regroup(groups, ~leaves_M, size))


class _Answers:
    """On the CPU, where they are wanted, and where it is known who leaves."""

    def __init__(self, num_rows: int, num_labels: int) -> None:
        self.exits = Exits(torch.zeros(num_rows, num_labels), torch.zeros(num_rows, dtype=torch.long))

    def take(self, numbers_B: np.ndarray, logits_BC: Tensor, layer: int) -> None:
        self.exits.logits_NC[numbers_B] = logits_BC.float().cpu()
        self.exits.layers_N[numbers_B] = layer


AutoConfig.register(FastBertConfig.model_type, FastBertConfig)

AutoModelForSequenceClassification.register(FastBertConfig, FastBertForSequenceClassification)
