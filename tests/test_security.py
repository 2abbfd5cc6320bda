"""Nothing that a user was sent is run, and nothing that a user keeps secret is written."""

import ast
import contextlib
import functools
import io
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import RunError, UserError
from kd_dist.files import read_json, write_json
from kd_dist.models.classifier import load_classifier
from kd_dist.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from tests.conftest import LabelledWorld, TinyWorld
from tests.ranks import ROOT

# ------------------------------------------------------------ the source

MODULES = ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile", "zipfile")
"""Modules that may run or spread what a file holds."""

IMPORTED = {
    ("kd_dist/model_files/pickled_weights.py", "pickle"),  # an unpickler that knows no class of the file
    ("kd_dist/model_files/pickled_weights.py", "zipfile"),  # reads one member, extracts nothing
    ("kd_dist/models/loading.py", "pickle"),  # the name of an error
}

LOADED = {
    "torch.load": {"kd_dist/models/loading.py"},
    "DelayedSubmission.load": {"launch/requeue.py"},  # a job that submitit has pickled into this run's own folder
    "yaml.load": {"kd_dist/config/yaml_files.py"},  # with a loader derived from SafeLoader
    "AutoConfig.from_pretrained": {"kd_dist/models/loading.py"},
    "loader.from_pretrained": {"kd_dist/data/tokenizer_folders.py"},  # AutoTokenizer's or BERT's
    "model_class.from_pretrained": {"kd_dist/models/loading.py"},  # one of transformers' own classes
    "super().from_pretrained": {"kd_dist/serving/word_tokenizer.py"},  # whoever calls it trusts this code or not
}


class Call(NamedTuple):
    file: str
    name: str
    keywords: dict[str, Any]


@functools.cache
def source() -> tuple[list[Call], set[tuple[str, str]]]:
    """Return every call in the source, and every (file, module) that is imported."""
    calls, imported = [], set()
    for path in [path for folder in ("kd_dist", "jobs", "launch") for path in (ROOT / folder).rglob("*.py")]:
        file = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                words = {word.arg or "**": getattr(word.value, "value", None) for word in node.keywords}
                calls.append(Call(file, ast.unparse(node.func), words))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                imported |= {(file, name.split(".")[0]) for name in names}
    return calls, imported


def test_nothing_that_runs_what_a_file_holds_is_used() -> None:
    calls, imported = source()
    assert {(file, module) for file, module in imported if module in MODULES} == IMPORTED
    assert not [call for call in calls if call.name in ("eval", "exec", "__import__", "os.system", "os.popen")]
    assert not [call for call in calls if call.keywords.get("shell") or call.keywords.get("allow_pickle")]
    assert not [call for call in calls if call.name.endswith((".extractall", ".extract", "unpack_archive"))]


def test_what_loads_files_is_of_the_safe_kind() -> None:
    calls, _ = source()
    ends = ("torch.load", "DelayedSubmission.load", "yaml.load", ".unsafe_load", ".full_load", ".from_pretrained")
    loads = [call for call in calls if call.name.endswith(ends)]
    assert {
        name: {call.file for call in loads if call.name == name} for name in {call.name for call in loads}
    } == LOADED
    assert [call.keywords["weights_only"] for call in loads if call.name == "torch.load"] == [True]
    asks = [call for call in loads if call.name.startswith(("Auto", "loader"))]
    assert [call.keywords["trust_remote_code"] for call in asks] == [False] * 2


# ------------------------------------------------------------ malicious files


class Malicious:
    """Whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self._path), "w"))


def copied(source: Path, place: Path) -> Path:
    place.mkdir()
    for path in source.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def model_files(planted: Path) -> dict[str, bytes]:
    """Files of weights in which a pickle would make a file when it is loaded."""
    whole, state = io.BytesIO(), io.BytesIO()
    torch.save(Malicious(planted), whole)
    torch.save({"classifier.weight": Malicious(planted)}, state)
    return {
        "pickle as safetensors": pickle.dumps(Malicious(planted)),
        "whole": whole.getvalue(),
        "state": state.getvalue(),
        "plain": pickle.dumps({"classifier.weight": Malicious(planted)}),
    }


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", ["pickle as safetensors", "whole", "state", "plain"])
def test_weights_that_would_run_code_are_refused(tmp_path: Path, labelled: LabelledWorld, name: str, kind: str) -> None:
    folder = copied(labelled.teacher, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(model_files(tmp_path / "PWNED")[kind])
    with pytest.raises(UserError):
        load_classifier(folder)
    assert not (tmp_path / "PWNED").exists()


def test_rows_and_checkpoints_that_would_run_code_do_not(tmp_path: Path, labelled: LabelledWorld) -> None:
    planted = tmp_path / "PWNED"
    shutil.copytree(labelled.tokens, tmp_path / "tokens")
    (lengths,) = (tmp_path / "tokens").glob("train_lengths.npy")
    np.save(lengths, np.array([Malicious(planted)], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match=r"train_lengths.npy is damaged"):
        PreparedRows(tmp_path / "tokens").lengths("train")
    place = save_checkpoint(tmp_path / "checkpoints", Checkpoint(1, {"weights": {}}, {}), keep=1)
    (place / "weights.safetensors").write_bytes(pickle.dumps(Malicious(planted)))
    with pytest.raises(SafetensorError):
        read_checkpoint(place)
    assert not planted.exists()


CODE = {"auto_map": {"AutoConfig": "code.Any", "AutoTokenizer": ["code.Any", "code.Any"], "AutoModel": "code.Any"}}


@pytest.mark.parametrize("own", [{}, {"model_type": "of_its_own"}])
def test_code_beside_a_model_is_neither_run_nor_asked_about_nor_handed_on(
    tmp_path: Path, labelled: LabelledWorld, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(labelled.teacher, tmp_path / "model")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')\n", encoding="utf-8")
    for name, more in (("config.json", CODE | own), ("tokenizer_config.json", CODE | {"tokenizer_class": "Any"})):
        write_json(folder / name, read_json(folder / name) | more)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    with pytest.raises(UserError, match="custom code") if own else contextlib.nullcontext():
        classifier = load_classifier(folder)
        for part in (classifier.model, classifier.tokenizer):
            part.save_pretrained(tmp_path / "export")
        assert not [file for file in (tmp_path / "export").glob("*.json") if "auto_map" in file.read_text("utf-8")]
    assert not (tmp_path / "PWNED").exists()
    assert sys.stdin.tell() == 0


# ------------------------------------------------------------ a whole run

PLANTED = {
    "WANDB_API_KEY": "5ec2e7" * 7,
    "HF_TOKEN": "hf_" + "planted" * 5,
    "AWS_SECRET_ACCESS_KEY": "plantedplanted",
    "MY_PASSWORD": "planted word",
}

RUN_ID = "第 1 次 $(touch PWNED) `x` 'y'"


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory, tiny: TinyWorld) -> Path:
    """A whole run in folders with difficult names, with secrets in the environment, and for nobody else to read."""
    root = tmp_path_factory.mktemp("anywhere") / '我的 实验 it\'s [1]* $(touch PWNED) & "数据"'
    corpus = root / "语料 库" / "正文 [1].txt"
    corpus.parent.mkdir(parents=True)
    lines = tiny.corpus.read_text(encoding="utf-8").splitlines()[:60]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    copied(tiny.teacher, root / "老师 的")
    shutil.copyfile(tiny.student, root / "学生 的.json")
    settings = {
        "data.corpus": corpus, "teacher.path": root / "老师 的", "student.config": root / "学生 的.json",
        "data.max_length": 48, "data.num_workers": 1, "train.steps": 4, "train.global_batch_size": 4,
        "cadence.save_every_n_steps": 2, "cadence.evaluate_every_n_steps": 2,
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "tinybert_general", "--cluster", "local"]
    # A W&B that an earlier test has started in this process would write the files, with the umask of this process.
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    ended = subprocess.run(
        [*command, "--run-id", RUN_ID, *(f"{key}={value}" for key, value in settings.items())],
        cwd=root,
        env={**inherited, **PLANTED, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
        umask=0o077,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (root / "printed.txt").write_text(ended.stdout + ended.stderr, encoding="utf-8")
    return root


def test_a_run_works_in_folders_of_any_name(anywhere: Path) -> None:
    run_dir = anywhere / "runs" / "tinybert_general" / RUN_ID
    assert (run_dir / "export" / "model.safetensors").is_file()
    assert (run_dir / "report" / "index.html").is_file()
    assert not list(anywhere.rglob("PWNED"))


def test_no_secret_is_in_anything_that_a_run_writes(anywhere: Path) -> None:
    files = [path for path in anywhere.rglob("*") if path.is_file()]
    assert {"job.json", "environment.json", "config.json", "rank_0.txt"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [name for name, secret in PLANTED.items() if secret.encode() in content], path


def test_files_of_a_run_grant_no_more_than_the_umask(anywhere: Path) -> None:
    written = [path for path in (anywhere / "runs").rglob("*") if not path.is_symlink()]
    assert [path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
