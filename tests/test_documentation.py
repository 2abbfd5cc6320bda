"""The documentation is true: what is generated is up to date, links lead somewhere, commands are understood."""

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.table import RESULTS, evaluated, model_rows
from docs import generate
from kd_dist import evaluate, predict
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.sections.data import LabelledData
from kd_dist.errors import UserError
from launch import dashboard, slurm
from tests.data.labelled_files import loaded
from tests.model_folders import write_vocabulary, write_weights
from tests.ranks import ROOT

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "examples/README.md")}
PAGES |= {f"docs/{file.name}": file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md"))}

GENERATED = generate.pages()

README_CHARACTERS = 8_000

CONFIG = (
    '{"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, '
    '"architectures": ["BertForSequenceClassification"]}'
)


def test_the_first_page_is_short() -> None:
    assert len(PAGES["README.md"]) <= README_CHARACTERS


@pytest.mark.parametrize("file", GENERATED, ids=lambda file: file.name)
def test_what_is_generated_is_up_to_date(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == GENERATED[file], "run `make docs`"


def _tree() -> set[str]:
    """Paths in the annotated tree; two spaces are one level."""
    block = PAGES["docs/architecture.md"].split("```text\n", 1)[1].split("```", 1)[0]
    paths, parents = set(), []
    for line in block.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        parents = [*parents[:depth], name.rstrip("/")]
        paths.add("/".join(parents))
    return paths


def _tracked() -> set[str]:
    """Files in git (or, in a copy without git, on disk), with what is shown as a whole reduced to its folder."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    as_a_whole = {"configs/models", "configs/deepspeed", "configs/clusters", "examples", "results", "tests/slurm"}
    as_a_whole |= {"docs/pictures", "tests/chaos"}
    shown = set()
    for name in (name for name in listing.stdout.splitlines() if (ROOT / name).exists()):
        paths = [*(str(parent) for parent in reversed(Path(name).parents) if str(parent) != "."), name]
        whole = next((index for index, path in enumerate(paths) if path in as_a_whole), len(paths))
        shown |= set(paths[: whole + 1])
    mirrored = r"tests/(?!slurm|chaos).+"  # the folders and files of tests are those of kd_dist
    unsaid = re.compile(rf".*__init__\.py|{mirrored}|\.gitignore|\.ci")
    return {name for name in shown if not unsaid.fullmatch(name)}


def test_the_tree_is_the_disk() -> None:
    assert _tree() == _tracked()


def test_a_value_visits_each_folder_once() -> None:
    """Data walks forward: no folder takes a value up twice, and every module named there exists (see the links)."""
    section = PAGES["docs/architecture.md"].split("## How three values travel")[1].split("\n## ")[0]
    tables = [re.findall(r"^\| `([^`]+/)` \|", table, flags=re.M) for table in section.split("\n### ")[1:]]
    assert len(tables) == 3
    assert all(folders and len(folders) == len(set(folders)) for folders in tables)
    assert all((ROOT / folder).is_dir() for folders in tables for folder in folders)


def _links(page: str) -> list[Path]:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    return [(ROOT / page).parent / target for target in targets]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert [link for link in _links(page) if not link.exists()] == []


def test_every_page_is_linked_from_the_first_one() -> None:
    linked = {link.resolve() for link in _links("README.md")}
    assert {ROOT / page for page in PAGES} - linked == {ROOT / "README.md"}


def _commands() -> list[str]:
    """Every command of every page, once."""
    blocks = [block for page in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", page, flags=re.S)]
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that commands name, and the example."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt.gz").write_bytes(gzip.compress("正文".encode()))
    (tmp_path / "augmented").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["正文"]}), tmp_path / "augmented" / "a.parquet")
    for name in ("train.tsv", "dev.tsv", "test.tsv", "tags.tsv"):
        (tmp_path / name).write_text("positive\t好\n", encoding="utf-8")
    (tmp_path / "judged.jsonl").write_text('{"text": "好", "positive": 0.9}\n', encoding="utf-8")
    (tmp_path / "ensemble.csv").write_text("id,text,reason,positive\n1,好,,0.9\n", encoding="utf-8")
    (tmp_path / "vectors.txt").write_text("好 0.1 0.2\n", encoding="utf-8")
    (tmp_path / "scores.tsv").write_text("0.5\t好\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("sentence1\tsentence2\tlabel\n好\t很好\tyes\n", encoding="utf-8")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_models(words: list[str], folder: Path) -> None:
    """Make every model folder that a command names; `hfl/...` and the like are names on the hub."""
    for word in words:
        key, _, value = word.partition("=")
        path = value.removeprefix("teacher:")
        if key.endswith((".path", ".models")) and (path.startswith("runs/") or "/" not in path):
            (folder / path).mkdir(parents=True, exist_ok=True)
            (folder / path / "config.json").write_text(CONFIG, encoding="utf-8")
            write_weights(folder / path, json.loads(CONFIG))
            write_vocabulary(folder / path)


@pytest.mark.parametrize("command", [line for line in _commands() if "launch/slurm.py" in line])
def test_launch_commands_are_understood(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = shlex.split(command)[1:]
    _write_models(words, folder)
    looks = {"--list", "--options", "--dry-run", "--plan", "--status", "--logs", "--cancel"} & set(words)
    monkeypatch.setattr(sys, "argv", [*words, *([] if looks else ["--dry-run"])])
    if "tinybert_general/first" in words:  # the command is understood; that run is the reader's
        with pytest.raises(UserError, match="not a run folder"):
            slurm.main()
    else:
        assert not slurm.main()
        assert capsys.readouterr().out


@pytest.mark.parametrize("command", [line for line in _commands() if "launch/dashboard.py" in line])
def test_dashboard_commands_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", [*shlex.split(command)[1:], "--print"])
    assert dashboard.main() == 0
    assert json.loads(capsys.readouterr().out)


def test_training_commands_name_the_entry_point_and_known_settings() -> None:
    training = [shlex.split(line) for line in _commands() if "kd_dist/train.py" in line]
    assert {words[0] for words in training} == {"deepspeed", "torchrun", "python"}
    for words in training:
        job = find_job(words[words.index("--job") + 1])
        known = {key for stage in job.stages.values() for key in stage.options()}
        settings = [word.split("=")[0] for word in words if "=" in word and not word.startswith("--")]
        assert settings
        assert set(settings) <= known


@pytest.mark.parametrize("line", [line for line in _commands() if re.search(r"kd_dist[./](predict|evaluate)", line)])
def test_commands_for_finished_models_parse(line: str) -> None:
    command = line.rpartition("| ")[2].partition(" <")[0]
    words = shlex.split(re.sub(r"-m kd_dist\.(\w+)", r"kd_dist/\1.py", command))[1:]
    module = {"kd_dist/predict.py": predict, "kd_dist/evaluate.py": evaluate}[words[0]]
    assert module._parser().parse_args(words[1:]).model


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in _commands() if line.startswith("make ")]
    assert {"install", "demo", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


def test_python_examples_are_python() -> None:
    examples = [code for page in PAGES.values() for code in re.findall(r"```python\n(.*?)```", page, flags=re.S)]
    assert examples
    for code in examples:
        compile(code, "example", "exec")


def test_every_job_is_on_the_first_page() -> None:
    assert [name for name in job_names() if f"`{name}`" not in PAGES["README.md"]] == []


def test_every_result_links_its_configuration_and_figures() -> None:
    results = PAGES["docs/results.md"].split("<!-- results:begin -->")[1].split("<!-- results:end -->")[0]
    lines = results.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("|--")]
    rows = [
        line
        for number, line in enumerate(lines)
        if line.startswith("|") and number not in rules and number + 1 not in rules
    ]
    assert len(rows) >= 4
    assert [row for row in rows if "(../results/" not in row] == []


def test_every_evaluated_run_is_in_the_tables() -> None:
    folders = [file.parent for file in RESULTS.glob("*/results.json") if evaluated(file.parent)]
    expected = [f"| {' | '.join(cells)} |" for folder in folders for cells in model_rows(folder)]
    assert expected
    assert [line for line in expected if line not in PAGES["docs/results.md"].splitlines()] == []


def test_every_promise_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGES["docs/reliability.md"]))
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")]
    assert named
    assert [name for name in named if not any(f"def {name}(" in source for source in sources)] == []


def test_the_example_file_is_200_labelled_rows() -> None:
    splits, labels, _ = loaded(LabelledData(train=[str(ROOT / "examples" / "reviews.tsv")]))
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == len({row.text for row in rows}) == 200
    assert labels.ids.keys() == {"positive", "negative"}
