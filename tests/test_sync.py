"""What only the blocking front has: non-blocking sockets, sends that time out half-way, listeners. The rest: test_fronts.py."""

import contextlib
import os
import signal
import socket
import ssl
import threading

import pytest
import trustme
from vectors import frame

from fastframe import EndOfStreamError, FrameFormat, MisuseError, _frame_socket, sync
from fastframe._parts import GATHER_SIZE
from fastframe._send_queue import MAX_PARTS

U32 = FrameFormat("u32be", max_payload_length=16 << 20)


@pytest.fixture
def pair(codec, monkeypatch):
    """A FrameSocket and the plain socket at its other end."""
    monkeypatch.setattr(_frame_socket, "Decoder", codec.Decoder)
    monkeypatch.setattr(_frame_socket, "Encoder", codec.Encoder)
    near, far = socket.socketpair()
    far.settimeout(10)
    with far, sync.FrameSocket(near, U32) as stream:
        yield stream, far


def read(raw, length) -> bytes:
    data = bytearray()
    while len(data) < length and (more := raw.recv(length - len(data))):
        data += more
    return bytes(data)


@contextlib.contextmanager
def in_thread(function, *arguments):
    """Run a function meanwhile; its result is in the yielded list afterwards."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    yield results
    thread.join(10)
    assert not thread.is_alive()


def test_a_non_blocking_socket_says_not_now_and_loses_nothing(pair):
    stream, far = pair
    stream.socket.setblocking(False)
    received = []
    for byte in frame(b"abc"):
        with pytest.raises(BlockingIOError):
            stream.recv()
        far.sendall(bytes([byte]))
    received.append(stream.recv())
    assert received == [b"abc"]


def test_a_send_that_times_out_goes_on_with_the_next(pair):
    stream, far = pair
    payloads = [bytes([number]) * (1 << 20) for number in range(3)]
    for payload in payloads:
        with pytest.raises(TimeoutError):
            stream.send(payload, timeout=0.05)
    with in_thread(read, far, 3 * (4 + (1 << 20)) + 8) as results:
        stream.send(b"last")
    assert results == [b"".join(map(frame, [*payloads, b"last"]))]


def test_a_batch_whose_sending_timed_out_goes_on_with_the_next(pair):
    stream, far = pair
    wire = frame(b"x" * (1 << 20))
    with in_thread(far.sendall, wire):
        batch = stream.recv_batch(timeout=10)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            stream.send_batch(batch, timeout=0.05)
    with in_thread(read, far, 3 * len(wire) + 8) as results:
        stream.send(b"last")
    assert results == [wire * 3 + frame(b"last")]


def test_flush_finishes_what_a_send_left(pair):
    stream, far = pair
    with pytest.raises(TimeoutError):
        stream.send_many([bytes(1 << 20), b"small", bytes(1 << 20)], timeout=0.05)
    with in_thread(read, far, 2 * (4 + (1 << 20)) + 9) as results:
        stream.flush(timeout=10)
    assert results == [frame(bytes(1 << 20)) + frame(b"small") + frame(bytes(1 << 20))]


def test_close_finishes_what_a_send_left_within_its_time(pair):
    stream, far = pair
    with pytest.raises(TimeoutError):
        stream.send(bytes(1 << 20), timeout=0.05)
    with in_thread(read, far, 5 << 20) as results:
        stream.close()
    assert results == [frame(bytes(1 << 20))]


def test_a_close_that_the_peer_prevents_ends_in_time(pair):
    stream, _far = pair
    with pytest.raises(TimeoutError):
        stream.send(bytes(4 << 20), timeout=0.05)
    stream.close(timeout=0.05)
    with pytest.raises(MisuseError, match="close"):
        stream.send(b"")


def test_an_idle_connection_holds_no_memory(pair):
    stream, _far = pair
    with pytest.raises(TimeoutError):
        stream.recv(timeout=0.01)
    with pytest.raises(MisuseError, match="get_buffer"):
        stream._decoder.buffer_updated(0)  # nothing is lent


def test_a_trickle_does_not_outlast_the_timeout(pair):
    stream, far = pair

    def trickle():
        far.sendall(b"\0\xff\xff\xff")
        with contextlib.suppress(ConnectionError):  # it is cut
            while True:
                far.sendall(b"x")

    with in_thread(trickle):
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.2)  # pytest ends this if it goes on for as long as bytes come
        stream.abort()


def test_a_timeout_does_not_stay_on_the_socket(pair):
    stream, far = pair
    stream.socket.settimeout(7)
    with pytest.raises(TimeoutError):
        stream.recv(timeout=0.01)
    assert stream.socket.gettimeout() == 7
    far.sendall(frame(b"x"))
    assert stream.recv(timeout=5) == b"x"
    assert stream.socket.gettimeout() == 7


def test_a_signal_handler_that_raises_loses_nothing(pair):
    stream, far = pair

    def interrupt(number, context):
        raise InterruptedError

    far.sendall(frame(b"abc")[:5])
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedError):
            stream.recv()
    finally:
        signal.signal(signal.SIGALRM, before)
    far.sendall(frame(b"abc")[5:])
    assert stream.recv() == b"abc"


def test_abort_resets_the_connection(codec, monkeypatch):
    monkeypatch.setattr(_frame_socket, "Decoder", codec.Decoder)
    with sync.listen("127.0.0.1", 0) as listener:
        host, _, port = listener.addresses[0].rpartition(":")
        with sync.connect(host, int(port)) as stream, listener.accept(timeout=10) as accepted:
            accepted.abort()
            with pytest.raises(ConnectionResetError):
                stream.recv(timeout=10)
            with pytest.raises(MisuseError, match="abort"):
                accepted.recv()


def test_one_sendmsg_takes_no_more_parts_than_the_kernel(pair):
    stream, far = pair
    payloads = [bytes(GATHER_SIZE)] * (MAX_PARTS // 2 + 10)
    with in_thread(read, far, len(payloads) * (4 + GATHER_SIZE)) as results:
        stream.send_many(payloads)
    assert results == [b"".join(map(frame, payloads))]
    assert os.sysconf("SC_IOV_MAX") >= MAX_PARTS


def test_listener_accepts_in_time_or_says_so():
    with sync.listen("127.0.0.1", 0) as listener, pytest.raises(TimeoutError):
        listener.accept(timeout=0.01)
    assert listener.addresses == []
    listener.close()


def test_listener_is_not_held_up_by_a_client_that_delays_its_handshake():
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    with sync.listen("127.0.0.1", 0, ssl=server) as listener:
        host, _, port = listener.addresses[0].rpartition(":")
        with socket.create_connection((host, int(port))), listener.accept(timeout=10):
            with in_thread(lambda: sync.connect(host, int(port), ssl=client, timeout=10)) as results:
                accepted = listener.accept(timeout=10)
                while not results:
                    with contextlib.suppress(TimeoutError):
                        accepted.recv(timeout=0.1)  # this is where the handshake takes place
            with accepted, results[0] as stream:
                stream.send(b"through TLS")
                assert accepted.recv(timeout=10) == b"through TLS"
                stream.socket.setblocking(False)
                with pytest.raises(ssl.SSLWantReadError):
                    stream.recv()
                accepted.send(b"lost nothing")
                assert stream.recv(timeout=10) == b"lost nothing"
                stream.socket.setblocking(True)
                with pytest.raises(NotImplementedError, match="TLS"):
                    stream.send_eof()
                stream.close()
                with pytest.raises(EndOfStreamError):
                    accepted.recv(timeout=10)


def test_connecting_has_a_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        sync.connect(*silent.getsockname(), ssl=ssl.create_default_context(), timeout=0.1)


def test_listening_on_a_path_that_is_no_socket_fails_and_keeps_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        sync.listen(path=path)
    assert path.read_text() == "precious"
