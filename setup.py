"""Build the compiled codec; everything else about the package is in pyproject.toml.

FASTFRAME_IMPLEMENTATION means here what it means at import: unset builds the extension where that is possible, `cython` builds
it or fails, `python` does without.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

CHOICE = os.environ.get("FASTFRAME_IMPLEMENTATION", "")
if CHOICE not in ("", "cython", "python"):
    raise SystemExit(f"FASTFRAME_IMPLEMENTATION must be unset, 'cython' or 'python', not {CHOICE!r}")


NOT_HERE = set() if sys.platform == "linux" else {"_burst_c"}  # which calls recvmmsg and sendmmsg
SOURCES = sorted((Path(__file__).parent / "fastframe").glob("_*_c.pyx"))
COMPILED = [f"fastframe.{path.stem}" for path in SOURCES if path.stem not in NOT_HERE]
if CHOICE == "cython" and not COMPILED:
    raise SystemExit("FASTFRAME_IMPLEMENTATION=cython, and there is no .pyx file to build from")


class BuildModules(build_py):
    """In a checkout that is installed as it stands, `python` also removes what an earlier build left there."""

    def run(self):
        if CHOICE == "python" and self.editable_mode:
            command = self.get_finalized_command("build_ext")
            for name in COMPILED:
                Path(command.get_ext_filename(name)).unlink(missing_ok=True)
        super().run()


class BuildCodec(build_ext):
    """Remove what an earlier build left: an optional build that fails would install that, and nobody would know.

    The modules import each other, so that some without the others would break the import: all are built, or none is kept.
    """

    def build_extensions(self):
        super().build_extensions()
        built = [Path(self.get_ext_fullpath(ext.name)) for ext in self.extensions]
        if not all(path.exists() for path in built):
            for path in built:
                path.unlink(missing_ok=True)

    def build_extension(self, ext):
        if self.editable_mode:  # built elsewhere, and copied into the checkout if that succeeds
            Path(self.get_ext_filename(ext.name)).unlink(missing_ok=True)
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        Path(self.build_lib, self.get_ext_filename(ext.name)).unlink(missing_ok=True)
        super().build_extension(ext)


def extensions():
    if CHOICE == "python":
        return []
    from Cython.Build import cythonize

    flags = [] if os.name == "nt" else ["-O3", "-g0", "-Wsign-compare"]
    modules = cythonize(
        [Extension(name, [f"{name.replace('.', '/')}.pyx"], extra_compile_args=flags) for name in COMPILED],
        build_dir="build/cython",  # no generated C beside the sources
    )
    for module in modules:
        module.optional = CHOICE != "cython"  # set here, because cythonize() drops it
    return modules


setup(ext_modules=extensions(), cmdclass={"build_py": BuildModules, "build_ext": BuildCodec})
