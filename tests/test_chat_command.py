"""`fastframe chat` in pipes, beside the server and servers that say what a test wants. test_chat_prompt has terminals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import threading

import pytest
from chatting import hosting, rooms_served, running
from serving import FASTFRAME
from sessions import PATIENCE

from fastframe.__main__ import main
from fastframe.servers import chat_client, chat_command
from fastframe.servers.chat_command import Talk
from fastframe.servers.chat_events import Event
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind
from fastframe.servers.session import GONE


@contextlib.contextmanager
def standard_input(data):
    """Have `data` come on standard input, and its end."""
    source, sink = os.pipe()
    kept = os.dup(0)
    os.dup2(source, 0)
    writing = threading.Thread(target=_write, args=(sink, data))
    writing.start()
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(source)
        writing.join()


def _write(sink, data):
    with open(sink, "wb") as file, contextlib.suppress(BrokenPipeError):
        file.write(data)


@pytest.fixture
def run(capfdbinary):
    """Run the command at a server with this on standard input; return status, stdout and stderr."""

    def run(server, data, *words):
        with running(server) as address, standard_input(data):
            status = main(["chat", address, "lobby", "--name", "ann", *words])
        captured = capfdbinary.readouterr()
        return status, captured.out.decode(), captured.err.decode()

    return run


def test_lines_are_said_and_events_are_lines(run):
    data = "hi\n\nüber\r\n/who\n//x\n\x1b[31m".encode() + b"\xff\n" + b"no line end"
    status, out, err = run(rooms_served(), data)
    assert (status, err) == (0, "fastframe: in lobby as ann, 1 here\n")
    lines = [line[20:] for line in out.splitlines()]
    said = ["hi", "über", "/who", "//x", "\\x1b[31m\ufffd", "no line end"]
    assert lines == ["* ann joined", *(f"<ann> {text}" for text in said), "* ann left"]


def test_json_is_an_object_for_each_event(run):
    status, out, err = run(rooms_served(), b"\x1b\xe2\x80\xae\n", "--json")
    assert (status, err) == (0, "")
    assert out.isascii()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["entered", "joined", "said", "left"]
    assert (events[2]["text"], events[2]["name"], events[2]["seq"]) == ("\x1b\u202e", "ann", 2)


def test_more_than_may_be_on_its_way(run):
    data = b"".join(b"%d\n" % number for number in range(1000))
    status, out, _ = run(rooms_served(), data, "--json")
    said = [event["text"] for event in map(json.loads, out.splitlines()) if event["type"] == "said"]
    assert (status, said) == (0, [str(number) for number in range(1000)])


def test_what_cannot_be_said_is_told_and_does_not_end_the_rest(run):
    status, out, err = run(rooms_served(), b"a\n" + b"x" * 5000 + b"\n" + b"y" * 200_000 + b"\nb\n")
    assert status == 1
    assert [line[20:] for line in out.splitlines()] == ["* ann joined", "<ann> a", "<ann> b", "* ann left"]
    told = err.splitlines()[1:]
    assert told[0] == "fastframe: 5000 bytes of text, and 4096 may be (too_large)"
    assert len(told) == 2
    assert 64 * 1024 <= int(told[1].split()[1]) < 200_000  # all of a line is not kept


def test_what_the_server_refuses_is_status_1(run):
    async def script(host):
        await host.let_in()
        await host.event("refused", id=(await host.heard())["id"], code="busy", message="\x1b no")
        await host.let_go(2)

    status, _, err = run(hosting(script), b"x\n")
    assert (status, err.splitlines()[1]) == (1, "fastframe: refused: \\x1b no")


def test_it_comes_back_and_says_so(run):
    async def first(host):
        await host.let_in()

    async def second(host):
        await host.let_in(head=3, seq=0)
        await host.event("said", 2, "bob", id="", text="meanwhile")
        await host.event("joined", 3)
        message = await host.heard()
        await host.event("said", 4, id=message["id"], text=message["text"])
        await host.let_go(5)

    status, out, err = run(hosting(first, second), b"x\n")
    assert (status, [line[20:] for line in out.splitlines()]) == (
        0,
        ["* ann joined", "<bob> meanwhile", "* ann joined", "<ann> x", "* ann left"],
    )
    assert re.fullmatch(
        "fastframe: in lobby as ann, 1 here\n"
        "fastframe: the connection is lost .*; trying to come back\n"
        "fastframe: back in lobby: 1 event came meanwhile\n",
        err,
    )


async def refuses(host):
    await host.hears(Kind.OPEN)
    await host.say(Kind.ERROR, code="name_taken", message="ann\x1b is here")


async def hangs_up(host):
    await host.let_in()


FAILURES = {
    "refused": (refuses, r"ann\\x1b is here \(name_taken\)"),
    "gone": (hangs_up, "the server hung up|Connection reset by peer|Broken pipe"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_a_line_and_status_1(run, case):
    script, text = FAILURES[case]
    status, _, err = run(hosting(script), b"x\n", "--reconnect", "0")
    assert status == 1
    assert re.fullmatch(f"fastframe: ({text})", err.splitlines()[-1])


def test_names_are_composed():
    options = chat_command._parse(["h:1", "cafe\u0301", "--name", "u\u0308"])
    assert (options.room, options.name) == ("café", "ü")


def test_nobody_there(capsys):
    assert main(["chat", "127.0.0.1:1", "lobby", "--name", "ann"]) == 1
    assert capsys.readouterr().err == "fastframe: cannot connect to 127.0.0.1:1: Connection refused\n"


WRONG = {
    "no room": (["h:1"], "ROOM"),
    "an empty room": (["h:1", ""], "it is empty"),
    "a room that is not UTF-8": (["h:1", "\udcff"], "is not UTF-8"),
    "an empty name": (["h:1", "lobby", "--name", ""], "it is empty"),
    "datagrams with TLS": (["h:1", "lobby", "--udp", "--tls-name", "x"], "no TLS for datagrams"),
    "no number": (["h:1", "lobby", "--history", "-1"], "'-1' is not a number"),
    "no time": (["h:1", "lobby", "--reconnect", "x"], "'x' is not a number of seconds"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_asked_wrongly_is_status_2(case, capsys):
    words, text = WRONG[case]
    with pytest.raises(SystemExit) as info:
        main(["chat", *words])
    assert info.value.code == 2
    assert text in capsys.readouterr().err


def test_a_token_that_cannot_be_read_is_status_2(capsys):
    assert main(["chat", "h:1", "lobby", "--token", "/nonexistent"]) == 2
    assert "nonexistent" in capsys.readouterr().err


@contextlib.contextmanager
def started(address, *words, **options):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*FASTFRAME, "chat", address, "lobby", "--name", "ann", *words], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_politely(number):
    async def script(host):
        await host.let_in()
        await host.let_go(2)

    with running(hosting(script)) as address, started(address) as process:
        assert process.stdout.readline().endswith(b"* ann joined\n")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out[20:]) == (128 + number, b"* ann left\n")
        assert err.splitlines()[-1] == b"fastframe: interrupted"


def test_a_second_signal_does_not_wait_for_the_server():
    async def stubborn(host):
        await host.let_in()
        await host.hears(Kind.END)
        is_leaving.set()
        with contextlib.suppress(*GONE):
            await host.hear()

    is_leaving = threading.Event()
    with running(hosting(stubborn)) as address, started(address) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert is_leaving.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=chat_client.LEAVE_SECONDS - 1)
        assert process.returncode == 128 + signal.SIGINT


def test_output_that_nobody_reads_any_more_ends_it():
    with running(rooms_served()) as address, started(address) as process:
        process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"x\n")
            process.stdin.flush()
        assert process.wait(PATIENCE) == 1
        assert b"Traceback" not in process.stderr.read()


class Fake:
    """A room that writes down what is asked of it."""

    unseen = 0

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        async def ask(*words):
            self.asked.append((name, *words))

        return ask


class Typed:
    """A front at which these lines are typed."""

    has_commands = True

    def __init__(self, *lines):
        self.failures = 0
        self.told = []
        self._lines = lines

    async def lines(self):
        for line in self._lines:
            yield line

    async def tell(self, text):
        self.told.append(text)


COMMANDS = {
    "a text": ("hi", [("say", "hi")], ""),
    "nothing": ("", [], ""),
    "spaces alone": ("  ", [], ""),
    "a text with spaces": ("  hi ", [("say", "  hi ")], ""),
    "a slash": ("//hi", [("say", "/hi")], ""),
    "a slash alone": ("//", [("say", "/")], ""),
    "who": ("/who", [("who",)], ""),
    "topic": ("/topic the weather ", [("topic", "the weather")], ""),
    "the topic": ("/topic", [], "the topic: rain\\x1b\\n"),
    "help": ("/help ", [], chat_command.HELP),
    "nonsense": ("/nonsense x", [], "there is no /nonsense: /help tells what there is, and //nonsense x says it"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands(case):
    line, asked, told = COMMANDS[case]
    room, front = Fake(), Typed(line)
    talk = Talk(room)
    talk._learn(Event("topic", name="bob", topic="rain\x1b\n"))
    asyncio.run(talk._type(front))
    assert (room.asked, front.told) == (asked, [told] * bool(told))


def test_what_went_wrong_is_told_without_control_characters():
    class Lost(Fake):
        async def say(self, text):
            raise OperationError("internal", "\x1b[2J")

    front = Typed("hi", "ho")
    asyncio.run(Talk(Lost())._type(front))
    assert (front.told, front.failures) == (["\\x1b[2J (internal)"] * 2, 2)


def test_a_signal_that_is_ignored_stays_ignored():
    async def main():
        with chat_command.Signals():
            return signal.getsignal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert asyncio.run(main()) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("words", "seconds"), [([], 60), (["--reconnect", "3"], 3), (["--reconnect", "0"], 0)])
def test_who_is_no_person_comes_back_for_a_minute_unless_told_otherwise(words, seconds):
    options = chat_command._parse(["127.0.0.1:9", "lobby", "--name", "ann", *words])
    assert chat_command._entrance(options)._stay._retry == seconds


@pytest.mark.parametrize("line", ["/quit", "/bye"])
def test_commands_that_leave(line):
    room = Fake()
    asyncio.run(Talk(room)._type(Typed("a", line, "b")))
    assert room.asked == [("say", "a")]


def test_the_prompt_tells_of_the_connection():
    room = Fake()
    talk = Talk(room)
    assert talk.status() == "> "
    talk._learn(Event("lost"))
    assert talk.status() == "away> "
    room.unseen = 2
    assert talk.status() == "away, 2 waiting> "
    talk._learn(Event("back"))
    assert talk.status() == "> "


def test_tab_knows_commands_and_who_is_there():
    talk = Talk(Fake())
    for event in (
        Event("who", members=("Anna", "bob")),
        Event("said", name="andy"),
        Event("joined", name="eve"),
        Event("left", name="eve"),
    ):
        talk._learn(event)
    assert talk.words("/to") == ["/topic"]
    assert talk.words("hi an") == ["hi andy", "hi Anna"]
    assert talk.words("e") == talk.words("hi ") == talk.words("") == []
    for number in range(2 * chat_command.MOST_NAMES):
        talk._learn(Event("said", name=f"{number}"))
    assert len(talk._names) == chat_command.MOST_NAMES
