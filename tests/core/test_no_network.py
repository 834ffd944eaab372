"""The guard of `tests/conftest.py` holds."""

import socket

import pytest


def test_the_network_is_out_of_reach() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="tried to reach the network"):
        outside.connect(("127.0.0.1", 9))
    with pytest.raises(AssertionError, match=r"example\.org"):
        socket.create_connection(("example.org", 80))
    one, other = socket.socketpair()
    with one, other:
        one.send(b"within")
        assert other.recv(6) == b"within"
