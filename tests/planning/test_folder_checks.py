"""Model folders that would not load, or only in part, are refused before anything queues, and without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError
from kd_dist.model_files.encoder_weights import encoder_shapes
from kd_dist.planning.checks import load_checked_job
from tests.model_folders import VOCABULARY, write_header, write_vocabulary

BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 9,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
}
WORDS = [*VOCABULARY, *"天地玄黄"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 411553788\n"
SHAPES = encoder_shapes(BERT)

JOBS = [("finetune", "encoder.path"), ("tinybert_general", "teacher.path"), ("tinybert_general", "student.path")]

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a folder of a good model, which its caller spoils."""

    def make(name: str, front: str = "bert.", words: list[str] = WORDS, **settings: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = {key: value for key, value in (BERT | settings).items() if value is not None}
        (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
        write_header(folder, {front + name: shape for name, shape in SHAPES.items()})
        write_vocabulary(folder, words)
        return folder

    return make


def overrides(tmp_path: Path, job: str, key: str, folder: Path, make: Make) -> list[str]:
    (tmp_path / "data.tsv").write_text("甲\t天地\n乙\t玄黄\n", encoding="utf-8")
    good = {"tinybert_general": {"teacher.path": "teacher", "student.path": "student"}}.get(job, {})
    paths = {name: make(value) for name, value in good.items() if name != key} | {key: folder}
    data = "data.corpus" if job == "tinybert_general" else "data.train"
    return [f"{data}={tmp_path}/data.tsv", "data.max_length=32", *(f"{name}={path}" for name, path in paths.items())]


@pytest.fixture(params=JOBS, ids=lambda pair: "-".join(pair))
def refusal(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> Callable[[Path], str]:
    """What is said of a folder in one of the places that a model can have."""

    job, key = request.param

    def refusal(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_checked_job(job, overrides(tmp_path, job, key, folder, make))
        assert caught.value.exit_status == 2
        return str(caught.value)

    return refusal


def pickled(folder: Path, shapes: dict[str, Any]) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("is_pickled", [True, False])
def test_tensors_that_would_stay_random(is_pickled: bool, make: Make, refusal: Callable[[Path], str]) -> None:
    folder = make("bad")
    kept = {f"bert.{name}": shape for name, shape in SHAPES.items() if "layer.1." not in name}
    (pickled if is_pickled else write_header)(folder, kept)
    said = refusal(folder)
    assert f"={folder}: the weights in {folder} lack 16 of the {len(SHAPES)} tensors" in said
    assert "encoder.layer.1.attention.self.query.weight" in said


def test_a_pointer_of_git_lfs(make: Make, refusal: Callable[[Path], str]) -> None:
    folder = make("bad")
    (folder / "model.safetensors").write_text(POINTER)
    assert f"={folder}/model.safetensors: only a pointer of Git LFS" in refusal(folder)


def test_weights_of_another_framework(make: Make, refusal: Callable[[Path], str]) -> None:
    folder = make("bad")
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    assert f"={folder} holds only TensorFlow's weights (tf_model.h5): " in refusal(folder)


@pytest.mark.parametrize(
    ("job", "key", "settings"),
    [
        (
            "tinybert",
            "encoder.path",
            "finetune.encoder.path, general.teacher.path, augmentation.encoder.path, augmentation.teacher.path, "
            "layers.donor.path, alone.donor.path",
        ),
        ("tinybert_task", "teacher.path", "check.evaluate.models, distill.donor.path, alone.donor.path"),
        ("tinybert_general", "student.path", "distill: student.path"),
    ],
)
@pytest.mark.parametrize("is_relative", [False, True])
def test_a_folder_that_several_settings_name_is_refused_once(
    job: str, key: str, settings: str, is_relative: bool, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make("bad")
    (folder / "model.safetensors").write_text(POINTER)
    given = overrides(tmp_path, job, key, Path("bad") if is_relative else folder, make)
    with pytest.raises(UserError) as caught:
        load_checked_job(job, given)
    assert f"{settings}={folder}/model.safetensors: only a pointer of Git LFS" in str(caught.value)
    assert str(caught.value).count("only a pointer") == 1


def test_a_folder_that_is_not_there_is_refused_once(tmp_path: Path, make: Make) -> None:
    with pytest.raises(UserError) as caught:
        load_checked_job("tinybert_task", overrides(tmp_path, "tinybert_task", "teacher.path", tmp_path / "no", make))
    settings = "labelled.tokenizer.path, check.evaluate.models, distill.donor.path, alone.donor.path"
    assert str(caught.value).startswith(f"{settings}={tmp_path}/no: no such folder")
    assert "\n" not in str(caught.value)


def test_a_prefix_and_an_old_configuration_are_notes(tmp_path: Path, make: Make) -> None:
    folder = make("old", front="module.bert.", model_type=None)
    (folder / "config.json").rename(folder / "bert_config.json")
    for job, key in JOBS[1:]:
        for name in ("teacher", "student"):
            for file in (tmp_path / name).glob("*"):
                file.unlink()
            if (tmp_path / name).exists():
                (tmp_path / name).rmdir()
        notes = load_checked_job(job, overrides(tmp_path, job, key, folder, make)).notes
        assert notes[-3:] == [
            f"{folder}: bert_config.json is read, there is no config.json",
            f"{folder}: bert_config.json has no model_type but BERT's fields, so it is taken for a BERT",
            f"{folder}: the names of its tensors begin with `module.`, which is taken off",
        ]


def test_a_folder_without_a_tokenizer(tmp_path: Path, make: Make) -> None:
    folder = make("bad")
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=f"labelled: tokenizer.path={folder} has no tokenizer"):
        load_checked_job("finetune", overrides(tmp_path, "finetune", "encoder.path", folder, make))


def test_berts_vocabulary_beside_an_albert_is_a_note(tmp_path: Path, make: Make) -> None:
    folder = make("albert", model_type="albert", embedding_size=4)
    write_header(folder, encoder_shapes(BERT | {"model_type": "albert", "embedding_size": 4}))
    job = load_checked_job("finetune", overrides(tmp_path, "finetune", "encoder.path", folder, make))
    assert any("BERT's tokenizer is used" in note for note in job.notes)


def test_no_torch_is_needed(tmp_path: Path, make: Make) -> None:
    folder = make("bad", front="")
    pickled(folder, {"a": (2,)})
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from kd_dist.planning.checks import load_checked_job\n"
        "from kd_dist.errors import UserError\n"
        "try: load_checked_job('finetune', sys.argv[1:])\n"
        "except UserError as error: print(error)"
    )
    arguments = overrides(tmp_path, "finetune", "encoder.path", folder, make)
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    assert "have no embeddings.word_embeddings.weight: 1 tensors of other names (a)" in done.stdout, done.stderr
