"""A signal is a flag, of this process only, and the first that asks for a requeue wins."""

import os
import signal

import pytest

from kd_dist.training.preemption import Preemption
from tests.ranks import run_ranks


def flags() -> list[int]:
    """On every rank: what is agreed at four steps, when the last rank alone gets signals during the second."""
    from kd_dist.training import engine

    engine.start()
    before = signal.getsignal(signal.SIGTERM)
    agreed = []
    with Preemption() as preemption:
        for step in range(4):
            if step == 1 and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGUSR2)
                os.kill(os.getpid(), signal.SIGTERM)
            agreed.append(preemption.agreed())
    assert signal.getsignal(signal.SIGTERM) is before
    return agreed


def test_all_ranks_agree_one_step_later_and_a_requeue_is_not_taken_back() -> None:
    assert run_ranks(2, "tests.training.test_preemption:flags") == [0, 0, signal.SIGUSR2, signal.SIGUSR2]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_nothing_else(number: int) -> None:
    preemption = Preemption()
    with preemption:
        os.kill(os.getpid(), number)
        assert preemption._received == number


def test_a_forked_helper_does_not_take_the_signal_for_its_own() -> None:
    preemption = Preemption()
    with preemption:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGUSR2)
            os._exit(preemption._received)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
