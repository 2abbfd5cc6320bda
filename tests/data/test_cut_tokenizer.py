"""A tokenizer that is cut to the pieces of some texts makes the same pieces of these texts."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kd_dist.data.cut_tokenizer import cut_tokenizer
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.errors import UserError
from tests.conftest import TinyWorld

TEXTS = ["天气 很好ab", "好天气。ab天!a"]
OTHER = "气好很天ba"  # the same characters in another order
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def unigram() -> Any:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(piece, -3.0) for piece in ("bonjour", "天气", "▁很", "ab", "▁好天", "good")]
    pieces += [(piece, -6.0) for piece in ("天", "x", "气", "好", "很", "a", "b", "地", "▁a")]
    pieces += [("rarest", -20.0), ("<0x41>", -9.0), ("<mask>", 0.0)]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, ids[name]) for name in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=77, padding_side="left", **SPECIAL)


def cut(tokenizer: Any, folder: Path, texts: list[str], min_count: int = 1) -> tuple[Any, list[int]]:
    """Cut, save and load a tokenizer."""
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    made, kept = cut_tokenizer(tokenizer, [folder / "texts.txt"], "text", min_count)
    made.save_pretrained(folder / "cut")
    return AutoTokenizer.from_pretrained(folder / "cut"), kept


def pieces_of(tokenizer: Any, text: str, pair: str | None = None) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, pair)["input_ids"])


def test_texts_stay_the_same_pieces_with_the_embeddings_of_before(tmp_path: Path) -> None:
    whole = unigram()
    small, kept = cut(whole, tmp_path, TEXTS)
    for text in (*TEXTS, "AB天气"):
        assert pieces_of(small, text, TEXTS[0]) == pieces_of(whole, text, TEXTS[0])
        assert [kept[number] for number in small(text)["input_ids"]] == whole(text)["input_ids"]
    assert len(small) == len(kept) < len(whole)


def test_what_no_text_uses_is_gone_and_special_tokens_and_settings_stay(tmp_path: Path) -> None:
    whole = unigram()
    small, _ = cut(whole, tmp_path, TEXTS)
    gone = set(whole.get_vocab()) - set(small.get_vocab())
    assert gone == {"bonjour", "good", "x", "地"}
    assert small.special_tokens_map == whole.special_tokens_map
    assert (small.model_max_length, small.padding_side) == (77, "left")
    assert small.convert_ids_to_tokens(small.pad_token_id) == "<pad>"


def test_characters_of_the_texts_are_known_in_other_words_and_others_are_not(tmp_path: Path) -> None:
    small, _ = cut(unigram(), tmp_path, TEXTS)
    assert small.unk_token not in pieces_of(small, OTHER)
    assert small.unk_token in pieces_of(small, "地")


def test_unknown_characters_cost_what_they_did(tmp_path: Path) -> None:
    """Without the least likely piece `ab!` would be cheaper as an unknown `b!` than as what it was."""
    whole = unigram()
    small, kept = cut(whole, tmp_path, ["ab!好"])
    assert whole.convert_tokens_to_ids("rarest") in kept
    assert pieces_of(small, "ab!好") == pieces_of(whole, "ab!好")


def test_pieces_at_the_beginning_of_a_sentence_count(tmp_path: Path) -> None:
    small, _ = cut(unigram(), tmp_path, ["很好。好天"])
    assert pieces_of(small, "好天") == ["<s>", "▁好天", "</s>"]


def test_rare_pieces_can_be_left_out_but_no_character(tmp_path: Path) -> None:
    small, _ = cut(unigram(), tmp_path, ["天气", "天气好", "ab"], min_count=2)
    assert "天气" in small.get_vocab()
    assert "ab" not in small.get_vocab()
    assert pieces_of(small, "ab") == ["<s>", "▁a", "b", "</s>"]


def test_a_wordpiece_vocabulary_is_cut_too(tmp_path: Path, tiny: TinyWorld) -> None:
    whole = load_fast_tokenizer(str(tiny.tokenizer))
    texts = [line for line in tiny.corpus.read_text(encoding="utf-8").splitlines() if line][:20]
    small, kept = cut(whole, tmp_path, texts)
    assert len(kept) < len(whole) / 2
    for text in texts:
        assert pieces_of(small, text, texts[0]) == pieces_of(whole, text, texts[0])
        assert [kept[number] for number in small(text)["input_ids"]] == whole(text)["input_ids"]
    assert json.loads((tmp_path / "cut" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["type"] == "WordPiece"


def test_other_kinds_of_tokenizers_are_refused_by_name(tmp_path: Path) -> None:
    byte_pairs = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    with pytest.raises(UserError, match=r"its tokenizer is BPE; those of the kinds Unigram .* WordPiece"):
        cut(PreTrainedTokenizerFast(tokenizer_object=byte_pairs), tmp_path, TEXTS)
