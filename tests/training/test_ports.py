"""A free port can be listened on, without torch."""

import socket
import subprocess
import sys

from kd_dist.training.ports import free_port
from tests.ranks import ROOT


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert server.getsockname()[1] == port


def test_a_port_that_is_in_use_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert server.getsockname()[1] not in {free_port() for _ in range(20)}


def test_launchers_find_a_port_without_torch() -> None:
    code = "import sys, kd_dist.training.ports; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
