"""The machine at hand is described without torch."""

import subprocess
import sys

from kd_dist.runs import machine
from tests.ranks import ROOT


def test_processor_memory_and_gpu_are_found() -> None:
    assert machine.processor()
    assert 0.1 < machine.memory_gb() < 100_000
    assert machine.gpu() is None or machine.gpu()


def test_torch_is_not_needed() -> None:
    script = "import sys; from kd_dist.runs import machine; machine.gpu(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
