"""The service: who is let in, how operations end, what stays of a session after each, and how all of them leave."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl

import pytest
import trustme
from sessions import NONCE, PATIENCE, TOKEN, played, served, speaking, where

from fastframe import EndOfStreamError, aio
from fastframe.servers import messages, service, session
from fastframe.servers.credentials import Keyring
from fastframe.servers.errors import OperationError, told
from fastframe.servers.messages import Kind


async def add(session, asked):
    await session.opened()
    return {"sum": asked.integer("a") + asked.integer("b")}


async def fail(session, asked):
    raise OperationError("not_found", f"{asked.text('name')}: nothing")


async def break_down(session, asked):
    raise ZeroDivisionError("a secret of the server's")


async def take(session, asked):
    """Count what comes."""
    await session.opened()
    count = 0
    while chunks := await session.data():
        count += sum(map(len, chunks))
    end = await session.end()
    return {"count": count, "said": end.integer("size")}


async def give(session, asked):
    """Send without end, until it is cancelled."""
    await session.opened()
    async with session.listening():
        while True:
            session.check_cancelled()
            await session.send_data(bytes(1000))


async def think(session, asked):
    """Compute without end, while it is wanted."""
    async with session.peeking():
        try:
            while True:
                await asyncio.sleep(0)
                session.check_wanted()
        except EndOfStreamError:
            THOUGHTS.append("left")
            raise


async def think_and_take(session, asked):
    async with session.peeking():
        for _ in range(asked["turns"]):
            await asyncio.sleep(0.001)
            session.check_wanted()
    return await take(session, asked)


THOUGHTS = []
OPERATIONS = {
    "add": add,
    "fail": fail,
    "break": break_down,
    "take": take,
    "give": give,
    "think": think,
    "think and take": think_and_take,
}
RING = Keyring({"alice": TOKEN})


class Liar(Keyring):
    def check(self, client_proof, challenge):
        return "00" * 32


# The handshake


@played
async def test_a_client_is_welcomed():
    async with served(OPERATIONS, offer={"colour": "red"}) as server, speaking(server) as client:
        welcome = await client.greet()
        assert welcome["version"] == 1
        assert welcome["auth"] == []
        assert welcome["limits"] == {"max_payload": 1024 * 1024}
        assert welcome["colour"] == "red"
        assert len(welcome["nonce"]) == 64
        assert welcome["nonce"] != NONCE


@played
async def test_no_two_connections_have_one_nonce():
    async with served(OPERATIONS) as server, speaking(server) as one, speaking(server) as other:
        assert (await one.greet())["nonce"] != (await other.greet())["nonce"]


@pytest.mark.parametrize(
    "hello",
    [{"version": 2, "nonce": NONCE}, {"version": 1, "nonce": "ab"}, {"version": 1, "nonce": NONCE.upper()}],
    ids=["version", "short nonce", "nonce"],
)
@played
async def test_another_version_or_nonce_is_unsupported(hello):
    async with served(OPERATIONS) as server, speaking(server) as client:
        await client.say(Kind.HELLO, **hello)
        await client.hears(Kind.ERROR, code="unsupported")
        assert await client.ended()


@pytest.mark.parametrize("first", [Kind.OPEN, Kind.AUTH, Kind.DATA, 0x7F])
@played
async def test_nothing_comes_before_hello(first):
    async with served(OPERATIONS) as server, speaking(server) as client:
        await client.say(first, operation="add", a=1, b=2)
        await client.hears(Kind.ERROR, code="bad_message")
        assert await client.ended()


@played
async def test_the_right_token_lets_a_client_in():
    async with served(OPERATIONS, keyring=RING) as server:
        async with session.connect(**where(server), token=("alice", TOKEN)) as client, client.operation("add", a=1, b=2):
            assert await client.result() == {"sum": 3}
        assert server.counters["authentications_failed"] == 0


@pytest.mark.parametrize("token", [None, ("alice", TOKEN[::-1]), ("bob", TOKEN)], ids=["none", "wrong", "unknown"])
@played
async def test_another_token_does_not(token):
    async with served(OPERATIONS, keyring=RING) as server:
        with pytest.raises(OperationError) as info:
            await session.connect(**where(server), token=token)
        assert info.value.code == "unauthenticated"


@played
async def test_nothing_is_done_for_a_client_that_does_not_authenticate():
    async with served(OPERATIONS, keyring=RING) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        await client.hears(Kind.ERROR, code="bad_message")
        assert await client.ended()
        assert server.counters["operations"] == 0


@played
async def test_a_proof_that_was_overheard_is_worth_nothing():
    async with served(OPERATIONS, keyring=RING) as server:
        async with speaking(server) as client:
            first = await client.greet()
            await client.authenticate(first)
            await client.hears(Kind.AUTHENTICATED)
        async with speaking(server) as thief:
            await thief.greet()
            await thief.authenticate(first)  # with the same client nonce, even
            await thief.hears(Kind.ERROR, code="unauthenticated")
            assert await thief.ended()


@played
async def test_a_server_that_does_not_know_the_token_is_not_believed():
    async with served(OPERATIONS, keyring=RING) as server:
        server._service._keyring = Liar({})
        with pytest.raises(OperationError, match="the server does not know the token"):
            await session.connect(**where(server), token=("alice", TOKEN))


@played
async def test_who_guesses_waits_longer_each_time_however_many_connections_it_has():
    async with served(OPERATIONS, keyring=RING, limits=aio.Limits(handshake_timeout=1.0)) as server:
        codes = []
        for _ in range(3):
            with pytest.raises(OperationError) as info:
                await session.connect(**where(server), token=("alice", TOKEN[::-1]))
            codes.append(info.value.code)
        assert codes == ["unauthenticated", "unauthenticated", "busy"]
        assert server.counters["authentications_failed"] == 2


@played
async def test_the_handshake_has_a_deadline_that_a_trickle_does_not_prolong():
    async with served(OPERATIONS, limits=aio.Limits(handshake_timeout=0.2)) as server, speaking(server) as client:
        while True:
            try:
                await client.say(Kind.PING, b"x")
                await client.stream.recv(0.05)
            except TimeoutError:
                continue
            except (EndOfStreamError, OSError):
                break


@played
async def test_before_the_handshake_a_payload_has_16_kib_at_most():
    async with served(OPERATIONS) as server:
        async with speaking(server) as client:
            await client.say(Kind.HELLO, version=1, agent="x" * (16 * 1024), nonce=NONCE)
            assert await client.ended()
        assert server.counters["bad_frames"] == 1


@played
async def test_after_the_handshake_a_payload_has_what_welcome_said():
    async with served(OPERATIONS, max_payload=100_000) as server:
        async with speaking(server, greeted=True) as client:
            await client.say(Kind.OPEN, operation="take")
            await client.hears(Kind.OPENED)
            await client.say(Kind.DATA, bytes(99_999))
            await client.say(Kind.DATA, bytes(100_000))
            assert await client.ended()
        assert server.counters["bad_frames"] == 1


@played
async def test_a_client_may_send_its_first_operation_with_its_hello():
    async with served(OPERATIONS) as server, speaking(server) as client:
        await client.say(Kind.HELLO, version=1, nonce=NONCE)
        await client.say(Kind.OPEN, operation="add", a=1, b=1)
        await client.hears(Kind.WELCOME)
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT, sum=2)


# Operations


@played
async def test_operations_follow_each_other_on_one_connection():
    async with served(OPERATIONS) as server, session.connect(**where(server)) as client:
        for number in range(3):
            async with client.operation("add", a=number, b=1):
                assert await client.result() == {"sum": number + 1}
            with pytest.raises(OperationError, match="x: nothing"):
                async with client.operation("fail", name="x"):
                    pass
        assert server.counters["operations"] == 6
        assert server.counters["operations_failed"] == 3


@played
async def test_operations_begun_together_wait_for_each_other():
    async def one(number):
        async with client.operation("add", a=number, b=0):
            return (await client.result())["sum"]

    async with served(OPERATIONS) as server, session.connect(**where(server)) as client:
        assert await asyncio.gather(*map(one, range(10))) == list(range(10))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"operation": "none"}, "unsupported"),
        ({}, "bad_request"),
        ({"operation": 3}, "bad_request"),
        ({"operation": "add", "a": "1", "b": 2}, "bad_request"),
    ],
)
@played
async def test_a_wrong_request_is_answered_and_the_session_goes_on(asked, code):
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, **asked)
        heard, body = await client.hear()
        if heard is Kind.OPENED:
            heard, body = await client.hear()
        assert (heard, body["code"]) == (Kind.ERROR, code)
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT, sum=3)


@played
async def test_a_bug_is_logged_and_told_without_a_word_of_it(caplog):
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="break")
        error = await client.hears(Kind.ERROR, code="internal")
        assert "secret" not in error["message"]
        assert "a secret of the server's" in caplog.text
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        await client.hears(Kind.OPENED)


@played
async def test_an_error_of_the_disk_that_has_no_code_is_in_the_log(caplog):
    async def stale(session, asked):
        with told("file"):
            raise OSError(errno.ESTALE, "Stale file handle")

    async with served({"stale": stale}) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="stale")
        error = await client.hears(Kind.ERROR, code="internal")
        assert "Stale" not in error["message"]
        assert "Stale file handle" in caplog.text


@played
async def test_data_is_taken_until_its_end():
    async with served(OPERATIONS) as server, session.connect(**where(server)) as client, client.operation("take"):
        for size in (0, 1, 1000, client.max_data):
            await client.send_data(bytes(size))
        await client.send_end(7, "")
        assert await client.result() == {"count": 1001 + client.max_data, "said": 7}


@played
async def test_a_client_that_sends_nothing_more_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(service, "DATA_TIMEOUT", 0.05)
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="take")
        await client.hears(Kind.OPENED)
        await client.hears(Kind.ERROR, code="timeout")


@played
async def test_a_client_cancels_what_it_sends():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="take")
        await client.say(Kind.DATA, b"x")
        await client.say(Kind.CANCEL)
        await client.hears(Kind.OPENED)
        await client.hears(Kind.ERROR, code="cancelled")


@played
async def test_a_client_cancels_what_it_is_sent():
    async def have_enough(client):
        async with client.operation("give"):
            assert await client.receive_data()
            raise ValueError("enough")

    async with served(OPERATIONS) as server, session.connect(**where(server)) as client:
        with pytest.raises(ValueError, match="enough"):
            await have_enough(client)
        async with client.operation("add", a=1, b=2):  # and the session can be used again
            assert await client.result() == {"sum": 3}


async def give_one(session, asked):
    """Send something that is gone before the client can say a word."""
    await session.opened()
    async with session.listening():
        session.check_cancelled()
        await session.send_data(b"x")
    return {}


@played
async def test_what_a_client_has_cancelled_before_concerns_no_other_operation():
    async with served({"give": give, "one": give_one}) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="give")
        await client.say(Kind.CANCEL)
        while (await client.hear())[0] is not Kind.ERROR:
            pass
        await client.say(Kind.OPEN, operation="one")
        await client.hears(Kind.OPENED)
        assert await client.hear() == (Kind.DATA, b"x")
        await client.hears(Kind.RESULT)


async def give_late(session, asked):
    """Send one thing, when the client has spoken, and ask no more."""
    async with session.listening():
        await session.opened()
        await asyncio.wait((session._listener,))
    return {}


@pytest.mark.parametrize("payload", [b"\x7f", messages.encode(Kind.OPEN, {"operation": "late"})], ids=["none", "OPEN"])
@played
async def test_a_message_out_of_place_is_not_lost_at_the_end_of_an_operation(payload):
    async with served({"late": give_late}) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="late")
        await client.hears(Kind.OPENED)
        await client.stream.send(payload)
        await client.hears(Kind.ERROR, code="bad_message")
        assert await client.ended()


@played
async def test_a_cancel_that_comes_too_late_is_ignored():
    async with served({"late": give_late}) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="late")
        await client.hears(Kind.OPENED)
        await client.say(Kind.CANCEL)
        await client.hears(Kind.RESULT)


@played
async def test_a_client_cancels_what_is_computed():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="think")
        await client.say(Kind.PING, b"1")
        await client.hear()
        await client.say(Kind.CANCEL)
        await client.hears(Kind.ERROR, code="cancelled")
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        await client.hears(Kind.OPENED)


@played
async def test_what_is_computed_ends_when_the_client_leaves():
    THOUGHTS.clear()
    async with served(OPERATIONS) as server:
        async with speaking(server, greeted=True) as client:
            await client.say(Kind.OPEN, operation="think")
        async with asyncio.timeout(PATIENCE):
            while not THOUGHTS:  # noqa: ASYNC110  nothing else tells
                await asyncio.sleep(0.001)


@played
async def test_data_that_comes_while_something_is_computed_is_not_lost():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="think and take", turns=20)
        await client.say(Kind.DATA, b"x")
        await client.say(Kind.PING, b"1")
        await client.say(Kind.DATA, b"y")
        await client.say(Kind.END, size=2, digest="")
        heard = [await client.hear() for _ in range(3)]
        assert heard[-1] == (Kind.RESULT, {"count": 2, "said": 2})


@played
async def test_a_cancelled_task_leaves_no_session_behind():
    async def receive():
        async with client.operation("give"):
            while True:
                await client.receive_data()

    async with served(OPERATIONS) as server, session.connect(**where(server)) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.05)
        with pytest.raises((OSError, EndOfStreamError)):
            async with client.operation("add", a=1, b=2):
                pass


@pytest.mark.parametrize("operation", ["take", "give"])
@played
async def test_a_second_request_while_one_runs_ends_the_connection(operation):
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation=operation)
        await client.hears(Kind.OPENED)
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        while (heard := await client.hear())[0] is Kind.DATA:
            pass
        assert heard[0] is Kind.ERROR
        assert heard[1]["code"] == "bad_message"
        assert await client.ended()


@played
async def test_what_a_client_had_sent_before_it_heard_of_the_end_is_ignored():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="fail", name="x")
        await client.say(Kind.DATA, b"x" * 1000)
        await client.say(Kind.END, size=1000, digest="")
        await client.say(Kind.CANCEL)
        await client.say(Kind.OPEN, operation="add", a=1, b=2)
        await client.hears(Kind.ERROR, code="not_found")
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT, sum=3)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x7f", b"\x10[]", b"\x01{}", b"\x18{}", messages.encode(Kind.WELCOME, {})],
    ids=["empty", "unknown", "no object", "HELLO", "RESULT", "WELCOME"],
)
@played
async def test_what_is_no_message_or_has_no_place_ends_the_connection_with_an_error(payload):
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.stream.send(payload)
        await client.hears(Kind.ERROR, code="bad_message")
        assert await client.ended()


@played
async def test_a_ping_is_answered_at_any_time():
    async with served(OPERATIONS) as server:
        async with speaking(server) as client:
            await client.say(Kind.PING, b"1")
            assert await client.hear() == (Kind.PONG, b"1")
            await client.greet()
            await client.say(Kind.OPEN, operation="take")
            await client.hears(Kind.OPENED)
            await client.say(Kind.PING, b"2")
            assert await client.hear() == (Kind.PONG, b"2")
        async with session.connect(**where(server)) as client:
            assert 0 < await client.ping() < 10


@played
async def test_a_ping_between_data_does_not_end_it():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="take")
        await client.say(Kind.DATA, b"ab")
        await client.say(Kind.PING, b"x")
        await client.say(Kind.DATA, b"c")
        await client.say(Kind.END, size=3)
        await client.hears(Kind.OPENED)
        assert await client.hear() == (Kind.PONG, b"x")
        await client.hears(Kind.RESULT, count=3)


def said(caplog, event) -> list[dict]:
    return [record.fields for record in caplog.records if record.getMessage() == event]


@played
async def test_every_decision_is_a_line_with_who_and_what_and_how_it_ended(caplog):
    caplog.set_level("INFO")
    async with served(OPERATIONS, keyring=RING) as server:
        with pytest.raises(OperationError):
            await session.connect(**where(server), token=("alice", TOKEN[::-1]))
        async with session.connect(**where(server), token=("alice", TOKEN)) as client:
            with pytest.raises(OperationError):
                async with client.operation("fail", name="a\nb"):
                    pass
            async with client.operation("add", a=1, b=2):
                await client.result()
    assert [(line["key"], line["right"]) for line in said(caplog, "authentication")] == [("alice", False), ("alice", True)]
    failed, done = said(caplog, "operation")
    assert failed.items() >= {"operation": "fail", "name": "a\nb", "user": "alice", "outcome": "not_found"}.items()
    assert done.items() >= {"operation": "add", "user": "alice", "outcome": "done"}.items()
    assert done["peer"].startswith("127.0.0.1:")
    assert done["seconds"] >= 0


@pytest.mark.parametrize("operation", ["take", "give"])
@played
async def test_a_client_that_goes_in_the_middle_is_a_line_too(caplog, operation):
    caplog.set_level("INFO")
    async with served(OPERATIONS) as server:
        async with speaking(server, greeted=True) as client:
            await client.say(Kind.OPEN, operation=operation)
            await client.hears(Kind.OPENED)
            client.stream.abort()
        async with asyncio.timeout(PATIENCE):
            while not said(caplog, "operation"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert said(caplog, "operation")[0]["outcome"] == "connection lost"


# The end


@played
async def test_a_server_that_closes_says_so_and_lets_operations_finish():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as busy, speaking(server, greeted=True) as idle:
        await busy.say(Kind.OPEN, operation="take")
        await busy.hears(Kind.OPENED)
        closing = asyncio.create_task(server.close(grace=10.0))
        await idle.hears(Kind.GOAWAY)
        assert await idle.ended()
        await busy.hears(Kind.GOAWAY)
        await busy.say(Kind.DATA, b"xyz")
        await busy.say(Kind.END, size=3)
        await busy.hears(Kind.RESULT, count=3)
        assert await busy.ended()
        await closing
        assert server.counters["cut"] == 0


@played
async def test_a_client_that_was_told_begins_nothing_new():
    async with served(OPERATIONS) as server, session.connect(**where(server)) as client:
        async with client.operation("take"):
            closing = asyncio.create_task(server.close(grace=10.0))
            while not client.going_away:
                await client.stream.send(messages.encode_bytes(Kind.PING, b""))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.receive_data(), 0.01)
            await client.send_end(0, "")
            await client.result()
        with pytest.raises(OperationError, match="going_away"):
            async with client.operation("add", a=1, b=2):
                pass
        await client.close()
        await closing


@played
async def test_operations_that_take_longer_than_the_grace_are_cut():
    async with served(OPERATIONS) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="take")
        await client.hears(Kind.OPENED)
        await server.close(grace=0.05)
        await client.hears(Kind.GOAWAY)
        assert await client.ended()
        assert server.counters["cut"] == 1


# Who it is


async def who(session, asked):
    await session.opened()
    return {"user": session.user, "source": session.source}


async def asked_who(server, **options):
    async with session.connect(**where(server), **options) as client, client.operation("who"):
        return await client.result()


@played
async def test_a_user_is_who_authenticated(tmp_path):
    async with served({"who": who}) as server:
        assert await asked_who(server) == {"user": "", "source": "127.0.0.1"}
    async with served({"who": who}, keyring=RING) as server:
        assert (await asked_who(server, token=("alice", TOKEN)))["user"] == "alice"
    async with served({"who": who}, path=str(tmp_path / "socket")) as server:
        assert await asked_who(server) == {"user": f"uid:{os.getuid()}", "source": "unix"}


@played
async def test_a_user_is_whose_certificate_it_is():
    authority = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    for context, name in ((server_context, "localhost"), (client_context, "client")):
        authority.configure_trust(context)
        authority.issue_cert(name, common_name=name).configure_cert(context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    async with served({"who": who}, ssl=server_context) as server:
        answer = await asked_who(server, ssl=client_context, server_hostname="localhost")
        assert answer["user"] == "certificate:client"


@played
async def test_a_flood_of_messages_leaves_others_their_turn():
    turns, count = 0, 20_000

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with served({}) as server, speaking(server, greeted=True) as client:
        turning = asyncio.create_task(turn())
        await client.stream.send_many([bytes([Kind.END]) + b"{}"] * count)
        await client.say(Kind.PING, b"?")
        assert await client.hear() == (Kind.PONG, b"?")
        turning.cancel()
    assert turns > count / session.MESSAGES_PER_TURN
