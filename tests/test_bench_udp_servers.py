"""Who echoes datagrams, how each is started, and that what others write sends back all it gets."""

import asyncio
import importlib.util
import queue
import socket
import socketserver
import sys
import threading
from pathlib import Path

import pytest

from fastframe.bench import udp_servers
from fastframe.bench.entry import LeftOutError

SERVERS = udp_servers.SERVERS
DATAGRAM = b"0123456789" * 6000


def test_everybody_has_a_command_and_says_what_it_does_in_a_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(udp_servers, "c_program", lambda name: Path("/cache", name))
    for name, server in SERVERS.items():
        command = server.command()
        assert all(isinstance(word, str) for word in command)
        assert command[0] == (sys.executable if name != "c" else "/cache/udp_echo")
        assert name == "c" or command[-1] == (name.rpartition("/")[2] if "/" in name else "asyncio")
        assert server.does
        assert not server.does.endswith((".", "\n"))
    assert len({server.does for server in SERVERS.values()}) == len(SERVERS)


def test_ours_runs_the_codec_that_it_says():
    implementations = {
        name: server.environment["FASTFRAME_IMPLEMENTATION"] for name, server in SERVERS.items() if server.kind == "ours"
    }
    assert implementations == {"fastframe/asyncio": "cython", "fastframe/uvloop": "cython", "pure/asyncio": "python"}
    assert all(("pure Python" in SERVERS[name].does) == (code == "python") for name, code in implementations.items())


def test_without_a_compiler_c_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(LeftOutError, match="there is no cc or gcc or clang here to compile it"):
        SERVERS["c"].command()


def test_without_uvloop_those_on_it_are_left_out(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvloop" else name)
    for name in ("fastframe/uvloop", "protocol/uvloop"):
        with pytest.raises(LeftOutError, match="uvloop is not installed"):
            SERVERS[name].command()
    assert SERVERS["protocol/asyncio"].command()[-2:] == ["protocol", "asyncio"]


def test_the_base_is_always_chosen():
    assert list(udp_servers.chosen([])) == list(SERVERS)
    assert list(udp_servers.chosen(["UDPServer"])) == ["c", "UDPServer"]
    with pytest.raises(ValueError, match="there is no 'nobody'; there are c, "):
        udp_servers.chosen(["nobody"])


def test_all_have_the_same_buffer_and_say_where_they_are(capsys):
    with socket.socket(type=socket.SOCK_DGRAM) as first, socket.socket(type=socket.SOCK_DGRAM) as second:
        first.bind(("127.0.0.1", 0))
        udp_servers.announce(first)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, udp_servers.RECEIVE_BUFFER)  # the kernel may allow less
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == second.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert capsys.readouterr().out == f"listening on udp 127.0.0.1:{first.getsockname()[1]}\n"


@pytest.fixture
def where(monkeypatch):
    """Return a queue into which a server's address is put when it listens."""
    found = queue.SimpleQueue()
    monkeypatch.setattr(udp_servers, "announce", lambda sock: found.put(sock.getsockname()))
    return found


def answered(where):
    """Return whether a datagram as long as almost all that fits comes back whole."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(DATAGRAM, where.get(timeout=10))
        return client.recv(1 << 16) == DATAGRAM


@pytest.mark.parametrize("name", ["UDPServer", "ThreadingUDPServer"])
def test_a_server_of_socketserver_sends_back_what_it_gets(name, where, monkeypatch):
    over = threading.Event()

    def serve_one(server):
        server.handle_request()
        over.wait(10)  # for its socket is closed behind this, whether a thread has answered or not

    kind = getattr(socketserver, name)
    monkeypatch.setattr(kind, "max_packet_size", kind.max_packet_size)  # it is set for the whole process, so undo it
    monkeypatch.setattr(kind, "timeout", 10)
    monkeypatch.setattr(kind, "serve_forever", serve_one)
    thread = threading.Thread(target=udp_servers.main, args=(name, "asyncio"))
    thread.start()
    try:
        assert answered(where)
    finally:
        over.set()
        thread.join(10)


def test_a_protocol_sends_back_what_it_gets(where):
    async def exchange():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(udp_servers.Protocol, local_addr=("127.0.0.1", 0))
        try:
            udp_servers.announce(transport.get_extra_info("socket"))
            return await asyncio.to_thread(answered, where)
        finally:
            transport.close()
            await asyncio.sleep(0)  # it is closed in the next turn of the loop

    assert asyncio.run(exchange())
