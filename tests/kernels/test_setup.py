"""Installation with poor tools: no C++ compiler, or one without threads."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from spikewright.kernels import native
from spikewright.kernels.trace import trace_naive, trace_scan
from tests.kernels.support import assert_identical, assert_twins, draw, threads

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "g++").split()[0])
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is compiled there")


def build(place: Path, compiler: str) -> tuple[Path, str]:
    """Run `setup.py build_ext` on a copy of the sources; return where the library should be, and what was said."""
    kernels = Path("spikewright/kernels")
    shutil.copy(ROOT / "setup.py", place)
    shutil.copytree(ROOT / kernels / "cpp", place / kernels / "cpp")
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "built", "--build-temp", "objects"]
    ran = subprocess.run(command, cwd=place, env=os.environ | {"CXX": compiler}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return place / "built" / kernels / f"_native{EXTENSION_SUFFIXES[0]}", ran.stdout + ran.stderr


def test_without_a_compiler_the_installation_goes_on(tmp_path: Path) -> None:
    library, said = build(tmp_path, str(tmp_path / "no-such-compiler"))
    assert not library.exists()
    assert "no-such-compiler" in said  # it was asked for, and its absence is not hidden


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.long
def test_a_compiler_without_threads_builds_the_same_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses the option, and is asked again without."""
    wrapper = tmp_path / "compiler"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\nexec {COMPILER} "$@" -O1\n')
    wrapper.chmod(0o755)
    library, said = build(tmp_path, str(wrapper))
    assert library.exists(), said
    monkeypatch.delenv("SPIKEWRIGHT_NATIVE", raising=False)
    monkeypatch.setattr(native, "__file__", str(library.with_name("native.py")))
    kernels, reason = native._load()
    assert kernels is not None, reason
    monkeypatch.setattr(native, "_KERNELS", kernels)
    with threads(2):
        x, before = draw(17, 1, 1025), draw(1, 1025, seed=1)
        assert_twins(x, before, leak=draw(1025, low=0.2, high=1.0), detach_reset=False)
        for found, expected in zip(trace_scan(x, before, 0.9), trace_naive(x, before, 0.9)):
            assert_identical(found, expected)
