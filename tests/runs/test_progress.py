"""What a terminal and a log file show of a stage."""

import time

import pytest

from kd_dist.runs.progress import Bar, Lines
from kd_dist.runs.progress import Status as _Status


def test_time_left_counts_only_the_steps_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    status, now = _Status("distill", total_steps=1000, step=500), [7000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    status.update(501, None, None)
    assert status.parts()["left"] == ""
    now[0] += 20.0
    status.update(511, None, None)
    assert status.seconds_left() == pytest.approx(2.0 * 489)
    assert status.parts()["left"] == "16:18 left"


def test_a_line_is_shown_once_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    status = _Status("distill", total_steps=20)
    lines = Lines(status)
    for step, loss in ((1, 0.001), (1, None), (2, 12.5)):
        status.update(step, loss, 3.0)
        lines.logged()
    shown = [line.split("  ")[:4] for line in capsys.readouterr().err.splitlines()]
    assert shown == [
        ["distill", "step 1/20", "loss 1.000e-03", "3 samples/s"],
        ["distill", "step 2/20", "loss 12.5000", "3 samples/s"],
    ]


def test_a_bar_shows_the_step_and_messages_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    status = _Status("distill", total_steps=20, step=3)
    bar = Bar(status)
    bar.start()
    status.update(5, 0.5, 1234.0)
    bar.stepped()
    bar.message("saved [bold]x[/bold]")
    bar.close()
    shown = capsys.readouterr().err
    assert "saved [bold]x[/bold]" in shown
    assert "5/20" in shown
    assert "1,234 samples/s" in shown


def test_bars_of_one_process_share_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    bars = [Bar(_Status(name, total_steps=20)) for name in ("small", "large")]
    for bar in bars:
        bar.start()
    bars[0].close()
    bars[1].message("still there")
    bars[1].close()
    shown = capsys.readouterr().err
    assert shown.index("still there") < shown.rindex("small") < shown.rindex("large")
