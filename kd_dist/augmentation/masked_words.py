"""Propose words for places in sentences with a masked language model, many places per forward pass.

As in the published code, the model sees `[CLS] masked sentence [SEP] sentence [SEP]`. Unlike there, a sentence is cut
to the pieces around the word, a batch has thousands of tokens in inputs of similar length instead of one, there is no
autograd, and the prediction head runs only at the masked positions.

Shapes: B places, S positions, N masked positions of the batch, V vocabulary, D width.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd_dist.augmentation.words import Language
from kd_dist.data.token_rows import batches_of_tokens
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.errors import RunError
from kd_dist.model_files.model_folders import num_positions
from kd_dist.models.device import in_bf16
from kd_dist.models.loading import load_config, load_pretrained

CONTEXT_PIECES = 128  # pieces of a sentence around the word, or fewer where the model has fewer positions

TOKENS_PER_BATCH = 8192

WORD_MARKERS = ("▁", "Ġ")  # SentencePiece, byte-level BPE: the piece begins a word


class Place(NamedTuple):
    """A word to be replaced: its number in a sentence whose words are lists of piece ids."""

    sentence: Sequence[Sequence[int]]
    word: int

    def pieces(self) -> Sequence[int]:
        """Return the pieces of the word."""
        return self.sentence[self.word]


class Input(NamedTuple):
    """The input of the model for a place, and which of its positions are masked."""

    ids: list[int]
    token_types: list[int]
    masked: range


class MaskedWords:
    """A masked language model and its tokenizer.

    Raises:
        RunError: the tokenizer has no mask.
    """

    def __init__(self, path: str, language: Language, device: torch.device) -> None:
        self._device = device
        self._tokenizer = load_fast_tokenizer(path)
        if self._tokenizer.mask_token_id is None:
            raise RunError(f"{path} is no masked language model: its tokenizer has no mask token")
        self.model = _load(path, device)
        self._vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        self._marker = next((mark for mark in WORD_MARKERS if any(t.startswith(mark) for t in self._vocabulary)), "")
        self._texts, self._continues = self._surfaces(language)
        self._frame, self._num_types = self._special_tokens()
        positions = num_positions(self.model.config.to_dict())
        room = CONTEXT_PIECES if positions is None else (positions - sum(map(len, self._frame))) // 2
        self._context = min(CONTEXT_PIECES, room)
        self._cache: dict[tuple[str, bool], list[int]] = {}

    # -------------------------------------------------------------------------------------------------------- pieces

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        """Return the pieces of each word. Words are tokenized one by one; a word of the vocabulary is one piece."""
        after_space = [True, *(word[-1:].isspace() for word in words)]
        return [self._pieces(word, space) for word, space in zip(words, after_space, strict=False)]

    def _pieces(self, word: str, after_space: bool) -> list[int]:
        key = (word, after_space)
        if key not in self._cache:
            whole = self._vocabulary.get((self._marker if after_space else "") + word)
            self._cache[key] = self._cut(word, after_space) if whole is None else [whole]
        return self._cache[key]

    def _cut(self, word: str, after_space: bool) -> list[int]:
        text = f" {word}" if after_space else word
        encoding = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if not ids or not self._marker or after_space:
            return ids
        # The tokenizer treats every text as the beginning of a word.
        bare = encoding.tokens[0].removeprefix(self._marker)
        return ids[1:] if not bare else [self._vocabulary.get(bare, ids[0]), *ids[1:]]

    def _surfaces(self, language: Language) -> tuple[list[str], list[bool]]:
        """Return the text of every id, empty for special tokens, and whether the piece continues a word."""
        size = max(self.model.config.vocab_size, max(self._vocabulary.values()) + 1)
        texts, continues = [""] * size, [False] * size
        needs_marker = bool(self._marker) and language == "en"  # Chinese words stand without spaces between
        for token, number in self._vocabulary.items():
            if number not in self._tokenizer.all_special_ids:
                texts[number] = token.removeprefix("##").removeprefix(self._marker)
                continues[number] = token.startswith("##") or (needs_marker and not token.startswith(self._marker))
        return texts, continues

    def _special_tokens(self) -> tuple[list[list[int]], int]:
        """Return the special tokens before, between and after two texts, and the number of token types."""
        probe = self._tokenizer("a", "a", return_special_tokens_mask=True)
        pairs = zip(probe["special_tokens_mask"], probe["input_ids"], strict=True)
        runs = [(special, [i for _, i in run]) for special, run in itertools.groupby(pairs, key=lambda pair: pair[0])]
        takes_types = "token_type_ids" in self._tokenizer.model_input_names
        num_types = getattr(self.model.config, "type_vocab_size", 0)  # which some families do not have
        return [ids for special, ids in runs if special], num_types if takes_types else 0

    # ---------------------------------------------------------------------------------------------------- candidates

    def propose(self, places: Sequence[Place], number: int, accept: Callable[[int, str], bool]) -> list[list[str]]:
        """Return up to `number` words for each place, the most probable first.

        Only the `number` most probable pieces of each masked position count. For several positions their combinations
        are ranked by the product of their probabilities. Special tokens are dropped, and pieces that continue a word in
        place of one that begins it or the reverse, and then the words for which `accept(place number, word)` is false.
        """
        inputs = [self._input(place) for place in places]
        found: list[list[str]] = [[] for _ in places]
        for batch in batches_of_tokens([len(each.ids) for each in inputs], TOKENS_PER_BATCH):
            values, ids = self.most_probable([inputs[row] for row in batch], number)
            rest = iter(zip(values, ids, strict=True))
            for row in batch:
                positions = [self._options(original, *next(rest)) for original in places[row].pieces()]
                words = (word for _, word in _combined(positions, number))
                found[row] = list(itertools.islice((word for word in words if accept(row, word)), number))
        return found

    def _options(self, original: int, values: list[float], ids: list[int]) -> list[tuple[float, str]]:
        return [
            (value, self._texts[piece])
            for value, piece in zip(values, ids, strict=True)
            if self._texts[piece] and self._continues[piece] == self._continues[original]
        ]

    def _input(self, place: Place) -> Input:
        before = sum(map(len, place.sentence[: place.word]))
        ids = list(itertools.chain.from_iterable(place.sentence))
        start = max(0, min(before + len(place.pieces()) // 2 - self._context // 2, len(ids) - self._context))
        original = ids[start : start + self._context]
        first = before - start
        masked = list(original)
        masked[first : first + len(place.pieces())] = [self._tokenizer.mask_token_id] * len(place.pieces())
        prefix, middle, suffix = self._frame
        second = int(self._num_types > 1)
        types = [0] * (len(prefix) + len(masked) + len(middle)) + [second] * (len(original) + len(suffix))
        first += len(prefix)
        return Input(prefix + masked + middle + original + suffix, types, range(first, first + len(place.pieces())))

    @torch.inference_mode()
    def most_probable(self, inputs: list[Input], number: int) -> tuple[list[list[float]], list[list[int]]]:
        """Return log-probabilities and ids (N, `number`) of the most probable pieces at every masked position."""
        tensors, masked_BS = self.batch(inputs)
        logits_NV = logits_at(self.model, tensors, masked_BS)
        top = logits_NV.float().log_softmax(-1).topk(min(number, logits_NV.shape[1]))
        return top.values.tolist(), top.indices.tolist()

    def batch(self, inputs: list[Input]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the inputs of the model, each (B, S), and which positions are masked (B, S)."""
        length = max(len(each.ids) for each in inputs)
        ids_BS = torch.full((len(inputs), length), self._tokenizer.pad_token_id)
        types_BS, present_BS = torch.zeros_like(ids_BS), torch.zeros_like(ids_BS)
        masked_BS = torch.zeros(len(inputs), length, dtype=torch.bool)
        for row, each in enumerate(inputs):
            ids_BS[row, : len(each.ids)] = torch.tensor(each.ids)
            types_BS[row, : len(each.ids)] = torch.tensor(each.token_types)
            present_BS[row, : len(each.ids)] = 1
            masked_BS[row, each.masked.start : each.masked.stop] = True
        tensors = {"input_ids": ids_BS, "attention_mask": present_BS}
        if self._num_types:
            tensors["token_type_ids"] = types_BS
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}, masked_BS.to(self._device)


def logits_at(model: nn.Module, inputs: dict[str, Tensor], chosen_BS: Tensor) -> Tensor:
    """Return the logits (N, V) at the chosen positions, row by row; the head computes no others, in any family."""

    def choose(module: nn.Module, arguments: Any, outputs: Any) -> Any:
        outputs.last_hidden_state = outputs.last_hidden_state[chosen_BS]  # (N, D) in place of (B, S, D)
        return outputs

    handle = model.base_model.register_forward_hook(choose)  # type: ignore[union-attr]
    try:
        return model(**inputs).logits
    finally:
        handle.remove()


def _load(path: str, device: torch.device) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    dtype = torch.bfloat16 if device.type == "cuda" and in_bf16("auto") else torch.float32
    loaded = load_pretrained(MODEL_FOR_MASKED_LM_MAPPING, path, load_config(path), dtype)
    model = loaded.require_trained_head(path, lambda reason: f"{path} is no masked language model: {reason}")
    return model.to(device).eval().requires_grad_(False)


def _combined(positions: list[list[tuple[float, str]]], number: int) -> list[tuple[float, str]]:
    """Return (log-probability, word), the most probable first; at most `number` squared are kept at each step."""
    words = [(0.0, "")]
    for options in positions:
        longer = ((score + value, word + text) for score, word in words for value, text in options)
        words = heapq.nlargest(number * number, longer, key=lambda item: item[0])
    return words
