"""Write what the documentation takes from the code and from results/: settings, tree, tables and picture.

python docs/generate.py
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from benchmarks import dashboard, picture, quality_tables, shaken, students_table, table
from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.base import Section
from kd_dist.config.students import MEANING, STUDENTS
from kd_dist.errors import exit_with_message
from kd_dist.files import write_text
from launch.options import as_typed, describe_field

DOCS = REPOSITORY / "docs"

ROOT_FILES = {
    "README.md": "the first page",
    "Makefile": "install, demo, test, chaos, bench, check, docs, format, clean",
    "pyproject.toml": "the package, and the settings of ruff, mypy, pytest and import-linter",
    "requirements.txt": "exact pins",
    "LICENSE": "Apache-2.0",
    ".ci/run": "style, types, import contracts, and all tests with a real SLURM",
}
FOLDERS = {
    "jobs": "WHAT WE TRAIN: one file, one name on the command line; no torch",
    "kd_dist": "HOW TRAINING WORKS: imports go down only, from the commands to errors and files",
    "kd_dist/config": "what can be set; no torch",
    "kd_dist/config/sections": "settings by topic",
    "kd_dist/config/objectives": "settings of the methods, one file each",
    "kd_dist/model_files": "what a model folder holds; no torch",
    "kd_dist/planning": "before anything queues; no torch",
    "kd_dist/runs": "the run folder, and what is written into it; no torch",
    "kd_dist/data": "files to rows",
    "kd_dist/augmentation": "more labelled text",
    "kd_dist/models": "encoders, and the students made from them",
    "kd_dist/objectives": "one file per method",
    "kd_dist/training": "the training loop and its parts",
    "kd_dist/evaluation": "quality, size, operations and speed",
    "kd_dist/evaluation/pictures": "each drawing once: as PNG for a stage, as SVG for the page",
    "kd_dist/serving": "exports and predictions",
    "kd_dist/reporting": "a run as a page",
    "launch": "WHERE IT RUNS: the only folder that imports submitit",
    "benchmarks": "side-by-side measurements, and the tables and pictures made from results/",
    "docs": "HOW IT IS USED, and why it is so",
    "configs": "FILES THAT OTHER PROGRAMS READ",
    "configs/clusters": "cluster profiles",
    "configs/deepspeed": "ZeRO stages",
    "configs/models": "Hugging Face configurations of the shipped students",
    "docs/pictures": "the picture of the first page, exits with different backbones, and a dashboard",
    "examples": "a small labelled file",
    "results": "configuration and figures of every measured run",
    "tests": "WHY WE BELIEVE IT: tests/data/test_splits.py for kd_dist/data/splits.py",
    "tests/chaos": "whole jobs that are killed again and again: make chaos",
    "tests/slurm": "a private real SLURM cluster, and jobs on it",
}
GENERATED = {  # file -> block -> lines; a block stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`
    "README.md": {"highlights": table.highlights},
    "docs/architecture.md": {"tree": lambda: ["```text", *tree(), "```"], "stages": lambda: stage_graphs()},
    "docs/data_formats.md": {"preparation": table.preparation},
    "docs/distillation.md": {"families": lambda: families()},
    "docs/reliability.md": {
        "shaken-jobs": shaken.jobs,
        "shaken-phases": shaken.phases,
        "shaken-costs": shaken.costs,
        "tracking": table.tracking,
    },
    "docs/what_distillation_buys.md": {
        "quality": quality_tables.quality,
        "quality_projected": quality_tables.projected,
        "quality_demo": quality_tables.demo,
        "settings_tried": quality_tables.settings,
        "several_labels": quality_tables.several_labels,
        "epochs": quality_tables.epochs,
        "backbones": lambda: table.exit_scores("one threshold a layer"),
    },
    "docs/which_student.md": {"students": students_table.students},
    "docs/results.md": {
        "classifiers": lambda: result_table(exits=False),
        "early-exit": lambda: result_table(exits=True),
        "exits": table.exit_scores,
        "student-exits": table.student_exits,
        "hint-words": students_table.hint_words,
        "teacher-outputs": table.teacher_outputs,
        "size": table.size,
        "gpu": table.gpu,
        "distillation-step": table.distillation_step,
        "general-distillation": table.general_distillation,
        "probe": table.probe,
    },
}


def result_table(exits: bool) -> list[str]:
    """Return the table of all measured runs with, or without, early exit."""
    folders = sorted(file.parent for file in table.RESULTS.glob("*/results.json") if table.evaluated(file.parent))
    (lines,) = table.model_tables([folder for folder in folders if table.has_exits(folder) is exits])
    return lines


def families() -> list[str]:
    """Return the table of what can be distilled from the models of each family."""
    rows = [
        [
            facts.title,
            f"`{name}`",
            "yes",
            "no" if facts.no_attention else "yes",
            "`pretrain`" if facts.masked_head else "`pretrain_xlnet`" if facts.permutation_head else "no",
            facts.no_attention or "",
        ]
        for name, facts in ALL_FAMILIES.items()
    ]
    return table.table(
        "family|`model_type`|predictions, hidden states|attention, exits|further pretraining|why not attention", rows
    )


def tree() -> list[str]:
    """Return the annotated tree: modules with the first sentence of their docstrings, the rest with what it holds."""
    entries = [(0, name, note) for name, note in ROOT_FILES.items()]
    for folder in ("jobs", "kd_dist", "launch", "configs", "tests", "benchmarks", "examples", "results", "docs"):
        entries += _entries(REPOSITORY / folder)
    names = ["  " * depth + name for depth, name, _ in entries]
    width = max(map(len, names)) + 2
    return [f"{name:{width}}{note}".rstrip() for name, (*_, note) in zip(names, entries, strict=True)]


def _entries(folder: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the depth, the name and the note of a folder and of what is shown below it."""
    name = folder.relative_to(REPOSITORY).as_posix()
    depth = name.count("/")
    yield depth, f"{folder.name}/", FOLDERS[name]
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.relative_to(REPOSITORY).as_posix() in FOLDERS:
            yield from _entries(path)
        elif path.suffix == ".py" and path.name != "__init__.py" and not name.startswith("tests"):
            yield depth + 1, path.name, first_sentence(path)
        elif path.suffix == ".md" and folder.name in ("docs", "benchmarks"):
            yield depth + 1, path.name, ""


def first_sentence(file: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])[.:] (?=[A-Z(])", paragraph)[0].rstrip(".")


def stage_graphs() -> list[str]:
    """Return the stages of every job as a diagram."""
    parts = []
    for job in map(find_job, job_names()):
        waits = [f"    {other} --> {name}" for name, inputs in job.edges().items() for other in inputs]
        parts.append([f"**{job.name}**: {job.description}", "", "```mermaid", "flowchart LR", *waits, "```"])
    return [line for number, part in enumerate(parts) for line in ([""] * (number > 0) + part)]


def settings_page() -> str:
    """Return docs/settings.md: every key of every section once, with the jobs that have it."""
    jobs = [find_job(name) for name in job_names()]
    parts = [
        "# Settings",
        "Written by `make docs` from the descriptions in the code. A setting is `section.key=value` and reaches every "
        "stage of the job that has the key; `stage.section.key=value` reaches one stage. Lists are `a,b,c`, maps "
        "`a:x,b:y`, and `none` is no value. Where a job sets a value of its own, its table at the end of this page "
        "says so. `python launch/slurm.py --job NAME --options` prints the settings of one job.",
    ]
    rows = [
        [job.name, f"`{key}`", ", ".join(f"`{each}`" for each in job.follows[key])]
        for job in jobs
        for key in job.follows
    ]
    parts.append("## Settings that follow another")
    parts.append("A setting on the left also sets those on the right, unless they are given themselves.")
    parts.append("\n".join(table.table("job|setting|also sets", rows)))
    parts.append("## students")
    having = ", ".join(f"`{job.name}` ({job.students_of})" for job in jobs if job.students_of)
    parts.append(f"A setting of a whole job, in {having}.")
    parts.append("\n".join(table.table("key|default|meaning", [[f"`{STUDENTS}`", "`none`", MEANING]])))
    for name, by_class in sorted(sections_of(jobs).items()):
        parts.append(f"## {name}")
        for section, places in by_class.items():
            intro = " ".join((section.__doc__ or "").split()) if "__doc__" in vars(section) else ""
            if "name" in section.model_fields:
                parts.append(f"### {name} `{section.model_fields['name'].default}`")
            parts += [part for part in (intro, f"In {_places(places)}.") if part]
            keys = [key for key in section.model_fields if key != "name"]
            rows = [[f"`{name}.{key}`", _default(section, key), _meaning(section, key)] for key in keys]
            parts.append("\n".join(table.table("key|default|meaning", rows)))
    parts.append("## What each job sets")
    for job in jobs:
        parts.append(f"### {job.name}\n\n{_sentence(job.description)}")
        rows = [[stage, "<br>".join(values)] for stage, values in own_values(job).items() if values]
        parts.append("\n".join(table.table("stage|values that differ from the defaults above", rows)))
    return "\n\n".join(parts) + "\n"


def sections_of(jobs: list[Job]) -> dict[str, dict[type[Section], dict[str, list[str]]]]:
    """Return section name -> class of the section -> job -> stages that have it."""
    found: dict[str, dict[type[Section], dict[str, list[str]]]] = defaultdict(dict)
    for job in jobs:
        for stage_name, stage in job.stages.items():
            for name, section in stage.sections():
                found[name].setdefault(type(section), defaultdict(list))[job.name].append(stage_name)
    return found


def _places(places: dict[str, list[str]]) -> str:
    return "; ".join(f"`{job}`: {', '.join(stages)}" for job, stages in places.items())


def own_values(job: Job) -> dict[str, list[str]]:
    """Return, for every stage, the values that the job's file sets, and where its inputs come from."""
    return {
        stage_name: [
            f"`{name}.{key}={_shown(value)}`"
            for name, section in stage.sections()
            for key in type(section).model_fields
            if key != "name" and (value := getattr(section, key)) != type(section).model_fields[key].default
        ]
        for stage_name, stage in job.stages.items()
    }


def _default(section: type[Section], key: str) -> str:
    field = section.model_fields[key]
    return "needed" if field.is_required() else f"`{_shown(field.default)}`"


def _shown(value: Any) -> str:
    return as_typed(value) or "empty"


def _meaning(section: type[Section], key: str) -> str:
    """Return what a key means as a cell of a table."""
    field = section.model_fields[key]
    return describe_field(field.description, field.annotation).replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def filled(text: str, blocks: dict[str, Any]) -> str:
    """Return a page with the lines of every block between its markers."""
    for name, lines in blocks.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "\n".join([before + begin, *lines(), end]) + after
    return text


def pages() -> dict[Path, str]:
    """Return every generated file with the text that it should have."""
    found = {
        DOCS / "settings.md": settings_page(),
        DOCS / "pictures" / "speed_accuracy.svg": picture.draw(),
        DOCS / "pictures" / "exits.svg": picture.draw_exits(),
        DOCS / "pictures" / "student_exits.svg": picture.draw_student_exits(),
        DOCS / "pictures" / "dashboard.svg": dashboard.draw(),
    }
    for name, blocks in GENERATED.items():
        found[REPOSITORY / name] = filled((REPOSITORY / name).read_text(encoding="utf-8"), blocks)
    return found


def main() -> None:
    for file, text in pages().items():
        write_text(file, text)
        print(file.relative_to(REPOSITORY))


if __name__ == "__main__":
    exit_with_message(main)
