"""The command line: one verb, and options that belong to it."""

import pytest

from launch.arguments import parse


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--verbose", "say what to do with one of --job, --list, --status, --logs, --cancel, --sync, there is none"),
        ("--job demo --list", "not with --job and --list together"),
        ("--status a --cancel a", "not with --status and --cancel together"),
        ("--list train.steps=3", "settings need a --job"),
        ("--status --options", "--options needs a --job"),
        ("--job demo --follow", "--follow goes with --status RUN or --logs RUN"),
        ("--status --follow", "--follow goes with --status RUN or --logs RUN"),
        ("--logs run one two", "--logs shows one stage at a time, not one, two"),
        ("--job demo --seeds 0", "invalid choice: 0"),
        ("--job demo --plan --dry-run", "not --dry-run and --plan together"),
        ("--job demo --rows a=3", "--rows goes with --plan"),
        ("--list --plan", "--plan needs a --job"),
    ],
)
def test_what_makes_no_sense_is_refused(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(line.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_settings_may_stand_anywhere() -> None:
    options = parse(["train.steps=3", "--job", "demo", "--run-id", "a", "optim.beta1=0.5", "--dry-run"])
    assert (options.job, options.run_id, options.dry_run) == ("demo", "a", True)
    assert options.overrides == ["train.steps=3", "optim.beta1=0.5"]


@pytest.mark.parametrize(
    ("line", "status", "options", "stage"),
    [
        ("--status", "", None, []),
        ("--status run --follow", "run", None, []),
        ("--job demo --options", None, "", []),
        ("--job demo --options rate", None, "rate", []),
        ("--logs run", None, None, []),
        ("--logs run distill --follow", None, None, ["distill"]),
    ],
)
def test_a_run_a_word_and_a_stage_can_be_left_out(
    line: str, status: str | None, options: str | None, stage: list[str]
) -> None:
    parsed = parse(line.split())
    assert (parsed.status, parsed.options, parsed.overrides) == (status, options, stage)


def test_help_teaches_with_groups_and_examples_that_are_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    headings = ["start a job:", "look at a run, or end it:", "where:", "settings:", "examples"]
    assert sorted(headings, key=text.index) == headings
    examples = text.replace("\\\n", "").split("examples")[1].splitlines()
    lines = [line.split()[2:] for line in examples if line.startswith("  python launch/slurm.py")]
    assert len(lines) >= 6
    for words in lines:
        parse(words)
