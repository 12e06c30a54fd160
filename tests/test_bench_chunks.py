"""The sweeps of chunk sizes: ends that read so much and no more, rows for all sizes, and what is made of them."""

import asyncio
import socket
import struct
import threading

import pytest

from fastframe import aio
from fastframe._memory import RECEIVE_BLOCK_SIZE
from fastframe._receive import READ_SIZE
from fastframe.bench import chunkdecode, chunkecho, chunkends, chunks, chunkservers, chunktransfer
from fastframe.bench.chunkends import Job
from fastframe.bench.command import read_json
from fastframe.bench.kneetables import knee_of
from fastframe.bench.workloads import frame

KIB, MIB = 1 << 10, 1 << 20
SPREAD = {"lower": 90.0, "median": 100.0, "upper": 110.0}
FACTS = {
    "read_ns": {"system call": SPREAD, "recv": SPREAD, "asyncio": SPREAD},
    "recv_ns": {"64": SPREAD, str(MIB): {"lower": 1e5, "median": 104857.6, "upper": 2e5}},
    "send_ns": SPREAD,
    "copy_gb_s": {"4096": SPREAD},
    "caches": {"L1": 32 * KIB, "L2": 512 * KIB},
    "fresh": {"mapped anew": {**SPREAD, "faults": 64.0}, "kept": {**SPREAD, "faults": 0.0}},
    "socket": {
        "fresh": {"send_buffer": 1, "receive_buffer": 2, "segment": 3},
        "used": {"send_buffer": 4, "receive_buffer": 5, "segment": 6},
        "flood": {**SPREAD, "most": 120},
    },
    "nagle_ns": {"TCP_NODELAY": SPREAD, "Nagle": SPREAD},
}


def row(contender, payload, read, median=100.0):
    spread = {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}
    ratio = {"lower": 0.9, "median": 1.0, "upper": 1.1}
    return {"payload": payload, "read": read, "contender": contender, "ns": spread, "ratio": ratio}


def made_up():
    sizes = [(payload, read) for payload in (64, MIB) for read in (64, 256, 256 * KIB, 4 * MIB)]
    ends = {"sender_ns": SPREAD, "receiver_ns": SPREAD}
    return {
        "contenders": {},
        "does": {},
        "facts": FACTS,
        "decode": [{**row("compiled", *size, 1e5 / size[1] + 50), "faults": 0.005} for size in sizes],
        "echo": [row("callback/asyncio", *size) for size in sizes if size[1] <= 256 * KIB]
        + [row("blocking", *size, 100.0 if size[0] == 64 else 16_384_062.5) for size in sizes],
        "transfer": [{**row("feed", *size), **ends} for size in sizes if size != (MIB, 64)],
        "batch": [
            {**row("send_many", 64, 0, ns), **ends, "batch": batch} for batch, ns in ((1, 900.0), (16, 101.0), (256, 100.0))
        ],
    }


@pytest.fixture
def short_turns(monkeypatch):
    monkeypatch.setattr(chunks, "TURN_NS", 200_000)
    monkeypatch.setattr(chunks, "measured_facts", lambda: FACTS)


def answered(connection, wire, expected):
    """Send while receiving, for a server that is not read takes nothing."""
    thread = threading.Thread(target=connection.sendall, args=(wire,))
    thread.start()
    got = b""
    while len(got) < len(expected):
        got += connection.recv(1 << 16)
    thread.join()
    return got


WIRE = frame([b"x" * length for length in (0, 1, 5000, 200_000, 64, *[64] * 3000)])


@pytest.mark.parametrize("read", [1 * KIB, 64 * KIB])
def test_a_thread_answers_all_that_follows_the_first_frame(read):
    client, server = socket.socketpair()
    thread = threading.Thread(target=chunkservers.answer, args=(TcpLike(server, read),))
    thread.start()
    with client:
        assert answered(client, frame([b"%d" % read]) + WIRE, WIRE) == WIRE
    thread.join(10)


class TcpLike:
    """A socket of a pair that takes the options of TCP, and looks at how much is asked for."""

    def __init__(self, socket, read):
        self.socket, self.read = socket, read

    def setsockopt(self, *option):
        pass

    def recv_into(self, memory):
        assert len(memory) == self.read
        return self.socket.recv_into(memory)

    def __getattr__(self, name):
        return getattr(self.socket, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()


@pytest.mark.parametrize("way", [chunkservers.Cut, chunkservers.Feed])
def test_a_loop_answers_all_that_follows_the_first_frame_and_lends_no_more_than_that_says(way):
    lent = set()

    class Watched(way):
        def get_buffer(self, sizehint):
            memory = super().get_buffer(sizehint)
            lent.add(len(memory))
            return memory

    async def exchange():
        loop = asyncio.get_running_loop()
        if way is chunkservers.Cut:
            server = await aio.serve(Watched, "127.0.0.1", 0, format=chunkservers.FORMAT)
            address = server.addresses[0].rpartition(":")
        else:
            server = await loop.create_server(Watched, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
        async with server:
            with socket.create_connection(("127.0.0.1", int(address[-1 if way is chunkservers.Cut else 1]))) as connection:
                wire = frame([b"5000"]) + WIRE
                assert await loop.run_in_executor(None, answered, connection, wire, WIRE) == WIRE

    asyncio.run(exchange())
    first = 256 * KIB if way is chunkservers.Cut else chunkservers.FIRST_READ
    assert max(lent - {first}) == 5000


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


def test_decoding_has_a_row_for_each_size_of_chunks_beside_the_one_of_the_fronts(short_turns, tmp_path, capsys):
    path = tmp_path / "chunks.json"
    arguments = ["--sweeps", "decode", "--frames", "64,1KiB", "--reads", "64,4KiB", "--repetitions", "1", "--json", str(path)]
    assert chunks.main(arguments) == 0
    (report,) = read_json(path)
    cells = [(row["contender"], row["payload"], row["read"]) for row in report["decode"]]
    compiled = [cell for cell in cells if cell[0] == "compiled"]
    assert [cell[1:] for cell in compiled] == [(64, 64), (64, 4 * KIB), (KIB, 64), (KIB, 4 * KIB)]
    assert ("pure", 64, 64) in cells
    assert ("pure", KIB, 64) not in cells
    assert {row["ratio"]["median"] for row in report["decode"] if row["read"] == 4 * KIB} == {1}
    assert report["echo"] == report["transfer"] == report["batch"] == []
    assert "decode compiled" in report["does"]
    assert "where the lines bend" in capsys.readouterr().out


def test_a_decoder_that_loses_something_is_a_failure(short_turns, monkeypatch, capsys):
    monkeypatch.setattr(chunkdecode, "gives_back", lambda *_: False)
    assert chunks.main(["--sweeps", "decode", "--frames", "64", "--reads", "64"]) == 1
    assert "compiled does not give the payloads of 64 bytes" in capsys.readouterr().err


def test_the_base_is_what_the_fronts_read_or_the_nearest_to_it():
    assert chunkdecode.DEFAULT_READ == RECEIVE_BLOCK_SIZE == READ_SIZE
    assert chunkdecode.base_of(chunks.SIZES) == 256 * KIB
    assert chunkdecode.base_of([64, KIB]) == KIB
    assert chunkdecode.base_of([MIB, 4 * MIB]) == MIB


def test_a_copy_that_differs_is_a_failure(tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(bytes(3 * MIB))
    copy.write_bytes(bytes(MIB))
    pair = chunktransfer.Ends(None, None, None, source, copy)
    chunktransfer.check_copy(pair, 64)
    copy.write_bytes(bytes(MIB) + b"x")
    with pytest.raises(chunktransfer.BenchError, match="64 B: what arrived is not what was sent"):
        chunktransfer.check_copy(pair, 64)


def test_each_figure_has_a_name_of_its_own():
    report = made_up()
    figures = list(chunks.figures(report))
    assert len({figure.name for figure in figures}) == len(figures) == sum(map(len, (report[sweep] for sweep in chunks.SWEEPS)))
    assert figures[0].name == "decode, 64 B, reads of 64 B, compiled"
    assert figures[-1].name == "batch, 64 B, 256 in a call, send_many"
    assert figures[0].ratio == (0.9, 1, 1.1)


def test_a_knee_is_the_smallest_read_that_is_about_as_good_as_the_best():
    own = [row("x", 64, read, ns) for read, ns in ((64, 400.0), (256, 104.0), (KIB, 100.0), (4 * KIB, 130.0))]
    assert knee_of(own)["read"] == 256


def test_tables_have_all_sizes_and_say_why_lines_bend():
    tables = {title: (heads, rows) for title, heads, rows in chunks.FAMILY.tables(made_up())}
    heads, rows = tables["Echo: GB of payload per second of the server's processor, blocking"]
    assert heads == ["frame", "64 B", "256 B", "256 KiB", "4 MiB", "spread"]
    assert rows[0] == ["64 B", *["0.64"] * 4, "±10 %"]
    _, rows = tables["Transfer: GB/s of payload, feed"]
    assert rows[1][:2] == ["1 MiB", ""]
    _, rows = tables["small frames by send_many, so many in a call: ns a frame"]
    assert rows == [["64 B", "900", "101", "100", "±10 %"]]
    words = [text for _, text in tables["why the lines bend"][1]]
    assert any("blocking: a read of 64 B of a frame of 1 MiB takes 1.00 us" in text for text in words)
    (large,) = [text for text in words if "echo, blocking: with reads of 4 MiB a frame of 1 MiB takes 1.00 times" in text]
    assert large.strip().endswith("a bare recv runs at 10.0 GB/s with 1 MiB.")
    assert any("with 16 in a call 0.10" in text for text in words)
    assert any(
        "from chunks of 4 MiB takes 0.99 times what it takes from 256 KiB, and 5.0 page faults" in text for text in words
    )
    assert all(all(isinstance(cell, str) for cell in line) for _, lines in tables.values() for line in lines)


def test_there_are_a_field_and_lines_for_each_sweep_and_holes_where_nothing_was_measured():
    charts = {chart.name: chart for chart in chunks.FAMILY.charts(made_up())}
    assert list(charts) == [f"{sweep}-{what}" for sweep in ("decode", "echo", "transfer") for what in ("field", "reads")]
    assert charts["echo-field"].panels["callback/asyncio"][0] == [0.64, 0.64, 0.64, None]
    assert charts["transfer-field"].panels["feed"][1][0] is None
    (line, _) = charts["decode-reads"].panels["compiled"]
    assert (line.name, line.x) == ("frames of 64 B", [64, 256, 256 * KIB, 4 * MIB])


def test_a_report_without_a_sweep_shows_the_rest():
    report = made_up() | {"decode": [], "echo": [], "batch": []}
    assert {title.partition(":")[0] for title, _, rows in chunks.FAMILY.tables(report) if rows} >= {"Transfer", "transfer"}
    assert [chart.name for chart in chunks.FAMILY.charts(report)] == ["transfer-field", "transfer-reads"]


@pytest.mark.parametrize("arguments", [["--sweeps", "nothing"], ["--frames", "0"], ["--reads", "17MiB"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        chunks.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.contenders
def test_real_ends_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(chunks, "QUICK_TURN_NS", 1_000_000)
    monkeypatch.setattr(chunks, "QUICK_BATCHES", (1, 16))
    monkeypatch.setattr(chunks, "measured_facts", lambda: FACTS)
    path = tmp_path / "chunks.json"
    sizes = ["--frames", "64,64KiB", "--reads", "4KiB,1MiB", "--sweeps", "echo,transfer,batch"]
    assert chunks.main(["--quick", *sizes, "--repetitions", "2", "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    ways = [name for name in chunkecho.WAYS if f"echo {name}" in report["contenders"]]
    assert {(row["contender"], row["payload"], row["read"]) for row in report["echo"]} == {
        (way, payload, read)
        for way in ways
        for payload in (64, 64 * KIB)
        for read in (4 * KIB, MIB)
        if read <= chunkecho.WAYS[way].most
    }
    assert {row["contender"] for row in report["transfer"]} == {"get_buffer", "feed"}
    assert all(row["sender_ns"]["median"] > 0 < row["receiver_ns"]["median"] for row in report["transfer"])
    assert [(row["payload"], row["batch"]) for row in report["batch"]] == [(64, 1), (64, 16), (KIB, 1), (KIB, 16)]
    assert "## Where the lines bend" in (tmp_path / "benchmarks-chunks.md").read_text()
