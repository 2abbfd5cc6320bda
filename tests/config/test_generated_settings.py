"""Whatever is typed, a job takes it and shows it, or refuses it in one message: no traceback, and nothing is lost.

KD_DIST_EXAMPLES=2500 tries more of it than the 125 that every run of the tests does.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names, resolve_job
from kd_dist.config.overrides import options_of
from kd_dist.errors import UserError
from launch.cluster import Cluster, load_cluster

EXAMPLES = int(os.environ.get("KD_DIST_EXAMPLES", "125"))

CHECKS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

WORDS = st.sampled_from(
    ["", "none", "null", "None", "true", "false", "yes", "0", "1", "-1", "2", "7", "64", "0.5", "1e-3", "1e999", "nan"]
    + ["inf", "1_000", " 3 ", "３", "0x10", "1e3", "3.0", "auto", "accuracy", "raw", "a,b", "[a,b]", "[3,6]", "x[0-9]"]
    + [
        "[a]*.txt",
        "'a','b'",
        'b"',
        "a:x,b:y",
        "a:x,a:y",
        "a",
        ":",
        ",",
        "[]",
        "数据/train.tsv",
        "@labelled/tokens",
        "@",
    ]
    + ["@nowhere/x", "=", "a=b", "\x00", "\udcff", "two\nlines", "x" * 5000, "hf_" + "a" * 34, "../..", "/", "~"]
)
VALUES = WORDS | st.integers(-3, 10**6).map(str) | st.floats().map(str) | st.text(max_size=8)


@st.composite
def typed(draw: st.DrawFn, job: Job) -> str:
    """An override, as a rule of a key that the job has and a value that it may take."""
    keys = sorted(options_of(job))
    key = draw(st.sampled_from(keys)) if draw(st.integers(0, 9)) else draw(st.text(max_size=6) | st.sampled_from(keys))
    if draw(st.integers(0, 19)) == 0:
        return draw(st.text(max_size=12))
    return f"{key}={draw(VALUES)}"


JOBS = st.sampled_from(job_names()).map(find_job)
TYPED = JOBS.flatmap(lambda job: st.tuples(st.just(job), st.lists(typed(job), max_size=3)))


def resolved(job: Job, overrides: list[str], overlay: Path | None = None) -> Job | None:
    """Return the job, or None where it is refused."""
    try:
        found, problems, _ = resolve_job(job.name, overrides, overlay)
    except UserError:
        return None
    assert all(problem and "Traceback" not in problem for problem in problems)
    assert found is not None or problems
    return None if problems else found


def values(job: Job) -> dict[str, Any]:
    """Return every setting by its `stage.section.key`."""
    return {
        f"{name}.{key}": getattr(getattr(stage, key.split(".")[0]), key.split(".")[1])
        for name, stage in job.stages.items()
        for key in stage.options()
    }


def means(text: str, value: Any) -> bool:
    """Return whether a value is what the text says."""
    if value is None or value == []:
        return text.strip("[] ,").lower() in ("none", "null", "", "''", '""')
    if isinstance(value, bool):
        return text.strip().lower() in (
            ("true", "1", "yes", "on", "y", "t") if value else ("false", "0", "no", "off", "n", "f")
        )
    if isinstance(value, int | float):
        return float(text) == float(value)
    if isinstance(value, dict):
        return all(f"{name}:{item}" in text.replace("'", "").replace('"', "") for name, item in value.items())
    if isinstance(value, list):
        return (
            all(str(item) in text or means(text.strip("[] ,"), item) for item in value)
            and len(value) <= text.count(",") + 1
        )
    return value in (text, text.replace("\\t", "\t"))


def targets(job: Job, key: str) -> list[str]:
    """Return the settings that a key sets where nothing is wired to them."""
    own = [f"{name}.{key}" for name, stage in job.stages.items() if key in stage.options() and key not in stage.wires()]
    return own or ([key] if key in values(job) else [])


def assert_shown(job: Job, found: Job, typed: dict[str, Any], same: Callable[[Any, Any], bool]) -> None:
    """Every setting that was given has its value, and none is lost but with a stage that a note says is left out."""
    shown, before = values(found), values(job)
    of_one_stage = {key: text for key, text in typed.items() if key in before}
    last = {target: text for key, text in typed.items() for target in targets(job, key)} | of_one_stage
    for target, text in last.items():
        is_same = target in shown and same(text, shown[target])
        # A job may drop a stage, or fit one that only a setting of all stages has reached, and says so in a note.
        assert is_same or (found.notes and (target not in shown or target not in typed)), (target, text, found)
    followers = {follower for names in job.follows.values() for follower in names}
    changed = {target for target in shown.keys() & before.keys() - last.keys() if shown[target] != before[target]}
    # What `adapt` of the job changes goes along with a note or a setting that follows.
    assert found.notes or not {key for key in changed if key.split(".", 1)[1] not in followers}, changed
    assert Job.model_validate(json.loads(json.dumps(found.model_dump()).encode().decode())) == found


@CHECKS
@given(TYPED)
def test_what_is_typed_is_seen_in_the_job_or_refused(case: tuple[Job, list[str]]) -> None:
    job, overrides = case
    found = resolved(job, overrides)
    if found is not None:
        pairs = [one.partition("=") for one in overrides]
        assert_shown(job, found, {key.strip(): text for key, _, text in pairs}, means)


SCALARS = st.none() | st.booleans() | st.integers(-2, 10**6) | st.floats() | VALUES
ITEMS = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=2)


def nested(pairs: dict[str, Any]) -> dict[str, Any]:
    """Return dotted keys as a tree, as people write it."""
    tree: dict[str, Any] = {}
    for key, value in pairs.items():
        *above, last = key.split(".")
        place = tree
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return tree


OVERLAYS = JOBS.flatmap(
    lambda job: st.tuples(st.just(job), st.dictionaries(st.sampled_from(sorted(options_of(job))), ITEMS, max_size=3))
)


def seen(given: Any, value: Any) -> bool:
    """Return whether a value is what a file gives: itself, or what its text means."""
    if isinstance(given, str):
        return means(given, value)
    if isinstance(given, list) and isinstance(value, list):
        return len(given) == len(value) and all(map(seen, given, value))
    return given == value or (isinstance(value, list) and not isinstance(given, list) and means(str(given), value))


@CHECKS
@given(OVERLAYS)
def test_what_a_file_says_is_seen_in_the_job_or_refused(case: tuple[Job, dict[str, Any]]) -> None:
    job, pairs = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(yaml.safe_dump(nested(pairs), allow_unicode=False, sort_keys=False), encoding="utf-8")
        found = resolved(job, [], path) if pairs else None
    if found is not None:
        assert_shown(job, found, pairs, seen)


PROFILES = st.dictionaries(st.sampled_from(sorted(Cluster.model_fields)) | st.text(max_size=6), ITEMS, max_size=4)
RAW = st.text(st.sampled_from("abgpu:-[]{}&*!|>'\"%@#,? \n\t01.天<\x00\x85"), max_size=40)


@CHECKS
@given(PROFILES.map(lambda profile: yaml.safe_dump(profile, allow_unicode=False)) | RAW)
def test_a_profile_is_read_as_it_is_written_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            cluster = load_cluster(str(path))
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except UserError:
            return
    for key, value in content.items():
        shown = getattr(cluster, key)
        assert shown == value or (key == "setup" and value is None) or means(str(value), shown), (key, value, shown)


@CHECKS
@given(JOBS, RAW)
def test_a_file_that_is_no_settings_changes_none(job: Job, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        found = resolved(job, [], path)
    if found is not None:
        expected = resolved(job, [])
        assert expected is not None
        assert values(found) == values(expected)
