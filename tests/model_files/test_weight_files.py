"""Which weights a folder has; what is none says what it is and what mends it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kd_dist.errors import UserError
from kd_dist.model_files.weight_files import pointer_problem, tensor_shapes, weight_files

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 411553788\n"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.json", "spiece.model"])
def test_a_pointer_of_git_lfs(name: str, tmp_path: Path):
    (tmp_path / name).write_text(POINTER)
    problem = pointer_problem(tmp_path)
    assert problem is not None
    assert problem.startswith(f"{name}: only a pointer of Git LFS")
    assert problem.endswith(f"cd {tmp_path} && git lfs install && git lfs pull")
    with pytest.raises(UserError, match="only a pointer of Git LFS"):
        weight_files(tmp_path)
    is_read_anyway = name.startswith(("tokenizer", "spiece"))
    assert (pointer_problem(tmp_path, weights=False) is not None) == is_read_anyway


def test_pointers_that_nobody_reads_are_fine(tmp_path: Path):
    for name in ("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "model.onnx"):
        (tmp_path / name).write_text(POINTER)
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert tensor_shapes(tmp_path) == {"a": (2,)}


def test_shards_that_are_pointers(tmp_path: Path):
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001-of-00001.safetensors").write_text(POINTER)
    with pytest.raises(UserError, match="model-00001-of-00001.safetensors: only a pointer"):
        weight_files(tmp_path)


def test_the_conversion_keeps_the_head(tmp_path: Path):
    (tmp_path / "tf_model.h5").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"architectures": ["TFBertForMaskedLM"]}')
    with pytest.raises(UserError, match=r"import BertForMaskedLM; BertForMaskedLM.from_pretrained\(.*from_tf=True"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_model.h5", r"only TensorFlow's weights \(tf_model.h5\).*'transformers<5'.*from_tf=True"),
        ("flax_model.msgpack", r"only Flax's weights.*'transformers<5'.*from_flax=True"),
        ("bert_model.ckpt.index", r"only TensorFlow's weights.*--tf_checkpoint_path \S+/bert_model.ckpt "),
        ("model_state.pdparams", r"only Paddle's weights.*PyTorch version"),
        ("model.onnx", r"only ONNX's weights.*PyTorch version"),
    ],
)
def test_weights_of_another_framework(name: str, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"\x89HDF")
    with pytest.raises(UserError, match=message):
        tensor_shapes(tmp_path)


def test_pytorchs_weights_count_whatever_lies_beside_them(tmp_path: Path):
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF")
    torch.save({"a": torch.zeros(2, 3)}, tmp_path / "pytorch_model.bin")
    assert tensor_shapes(tmp_path) == {"a": (2, 3)}


def test_no_weights_and_weights_of_another_name(tmp_path: Path):
    with pytest.raises(UserError, match="holds no weights"):
        weight_files(tmp_path)
    torch.save({"a": torch.zeros(2)}, tmp_path / "rbt3.bin")
    with pytest.raises(UserError, match=f"mv {tmp_path}/rbt3.bin {tmp_path}/pytorch_model.bin"):
        weight_files(tmp_path)


def test_shards_are_read_and_missing_ones_named(tmp_path: Path):
    for number in (1, 2):
        save_file({f"t{number}": torch.zeros(number, 2)}, tmp_path / f"part{number}.safetensors")
    index = {"weight_map": {"t1": "part1.safetensors", "t2": "part2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert tensor_shapes(tmp_path) == {"t1": (1, 2), "t2": (2, 2)}
    (tmp_path / "part2.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 files that it names are missing \(part2.safetensors\)"):
        tensor_shapes(tmp_path)


def test_a_file_that_was_cut_off(tmp_path: Path):
    save_file({"a": torch.zeros(100)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"damaged, it ends after {len(whole) - 1} of {len(whole)} bytes"):
        tensor_shapes(tmp_path)
