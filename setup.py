"""Builds the compiled CPU kernels; where there is no C++ compiler, the installation goes on without them."""

import sys
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# No contraction of a * b + c: membranes must be those of the step-by-step program, bit for bit.
OPTIMISE = ["-O3", "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
THREADS = ["-fopenmp"]  # served by the OpenMP library that torch has loaded; some compilers come without


class BuildKernels(build_ext):
    """A plain shared library, tried with threads first."""

    def build_extension(self, ext: Any) -> None:
        for threads in (THREADS, []):
            ext.extra_compile_args, ext.extra_link_args = OPTIMISE + threads, threads
            try:
                return super().build_extension(ext)
            except (CompileError, LinkError):
                if not threads:
                    raise

    def get_export_symbols(self, ext: Any) -> list[str]:
        return ext.export_symbols  # it is loaded by ctypes and has no module initialiser


CPP = "spikewright/kernels/cpp"
KERNELS = Extension(
    "spikewright.kernels._native",
    [f"{CPP}/{name}.cpp" for name in ("lif", "neuron", "alpha_step", "trace", "messages")],
    depends=[f"{CPP}/{name}.h" for name in ("scan", "slopes", "neuron", "alpha")],
    language="c++",
    optional=True,
)

setup(ext_modules=[] if sys.platform == "win32" else [KERNELS], cmdclass={"build_ext": BuildKernels})
