"""The echo server and its client as a user runs them: processes, pipes, sockets."""

import contextlib
import socket
import subprocess
import sys
import threading

import pytest
from serving import FASTFRAME, PATIENCE
from vectors import frame


@contextlib.contextmanager
def serving(*arguments):
    """Run `fastframe serve echo`; yield its address."""
    command = [*FASTFRAME, "serve", "echo", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
            assert process.communicate(timeout=PATIENCE) == ("", "")
            assert process.returncode == 0


@pytest.fixture(scope="module")
def address():
    """Of a server with its defaults, that no client of these tests may harm, or make say anything."""
    with serving() as address:
        yield address


def raw_connection(address) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def read_all(raw) -> bytes:
    return b"".join(iter(lambda: raw.recv(1 << 16), b""))


def client(*arguments, stdin=""):
    return subprocess.run(
        [*FASTFRAME, "echo", *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False
    )


def test_texts_come_back_a_line_each(address):
    result = client(address, "hello", "", "wörld")
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello\n\nwörld\n", "")


def test_lines_of_standard_input_come_back(address):
    assert client(address, stdin="one\n\ntwo").stdout == "one\n\ntwo\n"


@pytest.mark.parametrize("format", ["netstring", "varint", "u16le,adjust=-2", "u24be,offset=2"])
def test_any_format(format):
    with serving("--format", format) as address:
        assert client(address, "--format", format, "any").stdout == "any\n"


def test_a_frame_comes_back_as_it_came_header_and_all():
    wire = b"\xca\xfe\0\5hello\xbe\xef\0\0"
    with serving("--format", "u16be,offset=2") as address, raw_connection(address) as raw:
        raw.sendall(wire)
        raw.shutdown(socket.SHUT_WR)
        assert read_all(raw) == wire


def test_upper_case_on_demand():
    with serving("--upper") as address:
        assert client(address, "Straße abc").stdout == "STRAßE ABC\n"


def test_upper_case_would_spoil_a_header_in_the_payload():
    command = [*FASTFRAME, "serve", "echo", "--port", "0", "--upper", "--format", "u8,strip=0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert "would change the header" in result.stderr


def test_a_unix_path_that_is_served_is_not_taken(tmp_path):
    path = str(tmp_path / "echo")
    with serving("--unix", path) as address:
        command = [*FASTFRAME, "serve", "echo", "--unix", path]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (second.returncode, second.stdout) == (1, "")
        assert "in use" in second.stderr
        assert client(address, "still here").stdout == "still here\n"


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-"])
def test_a_closed_standard_stream_is_no_traceback(address, closed):
    command = f"exec {sys.executable} -m fastframe echo {address} text {closed}"
    result = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == ("" if closed == ">&-" else "text\n")


def test_unix_socket(tmp_path):
    path = tmp_path / "echo"
    with serving("--unix", str(path)) as address:
        assert address == f"unix:{path}"
        assert client(address, "over a file").stdout == "over a file\n"
    assert not path.exists()


def test_ipv6():
    with serving("--host", "::1") as address:
        assert address.startswith("[::1]:")
        assert client(address, "six").stdout == "six\n"


def test_half_close_is_answered_to_the_last_byte(address):
    wire = frame(b"a" * 3_000_000) + frame(b"") + frame(b"end")
    with raw_connection(address) as raw:
        sending = threading.Thread(target=lambda: (raw.sendall(wire), raw.shutdown(socket.SHUT_WR)))
        sending.start()
        assert read_all(raw) == wire
        sending.join()


def test_good_frames_are_answered_before_a_bad_one_ends_the_connection():
    with serving("--format", "u32be,max=8") as address, raw_connection(address) as raw:
        raw.sendall(frame(b"good") + frame(b"too large") + frame(b"behind"))
        assert read_all(raw) == frame(b"good")


def test_one_bad_client_concerns_nobody_else(address):
    with raw_connection(address) as good:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\5ab", b"\xff" * 1000):
            with raw_connection(address) as bad:
                bad.sendall(garbage)
                bad.shutdown(socket.SHUT_WR)
                assert bad.recv(100) == b""
        good.sendall(frame(b"still here"))
        assert good.recv(100) == frame(b"still here")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["127.0.0.1:1", "x"], 1, "refused"),
        (["unix:/nonexistent/socket", "x"], 1, "No such file"),
        (["no-address", "x"], 2, "is not host:port"),
        ([], 2, "required: ADDR\n"),
        (["a..b:80", "x"], 1, "fastframe: "),
        (["127.0.0.1:1", "--timeout", "nan", "x"], 2, "number of seconds"),
        (["127.0.0.1:1", "--format", "u31", "x"], 2, "no length field is called"),
    ],
)
def test_a_client_that_fails_says_why_in_a_line(arguments, status, said):
    result = client(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_text_over_the_limit_and_a_server_that_hangs_up_are_told():
    with serving("--format", "u32be,max=4") as address:
        assert "over the limit of 4" in client(address, "--format", "u32be,max=4", "12345").stderr
        result = client(address, "12345")
    assert result.returncode == 1
    assert result.stderr == "fastframe: the server hung up before it answered\n"
