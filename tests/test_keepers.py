"""The server's end of its keepers: who is kept, what a start says that fails, and that the next one works."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import resource
import select
import signal
import subprocess
import time

import pytest
from commanding import alive, children, is_there, mark
from executing import permit, until
from sessions import PATIENCE, played

from fastframe.servers import keepers as module
from fastframe.servers import nursery as nursery_module
from fastframe.servers.channel import Channel, close_all
from fastframe.servers.errors import OperationError
from fastframe.servers.keepers import Keepers

PATH = {"PATH": "/usr/bin:/bin"}
sh = functools.partial(permit, "/bin/sh", sandbox=False, grace=0.2)
FREE = sh()


@contextlib.asynccontextmanager
async def keeping():
    """Have keepers, and see that they end, and that no descriptor is left open."""
    gc.collect()
    keepers = Keepers()
    before = len(os.listdir("/proc/self/fd"))
    try:
        yield keepers
    finally:
        async with asyncio.timeout(PATIENCE):
            await keepers.close()
    assert len(os.listdir("/proc/self/fd")) < before  # the nursery's is closed, too


async def start(keepers, script, kept=FREE, **variables):
    return await keepers.start(kept, ["sh", "-c", script], {**PATH, **variables}, PATIENCE, has_input=False)


async def ended(command):
    """Return how a command ended; its pipes are closed."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await command.ended
    finally:
        command.close()


async def run(keepers, script, kept=FREE, **variables):
    return await ended(await start(keepers, script, kept, **variables))


async def fails(awaitable):
    with pytest.raises(OperationError) as info:
        await awaitable
    return info.value.code


def pids(keepers):
    return list(children(keepers._nursery.process.pid))


async def said(command):
    """Return what it writes next."""
    ready = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(command.stdout, lambda: ready.done() or ready.set_result(None))
    async with asyncio.timeout(PATIENCE):
        await ready
    asyncio.get_running_loop().remove_reader(command.stdout)
    return os.read(command.stdout, 65536)


# Who is kept.


@played
async def test_one_keeper_for_commands_that_follow_each_other():
    async with keeping() as keepers:
        assert [(await run(keepers, f"exit {number}"))["status"] for number in range(20)] == list(range(20))
        assert len(pids(keepers)) == 1


@played
async def test_a_keeper_for_each_command_that_runs_and_each_permit(tmp_path):
    async with keeping() as keepers:
        script = f"while [ ! -e {tmp_path}/over ]; do sleep 0.01; done; exit 3"
        commands = [await start(keepers, script) for _ in range(5)]
        assert len(set(pids(keepers))) == 5
        (tmp_path / "over").touch()
        assert [(await ended(command))["status"] for command in commands] == [3] * 5
        await run(keepers, "exit", sh(name="other"))
        assert len(pids(keepers)) == 6
        await asyncio.gather(*(run(keepers, "exit") for _ in range(5)))
        assert len(pids(keepers)) == 6


@played
async def test_only_so_many_at_once():
    async with keeping() as keepers:
        two = sh(at_once=2)
        commands = [await start(keepers, "sleep 100", two) for _ in range(2)]
        assert await fails(start(keepers, "exit", two)) == "busy"
        await run(keepers, "exit", sh(name="other", at_once=1))
        commands[0].end("cancelled")
        assert (await ended(commands[0]))["reason"] == "cancelled"
        commands[0] = await start(keepers, "sleep 100", two)
        assert await fails(start(keepers, "exit", two)) == "busy"
        close_all([descriptor for command in commands for descriptor in (command.stdout, command.stderr)])


@played
async def test_who_is_not_needed_for_two_sweeps_leaves(monkeypatch):
    async with keeping() as keepers:
        await asyncio.gather(run(keepers, "exit"), run(keepers, "exit"))
        first, second = pids(keepers)
        keepers._sweep()
        assert len(pids(keepers)) == 2
        await run(keepers, "exit")
        keepers._sweep()
        await until(lambda: len(pids(keepers)) == 1)
        assert pids(keepers)[0] in (first, second)
        keepers._sweep()
        await until(lambda: not pids(keepers))
        assert not keepers._all
        await run(keepers, "exit")


@played
async def test_sweeps_come_by_themselves(monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with keeping() as keepers:
        await run(keepers, "exit")
        await until(lambda: not pids(keepers))


@played
async def test_a_keeper_that_has_run_enough_leaves(monkeypatch):
    monkeypatch.setattr(module, "MOST_RUNS", 3)
    async with keeping() as keepers:
        for _ in range(3):
            await run(keepers, "exit")
        await until(lambda: not pids(keepers))
        assert not keepers._all
        await run(keepers, "exit")
        assert len(pids(keepers)) == 1


# What cannot be started.


@played
async def test_a_program_that_cannot_be_started_and_one_that_can(tmp_path, caplog):
    async with keeping() as keepers:
        program = tmp_path / "program"
        gone = permit(str(program), sandbox=False, at_once=1)
        for _ in range(2):
            assert await fails(run(keepers, "", gone)) == "not_started"
        assert {record.fields["reason"] for record in caplog.records} == {os.strerror(errno.ENOENT)}
        program.symlink_to("/bin/sh")
        assert (await run(keepers, "exit 3", gone))["status"] == 3
        assert len(pids(keepers)) == 1


@played
async def test_what_is_too_long_for_the_kernel_or_the_way_to_a_keeper():
    async with keeping() as keepers:
        assert await fails(run(keepers, "exit", LONG="a" * (1 << 18))) == "too_large"
        assert (await run(keepers, "exit 3", LONG="é" * 30_000))["status"] == 3
        resource.prlimit(pids(keepers)[0], resource.RLIMIT_STACK, (256 * 1024, 1 << 30))
        command = await keepers.start(FREE, ["sh", "-c", "exit", *("a" for _ in range(16_000))], PATH, PATIENCE)
        assert await fails(ended(command)) == "too_large"
        assert len(pids(keepers)) == 1


@pytest.mark.parametrize("spare", range(6))
@played
async def test_without_room_for_descriptors_it_is_busy_and_none_is_lost(spare):
    async with keeping() as keepers:
        if spare % 2:
            await run(keepers, "exit")  # so that only pipes are wanted
        before = len(os.listdir("/proc/self/fd"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare // 2, limits[1]))
        try:
            code = await fails(keepers.start(FREE, ["sh"], PATH, PATIENCE))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert code == "busy"
        if spare % 2:
            assert len(os.listdir("/proc/self/fd")) == before
        assert (await run(keepers, "exit 3", sh(at_once=1)))["status"] == 3


@played
async def test_without_room_for_processes_it_is_busy(monkeypatch):
    async with keeping() as keepers:
        ours, its = Channel.pair()
        monkeypatch.setattr(keepers, "_connect", lambda permit: ours)
        with its:
            Channel(its).send({"refused": "no more", "errno": errno.EAGAIN})
            assert await fails(start(keepers, "exit")) == "busy"


@played
async def test_a_permit_that_cannot_be_set_up(caplog):
    async with keeping() as keepers:
        for _ in range(2):
            assert await fails(start(keepers, "exit", sh(directory="/nowhere", at_once=1))) == "internal"
        assert {record.fields["reason"] for record in caplog.records} == {"/nowhere: No such file or directory"}


@played
async def test_a_start_that_is_given_up_does_not_count():
    async with keeping() as keepers:
        one = sh(at_once=1)
        starting = asyncio.create_task(start(keepers, "exit", one))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait((starting,))
        assert (await run(keepers, "exit 3", one))["status"] == 3


@played
async def test_a_keeper_that_is_lost_in_the_moment_when_it_is_ready():
    async with keeping() as keepers:
        starting = asyncio.create_task(start(keepers, "exit", sh(at_once=1)))
        await asyncio.sleep(0)
        (keeper,) = keepers._all
        keeper.ready.set_result(None)
        keeper.leave()
        async with asyncio.timeout(PATIENCE):
            assert await fails(starting) == "internal"
        await run(keepers, "exit", sh(at_once=1))


# How a command is ended.


@played
async def test_what_is_said_of_a_command_does_not_reach_the_next_one():
    async with keeping() as keepers:
        first = await start(keepers, "exit")
        await first.ended
        second = await start(keepers, "sleep 0.05; exit 3")
        first.end("cancelled")
        first.signal(signal.SIGKILL)
        first.close()
        assert (await ended(second))["status"] == 3


@played
async def test_closing_a_command_ends_it_and_frees_its_keeper():
    marked = mark()
    async with keeping() as keepers:
        command = await start(keepers, "sleep 100", **marked)
        command.close()
        assert (await command.ended)["reason"] == "gone"
        assert alive(marked) == []
        await run(keepers, "exit")
        assert len(pids(keepers)) == 1


@played
async def test_a_flood_of_signals_ends_the_command_and_does_not_hide_its_end():
    marked = mark()
    async with keeping() as keepers:
        command = await start(keepers, "trap '' USR1; echo ready; sleep 100; sleep 100", **marked)
        assert await said(command) == b"ready\n"
        (pid,) = pids(keepers)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(5000):
            command.signal(signal.SIGUSR1)
        assert await fails(ended(command)) == "internal"
        assert not alive(marked)
        await run(keepers, "exit", sh(at_once=1))


@played
async def test_a_flood_of_cancels_is_one():
    async with keeping() as keepers:
        command = await start(keepers, "echo ready; sleep 100; sleep 100")
        await said(command)
        (pid,) = pids(keepers)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(5000):
            command.end("cancelled")
        os.kill(pid, signal.SIGCONT)
        assert (await ended(command))["reason"] == "cancelled"


@played
async def test_a_drain_ends_what_runs():
    async with keeping() as keepers:
        script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"
        command = await start(keepers, script, sh(grace=PATIENCE))
        await said(command)
        await run(keepers, "exit")
        keepers.drain(module.DRAIN_SECONDS)
        result = await ended(command)
        assert (result["reason"], result["status"]) == ("drained", 3)


@played
async def test_close_ends_all_and_waits_for_it():
    marked = mark()
    async with keeping() as keepers:
        command = await start(keepers, "trap '' TERM; (setsid sleep 100 &); echo ready; sleep 100; sleep 100", **marked)
        await said(command)
        there = [keepers._nursery.process.pid, *pids(keepers)]
        closing = asyncio.create_task(keepers.close())
        assert await fails(ended(command)) == "internal"
        await closing
        assert alive(marked) == []
        assert not any(map(is_there, there))


# Who is killed.


@played
async def test_a_keeper_is_killed_and_the_next_start_works(caplog):
    marked = mark()
    async with keeping() as keepers:
        command = await start(keepers, "(setsid sleep 100 &); echo ready; sleep 100", sh(at_once=1), **marked)
        await said(command)
        os.kill(pids(keepers)[0], signal.SIGKILL)
        assert await fails(ended(command)) == "internal"
        assert "keeper lost" in caplog.text
        assert (await run(keepers, "exit 3", sh(at_once=1)))["status"] == 3
        await until(lambda: not alive(marked))


@played
async def test_an_idle_keeper_is_killed_and_the_next_start_works():
    async with keeping() as keepers:
        await run(keepers, "exit")
        for seen in (False, True):
            os.kill((pid := pids(keepers)[0]), signal.SIGKILL)
            if seen:
                await until(lambda: not any(keeper.is_here for keeper in keepers._all))
                assert (await run(keepers, "exit 3"))["status"] == 3
            else:  # its end has not been heard of
                while is_there(pid):
                    time.sleep(0.001)  # noqa: ASYNC251
                assert await fails(run(keepers, "exit 3")) == "internal"
                await run(keepers, "exit")


@played
async def test_the_nursery_is_killed_and_the_next_start_works(caplog):
    async with keeping() as keepers:
        caplog.set_level(logging.ERROR)
        command = await start(keepers, "echo ready; sleep 0.05; exit 3")
        await said(command)
        nursery = keepers._nursery
        nursery.process.kill()
        nursery.wait()
        assert (await run(keepers, "exit 4"))["status"] == 4
        assert (await ended(command))["status"] == 3
        assert keepers._nursery is not nursery
        assert "nursery lost" in caplog.text


@played
async def test_there_is_no_room_for_another_nursery_and_then_there_is(monkeypatch):
    async with keeping() as keepers:
        await run(keepers, "exit")
        keepers._nursery.process.kill()
        await asyncio.to_thread(keepers._nursery.wait)
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(BlockingIOError(errno.EAGAIN, "full")))
            for _ in range(2):
                assert await fails(start(keepers, "exit", sh(name="other", at_once=1))) == "busy"
        assert (await run(keepers, "exit 3", sh(name="other", at_once=1)))["status"] == 3


@played
async def test_the_nursery_is_killed_before_it_does_what_it_was_asked_for():
    async with keeping() as keepers:
        await run(keepers, "exit")
        nursery = keepers._nursery.process
        os.kill(nursery.pid, signal.SIGSTOP)
        starting = asyncio.create_task(start(keepers, "exit", sh(name="other")))
        await asyncio.sleep(0)
        nursery.kill()
        async with asyncio.timeout(PATIENCE):
            assert await fails(starting) == "internal"
        assert (await run(keepers, "exit 3", sh(name="other")))["status"] == 3


# Who stands still.


async def frozen(keepers, kept=FREE, **variables):
    """Return a command that runs, and the number of its keeper, which stands still."""
    command = await start(keepers, "trap '' TERM; (setsid sleep 100 &); echo ready; sleep 100; sleep 100", kept, **variables)
    await said(command)
    (pid,) = pids(keepers)
    os.kill(pid, signal.SIGSTOP)
    return command, pid


@pytest.mark.parametrize("how", ["cancel", "limit", "close", "drain"])
@played
async def test_a_keeper_that_stands_still_is_killed_with_all_that_it_keeps(monkeypatch, caplog, how):
    marked, one = mark(), sh(at_once=1)
    async with keeping() as keepers:
        command, pid = await frozen(keepers, one, **marked)
        with monkeypatch.context() as patch:
            patch.setattr(module, "STILL_SECONDS", 0.1)
            patch.setattr(module, "SURE_SECONDS", 0.1)
            if how == "cancel":
                command.end("cancelled")
            elif how == "limit":
                command.end("limit", "output")
            elif how == "close":
                command.close()
            else:
                keepers.drain(module.DRAIN_SECONDS)
            async with asyncio.timeout(PATIENCE):
                assert await fails(command.ended) == "internal"
        assert alive(marked) == []
        assert [record.fields["reason"] for record in caplog.records] == ["it stands still"]
        await until(lambda: not pids(keepers))
        assert not is_there(pid)
        keepers._over_at = None
        assert (await run(keepers, "exit 3", one))["status"] == 3
        if how != "close":
            command.close()


@played
async def test_a_keeper_that_stood_still_before_its_command_is_killed_when_the_time_is_over(monkeypatch):
    async with keeping() as keepers:
        await run(keepers, "exit")
        (pid,) = pids(keepers)
        os.kill(pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(module, "STILL_SECONDS", 0.1)
            patch.setattr(module, "SURE_SECONDS", 0.1)
            async with asyncio.timeout(PATIENCE):
                assert await fails(ended(await keepers.start(FREE, ["sh"], PATH, 0.1))) == "internal"
        await until(lambda: not is_there(pid))
        assert (await run(keepers, "exit 3"))["status"] == 3


@played
async def test_nobody_is_expected_to_do_anything_who_is_idle():
    async with keeping() as keepers:
        command = await start(keepers, "read line; exit 3")
        (keeper,) = keepers._all
        now = asyncio.get_running_loop().time()
        whole = now + PATIENCE + FREE.limits.grace + module.STILL_SECONDS
        assert now < keeper._overdue.when() <= whole
        command.end("cancelled")
        assert keeper._overdue.when() < whole - PATIENCE + 1
        await ended(command)
        assert keeper._overdue is None


@played
async def test_who_stood_still_together_with_the_server_has_time_to_tell_how_it_ended():
    async with keeping() as keepers:
        command = await start(keepers, "exit 3")
        (keeper,) = keepers._all
        assert select.select((keeper._channel,), (), (), PATIENCE)[0]
        keeper._overdue.cancel()
        keeper._warn()  # it is due, before anything is heard
        assert (await ended(command))["status"] == 3
        assert keeper._overdue is None
        assert keeper.is_here


@played
async def test_a_keeper_that_is_never_ready_is_killed(monkeypatch):
    sleep = subprocess.Popen(["sleep", "100"])  # noqa: ASYNC220
    async with keeping() as keepers:
        ours, its = Channel.pair()
        with its, monkeypatch.context() as patch:
            patch.setattr(module, "START_SECONDS", 0.1)
            patch.setattr(module, "SURE_SECONDS", 0.1)
            patch.setattr(keepers, "_connect", lambda permit: ours)
            Channel(its).send({"born": sleep.pid})
            nursery = keepers._nursery
            async with asyncio.timeout(PATIENCE):
                assert await fails(start(keepers, "exit", sh(at_once=1))) == "internal"
        assert await asyncio.to_thread(sleep.wait, PATIENCE) == -signal.SIGKILL
        assert keepers._nursery is nursery
        assert (await run(keepers, "exit 3", sh(at_once=1)))["status"] == 3


@played
async def test_a_nursery_that_stands_still_is_killed_and_its_keepers_go_on(monkeypatch, caplog, tmp_path):
    async with keeping() as keepers:
        command = await start(keepers, f"echo; while [ ! -e {tmp_path}/over ]; do sleep 0.01; done; exit 3")
        await said(command)
        nursery = keepers._nursery.process.pid
        os.kill(nursery, signal.SIGSTOP)
        other = sh(name="other", at_once=2)
        with monkeypatch.context() as patch:
            patch.setattr(module, "START_SECONDS", 0.1)
            patch.setattr(module, "SURE_SECONDS", 0.1)
            async with asyncio.timeout(PATIENCE):
                codes = await asyncio.gather(*(fails(start(keepers, "exit", other)) for _ in range(2)))
        assert codes == ["internal"] * 2
        assert not is_there(nursery)
        assert [record.msg for record in caplog.records].count("nursery lost") == 1
        assert (await run(keepers, "exit 4", other))["status"] == 4
        (tmp_path / "over").touch()
        assert (await ended(command))["status"] == 3


@played
async def test_what_a_lost_keeper_left_to_a_nursery_that_stands_still_is_ended(monkeypatch):
    marked = mark()
    async with keeping() as keepers:
        command, keeper = await frozen(keepers, **marked)
        os.kill(keepers._nursery.process.pid, signal.SIGSTOP)
        os.kill(keeper, signal.SIGKILL)
        assert await fails(ended(command)) == "internal"
        assert alive(marked)
        with monkeypatch.context() as patch:
            patch.setattr(module, "START_SECONDS", 0.1)
            patch.setattr(module, "SURE_SECONDS", 0.1)
            async with asyncio.timeout(PATIENCE):
                assert await fails(start(keepers, "exit")) == "internal"
        assert alive(marked) == []


@played
async def test_who_asks_a_nursery_that_stands_still_does_not_wait_for_it():
    """Messages that nobody reads, with descriptors, fill the way to it."""
    async with keeping() as keepers:
        await run(keepers, "exit", sh(name="other"))
        nursery = keepers._nursery
        os.kill(nursery.process.pid, signal.SIGSTOP)
        for _ in range(2000):
            starting = asyncio.create_task(start(keepers, "exit"))
            await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait((starting,))
            if keepers._nursery is not nursery:
                break
        assert not is_there(nursery.process.pid)
        assert (await run(keepers, "exit 3"))["status"] == 3


@pytest.mark.parametrize("who", ["keeper", "nursery", "both"])
@played
async def test_close_waits_for_none_that_stands_still(monkeypatch, who):
    marked = mark()
    async with keeping() as keepers:
        command, keeper = await frozen(keepers, **marked)
        monkeypatch.setattr(nursery_module, "END_SECONDS", 0.1)
        if who != "keeper":
            os.kill(keepers._nursery.process.pid, signal.SIGSTOP)
        if who == "nursery":
            os.kill(keeper, signal.SIGCONT)
        await keepers.close()
        assert await fails(ended(command)) == "internal"
        assert alive(marked) == []
        assert not any(map(is_there, (keeper, keepers._nursery.process.pid)))


@played
async def test_pipes_do_not_block_here_and_do_there():
    async with keeping() as keepers:
        command = await keepers.start(FREE, ["sh", "-c", "cat > /dev/null"], PATH, PATIENCE)
        assert not any(map(os.get_blocking, (command.stdin, command.stdout, command.stderr)))
        with pytest.raises(BlockingIOError):
            os.read(command.stdout, 1)
        command.close_stdin()
        command.close_stdin()
        assert command.stdin == -1
        assert (await ended(command))["reason"] == "exited"
