"""Find a port for the ranks to meet at; apart from distributed.py, so that launchers need no torch."""

import socket


def free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
