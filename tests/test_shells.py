"""The nets: programs that run what they are told, and variables that make programs load code."""

from __future__ import annotations

import pytest

from fastframe.servers.shells import is_free_shell, is_loader_variable


def anything(given):
    return True


@pytest.mark.parametrize(
    "program",
    [
        *(
            "/bin/sh",
            "/bin/bash",
            "/usr/bin/zsh",
            "/opt/python3.13",
            "/usr/bin/perl5.36.0",
            "/x/lua5.4",
            "/x/busybox",
            "/x/node",
        ),
        *("/usr/bin/env", "/usr/bin/xargs", "/usr/bin/timeout", "/usr/bin/sudo", "/usr/bin/awk", "/usr/bin/ssh"),
    ],
)
def test_a_shell_an_interpreter_or_a_launcher_with_any_arguments_is_free(program):
    assert is_free_shell(program, anything)


@pytest.mark.parametrize("program", ["/bin/ls", "/usr/bin/shasum", "/usr/bin/pythonic", "/usr/bin/environment", "/bin/sh.d/x"])
def test_other_programs_are_not(program):
    assert not is_free_shell(program, anything)


@pytest.mark.parametrize("taken", [(), ("-",), ("-s",)])
def test_a_shell_that_would_read_its_commands_from_stdin_is_free(taken):
    assert is_free_shell("/bin/sh", lambda given: tuple(given) == taken)


def test_a_shell_with_a_script_of_the_list_is_not():
    assert not is_free_shell("/bin/sh", lambda given: tuple(given) == ("-c", "df -h"))


def test_env_that_shows_variables_is_not():
    assert not is_free_shell("/usr/bin/env", lambda given: not given)


def test_a_link_to_a_shell_is_a_shell(tmp_path):
    (tmp_path / "harmless").symlink_to("/bin/sh")
    assert is_free_shell(str(tmp_path / "harmless"), anything)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "PATH",
            "IFS",
            "ENV",
            "BASH_ENV",
            "PYTHONPATH",
            "PERL5OPT",
        ),
        *("RUBYOPT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "GIT_SSH_COMMAND", "LESSOPEN", "MANPAGER", "VISUAL"),
    ],
)
def test_variables_that_make_programs_load_or_run_something_are_known(name):
    assert is_loader_variable(name)


@pytest.mark.parametrize(
    "name", ["LANG", "LC_ALL", "TZ", "COLUMNS", "TERM", "NO_COLOR", "MY_LD_PRELOAD", "DATE", "ENVIRONMENT"]
)
def test_other_variables_are_not(name):
    assert not is_loader_variable(name)
