"""Many places in a batch give what the published code gives for each word alone."""

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from kd_dist.augmentation.masked_words import MaskedWords, Place, logits_at
from kd_dist.augmentation.words import split_words
from tests.augmentation.world import (
    CPU,
)


@functools.cache
def _model(mlm: Path) -> tuple[Any, Any]:
    return AutoModelForMaskedLM.from_pretrained(mlm).eval(), AutoTokenizer.from_pretrained(mlm)


def _published(mlm: Path, sentence: list[list[int]], index: int, number: int) -> list[list[tuple[float, str]]]:
    """One forward pass for one word: the most probable pieces at each of its places, by all logits of the model."""
    model, tokenizer = _model(mlm)
    original = list(itertools.chain.from_iterable(sentence))
    start = sum(map(len, sentence[:index]))
    masked = list(original)
    masked[start : start + len(sentence[index])] = [tokenizer.mask_token_id] * len(sentence[index])
    first, second = [tokenizer.cls_token_id, *masked, tokenizer.sep_token_id], [*original, tokenizer.sep_token_id]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([first + second]),
            token_type_ids=torch.tensor([[0] * len(first) + [1] * len(second)]),
        ).logits[0]
    found = []
    for position in range(start + 1, start + 1 + len(sentence[index])):
        scores = logits[position].log_softmax(-1)
        ids = scores.argsort(descending=True)[:number].tolist()
        pieces = [(float(scores[i]), tokenizer.convert_ids_to_tokens(i)) for i in ids]
        found.append([(s, p) for s, p in pieces if not p.startswith("##") and p not in tokenizer.all_special_tokens])
    return found


def test_a_batch_gives_what_one_forward_pass_for_each_word_gives(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    texts = ["国家经济工作会议在北京举行", "今年的生产", "人民生活水平有了很大的提高和改善"]
    sentences = [model.encode([word.text for word in split_words(text, "zh")]) for text in texts]
    places = [Place(s, index) for s in sentences for index, word in enumerate(s) if len(word) <= 2]
    assert {len(place.pieces()) for place in places} == {1, 2}
    proposed = model.propose(places, 5, lambda place, word: True)
    for place, words in zip(places, proposed, strict=True):
        combined = itertools.product(*_published(world.mlm, [*place.sentence], place.word, 5))
        by_score = sorted(combined, key=lambda pieces: -sum(score for score, _ in pieces))
        assert words == ["".join(text for _, text in pieces) for pieces in by_score][:5]


def test_what_is_not_accepted_is_no_candidate(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    place = Place(model.encode(["国家", "的", "人"]), 2)
    (every,) = model.propose([place], 6, lambda number, word: True)
    assert model.propose([place], 6, lambda number, word: word != every[0]) == [every[1:]]


def test_long_sentences_are_cut_around_the_word(world):
    model = MaskedWords(str(world.mlm), "zh", CPU)
    sentence = model.encode(["经"] * 500 + ["人"] + ["济"] * 500)
    window = model.encode(["经"] * 31 + ["人"] + ["济"] * 30)  # 128 positions: three special tokens and 2 x 62 pieces
    assert model.propose([Place(sentence, 500)], 5, lambda *_: True) == model.propose(
        [Place(window, 31)], 5, lambda *_: True
    )


def test_a_word_of_the_vocabulary_is_one_piece(world, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(world.mlm)
    vocabulary = tokenizer.get_vocab()
    vocabulary |= {"国家": len(vocabulary), "人民生活": len(vocabulary) + 1}
    model = BertForMaskedLM.from_pretrained(world.mlm)
    model.resize_token_embeddings(len(vocabulary))
    model.save_pretrained(tmp_path)
    type(tokenizer)(vocab=vocabulary).save_pretrained(tmp_path)
    words = MaskedWords(str(tmp_path), "zh", CPU).encode(["国家", "人民", " ", "ABC"])
    assert words[0] == [vocabulary["国家"]]
    assert [len(word) for word in words[:3]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("model_class", "config_class"),
    [
        (BertForMaskedLM, BertConfig),
        (RobertaForMaskedLM, RobertaConfig),
        (ElectraForMaskedLM, ElectraConfig),
        (DistilBertForMaskedLM, DistilBertConfig),
    ],
)
def test_the_head_of_any_family_runs_at_the_chosen_places_alone(model_class, config_class):
    names = (
        ("dim", "n_layers", "n_heads", "hidden_dim"),
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    )
    sizes = dict(zip(names[config_class is not DistilBertConfig], (32, 2, 4, 64), strict=True))
    model = model_class(config_class(vocab_size=50, **sizes)).eval()
    ids, chosen = torch.randint(5, 50, (3, 9)), torch.rand(3, 9) < 0.4
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        found = logits_at(model, inputs, chosen)
        torch.testing.assert_close(found, model(**inputs).logits[chosen])
