"""The right class of tokenizer for a folder, and no tokenizer made of nothing."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Tokenizer

from kd_dist.data.preprocessing import Preprocessing, segment_for
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.errors import CorpusError, UserError
from tests.model_folders import VOCABULARY, write_vocabulary

WORDS = [*VOCABULARY, *"天地玄黄"]
BERT = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config.json", {"model_type": "albert"}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", BERT),
        ("config.json", {"model_type": "bert"}),
        ("bert_config.json", BERT),
    ],
)
@pytest.mark.parametrize("saved", [True, False])
def test_a_vocab_txt_is_berts(name: str, config: dict[str, object], saved: bool, tmp_path: Path) -> None:
    write_vocabulary(tmp_path, WORDS)
    (tmp_path / name).write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_fast_tokenizer(str(tmp_path))
    if saved:  # as it lies beside the rows
        tokenizer.save_pretrained(tmp_path / "again")
        tokenizer = load_tokenizer(tmp_path / "again")
    assert tokenizer("天玄人")["input_ids"] == [2, 5, 7, 1, 3]
    assert (len(tokenizer), tokenizer.pad_token_id) == (9, 0)


def test_berts_tokenizer_file_without_a_type(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, WORDS)
    (tmp_path / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    load_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").rename(tmp_path / "saved" / "config.json")
    assert load_tokenizer(tmp_path / "saved")("天玄人")["input_ids"] == [2, 5, 7, 1, 3]


@pytest.mark.parametrize("saved", [True, False])
def test_roformers_tokenizer_is_berts_after_the_segmentation(saved: bool, tmp_path: Path) -> None:
    """transformers' own class needs a package that nobody has."""
    words = [*WORDS, "天地"]
    write_vocabulary(tmp_path, words)
    (tmp_path / "config.json").write_text('{"model_type": "roformer"}', encoding="utf-8")
    if saved:
        load_tokenizer(tmp_path).save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RoFormerTokenizer"}', encoding="utf-8")
    tokenizer = load_fast_tokenizer(str(tmp_path))
    assert segment_for(tokenizer) == "word"
    [row] = Preprocessing(8, "word").encode(tokenizer, ["天地玄黄"])
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == ["[CLS]", "天地", "玄", "黄", "[SEP]"]


def test_a_tokenizer_that_cannot_pad(tmp_path: Path) -> None:
    GPT2Tokenizer(vocab={"a": 0, "<|endoftext|>": 1}, merges=[]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(UserError, match=r'has no token for padding.*"pad_token": "<\|endoftext\|>"'):
        load_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "<|endoftext|>"}))
    assert load_tokenizer(tmp_path).pad_token_id == 1


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(CorpusError, match="has no tokenizer"):
        load_fast_tokenizer(str(tmp_path))
