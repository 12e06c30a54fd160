"""Both ends of the sweep of transfers: what arrives is what was sent, and what does not is noticed."""

import socket
import struct
import threading

import pytest

from fastframe.bench import chunkends
from fastframe.bench.chunkends import Job


@pytest.mark.parametrize(("payload", "batch"), [(64, 0), (64, 1), (64, 100), (4000, 0), (300_000, 0)])
@pytest.mark.parametrize("way", chunkends.READERS)
def test_a_file_arrives_in_frames_of_any_size(payload, batch, way, tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"".join(struct.pack(">I", number) for number in range(300_000)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        job = Job(payload, 3, batch, way, 1000, str(copy))
        thread = threading.Thread(target=receive_one, args=(listener, job))
        thread.start()
        assert chunkends.send(listener.getsockname()[1], source, job) > 0
        thread.join(10)
    assert copy.read_bytes() == source.read_bytes()[: 3 * payload]


def receive_one(listener, job):
    with listener.accept()[0] as connection:
        connection.recv(chunkends.HEAD, socket.MSG_WAITALL)
        chunkends.receive(connection, job)


def test_a_transfer_that_is_not_whole_is_noticed(tmp_path):
    (tmp_path / "source").write_bytes(bytes(200))

    def receive_less(listener):
        with listener.accept()[0] as connection:
            while connection.recv(4096):
                pass
            connection.sendall(b"199")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=receive_less, args=(listener,))
        thread.start()
        with pytest.raises(ConnectionError, match="199 of 200 bytes arrived"):
            chunkends.send(listener.getsockname()[1], tmp_path / "source", Job(100, 2, 0, "feed", 1000, ""))
        thread.join(10)
