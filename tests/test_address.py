import os
import socket

import pytest

from fastframe._address import address_text, clear_socket, remove_socket


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 9000), "127.0.0.1:9000"),
        (("::1", 9000, 0, 0), "[::1]:9000"),
        ("/run/socket", "unix:/run/socket"),
        (b"\0abstract", "unix:\0abstract"),
        ("", "unix:"),
        (None, "unix:"),
    ],
)
def test_an_address_is_text(address, text):
    assert address_text(address) == text


def test_a_socket_that_is_served_is_not_cleared(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with pytest.raises(OSError, match="in use"):
            clear_socket(path)
        assert os.path.exists(path)
    clear_socket(path)
    assert not os.path.exists(path)
    clear_socket(path)


def test_what_is_no_socket_is_not_cleared(tmp_path):
    path = tmp_path / "file"
    path.touch()
    clear_socket(str(path))
    assert path.exists()


def test_a_socket_is_removed_only_if_it_is_the_one_that_was_bound(tmp_path):
    path = tmp_path / "socket"
    path.touch()
    remove_socket(str(path), path.stat().st_ino + 1)
    assert path.exists()
    remove_socket(str(path), path.stat().st_ino)
    remove_socket(str(path), None)
    assert not path.exists()
