"""Workers hold data and teacher against what the sweep was prepared with."""

import socket

import pytest

from msd_sweeps.sweep.worker import check_same


def test_the_same_bytes_pass():
    check_same("teacher.safetensors", "a" * 64, "a" * 64)


def test_other_bytes_are_refused_with_the_host_and_what_to_do():
    with pytest.raises(RuntimeError) as error:
        check_same("the data cifar100", "a" * 64, "b" * 64)
    message = str(error.value)
    assert message.startswith(f"the data cifar100 differs on {socket.gethostname()}: SHA-256 {'a' * 12} there")
    assert "give all hosts the same files" in message
