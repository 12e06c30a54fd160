"""Every contender of the echo benchmark, as a real server: right answers, a limit, bounded memory."""

import contextlib
import select
import socket
import ssl
import struct

import pytest
import trustme

from fastframe.bench import native, serve, workloads
from fastframe.bench.connections import WITH_TLS
from fastframe.bench.echoes import ECHOES
from fastframe.bench.entry import LeftOutError
from fastframe.bench.processes import serving

pytestmark = pytest.mark.contenders

# Each program, and each loop once.
NAMES = [
    *("c", "go", "tokio", "callback/asyncio", "callback/uvloop", "callback/aiofastnet", "batch/uvloop", "stream/asyncio"),
    *("sync", "readexactly/uvloop", "twisted", "socketserver", "picows/asyncio"),
]
U32BE = [name for name in NAMES if not name.startswith("picows")]
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tokio":
            patch.setattr(native, "run", not_now)
        try:
            command = ECHOES[request.param].command()
        except LeftOutError as error:
            pytest.skip(str(error))
    with serving(command, {}) as server:
        yield server


def not_now(*_):
    raise LeftOutError("it is not compiled yet, which takes longer than all tests: fastframe bench echo does that")


@pytest.fixture
def connection(server):
    with server.connect() as connection:
        connection.settimeout(20)
        yield connection


def received(connection, length):
    data = bytearray()
    while len(data) < length:
        data += connection.recv(length - len(data)) or pytest.fail("the server hung up")
    return bytes(data)


@pytest.mark.parametrize("server", NAMES, indirect=True)
def test_frames_come_back_however_they_were_cut(server, request):
    echo = ECHOES[request.node.callspec.params["server"]]
    payloads = [b"", b"a", bytes(range(256)) * 300, b"", bytes(MIB), b"end"]
    requests, answers = echo.requests(payloads), echo.answers(payloads)
    with server.connect() as connection:
        connection.settimeout(20)
        echo.greet(connection)
        for start, stop in ((0, 3), (3, 5), (5, 70_000), (70_000, len(requests))):
            connection.sendall(requests[start:stop])
        assert received(connection, len(answers)) == answers


@pytest.mark.parametrize("server", U32BE, indirect=True)
def test_a_frame_of_more_than_16_mib_ends_the_connection(connection):
    connection.sendall(struct.pack(">I", 16 * MIB + 1))
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


@pytest.mark.parametrize("server", U32BE, indirect=True)
def test_a_peer_that_does_not_read_is_not_read_either_and_gets_it_all_later(server, connection):
    payloads = workloads.some_payloads(50_000, 21)
    frames = workloads.frame(payloads)
    before = server.memory()
    connection.settimeout(0)
    sent = 0
    while select.select([], [connection], [], 0.3)[1]:
        sent += connection.send(frames[sent % len(frames) :])
        assert sent < 200 * MIB
    assert server.memory() - before < 8 * MIB
    connection.settimeout(20)
    whole = sent // 50_004
    answers = received(connection, whole * 50_004)
    assert answers == (frames * (whole // 21 + 1))[: len(answers)]


@pytest.mark.parametrize("name", WITH_TLS)
def test_who_has_tls_answers_over_it(name, tmp_path):
    authority = trustme.CA()
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        serving([*ECHOES[f"{name}/asyncio"].command(), str(certificate)], {}) as server,
        context.wrap_socket(server.connect(), server_hostname="localhost") as connection,
    ):
        connection.sendall(workloads.frame([b"hello"]))
        assert received(connection, 9) == workloads.frame([b"hello"])


@pytest.mark.parametrize("sent", [b"", b"\x00\x00", b"\x00\x00\x00\x05abc"])
def test_the_end_of_a_stream_ends_an_exact_reception(sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        assert serve.recv_exact(ours, 9) == b""
