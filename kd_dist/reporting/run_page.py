"""A run as one self-contained page: no scripts, nothing loaded from elsewhere.

What a run does not have (yet) is left out or shown as missing; a report never fails because a run is not finished.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from kd_dist.config.stages import ReportStage
from kd_dist.evaluation.comparison import score_name
from kd_dist.files import write_text
from kd_dist.reporting.curves import Line, Mark, curves
from kd_dist.reporting.data import data_sections
from kd_dist.reporting.diagnosis import diagnosis
from kd_dist.reporting.diagram import class_of, diagram
from kd_dist.reporting.early_exit import by_speed, calibration
from kd_dist.reporting.page import (
    MISSING,
    Html,
    count,
    document,
    duration,
    el,
    facts,
    folded,
    missing,
    number,
    section,
    setting,
    share,
    table,
    tile,
)
from kd_dist.reporting.record import Row, RunRecord, StageRecord, parameters_in, read_run, teacher_directory
from kd_dist.reporting.results import (
    StageComparison,
    by_class,
    comparisons,
    in_one_sentence,
    serving,
    side_by_side,
    teacher_checks,
    tiles,
)
from kd_dist.reporting.svg import SERIES
from kd_dist.runs.metrics import is_finite

FEW_STAGES = 2


def run(stage: ReportStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/index.html about the run that the report stage belongs to."""
    write_report(stage_dir.parent, stage_dir / "index.html")


def write_report(run_dir: Path, output: Path) -> None:
    """Write the page about a run, as a whole or not at all.

    Args:
        run_dir: runs/<job>/<run_id>.
        output: the file to write; its folder is made if it is not there.

    Raises:
        UserError: `run_dir` is not a run folder, or one of its JSON files is damaged.
    """
    page = _page(read_run(run_dir))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)


def _page(run: RunRecord) -> str:
    name, run_id = run.job.get("name", run.directory.parent.name), run.directory.name
    compared = comparisons(run)
    return document(
        f"{name} · {run_id}",
        _header(run, name, run_id),
        in_one_sentence(compared[-1]) if compared else "",
        el("div", *(tiles(compared[-1]) if compared else _training_tiles(run)), _time_tile(run), class_="tiles"),
        *_evaluation(run, compared),
        _stages(run),
        *_training(run),
        *data_sections(run),
        _all_results(run),
        _sizes(run),
        section("Configuration", *(_configuration(stage) for stage in run.stages), note="as resolved for this run"),
        _environment(run),
    )


def _evaluation(run: RunRecord, compared: Sequence[StageComparison]) -> list[Html]:
    """Return the sections about evaluation, the comparison first; nothing for a run that evaluates nothing."""
    return [
        *(side_by_side(comparison) for comparison in compared),
        *(diagnosis(run, comparison) for comparison in compared),
        *(by_speed(comparison) for comparison in compared),
        *(calibration(stage) for stage in run.of_kind("calibrate")),
        *(by_class(comparison) for comparison in compared),
        *(serving(stage) for stage in run.of_kind("serve")),
    ]


def _header(run: RunRecord, name: str, run_id: str) -> Html:
    state = run.state()
    return el(
        "header",
        el("p", "kd_dist run", class_="kicker"),
        el("h1", name, el("span", state, class_=f"badge {class_of(state)}")),
        el("p", run.job.get("description", "")),
        el("p", el("code", run_id), f" · written {datetime.now():%Y-%m-%d %H:%M}", class_="muted"),
    )


def _training_tiles(run: RunRecord) -> list[Html]:
    stage = run.result_stage()
    return [] if stage is None else [*_size_tiles(run, stage), *_loss_tiles(stage), *_speed_tiles(stage)]


def _time_tile(run: RunRecord) -> Html:
    seconds = [stage.seconds for stage in run.stages if stage.seconds is not None]
    return tile("Total time", duration(sum(seconds)) if seconds else MISSING, "of the complete stages")


def _size_tiles(run: RunRecord, stage: StageRecord) -> list[Html]:
    directory = teacher_directory(stage)
    teacher = None if directory is None else parameters_in(directory)
    student = parameters_in(stage.directory / "export")
    if student is None:
        student = next((row["parameters"] for row in run.results if _fits(row, stage)), None)
    shown = [tile("Model", count(student) if student else MISSING, "parameters of the export")]
    if stage.has_teacher():
        shown = [tile("Student", count(student) if student else MISSING, "parameters")]
        shown.append(tile("Teacher", count(teacher) if teacher else MISSING, "parameters"))
        ratio = f"{teacher / student:.1f}×" if teacher and student else MISSING
        shown.append(tile("Compression", ratio, "teacher ÷ student"))
    return shown


def _fits(row: Row, stage: StageRecord) -> bool:
    return row.get("stage") == stage.name and is_finite(row.get("parameters"))


def _loss_tiles(stage: StageRecord) -> list[Html]:
    shown = []
    for title, key in (("Training loss", "train/loss"), ("Held-out loss", "evaluation/loss")):
        _, values = stage.series(key)
        text = f"{number(values[0])} → {number(values[-1])}" if len(values) else MISSING
        shown.append(tile(title, text, "first → last"))
    return shown


def _speed_tiles(stage: StageRecord) -> list[Html]:
    shown = []
    for title, key, form, note in (
        ("Speed", "speed/samples_per_second", count, "samples/s, median"),
        ("Padding", "speed/padding_share", share, "of the tokens, median"),
        ("Teacher's share", "speed/teacher_share", share, "of the time, median"),
    ):
        _, values = stage.series(key)
        if key != "speed/teacher_share" or stage.has_teacher():
            shown.append(tile(title, form(median(values.tolist())) if len(values) else MISSING, note))
    return shown


def _stages(run: RunRecord) -> Html:
    if not run.stages:
        return Html()
    notes = [el("li", note) for note in run.job.get("notes") or []]
    return section(
        "Stages", diagram(run.stages), el("ul", *notes, class_="notes") if notes else "", *teacher_checks(run)
    )


def _training(run: RunRecord) -> list[Html]:
    """Return the training stages: a few are all shown, of many only that of the result is unfolded."""
    stages = run.training()
    if len(stages) <= FEW_STAGES:
        return [section(stage.name, *_curves(stage), note=f"training{_steps(stage)}") for stage in stages]
    shown = [
        folded(stage.name, *_curves(stage), is_open=stage is run.result_stage(), note=_steps(stage).strip(" ·"))
        for stage in stages
    ]
    return [section("Training", *shown)]


def _steps(stage: StageRecord) -> str:
    return f" · {stage.metrics[-1]['global_step']:,} steps" if stage.metrics else ""


def _curves(stage: StageRecord) -> list[Html]:
    if not stage.metrics:
        return [missing(stage.damage or "This stage has not logged anything yet.")]
    rows = [row for row in stage.metrics if "train/loss" in row]
    refused = sum(not is_finite(row["train/loss"]) for row in rows)
    warning = missing(f"{refused:,} of {len(rows):,} logged losses are not finite.") if refused else Html()
    return [warning, el("div", *_figures(stage), class_="figures")]


def _figures(stage: StageRecord) -> list[Html]:
    loss = [
        Line("training", *stage.series("train/loss")),
        Line("held-out", *stage.series("evaluation/loss"), colour=1, points=True),
    ]
    mark = _kept(stage)
    figures = [curves("Loss", loss, "weighted sum", mark=mark)]
    if stage.scores():
        figures.append(curves("Scores", _score_lines(stage), "on held-out rows", mark=mark))
    if len(stage.terms()) > 1:
        figures.append(curves("Loss terms", _term_lines(stage), "unweighted; points: held-out rows"))
    shares = [
        Line("padding", *stage.series("speed/padding_share")),
        Line("teacher", *stage.series("speed/teacher_share"), colour=1),
        Line("GPU in use", *stage.series("speed/gpu_utilization"), colour=2),
        Line("waiting for rows", *stage.series("speed/data_wait_share"), colour=3),
    ]
    return [
        *figures,
        curves("Learning rate", [Line("learning rate", *stage.series("optim/learning_rate"))], kind="from_zero"),
        curves("Gradient norm", [Line("gradient norm", *stage.series("optim/gradient_norm"))]),
        curves("Speed", [Line("speed", *stage.series("speed/samples_per_second"))], "samples/s", "count"),
        curves("Shares", shares, "of tokens (padding) or time", "share"),
    ]


def _kept(stage: StageRecord) -> Mark | None:
    """Return a mark at the step whose weights are the stage's result."""
    best = stage.best()
    if best is None or best.value is None:
        return None
    status = "kept" if stage.seconds is not None else "best so far"
    return Mark(f"{status}: step {best.step:,}, {score_name(best.metric)} {best.value:.4f}", best.step)


def _score_lines(stage: StageRecord) -> list[Line]:
    return [
        Line(score_name(name), *stage.series(f"evaluation/{name}"), colour=colour, points=True)
        for colour, name in enumerate(stage.scores(), start=1)
    ]


def _term_lines(stage: StageRecord) -> list[Line]:
    lines = []
    for position, name in enumerate(stage.terms()):
        colour = position % len(SERIES)
        lines.append(Line(name, *stage.series(f"train/{name}"), colour=colour))
        lines.append(Line("", *stage.series(f"evaluation/{name}"), colour=colour, points=True))
    return lines


def _all_results(run: RunRecord) -> Html:
    if not run.results:
        return section("All results", missing("No results yet."))
    columns = list(dict.fromkeys(key for row in run.results for key in row))
    rows = [[row.get(column) for column in columns] for row in run.results]
    return section("All results", table([column.replace("_", " ") for column in columns], rows), note="results.json")


def _sizes(run: RunRecord) -> Html:
    places: dict[str, Path] = {}
    for stage in run.stages:
        if directory := teacher_directory(stage):
            places[f"teacher: {_short(run, (stage.config['teacher'])['path'])}"] = directory
        if (stage.directory / "export").is_dir():
            places[f"{stage.name}/export"] = stage.directory / "export"
    if not places:
        return section("Sizes", missing("No model has been exported yet."))
    rows = [[name, *_size_row(directory)] for name, directory in places.items()]
    return section("Sizes", table(["model", "parameters", "weights, MB", "whole folder, MB"], rows))


def _short(run: RunRecord, path: str) -> str:
    return path.removeprefix(f"{run.directory}/")


def _size_row(directory: Path) -> list[Any]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    return [parameters_in(directory), weights / 1e6, sum(path.stat().st_size for path in files) / 1e6]


def _configuration(stage: StageRecord) -> Html:
    rows = []
    for name, value in stage.config.items():
        if isinstance(value, dict):
            rows += [[el("code", f"{name}.{key}"), el("code", setting(item))] for key, item in value.items()]
        else:
            rows.append([el("code", name), el("code", setting(value))])
    return folded(stage.name, table(["setting", "value"], rows, class_="settings"))


def _environment(run: RunRecord) -> Html:
    if not run.environment:
        return section("Environment", missing("Not recorded."))
    git = run.environment.get("git") or {}
    commit = f"{git['commit'][:12]}{', modified' if git.get('modified') else ''}" if git.get("commit") else None
    top = {key: value for key, value in run.environment.items() if not isinstance(value, dict)}
    return section("Environment", facts({**top, "code": commit, **(run.environment.get("packages") or {})}))
