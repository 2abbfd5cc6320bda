"""Errors are one message and an exit status; what is nobody's mistake keeps its traceback."""

import errno
import itertools
import signal
import subprocess
import sys

import pytest

from kd_dist.errors import CorpusError, RunError, UserError, explained, nearest, options_in_messages, report
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("a setting"), 2, "error: a setting\n"),
        (CorpusError("a.txt, line 3"), 2, "error: a.txt, line 3\n"),
        (RunError("row 7"), 1, "error: row 7\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            1,
            "error: No space left on device: runs/a; free some space and start again\n",
        ),
        (
            OSError(errno.ELOOP, "Too many levels of symbolic links", "runs/a"),
            2,
            "error: Too many levels of symbolic links: runs/a; give the path of a file or folder\n",
        ),
    ],
)
def test_mistakes_are_a_message_and_a_status(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == status
    assert capsys.readouterr().err == message


def test_a_full_gpu_is_answered_with_the_settings_that_help(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    assert report(torch.OutOfMemoryError("tried to allocate 2 GiB")) == 1
    shown = capsys.readouterr().err
    assert "train.micro_batch_size" in shown
    assert "engine.activation_checkpointing=true" in shown


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError(errno.EIO, "x")])
def test_any_other_error_is_raised_again(error: BaseException) -> None:
    with pytest.raises(type(error), match="x"):
        report(error)


def test_the_nearest_name_is_suggested_if_there_is_one() -> None:
    assert nearest("trian", ["train", "test"]) == "; did you mean `train`?"
    assert nearest("zzz", ["train", "test"]) == ""


@pytest.mark.parametrize(
    ("raised", "is_rank", "status"),
    [
        ("UserError('x')", False, 2),
        ("RunError('x')", True, 1),
        ("Preempted(7, signal.SIGUSR2)", True, 128 + signal.SIGUSR2),
    ],
)
def test_a_command_ends_with_the_status_and_what_it_printed(raised: str, is_rank: bool, status: int) -> None:
    code = (
        "import signal; from kd_dist.errors import *\n"
        "def main():\n    print('first')\n"
        f"    raise {raised}\n"
        f"exit_with_message(main, is_rank={is_rank})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (status, "first\n")
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def raised(*errors: BaseException) -> BaseException:
    """Return the last error, raised while the one before it was handled, and so on."""
    for before, error in itertools.pairwise(errors):
        error.__context__ = before
    return errors[-1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "x", "a.txt"), "No space left on device: a.txt; free"),
        (OSError(28, "x", "source", None, "target"), "No space left on device: target; free"),
        (OSError(122, "x"), "Disk quota exceeded: while writing; free"),
        (Exception("No space left on device (os error 28)"), "No space left on device: while writing; free"),
        (raised(OSError(28, "x", "rows"), ValueError("closed file")), "No space left on device: rows; free"),
        (raised(Exception("... OSError: [Errno 28] No space left on device"), ValueError("x")), "No space left"),
        (OSError(30, "Read-only file system", "runs"), "Read-only file system: runs; make it writable"),
    ],
)
def test_a_disk_that_cannot_be_written_is_explained_whoever_found_out(error: BaseException, said: str) -> None:
    message, status = explained(error)
    assert (message.startswith(said), status) == (True, 1)


def test_other_errors_are_crashes() -> None:
    assert explained(raised(KeyError("x"), ValueError("y"))) is None
    with pytest.raises(ZeroDivisionError):
        report(ZeroDivisionError())


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "from kd_dist.errors import exit_with_message; exit_with_message(lambda: print('x\\n' * 1_000_000))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "x\n"
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (128 + signal.SIGPIPE, "")


def test_any_other_broken_pipe_is_raised_again() -> None:
    code = "from kd_dist.errors import exit_with_message\ndef main(): raise BrokenPipeError\nexit_with_message(main)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "BrokenPipeError" in result.stderr


def test_settings_of_data_become_the_options_of_a_command() -> None:
    said = "data.tsv, line 1: set data.columns=text,label or data.bad_rows=skip, see /a/data.txt and data.task"
    with pytest.raises(CorpusError) as caught, options_in_messages({"columns": "--columns", "bad_rows": "--bad-rows"}):
        raise CorpusError(said)
    expected = "data.tsv, line 1: set --columns text,label or --bad-rows skip, see /a/data.txt and data.task"
    assert str(caught.value) == expected
