"""FastBERT (Liu et al. 2020): an encoder with a classifier after every layer, which samples leave once they are sure.

`import kd_dist.early_exit` is all that `AutoModelForSequenceClassification.from_pretrained` needs to load one.

Shapes: B batch, S sequence, D width of the encoder, W width of a branch, H heads, K head size, C classes; N rows, L
layers, E layers with a branch (all but the last).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kd_dist.encoder_layers import EncoderLayers
from kd_dist.errors import UserError
from kd_dist.metrics import Task
from kd_dist.sections import Uncertainty
from kd_dist.uncertainty import decided, uncertainty

Inputs = Mapping[str, Tensor]

BRANCHES = "branches."  # how the names of their weights begin

BACKBONE_FACTS = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size")


class FastBertConfig(PreTrainedConfig):
    """The configuration of the classifier that got branches, of the branches, and of when samples leave.

    `thresholds`: for each layer but the last, the uncertainty below which a sample leaves there; 0: none does, and the
    branch is not computed. `patience`: leave after so many layers in a row that agree, whatever the uncertainty.
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
    """Rows that go through the layers together; `numbers_B` are their places in the answer.

    `is_padded` is asked of the device once, when a group is made: asking makes a GPU wait.
    """

    numbers_B: Tensor
    hidden_BSD: Tensor
    mask_BS: Tensor
    is_padded: bool

    def __len__(self) -> int:
        return len(self.numbers_B)

    def padding(self) -> Tensor | None:
        """The mask, where there is something to be masked."""
        return self.mask_BS if self.is_padded else None

    def rows(self, chosen: Tensor | slice) -> "Group":
        return Group(self.numbers_B[chosen], self.hidden_BSD[chosen], self.mask_BS[chosen], self.is_padded)


@dataclass(frozen=True)
class Exits:
    """(N, C) logits, and (N) the layer, from 1, that gave them."""

    logits_NC: Tensor
    layers_N: Tensor


class FastBertForSequenceClassification(PreTrainedModel):
    """A trained classifier, `backbone`, with a branch after every layer but the last, whose head it keeps."""

    config_class = FastBertConfig
    _supports_sdpa = True

    def __init__(self, config: FastBertConfig) -> None:
        super().__init__(config)
        backbone_config = config.backbone_config()
        self.backbone = AutoModelForSequenceClassification.from_config(backbone_config)
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
        outputs = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **inputs)
        return SequenceClassifierOutput(logits=outputs.logits)

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
        padding_BS = None if bool(mask_BS.all()) else mask_BS
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

        The batches go through the layers side by side. After each layer those that stay are put together into full
        batches again, or the last ones would be too small to be fast. What is held in memory is one layer's states of
        all batches. The answers are those that each row would get by itself, up to rounding; not so with branches that
        attend to padding (`branch_mask=False`).
        """
        sizes = [len(batch["input_ids"]) for batch in batches]
        answers = _Answers(sum(sizes), self.config.num_labels, self.device)
        leaving = Leaving(rule, sum(sizes))
        groups = list(self._embedded(batches))
        for layer in range(1, len(self.layers.layers) + 1):
            groups = [
                replace(group, hidden_BSD=self.layers.run(layer, group.hidden_BSD, group.padding())) for group in groups
            ]
            if layer <= len(self.branches) and rule.asks(layer):
                staying = [self._leave(layer, group, leaving, answers) for group in groups]
                groups = list(_full_groups(staying, max(sizes)))
        for group in groups:
            answers.take(group.numbers_B, self.layers.head(group.hidden_BSD), len(self.layers.layers))
        return answers.exits

    def _embedded(self, batches: Sequence[Inputs]) -> Iterator[Group]:
        first = 0
        for batch in batches:
            numbers_B = torch.arange(first, first + len(batch["input_ids"]), device=self.device)
            mask_BS = batch["attention_mask"]
            yield Group(numbers_B, self.layers.embed(batch), mask_BS, is_padded=not bool(mask_BS.all()))
            first += len(numbers_B)

    def _leave(self, layer: int, group: Group, leaving: "Leaving", answers: "_Answers") -> Group:
        """Who stays; the answers of the others are taken down."""
        logits_BC = self.branches[layer - 1](group.hidden_BSD, group.padding())
        doubt_B = uncertainty(logits_BC, self.task, leaving.rule.measure, leaving.rule.top_k)
        leaves_B = leaving.after(layer, group.numbers_B, doubt_B, decided(logits_BC, self.task))
        answers.take(group.numbers_B[leaves_B], logits_BC[leaves_B], layer)
        return group.rows(~leaves_B)


class _Answers:
    def __init__(self, num_rows: int, num_labels: int, device: torch.device) -> None:
        logits_NC = torch.zeros(num_rows, num_labels, device=device)
        self.exits = Exits(logits_NC, torch.zeros(num_rows, dtype=torch.long, device=device))

    def take(self, numbers_B: Tensor, logits_BC: Tensor, layer: int) -> None:
        self.exits.logits_NC[numbers_B] = logits_BC.float()
        self.exits.layers_N[numbers_B] = layer


class Leaving:
    """Who leaves by a rule, asked layer by layer; it remembers how many layers in a row have said the same of each row
    (patience: Zhou et al. 2020)."""

    def __init__(self, rule: ExitRule, num_rows: int) -> None:
        self.rule, self.num_rows = rule, num_rows
        self.last: Tensor | None = None
        self.times_N: Tensor | None = None

    def after(self, layer: int, numbers_B: Tensor, doubt_B: Tensor, decided: Tensor) -> Tensor:
        """(B) who leaves after `layer`; never one whose logits are not finite.

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


def _full_groups(groups: Iterable[Group], size: int) -> Iterator[Group]:
    """The rows of all groups, in order, in groups of `size` rows."""
    pieces: list[Group] = []
    room = size
    for group in groups:
        start = 0
        while start < len(group):
            pieces.append(group.rows(slice(start, start + room)))
            start += len(pieces[-1])
            room -= len(pieces[-1])
            if not room:
                yield _joined(pieces)
                pieces, room = [], size
    if pieces:
        yield _joined(pieces)


def _joined(pieces: Sequence[Group]) -> Group:
    """One group, as wide as its longest row needs; padding stands at the end of rows."""
    lengths = torch.cat([piece.mask_BS.sum(dim=1) for piece in pieces]).tolist()
    longest = max(lengths)

    def fitted(tensor: Tensor) -> Tensor:
        missing = longest - tensor.shape[1]
        if missing <= 0:
            return tensor[:, :longest]
        return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])], dim=1)

    return Group(
        torch.cat([piece.numbers_B for piece in pieces]),
        torch.cat([fitted(piece.hidden_BSD) for piece in pieces]),
        torch.cat([fitted(piece.mask_BS) for piece in pieces]),
        is_padded=min(lengths) < longest,
    )


AutoConfig.register(FastBertConfig.model_type, FastBertConfig)
AutoModelForSequenceClassification.register(FastBertConfig, FastBertForSequenceClassification)
