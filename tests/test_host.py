import argparse
import asyncio
import signal
import sys

import pytest

from fastframe import FrameFormat
from fastframe.servers import host


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9000", {"host": "127.0.0.1", "port": 9000}),
        ("localhost:1", {"host": "localhost", "port": 1}),
        ("[::1]:9000", {"host": "::1", "port": 9000}),
        ("unix:/run/a:b", {"path": "/run/a:b"}),
    ],
)
def test_an_address_is_parsed(text, where):
    assert host.parse_address(text) == where


@pytest.mark.parametrize(
    "text",
    ["", "9000", ":9000", "host:", "host:0", "host:65536", "host:x", "::1:9000", "unix:", "host:٣", "[:80", "[]:80", "a]:80"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not host:port"):
        host.parse_address(text)


def test_a_format_is_parsed_or_refused_with_the_reason():
    assert host.frame_format("u16le,max=1KiB") == FrameFormat("u16le", max_payload_length=1024)
    with pytest.raises(argparse.ArgumentTypeError, match="no length field is called 'u12'"):
        host.frame_format("u12")


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--unix", ""], ["--unix", "", "--host", "0.0.0.0"]]
)
def test_a_port_out_of_range_and_an_empty_path_are_refused(arguments, capsys):
    parser = argparse.ArgumentParser()
    host.add_listener_options(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(arguments)
    assert "is not a port" in (said := capsys.readouterr().err) or "no Unix socket" in said


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "x"])
def test_a_waiting_time_is_a_number_of_seconds(text):
    assert host.seconds("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="number of seconds"):
        host.seconds(text)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ([], False),
        (["--host", "::1"], False),
        (["--host", "localhost"], False),
        (["--host", "127.8.8.8"], False),
        (["--host", "0.0.0.0"], True),
        (["--host", "::"], True),
        (["--host", ""], True),
        (["--host", "example.org"], True),
        (["--host", "0.0.0.0", "--insecure"], False),
        (["--host", "0.0.0.0", "--unix", "/tmp/x"], False),
    ],
)
def test_a_public_address_needs_the_word(arguments, refused):
    parser = argparse.ArgumentParser()
    host.add_listener_options(parser)
    assert (host.refusal(parser.parse_args(arguments)) is not None) == refused


async def start_echo(*arguments) -> tuple[asyncio.subprocess.Process, str]:
    command = [sys.executable, "-m", "fastframe", "serve", "echo", "--port", "0", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    line = await process.stdout.readline()
    return process, line.decode().removeprefix("listening on ").strip()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(loop, number):
    async def main():
        process, address = await start_echo("--loop", loop)
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"\0\0\0\1x")
        assert await reader.readexactly(5) == b"\0\0\0\1x"
        process.send_signal(number)
        assert await asyncio.wait_for(process.communicate(), 10) == (b"", b"")
        assert process.returncode == 0
        assert await reader.read() == b""
        writer.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_an_address_in_use_is_one_line_and_status_1():
    async def main():
        process, address = await start_echo()
        second, _ = await start_echo("--port", address.rpartition(":")[2])
        stdout, stderr = await second.communicate()
        assert (stdout, second.returncode) == (b"", 1)
        assert stderr.startswith(b"fastframe: cannot listen: ")
        assert stderr.count(b"\n") == 1
        process.terminate()
        await process.communicate()

    asyncio.run(asyncio.wait_for(main(), 30))
