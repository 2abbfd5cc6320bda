"""FastBERT (Liu et al. 2020): an encoder with a classifier after every layer, which samples leave once they are sure.

`import kd_dist.early_exit` is all that `AutoModelForSequenceClassification.from_pretrained` needs to load one.

Shapes: B batch, S sequence, D width of the encoder, W width of a branch, H heads, K head size, C classes; N rows, M
rows that are still on their way, L layers, E layers with a branch (all but the last).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from kd_dist.encoder_layers import EncoderLayers
from kd_dist.errors import UserError
from kd_dist.metrics import Task
from kd_dist.sections import Uncertainty
from kd_dist.uncertainty import decided, uncertainty

Inputs = Mapping[str, Tensor]

GROUP_COST_CPU, GROUP_COST_GPU = 64, 4096
"""What one more group of rows costs a layer, in tokens: so many calls; and a GPU is not filled by a small one."""

BRANCHES = "branches."  # how the names of their weights begin

ACTIVATIONS = ("tanh", "none")
BACKBONE_FACTS = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size")


class FastBertConfig(PreTrainedConfig):
    """The configuration of the classifier that got branches, of the branches, and of when samples leave.

    `thresholds`: for each layer but the last, the uncertainty below which a sample leaves there; 0: none does, and the
    branch is not computed. `patience`: leave after so many layers in a row that agree, whatever the uncertainty.

    Raises:
        ValueError: a value that is none of those that there are, with its name.
    """

    model_type = "fastbert"

    backbone: dict | None = None
    branch_width: int = 128
    branch_heads: int = 2
    branch_activation: str = "tanh"
    branch_mask: bool = True
    uncertainty: str = "entropy"
    top_k: int = 5
    thresholds: list | None = None
    patience: int | None = None

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        expected = {
            "backbone": (self.backbone is None or isinstance(self.backbone, dict), "an encoder's configuration"),
            "branch_width": (_is_count(self.branch_width, 1), "a number of at least 1"),
            "branch_heads": (
                _is_count(self.branch_width, 1)
                and _is_count(self.branch_heads, 1)
                and self.branch_width % self.branch_heads == 0,
                f"a divisor of branch_width={self.branch_width}",
            ),
            "branch_activation": (self.branch_activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
            "uncertainty": (self.uncertainty in get_args(Uncertainty), f"one of {', '.join(get_args(Uncertainty))}"),
            "top_k": (_is_count(self.top_k, 2), "a number of at least 2"),
            "thresholds": (_are_thresholds(self.thresholds), "a list of numbers from 0 to 1"),
            "patience": (self.patience is None or _is_count(self.patience, 1), "a number of at least 1"),
        }
        if wrong := [
            f"{name}={getattr(self, name)!r}, not {what}" for name, (fine, what) in expected.items() if not fine
        ]:
            raise ValueError("; ".join(wrong))

    def backbone_config(self) -> PreTrainedConfig:
        content = dict(self.backbone or {})
        config = AutoConfig.for_model(content.pop("model_type"), **content)
        config.update({"label2id": self.label2id, "id2label": self.id2label, "problem_type": self.problem_type})
        return config

    def __getattr__(self, name: str) -> Any:
        """What is asked of any encoder's configuration."""
        if name in BACKBONE_FACTS and (backbone := self.__dict__.get("backbone")):
            return backbone[name] if name in backbone else getattr(self.backbone_config(), name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _are_thresholds(values: Any) -> bool:
    if values is None:
        return True
    return isinstance(values, list) and all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)


class Branch(nn.Module):
    """A small classifier: narrow projection, self-attention, the first token, two linear maps (Liu et al. 2020, section
    3.2, in the form of the authors' code, but without dropout).

    Only the first token is looked at, so only its query is computed; and as its score of a token x is
    (Wq x0)' (Wk x) = (Wk' Wq x0)' x, and its output Wv (sum of a x), keys and values of the tokens are never computed
    either: the projection is all that is done for every token. A bias of the keys would shift all scores alike, so
    there is none. `mask`: whether padding is left out.
    """

    def __init__(self, hidden_size: int, num_labels: int, config: FastBertConfig) -> None:
        super().__init__()
        width = config.branch_width
        self.num_heads, self.mask = config.branch_heads, config.branch_mask
        self.activation = nn.Tanh() if config.branch_activation == "tanh" else nn.Identity()
        self.projection = nn.Linear(hidden_size, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.dense = nn.Linear(width, width)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, hidden_BSD: Tensor, mask_BS: Tensor | None) -> Tensor:
        """(B, C) logits from the states after a layer; without a mask there is no padding."""
        narrow_BSW = self.activation(self.projection(hidden_BSD))
        attended_BW = self.output(self._attention(narrow_BSW, mask_BS if self.mask else None))
        return self.classifier(self.activation(self.dense(attended_BW)))

    def _attention(self, narrow_BSW: Tensor, mask_BS: Tensor | None) -> Tensor:
        """(B, W) what the first token gathers."""
        batch, _, width = narrow_BSW.shape
        query_HBK = self.query(narrow_BSW[:, 0]).view(batch, self.num_heads, -1).transpose(0, 1)
        key_HKW = self.key.weight.view(self.num_heads, -1, width)
        value_HKW = self.value.weight.view(self.num_heads, -1, width)
        looked_for_BHW = torch.matmul(query_HBK, key_HKW).transpose(0, 1)
        scores_BHS = torch.matmul(looked_for_BHW, narrow_BSW.mT) / math.sqrt(key_HKW.shape[1])
        if mask_BS is not None:
            scores_BHS = scores_BHS.masked_fill(~mask_BS.bool()[:, None, :], float("-inf"))
        gathered_BHW = torch.matmul(scores_BHS.softmax(dim=-1), narrow_BSW)
        value_HBK = torch.matmul(gathered_BHW.transpose(0, 1), value_HKW.mT)
        return value_HBK.transpose(0, 1).flatten(1) + self.value.bias


@dataclass(frozen=True)
class ExitRule:
    """When a sample leaves: below the threshold of its layer, or after `patience` layers in a row that agree."""

    thresholds: tuple[float, ...]
    measure: Uncertainty
    top_k: int
    patience: int | None = None

    def asks(self, layer: int) -> bool:
        """Whether anything can leave after `layer` (from 1); if not, its branch is not needed."""
        return self.patience is not None or self.thresholds[layer - 1] > 0


@dataclass(frozen=True)
class Group:
    """Rows that go through the layers together, no wider than the longest of them; padding stands at the end of rows.

    `numbers_B` are their places in the answer and `lengths_B` their tokens, both on the CPU; `mask_BS` is None where
    all are of one length.
    """

    numbers_B: np.ndarray
    lengths_B: np.ndarray
    hidden_BSD: Tensor
    mask_BS: Tensor | None

    @classmethod
    def of(cls, numbers_B: np.ndarray, lengths_B: np.ndarray, hidden_BSD: Tensor) -> Self:
        longest, mask_BS = int(lengths_B.max()), None
        if lengths_B.min() < longest:
            lengths_B1 = torch.from_numpy(lengths_B)[:, None].to(hidden_BSD.device)
            mask_BS = torch.arange(longest, device=hidden_BSD.device) < lengths_B1
        return cls(numbers_B, lengths_B, hidden_BSD[:, :longest], mask_BS)

    def __len__(self) -> int:
        return len(self.numbers_B)


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
        return list(_closed_ranks(groups, ~leaves_M, size))


class _Answers:
    """On the CPU, where they are wanted, and where it is known who leaves."""

    def __init__(self, num_rows: int, num_labels: int) -> None:
        self.exits = Exits(torch.zeros(num_rows, num_labels), torch.zeros(num_rows, dtype=torch.long))

    def take(self, numbers_B: np.ndarray, logits_BC: Tensor, layer: int) -> None:
        self.exits.logits_NC[numbers_B] = logits_BC.float().cpu()
        self.exits.layers_N[numbers_B] = layer


class Leaving:
    """Who leaves by a rule, asked layer by layer; it remembers how many layers in a row have said the same of each row
    (patience: Zhou et al. 2020)."""

    def __init__(self, rule: ExitRule, num_rows: int) -> None:
        self.rule, self.num_rows = rule, num_rows
        self.last: Tensor | None = None
        self.times_N: Tensor | None = None

    def after(self, layer: int, numbers_B: Tensor, doubt_B: Tensor, decided: Tensor) -> Tensor:
        """(B) who leaves after `layer`; never one whose uncertainty is no number.

        An uncertainty of 1 is below no speed, yet at speed 1 all are to leave.
        """
        threshold = self.rule.thresholds[layer - 1]
        leaves_B = (doubt_B < threshold) | (threshold >= 1)
        if self.rule.patience is not None:
            leaves_B |= self._agreeing(numbers_B, decided) >= self.rule.patience
        return leaves_B & ~doubt_B.isnan()

    def _agreeing(self, numbers_B: Tensor, decided: Tensor) -> Tensor:
        """(B) how many layers in a row, this one included, decided alike."""
        if self.last is None or self.times_N is None:
            self.last = decided.new_zeros(self.num_rows, *decided.shape[1:])
            self.times_N = torch.zeros(self.num_rows, dtype=torch.long, device=decided.device)
        same_B = (self.last[numbers_B] == decided).reshape(len(decided), -1).all(dim=1)
        self.times_N[numbers_B] = torch.where(same_B, self.times_N[numbers_B] + 1, 1)
        self.last[numbers_B] = decided
        return self.times_N[numbers_B]


def _closed_ranks(groups: Sequence[Group], stays_M: np.ndarray, size: int) -> Iterator[Group]:
    """The rows of all groups that stay, the longest first, in new groups."""
    lengths_M = np.concatenate([group.lengths_B for group in groups])
    owners_M = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    places_M = np.concatenate([np.arange(len(group)) for group in groups])
    staying = np.flatnonzero(stays_M)
    staying = staying[np.argsort(-lengths_M[staying], kind="stable")]
    group_cost = GROUP_COST_CPU if groups[0].hidden_BSD.device.type == "cpu" else GROUP_COST_GPU
    for rows in _cut_by_length(staying, lengths_M[staying], size, group_cost):
        rows = rows[np.argsort(owners_M[rows], kind="stable")]
        pieces = [(groups[owner], places_M[rows[owners_M[rows] == owner]]) for owner in np.unique(owners_M[rows])]
        yield _joined(pieces)


def _cut_by_length(rows_M: np.ndarray, lengths_M: np.ndarray, size: int, group_cost: int) -> Iterator[np.ndarray]:
    """Runs of up to `size` rows, which come longest first; a run ends before its padding costs more than a new one."""
    start = padding = 0
    for end, length in enumerate(lengths_M.tolist()):
        padding += lengths_M[start] - length
        if end - start == size or padding > group_cost:
            yield rows_M[start:end]
            start, padding = end, 0
    if len(rows_M):
        yield rows_M[start:]


def _joined(pieces: Sequence[tuple[Group, np.ndarray]]) -> Group:
    """One group of some rows of others."""
    numbers_B = np.concatenate([group.numbers_B[places] for group, places in pieces])
    lengths_B = np.concatenate([group.lengths_B[places] for group, places in pieces])
    longest, hidden = int(lengths_B.max()), []
    for group, places in pieces:
        hidden_BSD = group.hidden_BSD[:, :longest]
        if len(places) < len(group):
            hidden_BSD = hidden_BSD.index_select(0, torch.from_numpy(places).to(hidden_BSD.device))
        hidden.append(F.pad(hidden_BSD, (0, 0, 0, longest - hidden_BSD.shape[1])))
    return Group.of(numbers_B, lengths_B, torch.cat(hidden) if len(hidden) > 1 else hidden[0])


AutoConfig.register(FastBertConfig.model_type, FastBertConfig)
AutoModelForSequenceClassification.register(FastBertConfig, FastBertForSequenceClassification)
