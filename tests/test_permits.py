"""The allow-list: what its file may say, and what it lets through: by name, user, arguments and variables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re

import pytest

from fastframe.servers import permits
from fastframe.servers.arguments import UsageError
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields
from fastframe.servers.permits import Limits, Sandbox, read_permits

PROGRAM = "/bin/cat"  # of every machine, and no shell


def permits_file(tmp_path, text, mode=0o600):
    file = tmp_path / "exec.toml"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def entry(text="", name="it", program=PROGRAM):
    return f'[commands.{name}]\nprogram = "{program}"\n{text}\n'


def read(tmp_path, text):
    return read_permits(permits_file(tmp_path, text))


def permit(tmp_path, text="", program=PROGRAM):
    return read(tmp_path, entry(text, program=program)).find("it", "alice")


@contextlib.contextmanager
def refused(code):
    with pytest.raises(OperationError) as caught:
        yield caught
    assert caught.value.code == code


def test_an_entry_needs_no_more_than_a_program(tmp_path):
    assert permit(tmp_path) == permits.Permit(name="it", program=PROGRAM, sandbox=Sandbox(read=(PROGRAM,)))


def test_every_key_arrives(tmp_path):
    (tmp_path / "in").mkdir()
    text = f"""
        arguments = [["-n", "[0-9]+"]]
        environment = {{ TZ = "UTC" }}
        accept_environment = ["LC_ALL"]
        directory = "{tmp_path}"
        umask = "027"
        users = ["alice", "uid:1000", "certificate:Bob B."]
        at_once = 2
        read = ["."]
        write = ["{tmp_path}/in"]
        network = true
        report_opens = false
        timeout = 1.5
        grace = 0
        cpu = 3
        memory = "64MiB"
        file_size = 1000
        processes = 4
        open_files = 50
        output = "1GiB"
    """
    found = read(tmp_path, entry(text)).find("it", "alice")
    assert (found.directory, found.umask, found.at_once) == (str(tmp_path), 0o027, 2)
    assert found.users == {"alice", "uid:1000", "certificate:Bob B."}
    assert (dict(found.environment), found.accepted) == ({"TZ": "UTC"}, {"LC_ALL"})
    assert found.sandbox == Sandbox((PROGRAM, str(tmp_path)), (f"{tmp_path}/in",), network=True, report_opens=False)
    assert found.limits == Limits(1.5, 0, 3, 64 << 20, 1000, 4, 50, 1 << 30)


def test_defaults_are_the_limits_of_entries_that_say_nothing(tmp_path):
    text = '[defaults]\ntimeout = 5\nmemory = "16MiB"\n' + entry(name="a") + entry("timeout = 7", name="b")
    found = read(tmp_path, text)
    assert found.find("a", "alice").limits == Limits(timeout=5, memory=16 << 20)
    assert found.find("b", "alice").limits == Limits(timeout=7, memory=16 << 20)


def test_an_entry_can_do_without_a_sandbox(tmp_path):
    assert permit(tmp_path, "sandbox = false").sandbox is None


def test_root_and_we_ourselves_may_always_connect(tmp_path):
    assert read(tmp_path, entry()).uids == {0, os.geteuid()}
    assert read(tmp_path, f"uids = [4711]\n{entry()}").uids == {0, os.geteuid(), 4711}


def test_nothing_of_it_can_be_changed(tmp_path):
    found = read(tmp_path, entry('environment = { A = "b" }'))
    one = found.find("it", "alice")
    for value, name in ((found, "uids"), (one, "program"), (one.limits, "memory"), (one.sandbox, "network")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
    for mapping in (found.commands, one.environment):
        with pytest.raises(TypeError):
            mapping["x"] = None
    assert hash(one) == hash(one)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('progam = "x"', "there is no key 'progam'"),
        ("timeout = 0", "timeout: 0 is not a number from"),
        ("timeout = nan", "timeout: nan is not a number from"),
        ('timeout = "5s"', "timeout: '5s' is not a number"),
        ("cpu = 1.5", "cpu: 1.5 is not an integer"),
        ('memory = "1GB"', "memory: '1GB' is not a number of bytes"),
        ("open_files = 2", "open_files: 2 is not an integer from 32"),
        ("at_once = 0", "at_once: 0 is not an integer from 1"),
        ('umask = "8"', "umask: '8' is not three octal digits"),
        ("umask = 63", "umask: 63 is not a string"),
        ('directory = "tmp"', "directory: 'tmp' is not an absolute path"),
        ('directory = "/nowhere-at-all"', "directory: /nowhere-at-all is no directory"),
        ('read = ["tmp"]', "read: 'tmp' is not an absolute path"),
        ('read = [".."]', "read: '..' is not an absolute path"),
        ('write = ["/nowhere-at-all"]', "write: there is no /nowhere-at-all"),
        ('write = "/tmp"', "write: '/tmp' is not a list"),
        ('sandbox = false\nread = ["/"]', "read: it is for a sandbox"),
        ("sandbox = false\nnetwork = false", "network: it is for a sandbox"),
        ('environment = { "A B" = "c" }', "environment: 'A B' is no name"),
        ('environment = { "A\\n" = "c" }', "environment: 'A\\\\n' is no name"),
        ("environment = { A = 1 }", r"\[environment\]: A: 1 is not a string"),
        ('environment = { A = "\\u0000" }', r"\[environment\]: A: a NUL"),
        ('accept_environment = ["A=B"]', "accept_environment: 'A=B' is no name"),
        ('accept_environment = ["LD_PRELOAD"]', "accept_environment: LD_PRELOAD would"),
        ('accept_environment = ["GCONV_PATH"]', "accept_environment: GCONV_PATH would"),
        ("users = []", "users: nobody"),
        ('users = ["al/ice"]', "users: 'al/ice' is neither"),
        ('users = ["certificate:"]', "users: 'certificate:' is neither"),
        ('users = ["uid:x"]', "users: 'uid:x' is neither"),
        ("arguments = 1", "arguments: it is neither a string nor a list"),
        ('arguments = "all"', 'arguments: it is neither "any" nor'),
        ("arguments = []", 'arguments: it is neither "any" nor'),
        ('arguments = ["-l"]', 'arguments: it is neither "any" nor'),
        ("arguments = [[1]]", "arguments: 1 is not a string"),
        ('arguments = [["("]]', r"arguments: '\(' is no pattern: missing \)"),
        ('arguments = [["(?u)a"]]', "is no pattern"),
        ('arguments = [["[[a]"]]', "is no pattern"),
        ('arguments = [["a{99999999999}"]]', "is no pattern"),
        ('arguments = [["..."]]', "arguments: '...' stands behind"),
        ('arguments = [["a", "...", "b"]]', "arguments: '...' stands behind"),
        ('arguments = [["a", "...", "..."]]', "arguments: '...' stands behind"),
    ],
)
def test_what_is_wrong_in_an_entry_is_one_line_with_the_file_the_entry_and_the_key(tmp_path, text, reason):
    path = permits_file(tmp_path, entry(text))
    with pytest.raises(UsageError, match=rf"^{re.escape(path)}, \[commands\.it\].*{reason}") as caught:
        read_permits(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("cat", "'cat' is not an absolute path"),
        ("", "'' is not an absolute path"),
        ("/nowhere-at-all", "No such file"),
        ("/tmp", "no file that the server's user may execute"),
        ("/etc/passwd", "no file that the server's user may execute"),
        ("/dev/null", "no file that the server's user may execute"),
        ("/bin/cat\\u0000", "a NUL"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path, program, reason):
    with pytest.raises(UsageError, match=rf"\[commands\.it\]: program: .*{reason}"):
        permit(tmp_path, program=program)


def test_a_program_that_everybody_can_write_is_refused(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert permit(tmp_path, program=program).program == str(program)
    program.chmod(0o757)
    with pytest.raises(UsageError, match="can be written by everybody"):
        permit(tmp_path, program=program)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "commands: there is no"),
        ("[commands]", "commands: there is no"),
        ("commands = 1", "commands: 1 is not a table"),
        ("[commands]\nls = 1", "commands: 'ls' is not a table"),
        ("[commands.it]", r"\[commands.it\]: program: it is missing"),
        (entry(name='"a b"'), "commands: 'a b' is no name"),
        (entry(name='""'), "commands: '' is no name"),
        (entry(name='"-x"'), "commands: '-x' is no name"),
        (entry(name='"a\\n"'), "is no name"),
        (entry(name='"\u0661"'), "is no name"),
        ("[comands.it]\n" + entry(), "there is no key 'comands'"),
        ("[defaults]\nusers = []\n" + entry(), r"\[defaults\]: there is no key 'users'"),
        ("uids = [-1]\n" + entry(), "uids: a user's number"),
        ("uids = [true]\n" + entry(), "uids: True is not an integer"),
        ("uids = [4294967295]\n" + entry(), "uids: a user's number"),
    ],
)
def test_what_is_wrong_outside_of_entries_is_one_line_as_well(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        read(tmp_path, text)
    assert "exec.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_that_others_can_write_is_refused(tmp_path):
    with pytest.raises(UsageError, match="chmod go-w"):
        read_permits(permits_file(tmp_path, entry(), 0o620))


@pytest.mark.parametrize(
    ("program", "text", "free"),
    [
        ("/bin/sh", "", True),  # stdin is its script
        ("/bin/sh", 'arguments = "any"', True),
        ("/bin/sh", "arguments = [['-c', '.*']]", True),
        ("/bin/sh", "arguments = [['-c', 'df -h'], []]", True),
        ("/bin/sh", "arguments = [['-c', 'df -h']]", False),
        ("/bin/sh", "arguments = [['-c', 'df -h', '[a-z]+', '...']]", False),
        ("/usr/bin/env", 'arguments = "any"', True),
        ("/usr/bin/env", "", False),
        ("/bin/cat", 'arguments = "any"', False),
    ],
)
def test_what_runs_whatever_a_client_says_has_to_be_called_a_shell(tmp_path, program, text, free):
    permit(tmp_path, f"{text}\nshell = true", program)
    if free:
        with pytest.raises(UsageError, match="shell = true"):
            permit(tmp_path, text, program)
    else:
        permit(tmp_path, text, program)


@pytest.mark.parametrize(
    ("forms", "given", "fits"),
    [
        ("[[]]", [], True),
        ("[[]]", [""], False),
        ("[['-l']]", ["-l"], True),
        ("[['-l']]", [], False),
        ("[['-l']]", ["-l", "-l"], False),
        ("[['-l']]", ["-la"], False),
        ("[['-l']]", ["x-l"], False),
        ("[['-l'], ['-a', '.+']]", ["-a", "x"], True),
        ("[['-l'], ['-a', '.+']]", ["-l", "x"], False),
        ("[['a|b']]", ["b"], True),
        ("[['a|b']]", ["ab"], False),
        ("[['-n', '[0-9]+', '...']]", ["-n"], True),
        ("[['-n', '[0-9]+', '...']]", ["-n", "1", "22", "333"], True),
        ("[['-n', '[0-9]+', '...']]", ["-n", "1", "x", "333"], False),
        ("[['-n', '[0-9]+', '...']]", ["1"], False),
        ("[['-n', '[0-9]+', '...']]", [], False),
        ("[['.*', '...']]", [], True),
        ("[['.{3}']]", ["..."], True),
        # What breaks out of patterns elsewhere.
        ("[['[a-z]+$']]", ["a\n"], False),
        ("[['(?m)^a$']]", ["a\nb"], False),
        ("[['.+']]", ["a\nb"], False),
        ("[['\\d']]", ["\u0661"], False),
        ("[['\\w']]", ["\u00e9"], False),
        ("[['(?i)k']]", ["\u212a"], False),  # the Kelvin sign
        ("[['a b']]", ["a", "b"], False),
    ],
)
def test_arguments_are_matched_whole_and_by_position(tmp_path, forms, given, fits):
    found = permit(tmp_path, f"arguments = {forms}")
    if fits:
        assert found.argv(given) == [PROGRAM, *given]
    else:
        with refused("not_allowed"):
            found.argv(given)


def test_no_arguments_are_allowed_unless_the_list_says_so(tmp_path):
    assert permit(tmp_path).argv([]) == [PROGRAM]
    with refused("not_allowed"):
        permit(tmp_path).argv(["-l"])


def test_any_arguments_are_passed_on_as_they_came(tmp_path):
    given = ["-rf", "", "a\nb", "$(id)", "; id", "\u00e9\U0001f600", "x" * 50_000]
    assert permit(tmp_path, 'arguments = "any"').argv(given) == [PROGRAM, *given]


@pytest.mark.parametrize("text", ['arguments = "any"', "arguments = [['(?s:.*)', '...']]"])
@pytest.mark.parametrize(
    ("given", "code"),
    [
        (["a\0b"], "bad_request"),
        (["\ud800"], "bad_request"),
        (["a" * 4000] * 16, "too_large"),
        (["\u20ac" * 4000] * 6, "too_large"),  # three bytes each
        ([""] * (permits.MOST_BYTES + 1), "too_large"),
    ],
)
def test_what_no_program_can_be_given_is_refused(tmp_path, text, given, code):
    with refused(code):
        permit(tmp_path, text).argv(given)


def test_what_is_matched_is_short(tmp_path):
    found = permit(tmp_path, "arguments = [['a*']]")
    assert found.argv(["a" * permits.LONGEST_MATCHED])
    with refused("too_large"):
        found.argv(["a" * (permits.LONGEST_MATCHED + 1)])


def test_the_environment_is_ours_then_the_lists_then_the_clients(tmp_path):
    found = permit(
        tmp_path, 'directory = "/usr"\nenvironment = { LANG = "C", TZ = "UTC" }\naccept_environment = ["TZ", "LC_ALL"]'
    )
    assert found.variables(Fields()) == {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "HOME": "/usr", "TZ": "UTC"}
    given = Fields({"TZ": "Asia/Tokyo", "LC_ALL": "C\n"})
    assert found.variables(given) == {**found.variables(Fields()), "TZ": "Asia/Tokyo", "LC_ALL": "C\n"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"LANG": "C"}, "not_allowed"),
        ({"LD_PRELOAD": "x"}, "not_allowed"),
        ({"tz": "x"}, "not_allowed"),
        ({"TZ=": "x"}, "not_allowed"),
        ({"": "x"}, "not_allowed"),
        ({"TZ": 1}, "bad_request"),
        ({"TZ": None}, "bad_request"),
        ({"TZ": "a\0b"}, "bad_request"),
        ({"TZ": "\ud800"}, "bad_request"),
        ({"TZ": "x" * (permits.LONGEST_VALUE + 1)}, "too_large"),
    ],
)
def test_a_client_sets_what_the_list_accepts_and_nothing_else(tmp_path, given, code):
    with refused(code):
        permit(tmp_path, 'accept_environment = ["TZ"]').variables(Fields(given))


def test_the_list_itself_may_set_what_a_client_may_not(tmp_path):
    found = permit(tmp_path, 'environment = { LD_LIBRARY_PATH = "/opt/lib" }')
    assert found.variables(Fields())["LD_LIBRARY_PATH"] == "/opt/lib"


@pytest.mark.parametrize("user", ["", "uid:8", "uid:4294967294"])
def test_nobody_else_finds_anything(tmp_path, user):
    found = read(tmp_path, "uids = [7]\n" + entry())
    assert found.find("it", "uid:7").name == "it"
    with pytest.raises(OperationError, match="not for you"):
        found.find("it", user)


def test_a_permit_is_found_by_name_and_user(tmp_path):
    found = read(tmp_path, entry(name="all") + entry('users = ["alice", "uid:7"]', name="some"))
    assert {found.find("all", user).name for user in ("alice", "uid:7", "certificate:x")} == {"all"}
    assert {found.find("some", user).name for user in ("alice", "uid:7")} == {"some"}
    for user in ("bob", "uid:77", "certificate:alice", ""):
        with refused("not_allowed"):
            found.find("some", user)


def test_a_stranger_does_not_learn_which_names_there_are(tmp_path):
    found = read(tmp_path, entry('users = ["alice"]', name="some"))
    with refused("not_allowed") as hidden:
        found.find("some", "bob")
    with refused("not_allowed") as missing:
        found.find("none", "bob")
    assert str(hidden.value).replace("some", "") == str(missing.value).replace("none", "")


@pytest.mark.parametrize("name", ["", "x" * 100_000, "a\ud800b", "../it", "it\n"])
def test_a_strange_name_is_an_unknown_one(tmp_path, name):
    with refused("not_allowed") as caught:
        read(tmp_path, entry()).find(name, "alice")
    assert len(caught.value.message.encode()) < 1000


def test_what_a_client_is_told_has_no_path_of_the_server(tmp_path):
    found = permit(tmp_path, f'directory = "{tmp_path}"\narguments = [["-l"]]')
    for call in (lambda: found.argv(["-x"]), lambda: found.variables(Fields(A="b")), lambda: found.argv(["\0"])):
        with pytest.raises(OperationError) as caught:
            call()
        assert "/" not in caught.value.message


@pytest.fixture
def example(tmp_path):
    return read(tmp_path, permits.EXAMPLE.read_text())  # a copy: what a checkout's modes are is not ours to say


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cat", []),
        ("sha256", []),
        ("echo", ["$(id)", "-n", "*"]),
        ("date", ["-u"]),
        ("count", ["1000000"]),
        ("disk", ["-h"]),
        ("logs", ["-l"]),
        ("tail", ["-n", "10", "--", "dpkg.log", "auth.log"]),
        ("tail", ["-n", "10", "--"]),
    ],
)
def test_the_example_allows_what_it_says(example, name, given):
    assert example.find(name, "alice").argv(given)[1:] == given


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cat", ["/etc/passwd"]),
        ("date", ["-s", "12:00"]),
        ("count", ["-1"]),
        ("logs", ["/"]),
        ("tail", ["-n", "10", "--", "../../etc/passwd"]),
        ("tail", ["-n", "10", "--", "-f"]),
        ("tail", ["-n", "10", "--", "a.log", "-f.log"]),
        ("tail", ["-n", "10", "dpkg.log"]),
    ],
)
def test_the_example_allows_nothing_else(example, name, given):
    with refused("not_allowed"):
        example.find(name, "alice").argv(given)


def test_everything_in_the_example_is_in_a_sandbox_and_can_be_run(example):
    for found in example.commands.values():
        assert found.sandbox is not None
        assert not found.sandbox.network
        assert os.access(found.program, os.X_OK)
        assert found.limits.memory == 256 << 20


def test_what_the_example_has_as_a_comment_is_right_as_well(tmp_path):
    text = permits.EXAMPLE.read_text().replace("/srv/backup", str(tmp_path))
    commented = re.findall(r"^# (\[commands\.\w+\]\n(?:# .*\n)+)", text, re.MULTILINE)
    found = read(tmp_path, text + "".join(commented).replace("# ", ""))
    assert found.find("sh", "uid:0").argv(["-c", "a\nb"]) == ["/bin/sh", "-c", "a\nb"]
    assert found.find("backup", "alice").sandbox.write == (str(tmp_path),)
