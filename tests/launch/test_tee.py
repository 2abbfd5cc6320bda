"""What a log holds of a terminal: whole lines, without control sequences; a progress bar every few seconds."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import tee


def logged(path: Path, *chunks: bytes) -> list[str]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = tee.Log(descriptor)
    for chunk in chunks:
        log.write(chunk)
        log.tick()
    log.close()
    os.close(descriptor)
    return path.read_text(encoding="utf-8").splitlines()


def test_lines_are_written_whole_however_they_come(tmp_path: Path) -> None:
    assert logged(tmp_path / "log", b"one\ntw", b"o\n", b"three") == ["one", "two", "three"]


def test_colours_and_titles_are_left_out(tmp_path: Path) -> None:
    assert logged(tmp_path / "log", b"\x1b[1;31merror\x1b[0m: \xe5\xa5\xbd\r\n\x1b]0;title\x07next\n") == [
        "error: 好",
        "next",
    ]


def test_of_a_bar_only_the_messages_and_its_end_are_kept(tmp_path: Path) -> None:
    erase = b"\r\x1b[2K"
    chunks = [erase + b"bar %d/3" % step for step in (1, 2)]
    assert logged(tmp_path / "log", *chunks, erase + b"a message\nbar 2/3", erase + b"bar 3/3\n") == [
        "a message",
        "bar 3/3",
    ]


def test_a_bar_is_noted_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tee, "SECONDS_BETWEEN_BARS", 0)
    assert logged(tmp_path / "log", b"\rbar 1/3", b"\rbar 2/3", b"\rbar 2/3", b"\rbar 3/3\n") == [
        "bar 1/3",
        "bar 2/3",
        "bar 3/3",
    ]


def start(log: Path, target: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", tee.__file__, str(log)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target)


def test_what_comes_is_shown_at_once_and_as_it_is(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = start(tmp_path / "log", writing)
    assert process.stdin is not None
    process.stdin.write(b"\x1b[1mno newline")
    process.stdin.flush()
    assert os.read(reading, 100) == b"\x1b[1mno newline"
    process.stdin.close()
    assert process.wait(10) == 0
    assert (tmp_path / "log").read_text() == "no newline\n"
    os.close(reading)
    os.close(writing)


def test_what_comes_is_shown_when_the_log_is_full(tmp_path: Path) -> None:
    # No file may grow: writing fails as on a full disk.
    command = f"ulimit -f 0; exec {sys.executable} -I -S {tee.__file__} {tmp_path / 'log'}"
    said = b"one\ntwo\nthree\n"
    ended = subprocess.run(["bash", "-c", command], input=said, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, said)
    assert ended.stderr.decode() == f"note: {tmp_path / 'log'} ends early: File too large\n"


def test_the_log_goes_on_when_nobody_watches_any_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = start(tmp_path / "log", writing)
    os.close(writing)
    os.close(reading)
    assert process.stdin is not None
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        time.sleep(0.1)
    process.stdin.close()
    assert process.wait(10) == 0
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
