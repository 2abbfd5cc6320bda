"""Read names and shapes of the tensors in a model folder, without torch."""

import json
import shlex
from pathlib import Path
from typing import Any

from kd_dist.errors import UserError
from kd_dist.model_files.pickled_weights import pickled_shapes

Shapes = dict[str, tuple[int, ...]]

# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

CONFIG_FILES = ("*.json", "vocab*", "merges.txt", "*.model")  # of a model and its tokenizer

# Files beside weights that end like weights.
OTHER_STATES = ("training_args", "projections", "optimizer", "scheduler", "rng_state")

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

OLD_TRANSFORMERS = (
    "transformers 5 reads PyTorch's alone, transformers 4 converts them; in an environment of its own: "
    "pip install 'transformers<5' torch {packages} && python -c \"from transformers import {model}; "
    "{model}.from_pretrained('{folder}', {option}=True).save_pretrained('{folder}')\""
)
GOOGLE = (
    "transformers 4 converts them; in an environment of its own: pip install 'transformers<5' torch tensorflow && "
    "python -m transformers.models.bert.convert_bert_original_tf_checkpoint_to_pytorch --tf_checkpoint_path "
    "{checkpoint} --bert_config_file {config} --pytorch_dump_path {folder}/pytorch_model.bin"
)
OTHER_FRAMEWORKS = {
    "tf_model*.h5": (
        "TensorFlow",
        OLD_TRANSFORMERS.replace("{packages}", "tensorflow tf-keras").replace("{option}", "from_tf"),
    ),
    "flax_model*.msgpack": ("Flax", OLD_TRANSFORMERS.replace("{packages}", "flax").replace("{option}", "from_flax")),
    "*.ckpt*.index": ("TensorFlow", GOOGLE),
    "*.pdparams": (
        "Paddle",
        "transformers reads PyTorch's alone and converts no Paddle weights: take the PyTorch version of this model "
        "(for ERNIE: `huggingface-cli download nghuyong/ernie-3.0-base-zh --local-dir DIR`, or its other sizes)",
    ),
    "*.onnx": ("ONNX", "that is made to be served, not trained: take the PyTorch version of this model"),
    "*.gguf": ("GGUF", "that is made to be served, not trained: take the PyTorch version of this model"),
    "rust_model.ot": ("rust-bert", "take the PyTorch version of this model"),
}


def pointer_problem(folder: Path, weights: bool = True) -> str | None:
    """Return which files are pointers of Git LFS, and how to get the files themselves; None if there are none.

    A clone without Git LFS has pointers in place of large files. Those that nobody reads, such as another framework's
    weights, may be.

    Args:
        folder: The folder of a model or tokenizer.
        weights: Whether the weights are to be read as well.
    """
    files = [file for pattern in CONFIG_FILES for file in folder.glob(pattern)]
    first = first_weights(folder)
    if weights and first is not None:
        files += [first, *folder.glob(f"{first.name.split('.')[0]}-*-of-*")]
    pointers = [file for file in sorted(set(files)) if _is_pointer(file)]
    if not pointers:
        return None
    names = ", ".join(file.name for file in pointers)
    return (
        f"{names}: only a pointer of Git LFS ({pointers[0].stat().st_size} bytes), not the file itself; fetch it with: "
        f"cd {shlex.quote(str(folder))} && git lfs install && git lfs pull"
    )


def _is_pointer(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(LFS_POINTER)


def first_weights(folder: Path) -> Path | None:
    """Return the file of weights, or the index of several, that transformers would read; None if there is none."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def weight_files(folder: Path) -> list[Path]:
    """Return the files with weights that transformers would read: one, or the shards that an index names.

    Raises:
        UserError: There are none, a shard is missing, or they are pointers of Git LFS.
    """
    if problem := pointer_problem(folder):
        raise UserError(f"{folder}/{problem}")
    found = first_weights(folder)
    if found is None:
        raise UserError(_no_weights(folder))
    return _shards(found) if found.suffix == ".json" else [found]


def tensor_shapes(folder: Path) -> Shapes:
    """Return the shape of every tensor in a model folder by its name in the files.

    Raises:
        UserError: There are no weights, or a file of them is damaged.
    """
    shapes: Shapes = {}
    for file in weight_files(folder):
        shapes |= safetensors_shapes(file) if file.suffix == ".safetensors" else pickled_shapes(file)
    return shapes


def safetensors_shapes(file: Path) -> Shapes:
    """Read the header of a safetensors file: a length (uint64, little-endian) and that many bytes of JSON.

    Raises:
        UserError: There is no such header, or the file ends before its last tensor does.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json_object(stream.read(min(length, size)), file)
    tensors = {name: facts for name, facts in header.items() if name != "__metadata__"}
    try:
        shapes = {name: tuple(facts["shape"]) for name, facts in tensors.items()}
        end = 8 + length + max((facts["data_offsets"][1] for facts in tensors.values()), default=0)
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f"{file}: damaged (its header says no shapes); copy it again") from error
    if size < end:
        raise UserError(f"{file}: damaged, it ends after {size:,} of {end:,} bytes; copy it again")
    return shapes


def json_object(content: bytes, file: Path) -> dict[str, Any]:
    """Parse what must be a JSON object.

    Raises:
        UserError: It is none.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{file}: damaged, or only a Git LFS pointer ({error}); copy the file again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: expected a JSON object, found a {type(found).__name__}; copy the file again")
    return found


def _shards(index: Path) -> list[Path]:
    names = sorted(set(json_object(index.read_bytes(), index).get("weight_map", {}).values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        what = f"{len(missing)} of the {len(names)} files that it names are missing ({', '.join(missing[:3])})"
        raise UserError(f"{index}: {what if names else 'names no files'}; copy the folder again")
    return [index.parent / name for name in names]


def _class_of(folder: Path) -> str:
    """Return the class of transformers that keeps the head that weights of another framework have."""
    file = folder / "config.json"
    named = json_object(file.read_bytes(), file).get("architectures") if file.is_file() else None
    return str(named[0]).removeprefix("TF").removeprefix("Flax") if named else "AutoModel"


def _no_weights(folder: Path) -> str:
    for pattern, (framework, way_out) in OTHER_FRAMEWORKS.items():
        for file in sorted(folder.glob(pattern)):
            config = next(
                (name for name in ("bert_config.json", "config.json") if (folder / name).exists()), "config.json"
            )
            facts = {"checkpoint": file.with_suffix(""), "config": folder / config, "model": _class_of(folder)}
            shown = way_out.format(folder=folder, **facts)
            return f"{folder} holds only {framework}'s weights ({file.name}): {shown}"
    others = sorted(file for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    others = [file for file in others if not file.name.startswith(OTHER_STATES)]
    if len(others) == 1:
        name = WEIGHTS[0] if others[0].suffix == ".safetensors" else WEIGHTS[2]
        rename = shlex.join(["mv", str(others[0]), f"{folder}/{name}"])
        return f"{folder} holds no {name}; if {others[0].name} holds the weights, rename it: {rename}"
    return f"{folder} holds no weights ({WEIGHTS[0]} or {WEIGHTS[2]}): copy them there"
