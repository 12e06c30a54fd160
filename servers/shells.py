"""What lets a client run more than the allow-list seems to say: programs that run what they are told, variables that load code.

Both lists are nets for slips of the pen, and not complete: `find`, `tar`, `git`, `vi` and hundreds more start a program for an
option. What a command can do at all is bounded by its sandbox, and by the user that the server runs as.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Final

# By the names that Debian gives them; a version may stand behind, as in python3.11 or lua5.4.
INTERPRETERS: Final = re.compile(
    r"(r?bash|dash|ash|sh|zsh|[mlo]?ksh|ksh93|fish|t?csh|busybox|python|pypy|perl|ruby|lua|luajit|node|nodejs|php|tclsh|wish"
    r"|expect|guile|Rscript|gdb|ed|m4|sqlite|psql|mysql)[\d.-]*",
    re.ASCII,
)
LAUNCHERS: Final = re.compile(
    "env|xargs|nohup|nice|ionice|chrt|taskset|setsid|setarch|stdbuf|timeout|time|watch|flock|script|strace|ltrace|parallel"
    "|sudo|doas|su|runuser|setpriv|chroot|unshare|nsenter|bwrap|systemd-run|ssh|socat|[gmno]?awk|start-stop-daemon|busybox"
)
_PROGRAM: Final = "print 'x'; y('/')"  # in no language: what only a pattern without a meaning takes
# Without arguments, or with `-`, they run what comes on stdin.
_TO_INTERPRETERS: Final[tuple[tuple[str, ...], ...]] = ((), ("-",), ("-s",), ("-c", _PROGRAM), ("-e", _PROGRAM), (_PROGRAM,))
_TO_LAUNCHERS: Final[tuple[tuple[str, ...], ...]] = (("/bin/sh",), ("1", "/bin/sh"), ("-c", "/bin/sh"))

# ld.so(8) drops the first of these for programs with more rights than their caller, sudo(8) both (env_delete).
_LOADER: Final = (
    r"LD_\w*|_RLD\w*|DYLD_\w*|MALLOC_\w*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|TZDIR|HOSTALIASES|LOCALDOMAIN"
    r"|RES_OPTIONS|RESOLV_HOST_CONF|OPENSSL_CONF|OPENSSL_MODULES|OPENSSL_ENGINES"
)
_INTERPRETERS_OWN: Final = (
    r"PATH|IFS|ENV|BASH\w*|SHELL|SHELLOPTS|PS4|PROMPT_COMMAND|CDPATH|GLOBIGNORE|FPATH|ZDOTDIR|PYTHON\w*|PERL\w*|RUBY\w*|NODE_\w*"
    r"|LUA_\w*|PHPRC|PHP_INI_SCAN_DIR|CLASSPATH|_?JAVA_\w*|JDK_\w*|GUILE_\w*|AWKPATH|AWKLIBPATH|TERMINFO\w*|TERMCAP|GIT_\w*"
    r"|\w*EDITOR|VISUAL|\w*PAGER|LESS\w*|BROWSER|MAKEFLAGS|MFLAGS|GNUMAKEFLAGS"
)
LOADER_VARIABLES: Final = re.compile(f"{_LOADER}|{_INTERPRETERS_OWN}", re.ASCII)


def is_free_shell(program: str, fits: Callable[[Sequence[str]], bool]) -> bool:
    """Tell whether `program` would run anything a client likes, with some of the arguments that `fits` lets through."""
    names = {os.path.basename(program), os.path.basename(os.path.realpath(program))}  # /bin/awk is a link to a link
    tried = _TO_INTERPRETERS if any(map(INTERPRETERS.fullmatch, names)) else ()
    tried += _TO_LAUNCHERS if any(map(LAUNCHERS.fullmatch, names)) else ()
    return any(map(fits, tried))


def is_loader_variable(name: str) -> bool:
    """Tell whether a variable of that name makes programs load or run what its value says."""
    return LOADER_VARIABLES.fullmatch(name) is not None
