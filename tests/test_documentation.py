"""The README tells the truth: its tree is the disk, its links lead somewhere, its commands are understood."""

import gzip
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.model_folders import write_vocabulary, write_weights
from tests.ranks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN_AS_A_WHOLE = {"configs/models", "configs/deepspeed", "configs/clusters", "tests/slurm", "results"}


def tree() -> set[str]:
    """Paths in the annotated tree; two spaces are one level."""
    block = README.split("```text\n", 1)[1].split("```", 1)[0]
    paths, parents = set(), []
    for line in block.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        parents = [*parents[:depth], name.rstrip("/")]
        paths.add("/".join(parents))
    return paths


def tracked() -> set[str]:
    """Files in git (or, in a copy without git, on disk), with what is shown as a whole reduced to its folder."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    files = {name for name in listing.stdout.splitlines() if (ROOT / name).exists()}
    shown = set()
    for name in files:
        paths = [str(parent) for parent in reversed(Path(name).parents) if str(parent) != "."] + [name]
        whole = next((index for index, path in enumerate(paths) if path in SHOWN_AS_A_WHOLE), len(paths))
        shown |= set(paths[: whole + 1])
    unsaid = re.compile(r".*__init__\.py|tests/test_.*|\.gitignore|\.ci")  # tests mirror the modules
    return {name for name in shown if not unsaid.fullmatch(name)}


def test_tree_is_the_disk() -> None:
    assert tree() == tracked()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("command", [line for line in commands() if "launch/slurm.py" in line])
def test_launch_commands_are_understood(command: str, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt.gz").write_bytes(gzip.compress("正文".encode()))
    (tmp_path / "augmented").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["正文"]}), tmp_path / "augmented" / "a.parquet")
    for name in ("DIR", "GENERAL_STUDENT", "FINE_TUNED", "CLASSIFIER"):
        (tmp_path / name).mkdir()
        config = {"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12}
        heads = {"architectures": ["BertForSequenceClassification"]}
        (tmp_path / name / "config.json").write_text(json.dumps(config | heads))
        write_weights(tmp_path / name, config)
        write_vocabulary(tmp_path / name)
    for name in ("train.tsv", "dev.tsv", "test.tsv", "vectors.txt"):
        (tmp_path / name).write_text("positive\t好\n")
    words = shlex.split(command)[1:]
    words[0] = str(ROOT / words[0])
    looks = {"--list", "--options", "--dry-run", "--status"} & set(words)
    result = subprocess.run(
        [sys.executable, *words, *([] if looks else ["--dry-run"])], cwd=tmp_path, capture_output=True, text=True
    )
    if "--status" in words:
        assert "not a run folder" in result.stderr  # the command is understood; that run is the reader's
    else:
        assert result.returncode == 0, result.stderr


def test_training_commands_name_the_entry_point_and_known_settings() -> None:
    from kd_dist.config.jobs import find_job

    training = [shlex.split(line) for line in commands() if "kd_dist/train.py" in line]
    assert {words[0] for words in training} == {"deepspeed", "torchrun", "python"}
    for words in training:
        job = find_job(words[words.index("--job") + 1])
        known = {key for stage in job.stages.values() for key in stage.options()}
        settings = [word.split("=")[0] for word in words if "=" in word and not word.startswith("--")]
        assert settings
        assert set(settings) <= known


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


def test_every_result_links_its_configuration_and_metrics() -> None:
    table = README.split("<!-- results:begin -->")[1].split("<!-- results:end -->")[0]
    lines = table.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("|--")]
    rows = [
        line
        for number, line in enumerate(lines)
        if line.startswith("|") and number not in rules and number + 1 not in rules
    ]
    assert len(rows) >= 4
    assert [row for row in rows if "(results/" not in row] == []


def test_figures_of_classifiers_are_those_of_the_results() -> None:
    from benchmarks.table import lines

    folders = sorted(path.parent for path in (ROOT / "results").glob("*/results.json"))
    expected = [line for folder in folders for line in lines(folder)[1:]]
    assert expected
    assert [line for line in expected if line not in README.splitlines()] == []
