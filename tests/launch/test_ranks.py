"""The output of a rank: on the terminal as if it were alone there, and in its log."""

import os
import re
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from kd_dist.config.paths import REPOSITORY
from tests.launch.launching import fake_code

BAR = """
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
columns = TextColumn("train"), BarColumn(bar_width=None), TextColumn("{task.completed}/{task.total}")
with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
    task = progress.add_task("", total=3)
    for step in range(3):
        progress.advance(task)
        progress.refresh()
    progress.console.print("a message above the bar")
print(f"on a terminal: {sys.stdout.isatty()} {sys.stderr.isatty()}, width {os.get_terminal_size(1).columns}")
"""

RUN = """
import sys
from pathlib import Path
from launch.ranks import Process, Ranks
from launch.cluster import Cluster
processes = [Process(f"rank_{rank}", [], {"RANK": str(rank)}) for rank in range(RANKS)]
ranks = Ranks(Path(sys.argv[1]), processes, RANKS, Cluster(executor="local"), Path(sys.argv[2]))
status = ranks.run([])
print("the launcher goes on", flush=True)
sys.exit(status)
"""


def command(folder: Path, text: str, ranks: int = 1) -> list[str]:
    """A launcher of ranks that do what `text` says, whose logs are in `folder`/log."""
    (folder / "log").mkdir()
    script = RUN.replace("RANKS", str(ranks))
    return [sys.executable, "-c", script, str(folder), str(fake_code(folder, text))]


def on_a_terminal(words: list[str], columns: int = 50) -> tuple[int, str]:
    """Exit status, and everything that a terminal of that width got."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    got = b""
    while select.select([master], [], [], 30)[0]:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # nobody holds it any more
            break
        got += chunk
    os.close(master)
    return process.wait(30), got.decode()


def test_a_bar_on_a_terminal_stays_one_and_the_log_is_plain(tmp_path: Path) -> None:
    status, shown = on_a_terminal(command(tmp_path, BAR))
    assert status == 0
    assert "\x1b[2K" in shown  # the bar was drawn over
    assert "━" in shown
    assert "a message above the bar\r\n" in shown
    assert "on a terminal: True True, width 50\r\nthe launcher goes on\r\n" in shown
    assert "\n\n" not in shown.replace("\r", "")
    log = (tmp_path / "log" / "rank_0.txt").read_text(encoding="utf-8")
    assert "\x1b" not in log
    assert "\r" not in log
    assert log.splitlines()[0] == "a message above the bar"
    assert re.search(r"^train ━+ 3/3$", log, flags=re.MULTILINE)


def test_files_keep_their_streams_apart_and_the_log_has_both(tmp_path: Path) -> None:
    text = "print('out', sys.stdout.isatty(), flush=True)\nprint('err', file=sys.stderr, flush=True)\nsys.exit(3)"
    ended = subprocess.run(command(tmp_path, text), cwd=REPOSITORY, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "err\n")
    assert ended.stdout == "out False\nthe launcher goes on\n"
    assert sorted((tmp_path / "log" / "rank_0.txt").read_text().splitlines()) == ["err", "out False"]


def test_one_pipe_keeps_the_order_of_both_streams(tmp_path: Path) -> None:
    text = "for _ in range(100): print('a', flush=True); print('b', file=sys.stderr, flush=True)"
    ended = subprocess.run(
        command(tmp_path, text), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert ended.stdout == "a\nb\n" * 100 + "the launcher goes on\n"
    assert (tmp_path / "log" / "rank_0.txt").read_text() == "a\nb\n" * 100


def test_only_the_first_rank_prints_and_each_has_its_log(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(tmp_path, "print('rank', rank)", ranks=2), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.stdout == "rank 0\nthe launcher goes on\n"
    assert [(tmp_path / "log" / f"rank_{rank}.txt").read_text() for rank in "01"] == ["rank 0\n", "rank 1\n"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_rank_can_still_print_when_its_launcher_was_killed(tmp_path: Path, stream: str) -> None:
    text = textwrap.dedent(f"""
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent: time.sleep(0.01)
        for _ in range(3):
            print("saving", file=sys.{stream}, flush=True)
            time.sleep(0.05)
        open(sys.argv[1] + "/saved", "w").close()
    """)
    process = subprocess.Popen(
        command(tmp_path, text), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.read() == "saving\n" * 3  # up to the end of the rank, not of the launcher
    assert process.wait(10) == -signal.SIGKILL
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "log" / "rank_0.txt").read_text() == "saving\n" * 3


def test_what_a_rank_leaves_behind_does_not_hold_up_the_next_stage(tmp_path: Path) -> None:
    text = "import subprocess; print('done', flush=True); subprocess.Popen(['sleep', '30'])"
    began = time.monotonic()
    with subprocess.Popen(command(tmp_path, text), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["done\n", "the launcher goes on\n"]
        assert time.monotonic() - began < 20
