import os
import subprocess
import sys

import pytest

from fastframe import IMPLEMENTATION, __main__, __version__


def fastframe(*arguments, **options):
    command = [sys.executable, "-m", "fastframe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)


def test_version_tells_the_implementation():
    assert f"fastframe {__version__} ({IMPLEMENTATION} codec" in fastframe("--version").stdout


def test_help_lists_every_command_with_status_0():
    result = fastframe("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"fastframe {command} " in result.stdout for command in __main__.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve"], ["serve", "nonsense"]])
def test_what_is_no_command_gets_the_usage_and_status_2(arguments):
    result = fastframe(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: fastframe COMMAND")


@pytest.mark.parametrize("command", __main__.COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main([*command.split(), "--help"])
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert f"usage: fastframe {command} " in out
    assert f"example: fastframe {command}" in out.replace("\n", " ")


def test_a_command_is_imported_only_when_it_is_asked_for():
    code = "import sys, fastframe.__main__; print([name for name in sys.modules if 'servers' in name or 'bench' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["echo", "--help"]])
def test_output_that_nobody_reads_is_no_traceback(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fastframe", *arguments]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(write)
    assert result.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_output_for_which_there_is_no_room_is_a_line_and_status_1():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fastframe", "--help"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert (result.returncode, result.stderr) == (1, b"fastframe: No space left on device\n")
