"""System calls that a filter refuses, and those that wait for an answer."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastframe.servers import memory, seccomp

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="this machine has no seccomp with listeners")
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
OTHER = (1 << 22) - 1  # no process has this number: pid_max
libc = ctypes.CDLL(None, use_errno=True)


class Filtered:
    """A thread under a filter, and its listener."""

    def __init__(self, **wanted):
        self.wanted = wanted
        self.thread = ThreadPoolExecutor(1, initializer=self.enter)
        self.do(int)

    def enter(self):
        memory.hold()  # nobody here lets the thread open what malloc wants to read
        libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        self.keeper = os.getpid(), threading.get_native_id()
        self.listener = seccomp.install(seccomp.program(keeper=self.keeper, **self.wanted), listen=self.wanted["listen"])

    def do(self, attempt, *arguments):
        return self.thread.submit(attempt, *arguments).result()

    def start(self, attempt, *arguments):
        """Return the future of `attempt` once it waits for an answer."""
        future = self.thread.submit(attempt, *arguments)
        assert select.select([self.listener], [], [], 10)[0]
        return future

    def close(self):
        if self.wanted["listen"]:
            os.close(self.listener)
        self.thread.shutdown()


@pytest.fixture
def make():
    made = []

    def start(*, network=False, files=False, listen=False):
        made.append(Filtered(network=network, files=files, modes=False, listen=listen))
        return made[-1]

    yield start
    for each in made:
        each.close()


def call(name, *arguments):
    """Make a system call; return 0 or its error."""
    number = seccomp._NUMBERS[name][seccomp._COLUMN]
    result = libc.syscall(number, *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if result < 0 else 0


@pytest.mark.parametrize(("name", "number"), seccomp._REFUSED.items())
def test_what_no_command_needs_is_refused(make, name, number):
    assert make().do(call, name, 0, 0, 0, 0, 0, 0) == number


@pytest.mark.parametrize("name", ["unshare", "clone"])
def test_namespaces_are_refused(make, name):
    assert make().do(call, name, CLONE_NEWUSER, 0, 0, 0, 0) == errno.EPERM


@pytest.mark.parametrize(
    ("name", "of_itself", "of_others"),
    [
        ("prlimit64", (0, 0, 0, 0), (OTHER, 0, 0, 0)),
        ("setpriority", (0, 0, 0), (0, OTHER, 0)),
        ("setpriority", (0, 0, 0), (2, 0, 0)),  # PRIO_USER: all of the same user
        ("ioprio_set", (1, 0, 0), (1, OTHER, 0)),
        ("ioprio_set", (1, 0, 0), (3, 0, 0)),
    ],
)
def test_limits_and_priority_are_its_own_alone(make, name, of_itself, of_others):
    filtered = make()
    assert filtered.do(call, name, *of_itself) == 0
    assert filtered.do(call, name, *of_others) == errno.EPERM


@pytest.mark.parametrize("name", ["sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"])
def test_processors_of_others_are_not_its_choice(make, name):
    filtered = make()
    assert filtered.do(call, name, OTHER, 0, 0) == errno.EPERM
    assert filtered.do(call, name, 0, 0, 0) in (errno.EINVAL, errno.EFAULT)  # nonsense, but allowed


@pytest.mark.parametrize("which", [0, 1])
def test_the_keeper_and_its_thread_get_no_signal(make, which):
    filtered = make()
    for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        assert filtered.do(call, name, filtered.keeper[which], 0, 0, 0) == errno.EPERM
    assert filtered.do(call, "kill", os.getppid(), 0) == 0


def test_files_that_become_ready_signal_nobody_else(make):
    filtered = make()
    ends = socket.socketpair()
    with ends[0] as end, ends[1]:
        for command in (8, 15):  # F_SETOWN, F_SETOWN_EX
            assert filtered.do(call, "fcntl", end.fileno(), command, filtered.keeper[1]) == errno.EPERM
        assert filtered.do(call, "ioctl", end.fileno(), 0x8901, 0) == errno.EPERM
        assert filtered.do(fcntl.fcntl, end, fcntl.F_GETFL) >= 0


@pytest.mark.parametrize("network", [False, True])
def test_sockets_without_a_listener(make, network):
    def kind(*arguments):
        try:
            socket.socket(*arguments).close()
        except OSError as error:
            return error.errno
        return 0

    filtered = make(network=network)
    refused = 0 if network else errno.EACCES
    for family in (socket.AF_INET, socket.AF_INET6):
        assert filtered.do(kind, family, socket.SOCK_STREAM) == filtered.do(kind, family, socket.SOCK_DGRAM) == refused
    assert filtered.do(kind, socket.AF_NETLINK, socket.SOCK_RAW) == refused
    assert filtered.do(kind, socket.AF_UNIX, socket.SOCK_STREAM) == errno.EACCES
    assert filtered.do(kind, socket.AF_ALG, socket.SOCK_SEQPACKET) == (errno.EAFNOSUPPORT if network else errno.EACCES)


def test_pairs_of_sockets_that_cannot_reach_any_other(make):
    filtered = make()
    for allowed in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        for end in filtered.do(socket.socketpair, socket.AF_UNIX, allowed | socket.SOCK_NONBLOCK):
            end.close()
    with pytest.raises(PermissionError):
        filtered.do(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)


def test_numbers_of_another_convention_do_not_exist(make):
    getpid = ctypes.c_long(seccomp._X32 | 39)
    assert make().do(lambda: (libc.syscall(getpid), ctypes.get_errno())) == (-1, errno.ENOSYS)


def test_a_socket_waits_for_its_answer(make):
    filtered = make(listen=True)
    future = filtered.start(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    attempt = seccomp.receive(filtered.listener)
    assert (attempt.call, attempt.thread, attempt.arguments[0]) == ("socket", filtered.keeper[1], socket.AF_INET)
    assert seccomp.waits(filtered.listener, attempt)
    assert not future.done()
    seccomp.refuse(filtered.listener, attempt, errno.ENOBUFS)
    with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
        future.result()
    assert not seccomp.waits(filtered.listener, attempt)
    seccomp.let_pass(filtered.listener, attempt)  # nobody waits any more: nothing happens


def test_a_file_waits_and_is_opened(make):
    filtered = make(network=True, files=True, listen=True)
    future = filtered.start(os.open, os.devnull, os.O_RDWR)
    attempt = seccomp.receive(filtered.listener)
    assert attempt.call in ("open", "openat")
    seccomp.let_pass(filtered.listener, attempt)
    os.close(future.result())


def test_who_was_killed_meanwhile_needs_no_answer(make):
    filtered = make(listen=True)
    child = filtered.do(os.posix_spawn, "/bin/sh", ["sh", "-c", "exec bash -c 'echo > /dev/tcp/127.0.0.1/1'"], os.environ)
    assert select.select([filtered.listener], [], [], 10)[0]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not select.select([filtered.listener], [], [], 0)[0]
    assert seccomp.receive(filtered.listener) is None  # at once, for whoever had seen the attempt before the process died


def test_a_second_listener_is_refused(make):
    filtered = make(listen=True)
    more = seccomp.program(network=False, files=False, modes=False, listen=True, keeper=filtered.keeper)
    with pytest.raises(OSError, match="busy") as caught:
        filtered.do(lambda: seccomp.install(more, listen=True))
    assert caught.value.errno == errno.EBUSY


def test_the_program_is_within_the_kernels_limit():
    assert len(seccomp.program(network=False, files=True, modes=True, listen=True, keeper=(1, 2))) // 8 < 4096  # BPF_MAXINSNS


def test_numbers_agree_with_the_systems_header():
    headers = [f"/usr/include/{machine}/asm/unistd_64.h" for machine in ("x86_64-linux-gnu", ".")]
    header = next((path for path in headers if os.path.exists(path)), None)
    if header is None:
        pytest.skip("no linux-libc-dev here")
    with open(header) as file:
        defined = dict(line.split()[1:3] for line in file if line.startswith("#define __NR_"))
    known = {name: str(numbers[0]) for name, numbers in seccomp._NUMBERS.items() if f"__NR_{name}" in defined}
    assert len(known) > 50  # the header may be older than the newest few
    assert known == {name: defined[f"__NR_{name}"] for name in known}


def test_other_machines_have_none(monkeypatch):
    monkeypatch.setattr(seccomp, "_SECCOMP", 0)
    assert not seccomp.available()
