"""The soak, as far as it needs no instances."""

from itertools import islice
import os
import socket

import pytest

from script.soak_faults.__main__ import chosen
from script.soak_faults.faults import FAULTS
from script.soak_faults.probe import is_about, sockets


def test_a_seed_gives_the_same_faults_each_time() -> None:
    first, again = (list(islice(chosen(5), 100)) for _ in range(2))
    assert first == again
    assert first != list(islice(chosen(6), 100))


def test_every_fault_comes_before_any_comes_again() -> None:
    names = [fault.name for _, fault in islice(chosen(7), len(FAULTS))]
    assert sorted(names) == sorted(each.name for each in FAULTS)
    assert len(set(names)) == len(FAULTS)


def test_an_error_of_ours_with_a_traceback_is_about_no_fault() -> None:
    module = "custom_components.esphome_offload.engine.client.link"
    warning = f"2026-11-30 04:00:00.000 WARNING (MainThread) [{module}] attic: not reached"
    error = f"2026-11-30 04:00:00.000 ERROR (MainThread) [{module}] Broken\nTraceback (most recent"
    assert is_about(warning, (r"engine\.client\.link",))
    assert not is_about(warning, (r"engine\.host",))
    assert not is_about(error, (r"engine\.client\.link",))


@pytest.mark.usefixtures("socket_enabled")
def test_sockets_are_told_apart_by_what_they_are() -> None:
    here, there = socket.socketpair()
    with here, there, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = sockets(os.getpid())
        with socket.create_connection(("127.0.0.1", port)):
            assert (sockets(os.getpid()) - before)[
                f"AF_INET SOCK_STREAM ESTABLISHED to {port}"
            ] == 1
        assert before["AF_INET SOCK_STREAM LISTEN"] >= 1
        assert before["AF_UNIX SOCK_STREAM NONE"] >= 2
