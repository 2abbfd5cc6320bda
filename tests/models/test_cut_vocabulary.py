"""A model that is cut to the pieces of a corpus gives the same outputs for its texts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from kd_dist.config.sections.data import VocabularyData
from kd_dist.config.sections.models import MultilingualEncoder
from kd_dist.config.stages import CutVocabularyStage
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError
from kd_dist.models import cut_vocabulary
from tests.conftest import TinyWorld

SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS: list[PretrainedConfig] = [
    BertConfig(**SHAPE),
    AlbertConfig(**SHAPE, embedding_size=16),
    ElectraConfig(**SHAPE, embedding_size=16),
    DistilBertConfig(n_layers=2, dim=32, n_heads=4, hidden_dim=64),
]
AUTO_CLASSES = [AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification]


def texts_of(tiny: TinyWorld) -> list[str]:
    return [line[:40] for line in tiny.corpus.read_text(encoding="utf-8").splitlines() if line][:12]


def save(tiny: TinyWorld, folder: Path, config: PretrainedConfig, auto_class: type = AutoModel, spare: int = 3) -> Path:
    """Save a model with random weights, and with embeddings that its tokenizer has no tokens for."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.tokenizer)
    config.update({"vocab_size": len(tokenizer) + spare, "pad_token_id": tokenizer.pad_token_id, "num_labels": 3})
    torch.manual_seed(1)
    model = auto_class.from_config(config)  # type: ignore[attr-defined]
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(tensor)  # they begin as zeros, which are the same in any order
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cut(folder: Path, tmp_path: Path, texts: list[str]) -> Path:
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    data = VocabularyData(corpus=[str(tmp_path / "texts.txt")])
    stage = CutVocabularyStage(encoder=MultilingualEncoder(path=str(folder)), data=data)
    cut_vocabulary.run(stage, tmp_path / "cut", 0)
    return tmp_path / "cut" / "export"


def outputs(auto_class: type, folder: Path, texts: list[str]) -> torch.Tensor:
    model: PreTrainedModel = auto_class.from_pretrained(folder).eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        return model(**AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt"))[0]


@pytest.mark.parametrize("auto_class", AUTO_CLASSES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_outputs_for_the_texts_are_what_they_were(
    tmp_path: Path, tiny: TinyWorld, config: PretrainedConfig, auto_class: type
) -> None:
    texts = texts_of(tiny)
    whole = save(tiny, tmp_path / "whole", config, auto_class)
    small = cut(whole, tmp_path, texts)
    before, after = outputs(auto_class, whole, texts), outputs(auto_class, small, texts)
    if auto_class is AutoModelForMaskedLM:  # of the tokens that are left
        names = AutoTokenizer.from_pretrained(small).convert_ids_to_tokens(range(after.shape[-1]))
        before = before[..., AutoTokenizer.from_pretrained(tiny.tokenizer).convert_tokens_to_ids(names)]
    torch.testing.assert_close(after, before)
    assert AutoConfig.from_pretrained(small).vocab_size == len(AutoTokenizer.from_pretrained(small))
    assert AutoConfig.from_pretrained(small).vocab_size < AutoConfig.from_pretrained(whole).vocab_size / 2
    assert AutoConfig.from_pretrained(small).architectures == AutoConfig.from_pretrained(whole).architectures


def test_special_tokens_of_the_configuration_get_their_new_ids(tmp_path: Path, tiny: TinyWorld) -> None:
    folder = save(tiny, tmp_path / "whole", BertConfig(**SHAPE, eos_token_id=3, bos_token_id=1400))
    kept = [0, 3, 7]
    model = AutoModel.from_pretrained(folder)
    rows = model.get_input_embeddings().weight[kept].clone()
    cut_vocabulary.cut_embeddings(model, kept)
    assert (model.config.pad_token_id, model.config.eos_token_id, model.config.bos_token_id) == (0, 1, None)
    assert model.config.vocab_size == 3
    assert torch.equal(model.get_input_embeddings().weight, rows)


def test_a_classifier_keeps_its_labels_and_its_preprocessing(tmp_path: Path, tiny: TinyWorld) -> None:
    names = {0: "a", 1: "b", 2: "c"}
    whole = save(tiny, tmp_path / "whole", BertConfig(**SHAPE, id2label=names), AutoModelForSequenceClassification)
    Preprocessing(max_length=33).save(whole)
    small = cut(whole, tmp_path, texts_of(tiny))
    assert AutoConfig.from_pretrained(small).id2label == names
    assert Preprocessing.load(small).max_length == 33


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path: Path, tiny: TinyWorld) -> None:
    folder = save(tiny, tmp_path / "whole", BertConfig(**SHAPE), spare=-5)
    with pytest.raises(
        RunError, match=r"the tokenizer in .* has 1,500 tokens, but encoder.path=.* has 1,495 embeddings"
    ):
        cut(folder, tmp_path, texts_of(tiny))


def test_it_says_what_became_smaller(tmp_path: Path, tiny: TinyWorld, capsys: pytest.CaptureFixture[str]) -> None:
    cut(save(tiny, tmp_path / "whole", BertConfig(**SHAPE)), tmp_path, texts_of(tiny))
    assert "of 1,503 tokens kept, 0.1 -> 0.0 million parameters" in capsys.readouterr().out


def test_the_export_replaces_an_earlier_one(tmp_path: Path, tiny: TinyWorld) -> None:
    whole = save(tiny, tmp_path / "whole", BertConfig(**SHAPE))
    small = cut(whole, tmp_path, texts_of(tiny))
    first = json.loads((small / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    shutil.rmtree(small.parent)
    (small).mkdir(parents=True)
    (small / "remains.txt").touch()
    assert json.loads((cut(whole, tmp_path, texts_of(tiny)[:2]) / "config.json").read_text())["vocab_size"] < first
    assert not (small / "remains.txt").exists()
