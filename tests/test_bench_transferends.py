"""The plain servers and clients: what they do when the other end is not as it should be."""

import io
import json
import socket
import sys
import threading

import pytest

from fastframe.bench import transferends
from fastframe.bench.pairs import Folders, Job

GET = Job("get", "file", "source", 3000, 1000)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "source").write_bytes(bytes(3000))
    return Folders(tmp_path, tmp_path)


def served(answer, client, job, folders):
    """Run a plain client against a server that is `answer(socket)`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with listener.accept()[0] as connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return transferends.CLIENTS[client](listener.getsockname()[1], folders, job)
        finally:
            thread.join(10)


@pytest.mark.parametrize("client", ["sendfile", "loop"])
def test_a_server_that_hangs_up_is_noticed(client, folders):
    def send_less(connection):
        connection.recv(transferends.HEAD, socket.MSG_WAITALL)
        connection.sendall(bytes(2999))

    def receive_without_a_word(connection):
        connection.recv(transferends.HEAD + 3000, socket.MSG_WAITALL)

    with pytest.raises(ConnectionError, match="the other end has hung up"):
        served(send_less, client, GET, folders)
    with pytest.raises(ConnectionError, match="the server has not received it all"):
        served(receive_without_a_word, client, GET._replace(direction="put"), folders)


def test_a_job_is_announced_in_a_head_of_one_length(folders):
    heads = []

    def look(connection):
        heads.append(connection.recv(transferends.HEAD, socket.MSG_WAITALL))
        connection.sendall(bytes(3000))

    assert served(look, "loop", GET, folders) > 0
    assert Job(*json.loads(heads[0])) == GET
    assert len(heads[0]) == transferends.HEAD


def test_a_client_goes_on_after_what_went_wrong(monkeypatch, capsys, tmp_path):
    def transfer(port, folders, job):
        if job.name == "bad":
            raise OSError("two\nlines")
        assert (port, folders.own) == (17, tmp_path)
        return 5

    jobs = [GET._replace(name="bad"), GET]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(job) + "\n" for job in jobs)))
    transferends.answer_jobs(transfer, 17, tmp_path)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"error": "OSError: two lines"}, {"ns": 5}]
