import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from fastframe import FrameFormat, aio
from fastframe.servers import arguments, echo_udp

ROOT = Path(__file__).parent.parent


def parse(*words):
    parser = argparse.ArgumentParser()
    arguments.add_server_options(parser)
    return parser.parse_args(words)


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
    assert arguments.address(text) == where


@pytest.mark.parametrize(
    "text",
    ["", "9000", ":9000", "host:", "host:0", "host:65536", "host:x", "::1:9000", "unix:", "host:٣", "[:80", "[]:80", "a]:80"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not host:port"):
        arguments.address(text)


def test_a_format_is_parsed_or_refused_with_the_reason():
    assert arguments.frame_format("u16le,max=1KiB") == FrameFormat("u16le", max_payload_length=1024)
    with pytest.raises(argparse.ArgumentTypeError, match="no length field is called 'u12'"):
        arguments.frame_format("u12")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "65536"], "is not a port"),
        (["--port", "-1"], "is not a port"),
        (["--port", "x"], "is not a port"),
        (["--metrics-port", "65536"], "is not a port"),
        (["--unix", ""], "no Unix socket"),
        (["--unix", "x", "--unix", ""], "no Unix socket"),
        (["--unix-mode", "1777"], "three octal digits"),
        (["--unix-mode", "8"], "three octal digits"),
        (["--workers", "0"], "from 1 to 256"),
        (["--workers", "257"], "from 1 to 256"),
        (["--max-connections", "0"], "is not a number from 1"),
        (["--max-connections", "+1"], "is not a number from 1"),
        (["--backlog", "65536"], "from 1 to 65535"),
        (["--high-water", "none"], "64KiB or 1MiB"),
        (["--high-water", "0"], "64KiB or 1MiB"),
        (["--unsent", "2048MiB"], "64KiB or 1MiB"),
        (["--frame-timeout", "0"], "seconds above 0"),
        (["--linger-timeout", "none"], "seconds above 0"),
        (["--drain-timeout", "-1"], "number of seconds, or 0"),
        (["--loop", "trio"], "invalid choice"),
    ],
)
def test_what_an_option_cannot_be_is_refused_in_a_line(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(*words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "x"])
def test_a_waiting_time_is_a_number_of_seconds(text):
    assert arguments.seconds("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="number of seconds"):
        arguments.seconds(text)


def test_a_rate_is_a_number_of_some_size():
    assert arguments.rate("0.001") == 0.001
    for text in ("0", "1e9", "2000000", "five"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"not a number from 0.001 to 1,000,000"):
            arguments.rate(text)


def test_a_size_has_a_unit_or_none():
    assert list(map(arguments.size, ["1", "64KiB", "2MiB"])) == [1, 65536, 2 << 20]


def test_every_limit_is_an_option_with_its_default():
    assert arguments.limits(parse()) == aio.Limits()
    assert [name for name, *_ in arguments.LIMITS] == [field.name for field in dataclasses.fields(aio.Limits)]


@pytest.mark.parametrize("field", dataclasses.fields(aio.Limits), ids=lambda field: field.name)
def test_each_limit_is_set_by_its_option(field):
    option = f"--{field.name.replace('_', '-')}"
    assert getattr(arguments.limits(parse("--tls-cert", "x", "--low-water", "0", option, "3")), field.name) == 3
    if "None" in field.type:
        assert getattr(arguments.limits(parse(option, "none")), field.name) is None


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(arguments.UsageError, match="low_water"):
        arguments.limits(parse("--low-water", "2MiB", "--high-water", "1MiB"))


def test_a_handshake_is_of_tls():
    with pytest.raises(arguments.UsageError, match="give --tls-cert"):
        arguments.limits(parse("--handshake-timeout", "5"))


def test_what_was_given_and_is_for_connections_is_known():
    assert arguments.for_connections(parse()) == []
    given = ("--backlog", "4096", "--frame-timeout", "30", "--idle-timeout", "none", "--workers", "2", "--tls-key", "x")
    assert arguments.for_connections(parse(*given)) == ["--tls-key", "--backlog", "--frame-timeout", "--idle-timeout"]


def test_hosts_and_paths_may_be_several():
    options = parse("--host", "0.0.0.0", "--host", "::", "--unix", "a", "--unix", "b", "--unix-mode", "660")
    assert (options.host, options.unix, options.unix_mode) == (["0.0.0.0", "::"], ["a", "b"], 0o660)


def test_the_options_that_the_documents_name_exist():
    adding = (
        arguments.add_server_options,
        arguments.add_service_options,
        arguments.add_client_options,
        arguments.add_token_option,
        echo_udp.add_server_options,
    )
    known = {"--help"}.union(*map(arguments_of, adding))
    section = re.search("### Running a server\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    named = set(re.findall(r"--[a-z][a-z-]+", section + (ROOT / "docs/serving.md").read_text()))
    assert named - known == {"--now"}  # systemctl's


def arguments_of(add) -> set[str]:
    parser = argparse.ArgumentParser()
    add(parser)
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("64KiB", 65536), ("10GiB", 10 << 30), ("2TiB", 2 << 40)])
def test_the_size_of_a_file_may_be_long(text, size):
    assert arguments.long_size(text) == size


@pytest.mark.parametrize("text", ["0", "-1", "1KB", "1.5GiB", "", "9223372036854775808", "8388608TiB", "\u0661GiB"])
def test_what_is_no_size_of_a_file_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="number of bytes"):
        arguments.long_size(text)


@pytest.mark.parametrize("text", ["64KiB", "1MiB", "64MiB"])
def test_a_payload_has_64_kib_to_64_mib(text):
    assert arguments.payload_size(text) == arguments.size(text)


@pytest.mark.parametrize("text", ["65535", "65MiB", "0"])
def test_a_payload_of_another_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.payload_size(text)
