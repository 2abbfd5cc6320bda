"""`--options`: every key once and whole, its stages, its defaults and its meaning."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.overrides import options_of
from kd_dist.errors import UserError
from launch import options
from launch.options import as_typed, options_of_job, show_options
from tests.launch.launching import SCRIPT, command, shown


def keys_in(text: str) -> list[str]:
    """The keys of the lines that begin one."""
    return [line.split(" = ")[0].strip() for line in text.splitlines() if line.startswith("  ") and line[2] != " "]


def keys_of(job: str) -> set[str]:
    """Every key that can be set without a stage."""
    return {key for key in options_of(find_job(job)) if key.count(".") < 2}


@pytest.mark.parametrize("job", job_names())
def test_every_key_is_there_once(job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(options, "terminal_width", lambda: None)
    show_options(find_job(job))
    found = keys_in(capsys.readouterr().out)
    assert len(found) == len(set(found))
    assert set(found) == keys_of(job)


def test_no_key_is_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(options, "terminal_width", lambda: 80)
    show_options(find_job("tinybert"))
    text = capsys.readouterr().out
    assert [key for key in keys_of("tinybert") if f"  {key} =" not in text] == []
    # Only what has no space may be longer than the line.
    assert [line for line in text.splitlines() if len(line) > 80 and " " in line.strip()] == []


def test_keys_of_a_section_are_together(capsys: pytest.CaptureFixture[str]) -> None:
    show_options(find_job("tinybert"))
    sections = [key.split(".")[0] for key in keys_in(capsys.readouterr().out)]
    assert [name for name, after in zip(sections, sections[1:], strict=False) if name != after] == list(
        dict.fromkeys(sections)
    )[:-1]


def test_defaults_that_differ_name_their_stages() -> None:
    found = {option.key: option for option in options_of_job(find_job("tinybert"))}
    stages = find_job("tinybert").stages
    for key in ("train.epochs", "resources.timeout_minutes", "evaluate.split"):
        section, name = key.split(".")
        expected = {stage: as_typed(getattr(getattr(value, section), name)) for stage, value in stages.items()
                    if key in set(value.options())}  # fmt: skip
        assert len(set(expected.values())) > 1
        assert {stage: value for value, names in found[key].defaults.items() for stage in names} == expected


def test_a_key_with_two_meanings_shows_both(capsys: pytest.CaptureFixture[str]) -> None:
    show_options(find_job("tinybert"), "data.max_length")
    text = capsys.readouterr().out
    assert "tokens per row, special tokens included" in text
    assert "tokens per sequence, special tokens included" in text


@pytest.mark.parametrize("job", ["finetune", "tinybert", "tinybert_general"])
def test_a_key_names_those_that_follow_it(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    follows = find_job(job).follows
    assert follows
    for key, followers in follows.items():
        show_options(find_job(job), key)
        assert f"sets {', '.join(followers)} where these are not given" in capsys.readouterr().out


def test_values_are_shown_as_they_are_typed() -> None:
    values = [None, True, 3.0, [3, 6], {"a": "x", "b": "y"}, "linear"]
    assert list(map(as_typed, values)) == ["none", "true", "3.0", "3,6", "a:x,b:y", "linear"]


def test_choices_are_named_unless_the_meaning_does(capsys: pytest.CaptureFixture[str]) -> None:
    show_options(find_job("finetune"), "optim.schedule")
    assert "after the warm-up (linear, cosine or constant)" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["LEARNING_rate", "peak learning"])
def test_a_word_is_searched_in_keys_and_meanings(tmp_path: Path, word: str) -> None:
    assert keys_in(shown(tmp_path, "--job", "finetune", "--options", word)) == ["optim.learning_rate"]


@pytest.mark.parametrize("word", ["optim.lerning_rate", "lerning_rate"])
def test_a_word_that_is_nowhere_ends_with_the_nearest_key(tmp_path: Path, word: str) -> None:
    ended = command(tmp_path, "--job", "finetune", "--options", word)
    assert ended.returncode == 2
    assert "the nearest key is `optim.learning_rate`" in ended.stderr


def test_even_nonsense_gets_a_key() -> None:
    with pytest.raises(UserError, match=r"the nearest key is `\w+\.\w+`"):
        show_options(find_job("finetune"), "§§§")


def test_it_takes_well_under_a_second_and_no_torch() -> None:
    script = (
        "import runpy, sys\n"
        "sys.argv = ['slurm.py', '--job', 'tinybert', '--options']\n"
        f"try: runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'transformers', 'submitit', 'numpy'} & set(sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1  # whatever else the machine does


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} {SCRIPT} --job tinybert --options | head -n 1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
