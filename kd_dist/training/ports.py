"""A free port for ranks to meet at. Apart from distributed.py so that launchers need no torch."""

import socket


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
