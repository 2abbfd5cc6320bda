"""Damaged model folders are one clear message; what heads there are is asked of real models in test_augment.py."""

from pathlib import Path

import pytest

from kd_dist.config.model_folders import has_classifier_head, has_language_model_head
from kd_dist.errors import UserError

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)


def test_a_pointer_in_place_of_a_file(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_text(POINTER, encoding="utf-8")
    for asked in (has_language_model_head, has_classifier_head):
        with pytest.raises(UserError, match=r"model.safetensors: only a pointer of Git LFS .*&& git lfs pull"):
            asked(str(tmp_path))


@pytest.mark.parametrize("content", [b"", (10**6).to_bytes(8, "little") + b'{"a": {}', b"\x02"])
def test_weights_that_cannot_be_read(content: bytes, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(
        UserError, match=r"model.safetensors: damaged, or no more than a pointer of Git LFS \(.*copy it"
    ):
        has_language_model_head(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"architectures": [', "damaged"), ("[]", "a JSON list, expected an object")],
)
def test_a_configuration_that_cannot_be_read(content: str, message: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    for asked in (has_language_model_head, has_classifier_head):
        with pytest.raises(UserError, match=f"config.json: {message}"):
            asked(str(tmp_path))
