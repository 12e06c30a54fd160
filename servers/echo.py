"""Echo: every frame comes back as it came. The plainest program on the codec, and everybody's benchmark peer.

It speaks bare frames of any format. A client that ends its direction still gets every answer. One that sends what is no frame
is answered up to there and told that nothing follows; it has `--linger-timeout` to take that and hang up, whatever else it
sends. With `--udp` it is another program: `echo_udp.py`, and `echo_udp_client.py`.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterable

from fastframe import EndOfStreamError, FrameBatch, FrameError, aio, sync

from . import arguments, echo_udp, echo_udp_client, host, tls
from .reaching import Unreachable, reaching


class Echo(aio.FrameProtocol):
    """Send back what a read completed, in one write: the frames as they came, whatever else their headers say."""

    def batch_received(self, batch: FrameBatch) -> None:
        self.send_batch(batch)


class UpperEcho(aio.FrameProtocol):
    """Send it back with the ASCII letters in upper case."""

    def frames_received(self, frames: list[bytes]) -> None:
        self.send_many([payload.upper() for payload in frames])


def serve_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe serve echo",
        usage="%(prog)s [OPTION ...]",
        description="Answer each frame with itself, until SIGTERM or Ctrl-C.",
        epilog="example: fastframe serve echo --port 9000 --format u32be,max=1MiB",
    )
    arguments.add_format_option(parser)
    parser.add_argument("--upper", action="store_true", help="answer in upper case (ASCII)")
    echo_udp.add_server_options(parser)
    arguments.add_server_options(parser)
    options = parser.parse_args(argv)
    if (options.upper or options.udp) and options.format.payload_brings_header:
        parser.error("--upper and --udp would change the header, which this format leaves in the payload")
    if options.udp:
        return echo_udp.run(parser, options)
    if options.plain is not None or options.stats:
        parser.error("--plain and --stats are for --udp")
    if "frames_per_turn" in options and not options.upper:
        parser.error("--frames-per-turn is for --upper: frames that go back as they came are not looked at one by one")
    return host.run(options, functools.partial(aio.serve, UpperEcho if options.upper else Echo, format=options.format))


def client_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe echo",
        description="Send each TEXT as a frame to an echo server and print what comes back, a line each.",
        epilog="example: fastframe echo 127.0.0.1:9000 hello world",
    )
    arguments.add_client_options(parser)
    echo_udp_client.add_client_options(parser)
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="without any, the lines of standard input")
    arguments.add_format_option(parser)
    options = parser.parse_intermixed_args(argv)
    payloads = map(os.fsencode, options.texts) if options.texts else (line.rstrip(b"\n") for line in sys.stdin.buffer)
    if options.udp:
        return echo_udp_client.run(parser, options, payloads)
    if options.json or options.stats or options.retry_after is not None:
        parser.error("--retry-after, --stats and --json are for --udp")
    try:
        context = tls.client_context(options)
        with reaching(options):
            stream = sync.connect(
                **options.address,
                format=options.format,
                timeout=options.timeout,
                ssl=context,
                server_hostname=options.tls_name,
            )
    except arguments.UsageError as error:
        return host.fail(error, 2)
    except Unreachable as error:
        return host.fail(error)
    with stream:
        return _ask(stream, payloads, options.timeout)


def _ask(stream: sync.FrameSocket, payloads: Iterable[bytes], timeout: float) -> int:
    """Send each payload and print its answer; return the exit status."""
    for payload in payloads:
        try:
            stream.send(payload, timeout=timeout)
            answer = stream.recv(timeout=timeout)
        except EndOfStreamError:
            return host.fail("the server hung up before it answered")
        except (FrameError, OSError) as error:
            return host.fail(error)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
    return 0
