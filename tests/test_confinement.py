"""Commands in the sandbox, as a keeper starts them: what they cannot do, what is said of it, and that the rest works."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fastframe.servers import confinement, landlock, seccomp

linux = pytest.mark.skipif(
    confinement.active() != ["no-new-privs", f"landlock {landlock.version()}", "seccomp"] or landlock.version() < 6,
    reason="this machine has not all that the sandbox is made of",
)

# Confined as told by its first line of input; then one command a line, and a line of output for each.
KEEPER = """
import json, os, select, sys, threading
from concurrent.futures import ThreadPoolExecutor
from fastframe.servers.confinement import Confinement

def run(argv, environment):
    out, end = os.pipe()
    streams = [(os.POSIX_SPAWN_DUP2, end, 1), (os.POSIX_SPAWN_DUP2, end, 2)]
    process = spawner.submit(os.posix_spawn, argv[0], argv, environment, file_actions=streams).result()
    os.close(end)
    poll = select.poll()
    for descriptor in {out, sandbox.listener} - {-1}:
        poll.register(descriptor, select.POLLIN)
    said, answers, chunk = b"", [], None
    while chunk != b"":
        ready = [descriptor for descriptor, _ in poll.poll()]
        if sandbox.listener in ready:
            answers.append(sandbox.answer())
        if out in ready:
            said += (chunk := os.read(out, 65536))
    os.close(out)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    said, denied, descriptors = said.decode(), sorted({*answers} - {""}), len(os.listdir("/proc/self/fd"))
    return {"status": status, "said": said, "denied": denied, "answers": len(answers), "descriptors": descriptors}

sandbox = Confinement(**json.loads(sys.stdin.readline()))
spawner = ThreadPoolExecutor(1, initializer=sandbox.enter)
print(os.getpid(), spawner.submit(threading.get_native_id).result(), flush=True)
for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)
"""
# A thread inside gives much memory back. glibc would read /proc/sys/vm/overcommit_memory first, with the interpreter in
# its hands, for which whoever is to let it do so would wait.
FREER = """
import threading
from fastframe.servers.confinement import Confinement
sandbox = Confinement(read=[], write=[], network=False)
def work():
    sandbox.enter()
    blocks = [bytes(100_000) for _ in range(20)]
    while blocks:
        blocks.pop()
threading.Thread(target=work).start()
"""
PYTHON = sys.executable
INTERPRETER = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib")]  # it may be anywhere
PROLOGUE = """
import ctypes, errno, os, signal, socket, sys
def error(attempt, *arguments, **named):
    try:
        attempt(*arguments, **named)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "fine"
"""


class Keeper:
    def __init__(self, **wanted):
        self.process = subprocess.Popen(
            [PYTHON, "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
        )
        self.tell(wanted)
        self.pid, self.thread = map(int, self.process.stdout.readline().split())

    def tell(self, what):
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def run(self, *argv, **environment):
        """Run a command; return what it said, and what the sandbox said of it."""
        program = shutil.which(argv[0])
        if program is None:
            pytest.skip(f"no {argv[0]} here")
        self.tell(
            {"argv": [program, *map(str, argv[1:])], "environment": {"PATH": "/usr/bin:/bin", "HOME": "/", **environment}}
        )
        self.last = json.loads(self.process.stdout.readline())
        return self.last["said"].strip(), self.last["denied"]

    def python(self, code, *arguments):
        """Run Python that has `argv`, and `error`, which says how an attempt fails; print what `code` comes to."""
        return self.run(PYTHON, "-I", "-S", "-c", PROLOGUE + f"argv = sys.argv[1:]\nprint({code})", *arguments)

    def close(self):
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    top = tmp_path_factory.mktemp("confined")
    for name in ("read", "write", "outside"):
        (top / name).mkdir()
        (top / name / "file").write_text("text")
    return top


@pytest.fixture(scope="module")
def keeper(places):
    keeper = Keeper(read=[str(places / "read"), *INTERPRETER], write=[str(places / "write")], network=False)
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def networker(places):
    keeper = Keeper(read=INTERPRETER, write=[str(places / "write")], network=True)
    yield keeper
    keeper.close()


@linux
def test_memory_that_is_given_back_inside_opens_nothing():
    subprocess.run([PYTHON, "-c", FREER], check=True, timeout=20)


@linux
def test_what_is_granted_is_fine(keeper, places):
    code = "open(argv[0]).read(), os.listdir(argv[1]), open(argv[2], 'w').write('text'), os.mkdir(argv[3])"
    paths = places / "read/file", places / "read", places / "write/new", places / "write/directory"
    assert keeper.python(code, *paths) == ("text ['file'] 4 None", [])


@linux
def test_a_secret_of_the_system_is_refused_and_named(keeper):
    assert keeper.python("error(open, '/etc/passwd')") == ("EACCES", ["read"])
    said, denied = keeper.run("cat", "/etc/passwd")
    assert ("Permission denied" in said, denied) == (True, ["read"])


@linux
@pytest.mark.parametrize(
    ("attempt", "denied"),
    [
        ("open, 'outside/file'", "read"),
        ("open, 'read/../outside/file'", "read"),
        ("os.listdir, 'outside'", "read"),
        ("open, 'link'", "read"),
        ("open, '/proc/self/cwd/outside/file'", "read"),
        ("os.open, 'file', os.O_RDONLY, 0o777, dir_fd=os.open('outside', os.O_PATH)", "read"),
        ("open, 'outside/file', 'w'", "write"),
        ("open, 'outside/new', 'w'", "write"),
        ("open, 'read/file', 'a'", "write"),
        ("open, 'read/new', 'x'", "write"),
        ("os.open, 'read/file', os.O_RDONLY | os.O_TRUNC", "write"),
        ("os.open, 'read', os.O_RDWR | os.O_TMPFILE", "write"),
        ("os.truncate, 'outside/file', 0", "write"),
        ("os.mkdir, 'outside/new'", "write"),
        ("os.mkfifo, 'outside/new'", "write"),
        ("os.rmdir, 'outside/directory/'", "write"),
        ("os.unlink, 'outside/file'", "write"),
        ("os.unlink, 'file', dir_fd=os.open('outside', os.O_PATH)", "write"),
        ("os.symlink, 'target', 'outside/new'", "write"),
        ("os.link, 'write/file', 'outside/new'", "write"),
        ("os.rename, 'write/file', 'outside/new'", "write"),
        ("os.rename, 'outside/file', 'write/new'", "write"),
    ],
)
def test_what_is_not_granted_is_refused_and_named(keeper, places, attempt, denied):
    (places / "outside/directory").mkdir(exist_ok=True)
    if not (places / "link").is_symlink():
        (places / "link").symlink_to("outside/file")
    call, _, rest = attempt.partition(", ")
    said = keeper.python(f"os.chdir(argv[0]), error(lambda: {call}({rest}))", places)
    assert said == ("None EACCES", [denied])
    assert (places / "outside/file").read_text() == (places / "write/file").read_text() == "text"


@linux
@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        ("open, 'outside/missing'", "ENOENT"),
        ("os.unlink, 'outside/missing'", "ENOENT"),
        ("os.mkdir, 'outside'", "EEXIST"),
        ("os.mkdir, 'outside/missing/new'", "ENOENT"),
        ("os.open, 'outside/file', os.O_CREAT | os.O_EXCL", "EEXIST"),
        ("os.open, 'outside/file', os.O_RDONLY | os.O_DIRECTORY", "ENOTDIR"),
        ("os.open, 'outside/file', os.O_PATH", "fine"),
        ("os.stat, 'outside/file'", "fine"),
        ("open, '/dev/null', 'w'", "fine"),
        ("open, '/dev/urandom'", "fine"),
        ("open, '/dev/stdout', 'w'", "fine"),
        ("open, '/proc/self/maps'", "fine"),
        ("open, 'x' * 5000", "ENAMETOOLONG"),
        ("open, ''", "ENOENT"),
        ("open, '/dev/tty'", "EACCES"),
        ("os.open, '/proc/self/fd/%d' % os.pipe()[0], os.O_RDONLY", "fine"),
        ("os.open, '/proc/self/fd/%d' % os.memfd_create('x'), os.O_RDWR", "fine"),
    ],
)
def test_what_fails_for_other_reasons_or_not_at_all_is_not_named(keeper, places, attempt, outcome):
    call, _, rest = attempt.partition(", ")
    assert keeper.python(f"os.chdir(argv[0]), error(lambda: {call}({rest}))", places) == (f"None {outcome}", [])


CHMOD = """
def ways(directory):
    yield error(os.chmod, directory + "/file", 0o640)
    yield error(os.chmod, "file", 0o640, dir_fd=os.open(directory, os.O_PATH)) if os.chmod in os.supports_dir_fd else "fine"
    with open(directory + "/file") as file:
        yield error(os.fchmod, file.fileno(), 0o640)
def tell(directory): return [*ways(directory)]
"""


@linux
def test_modes_can_be_changed_where_it_may_write(keeper, places):
    for place, outcome, mode in (("write", "fine", 0o640), ("read", "EACCES", 0o644)):
        (places / place / "file").chmod(0o644)
        said, denied = keeper.run(PYTHON, "-I", "-S", "-c", f"{PROLOGUE}{CHMOD}print(*tell(sys.argv[1]))", places / place)
        assert (said, denied) == (" ".join([outcome] * 3), [] if outcome == "fine" else ["write"])
        assert (places / place / "file").stat().st_mode & 0o7777 == mode
    assert keeper.python("error(os.chmod, '/dev/null', 0o600), error(os.chmod, '/no', 0)") == ("EACCES ENOENT", ["write"])


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_modes_of_other_users_files_stay(keeper, places):
    """The keeper could change them, the command without capabilities cannot."""
    (places / "write/others").write_text("")
    os.chown(places / "write/others", 12345, 12345)
    assert keeper.python("error(os.chmod, argv[0], 0o4777)", places / "write/others") == ("EPERM", [])


@linux
def test_attributes_are_none(keeper, places):
    assert keeper.python("error(os.setxattr, argv[0], 'user.x', b'')", places / "write/file") == ("ENOTSUP", [])


@linux
def test_nothing_is_linked_out_of_what_is_only_readable(keeper, places):
    """Else it could be written by its new name."""
    code = "error(os.link, argv[0] + '/read/file', argv[0] + '/write/new-link')"
    assert keeper.python(code, places) == ("EXDEV", [])


@linux
@pytest.mark.parametrize("kind", ["AF_INET, socket.SOCK_STREAM", "AF_INET, socket.SOCK_DGRAM", "AF_INET6", "AF_NETLINK, 3"])
def test_the_network_is_refused_and_named(keeper, kind):
    assert keeper.python(f"error(lambda: socket.socket(socket.{kind}))") == ("EACCES", ["network"])


@linux
@pytest.mark.parametrize("address", ["/service", "\0fastframe-service"])
def test_services_of_this_machine_are_refused_without_a_word(keeper, networker, address):
    for each in (keeper, networker):
        assert each.python("error(lambda: socket.socket(socket.AF_UNIX))") == ("EACCES", [])
    assert keeper.python("[end.send(b'x') for end in socket.socketpair()]") == ("[1, 1]", [])


@linux
def test_the_network_is_there_if_it_is_wanted(networker):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = networker.python("error(socket.create_connection, ('localhost', int(argv[0])))", listener.getsockname()[1])
    assert said == ("fine", [])


@linux
def test_there_are_no_privileges_and_no_way_to_any(keeper):
    said, _ = keeper.run("grep", "-E", "^(NoNewPrivs|Cap(Inh|Prm|Eff|Amb)|Seccomp):", "/proc/self/status")
    status = dict(line.split(":\t") for line in said.splitlines())
    assert (status.pop("NoNewPrivs"), status.pop("Seccomp")) == ("1", "2")
    assert len(status) == 4
    assert {int(capabilities, 16) for capabilities in status.values()} == {0}


@linux
def test_mounts_and_namespaces_are_refused(keeper, places):
    said, denied = keeper.python(
        "(libc := ctypes.CDLL(None, use_errno=True)) and"
        " [libc.mount(b'x', argv[0].encode(), b'tmpfs', 0, None), ctypes.get_errno(),"
        " libc.unshare(1 << 28), ctypes.get_errno()]",
        places / "write",
    )
    assert (said, denied) == (str([-1, errno.EPERM] * 2), [])


@linux
def test_processes_outside_are_out_of_reach(keeper):
    """Least of all the keeper's thread, which is in the same sandbox; the test itself stands for all others of the user."""
    secrets = (f"error(open, f'/proc/{{p}}/{name}')" for name in ("environ", "mem", "maps", "fd/0"))
    attempts = ", ".join(("error(os.kill, p, 9)", "error(os.open, f'/proc/{p}/mem', os.O_RDWR)", *secrets))
    processes = keeper.pid, keeper.thread, os.getpid()
    said, denied = keeper.python(f"*{{outcome for p in map(int, argv) for outcome in ({attempts})}}", *processes)
    assert set(said.split()) <= {"EPERM", "EACCES"}
    assert denied == ["write"]
    assert keeper.run("sh", "-c", "sleep 60 & kill $! && wait $!")[0] in ("", "Terminated")


@linux
def test_hostile_arguments_harm_nobody(keeper, places):
    code = """[
        libc.syscall(number, *arguments)
        for number in (2, 257, 437, 83, 258, 82, 264, 316, 265, 266, 76, 90, 91, 268)
        for arguments in ((0, 0, 0, 0, 0), (-1, -1, -1, -1, -1), (1, 1, 1, 1, 1), (-100, page + 4095, page, page, page))
    ] and "alive" """
    page = "import mmap; m = mmap.mmap(-1, 4096); m[:] = b'x' * 4096; page = ctypes.addressof(ctypes.c_char.from_buffer(m))"
    libc = "libc = ctypes.CDLL(None); libc.syscall.argtypes = [ctypes.c_long] * 6"
    before = keeper.run("true") and keeper.last["descriptors"]
    said, _ = keeper.run(PYTHON, "-I", "-S", "-c", f"{PROLOGUE}\n{page}\n{libc}\nprint({code})")
    assert said == "alive"
    keeper.run("sh", "-c", "exec 0</dev/null; for i in 1 2 3; do cat /etc/passwd & done; kill -9 $$")  # dies with its questions
    keeper.run("sh", "-c", f"chmod 600 {places}/write/file; chmod 600 {places}/read/file")
    assert keeper.run("true") == ("", [])
    assert keeper.last["descriptors"] == before


@linux
def test_a_path_may_end_where_memory_ends(keeper):
    code = "(m := mmap.mmap(-1, 8192)) and libc.open(page(m), 0)"
    page = """
import mmap
libc = ctypes.CDLL(None)
def page(m):
    path = b"/etc/passwd\\0"
    m[4096 - len(path):4096] = path
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    assert libc.munmap(ctypes.c_void_p(address + 4096), ctypes.c_size_t(4096)) == 0
    return ctypes.c_void_p(address + 4096 - len(path))
"""
    said, denied = keeper.run(PYTHON, "-I", "-S", "-c", f"{PROLOGUE}\n{page}\nprint({code}, flush=True)\nos._exit(0)")
    assert (said, denied) == ("-1", ["read"])


@linux
@pytest.mark.parametrize(
    "script",
    [
        "(echo a; echo b) | sort -r | head -1 > sorted && cat sorted",
        "mkdir -p deep/er && echo x > deep/er/file && tar cf a.tar deep && rm -r deep && tar xf a.tar && cat deep/er/file",
        "git init -q made && cd made && git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x && git log",
        "echo 'int main(void) { return 0; }' > a.c && cc a.c -o a.out && ./a.out",
        'node -e \'require("child_process").execSync("true")\'',
        "perl -e 'system(\"true\")' && awk 'BEGIN {print 1}' && sed -n 1p sorted",
    ],
)
def test_usual_programs_run(keeper, places, script):
    needed = {"git": "git", "echo 'int": "cc", "node": "node", "perl": "perl", "mkdir": "tar"}
    for beginning, program in needed.items():
        if script.startswith(beginning) and not shutil.which(program):
            pytest.skip(f"no {program} here")
    (places / "write/sorted").write_text("text")
    directory = str(places / "write")
    keeper.run("bash", "-ec", f"cd {directory}; {script}", TMPDIR=directory, HOME=directory, GIT_CONFIG_NOSYSTEM="1")
    assert keeper.last["status"] == 0, keeper.last


@linux
def test_opens_are_named_only_if_it_is_wanted(places):
    quiet = Keeper(read=INTERPRETER, write=[], network=False, report_opens=False)
    assert quiet.python("error(open, '/etc/passwd'), error(socket.socket)") == ("EACCES EACCES", ["network"])
    assert quiet.last["answers"] == 1
    quiet.close()


def test_what_is_granted_and_not_there_is_told(tmp_path):
    if not landlock.version():
        pytest.skip("this kernel has no Landlock")
    with pytest.raises(FileNotFoundError, match="missing"):
        confinement.Confinement([str(tmp_path / "missing")], [], network=False)


def test_other_systems_have_nothing(monkeypatch):
    monkeypatch.setattr(confinement.sys, "platform", "darwin")
    assert confinement.active() == []


def test_active_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    assert confinement.active() == (["no-new-privs"] if sys.platform == "linux" else [])
