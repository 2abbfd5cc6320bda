"""The tables of docs/results.md and of the README, made from results/: no figure is typed by hand.

python benchmarks/table.py results/thucnews results/fastbert_thucnews
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections.abc import Iterable
from statistics import mean
from typing import Any

from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError, exit_with_message
from kd_dist.files import read_json
from kd_dist.reporting.page import duration
from kd_dist.runs.metrics import read_metrics

RESULTS = REPOSITORY / "results"

CLASSIFIERS = "data|model|score|kept|parameters|latency|samples per second|faster|training|configuration and figures"
EARLY_EXIT = (
    "data|model|score|layers|operations: all, padded|fewer operations|latency|samples per second"
    "|faster|of what operations promise|configuration and figures"
)
TEACHER_OUTPUTS = "teacher runs along|outputs from disk|ratio|at best|figures"
DISTILLATION_STEP = "rows|published|kd_dist|ratio|configuration and figures"
SIZE = "what|rows|time|memory|files, disk|figures"
GPU = "measure|at first|now|aim|met|figures"
PREPARATION = (
    "documents|as|GB|time|rows a second|of the tokenizer on whole texts|of the tokenizer on what fits a row|"
    "memory|figures"
)
TRACKING = "W&B|a step|calls of W&B in it, mean|longest|share of the step|figures"
GENERAL_DISTILLATION = "student|attention|hidden|embeddings|sequences per second|padding|configuration and metrics"
EXITS = "data|backbone|exit rule|all layers|no loss|3x fewer operations|5x fewer|9x fewer|figures"
STUDENT_EXITS = (
    "model, backbone|exits|score|layers|fewer operations|latency|texts per second|faster|configuration and figures"
)
PROBE = "start|linear probe|fine-tuned|configuration and figures"
HIGHLIGHTS = "classifier|data|score|of the teacher's|texts per second|faster"

NAMES = {
    "teacher": "teacher",
    "student_alone": "student without distillation",
    "student": "distilled student",
    "fastbert": "early exit, calibrated",
    "textgcn": "TextGCN",
    "words": "encoder on words",
    "characters": "encoder on characters",
}
HIGHLIGHTED = (
    ("thucnews", "teacher"),
    ("thucnews", "student"),
    ("fastbert_thucnews", "fastbert"),
    ("chnsenticorp", "student"),
    ("fastbert_chnsenticorp", "fastbert"),
)
DATA = {"thucnews": "news titles (thucnews)", "chnsenticorp": "reviews (chnsenticorp)"}


def table(head: str, rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = head.split("|")
    return [_line(names), f"|{'---|' * len(names)}", *map(_line, rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def link(*files: Path) -> str:
    """Return links from a file in docs/; only the first one is given with its folder."""
    names = [file.absolute().relative_to(REPOSITORY).as_posix() for file in files]
    shown = [names[0], *(file.name for file in files[1:])]
    return ", ".join(f"[{text}](../{name})" for text, name in zip(shown, names, strict=True))


def evaluated(folder: Path) -> list[dict[str, Any]]:
    """Return what the `evaluation` stage of a run says of each model, at each speed.

    Raises:
        UserError: The folder holds no such results, or lies outside the repository.
    """
    file = folder / "results.json"
    if not folder.absolute().is_relative_to(REPOSITORY):
        raise UserError(f"{folder} is not inside {REPOSITORY}: the table links its figures, so copy them there")
    if not file.exists():
        raise UserError(f"{folder} holds no results.json of a run")
    return [row for row in read_json(file) if row["stage"] == "evaluation"]


def classifier_cells(row: dict[str, Any]) -> list[str]:
    return [
        NAMES[row["model"]],
        score(row),
        f"{row['quality_kept']:.1%}",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['latency_ms']:.2f} ms",
        f"{row['samples_per_second']:,.0f}",
        f"{row['throughput_ratio']:.1f}x",
    ]


def training_time(folder: Path, model: str) -> str:
    """Return how long the stage took that trained a model of a run, where that was kept."""
    file = folder / "training.json"
    seconds = read_json(file).get(model) if file.exists() else None
    return "" if seconds is None else duration(seconds)


def early_exit_cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a model with branches at a speed, or calibrated; other models run through all layers."""
    name = {"teacher": "all layers, no branches"}.get(row["model"], NAMES[row["model"]])
    if "mean_layers" in row:
        name = f"speed {row['speed']:g}" if "speed" in row else "calibrated"
    return [
        name,
        score(row),
        _layers(row),
        f"{row['operations_per_sample'] / 1e6:,.0f} M, {row['operations_padded'] / 1e6:,.0f} M",
        *_saved(row),
        f"{row['speedup_realised']:.0%}",
    ]


def _layers(row: dict[str, Any]) -> str:
    return f"{row['mean_layers']:.2f}" if "mean_layers" in row else "all"


def _saved(row: dict[str, Any]) -> list[str]:
    """Return the cells of what a model saves against the first one."""
    return [
        f"{row['operations_ratio']:.2f}x",
        f"{row['latency_ms']:.2f} ms",
        f"{row['samples_per_second']:,.0f}",
        f"{row['throughput_ratio']:.2f}x",
    ]


def score(row: dict[str, Any]) -> str:
    name = next(name for name in ("micro_f1", "accuracy", "spearman") if name in row)
    return f"{name.replace('_', ' ').replace('f1', 'F1')} {row[name]:.4f}"


def has_exits(folder: Path) -> bool:
    return any("mean_layers" in row for row in evaluated(folder))


def model_rows(folder: Path) -> list[list[str]]:
    """Return a row for each model of a run, at each speed."""
    links, rows = link(folder / "job.json", folder / "results.json"), []
    for row in evaluated(folder):
        data = f"{folder.name}, {row['rows']:,} {row['split']} rows"
        if has_exits(folder):
            rows.append([data, *early_exit_cells(row), links])
        else:
            rows.append([data, *classifier_cells(row), training_time(folder, row["model"]), links])
    return rows


def model_tables(folders: list[Path]) -> list[list[str]]:
    """Return a table for each kind of run that is named: of classifiers, and of classifiers with early exit."""
    kinds = {False: CLASSIFIERS, True: EARLY_EXIT}
    by_kind = {head: [each for each in folders if has_exits(each) is exits] for exits, head in kinds.items()}
    return [table(head, sum(map(model_rows, those), [])) for head, those in by_kind.items() if those]


def teacher_outputs() -> list[str]:
    file = RESULTS / "teacher_outputs.json"
    result = read_json(file)
    epochs = [f"{result['seconds_of_an_epoch'][form]:.0f} s" for form in ("teacher runs along", "outputs from disk")]
    ratios = [f"{result[key]:.2f}" for key in ("ratio", "best_possible_ratio")]
    return table(TEACHER_OUTPUTS, [[*epochs, *ratios, link(file)]])


def distillation_step() -> list[str]:
    file, rows = RESULTS / "distillation_step.json", []
    for case in read_json(file)["cases"].values():
        text = f"text of up to {case['max_length']} tokens" if case["pack"] else "news titles"
        rates = [f"{case['batch_size'] / case['median_seconds'][form]:.1f}" for form in ("published", "ours")]
        name, ratio = f"{text}, {case['batch_size']} a batch", f"{case['ratio']['of_medians']:.1f}x"
        rows.append([name, *rates, ratio, link(file)])
    return table(DISTILLATION_STEP, rows)


def size() -> list[str]:
    """Return what many rows cost, for each number of rows and classes of which outputs were written."""
    rows = []
    for file in sorted(RESULTS.glob("size_*.json")):
        rows += [[*cells, link(file)] for cells in _size_cells(read_json(file))]
    return table(SIZE, rows)


def _size_cells(result: dict[str, Any]) -> list[list[str]]:
    """Return the cells of each part of one measurement."""
    plan, store, step = result["plan"], result["store"], f"step {result['resume']['step']:,}"
    outputs, cells = f"outputs of {store['classes']} classes", []

    def add(what: str, part: dict[str, Any], time: str, disk: str = "") -> None:
        cells.append([what, f"{part['rows']:,}", time, f"{part['own_memory_mb']:,.0f} MB", disk])

    for part, what in (("read", "rows"), ("collate", outputs)):
        opening, batch = result[part]["seconds_to_open"], result[part]["median_seconds_of_a_batch"]
        disk, those = (_disk(result["rows"]), "") if part == "read" else ("", " with them")
        add(f"open {what}; a random batch of 32{those}", result[part], f"{opening:.2f} s; {batch * 1e3:.1f} ms", disk)
    first, late = plan["seconds_to_first_step"] * 1e3, plan["seconds_to_late_step"] * 1e3
    add(f"plan step 1; {step}", plan, f"{first:.0f} ms; {late:.0f} ms")
    for part, what in (("start", "step 1"), ("resume", step)):
        add(f"start training at {what}", result[part] | {"rows": plan["rows"]}, f"{result[part]['seconds']:.0f} s")
    seconds = f"{store['seconds_to_write_blocks']:.0f} s; {store['seconds_to_distribute']:.0f} s"
    add(f"write blocks of {outputs}; distribute them to files", store, seconds, _disk(store))
    return cells


def _disk(part: dict[str, Any]) -> str:
    return f"{part['files']:,}, {part['bytes'] / 1e9:.1f} GB"


def gpu() -> list[str]:
    """Return what `benchmarks/gpu.py` found before anything was done about it, and now."""
    files = [RESULTS / "gpu" / f"{name}.json" for name in ("first", "last")]
    first, last = (read_json(file)["rows"] for file in files)
    before, rows = {row["measure"]: row["figure"] for row in first}, []
    for row in last:
        bound = "" if row["aim"] is None else f"at {'least' if row['more_is_better'] else 'most'} {row['aim']:,g}"
        figures = [_rounded(value) for value in (before.get(row["measure"]), row["figure"])]
        rows.append([row["measure"], *figures, bound, row["met"], link(*files)])
    return table(GPU, rows)


def _rounded(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def preparation() -> list[str]:
    """Return how fast labelled rows are prepared, beside the tokenizer alone, and the memory that it takes."""
    rows = []
    for file in sorted(RESULTS.glob("preparation_*.json")):
        result = read_json(file)
        by_processor = result.get("share_of_tokenizer_by_processor_time", {})
        shares = [f"{by_processor[form]:.2f}x" if by_processor else "" for form in ("whole_texts", "what_fits")]
        time, rate = f"{result['seconds'] / 60:.1f} minutes", f"{result['rows_per_second']:,.0f}"
        size = [f"{result['documents']:,}", result["form"], f"{result['gb']:.1f}"]
        rows.append([*size, time, rate, *shares, f"{result['peak_gb']:.2f} GB", link(file)])
    return table(PREPARATION, rows)


def tracking() -> list[str]:
    """Return what W&B costs a step of training that is logged at every step."""
    file = RESULTS / "tracking.json"
    forms = read_json(file)["forms"]
    rows = [
        [
            name,
            f"{form['median_seconds_of_a_step'] * 1e3:.1f} ms",
            f"{form['mean_seconds_of_calls'] * 1e3:.3f} ms",
            f"{form['longest_seconds_of_a_call'] * 1e3:.1f} ms",
            f"{form['share_of_a_step']:.2%}",
            link(file),
        ]
        for name, form in forms.items()
    ]
    return table(TRACKING, rows)


def general_distillation() -> list[str]:
    folder = RESULTS / "tinybert_general"
    (result,), metrics = read_json(folder / "results.json"), read_metrics(folder / "metrics.jsonl")
    logged = [row for row in metrics if "train/attention" in row]
    terms = [
        f"{logged[0][f'train/{term}']:.3g} to {logged[-1][f'train/{term}']:.3g}"
        for term in ("attention", "hidden", "embeddings")
    ]
    padding = mean(row["speed/padding_share"] for row in logged)
    student = f"4 x 312, {result['parameters'] / 1e6:.1f} M parameters"
    speed, links = f"{result['samples_per_second']:.1f}", link(folder / "job.json", folder / "metrics.jsonl")
    return table(GENERAL_DISTILLATION, [[student, *terms, speed, f"{padding:.1%}", links]])


def student_exit_rows() -> list[dict[str, Any]]:
    """Return the rows of a teacher, of a student, and of both with exits, measured in one run."""
    return read_json(RESULTS / "student_exits" / "evaluation.json")


def student_exits() -> list[str]:
    """Return what a teacher and a student lose and save, with exits and without."""
    rows, folder = [], RESULTS / "student_exits"
    of = {"exits_frozen": "teacher, frozen", "exits_joint": "teacher, joint", "student_exits": "student, frozen"}
    jobs = {
        "exits_joint": "job_joint.json",
        "student": "job_student_frozen.json",
        "student_exits": "job_student_frozen.json",
    }
    for row in student_exit_rows():
        exits = f"speed {row['speed']:g}" if "speed" in row else "calibrated" if "mean_layers" in row else "none"
        links = link(folder / jobs.get(row["model"], "job_frozen.json"), folder / "evaluation.json")
        rows.append([of.get(row["model"], row["model"]), exits, score(row), _layers(row), *_saved(row), links])
    return table(STUDENT_EXITS, rows)


def exit_files() -> list[Path]:
    """Return the figures of exits with different backbones, a file for each data set."""
    return sorted(RESULTS.glob("exits_*/exits.json"))


def exit_scores(only: str | None = None) -> list[str]:
    """Return what exits give on test rows with each kind of backbone, mean over seeds; by one rule if it is named."""
    rows = []
    for file in exit_files():
        models = read_json(file)["models"]
        teacher = mean(model["teacher"]["test"] for model in models)
        name = f"{file.parent.name.removeprefix('exits_')}: fine-tuned {teacher:.4f}"
        for backbone in dict.fromkeys(model["backbone"] for model in models):
            of_seeds = [model["rules"] for model in models if model["backbone"] == backbone]
            rows += [
                [name, backbone, rule, *_exit_cells([rules[rule] for rules in of_seeds]), link(file)]
                for rule in of_seeds[0]
                if only in (None, rule)
            ]
    return table(EXITS, rows)


def _exit_cells(seeds: list[dict[str, Any]]) -> list[str]:
    """Return the cells of a rule: test scores, and how many operations are saved where nothing is lost."""
    no_loss = [seed["no_loss"] for seed in seeds if seed["no_loss"]]
    saved = f"{mean(one['fewer_operations'] for one in no_loss):.2f}x: {_scores(no_loss)}" if no_loss else "never"
    if 0 < len(no_loss) < len(seeds):
        saved += f", {len(no_loss)} of {len(seeds)} seeds"
    targets = [_scores(seed["targets"][target] for seed in seeds) for target in ("3", "5", "9")]
    return [_scores(seed["all_layers"] for seed in seeds), saved, *targets]


def _scores(of_seeds: Iterable[dict[str, Any]]) -> str:
    """Return the mean of the test scores and, of several seeds, the lowest and the highest."""
    scores = [one["test"] for one in of_seeds]
    spread = f" ({min(scores):.4f} to {max(scores):.4f})" if len(scores) > 1 else ""
    return f"{mean(scores):.4f}{spread}"


def probe() -> list[str]:
    file = RESULTS / "tinybert_general" / "probe.json"
    names = {"random": "4 x 312, random weights", "distilled": "4 x 312, distilled as above"}
    rows = [
        [names[start], *(f"{mean(figures[method]):.3f}" for method in ("linear probe", "fine-tuned")), link(file)]
        for start, figures in read_json(file).items()
    ]
    return table(PROBE, rows)


def highlights() -> list[str]:
    """Return the README's table."""
    rows = []
    for folder, model in HIGHLIGHTED:
        row = next(row for row in evaluated(RESULTS / folder) if row["model"] == model)
        name = f"[{NAMES[model]}](docs/results.md)"
        cells = [name, DATA[folder.removeprefix("fastbert_")], score(row), f"{row['quality_kept']:.1%}"]
        rows.append([*cells, f"{row['samples_per_second']:,.0f}", f"{row['throughput_ratio']:.1f}x"])
    return table(HIGHLIGHTS, rows)


def main() -> None:
    """Print a table for each kind of run that is named."""
    print("\n\n".join("\n".join(lines) for lines in model_tables([Path(name) for name in sys.argv[1:]])))


if __name__ == "__main__":
    exit_with_message(main)
