"""Without the compiled kernels everything runs and says so once; a library that does not fit is not used."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from spikewright.kernels import native
from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.kernels.rate import accumulate
from spikewright.kernels.trace import trace_naive, trace_scan
from tests.kernels.support import DEFAULTS, assert_identical, draw, needs_kernels, run

COMPILER = shutil.which(os.environ.get("CXX", "g++").split()[0])
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SPIKEWRIGHT_NATIVE", raising=False)
    monkeypatch.setattr(native, "_KERNELS", None)
    monkeypatch.setattr(native, "_REASON", "they are on holiday")
    native.notice.cache_clear()
    yield
    native.notice.cache_clear()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the loader looks for the library."""
    monkeypatch.delenv("SPIKEWRIGHT_NATIVE", raising=False)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    return tmp_path / f"_native{EXTENSION_SUFFIXES[0]}"


@needs_compiler
@pytest.mark.skipif(os.environ.get("SPIKEWRIGHT_NATIVE") == "0", reason="SPIKEWRIGHT_NATIVE=0 is set")
def test_kernels_are_built_where_there_is_a_compiler() -> None:
    """Or most of these tests would be skipped without anyone's noticing."""
    assert native._KERNELS is not None, native._REASON
    assert len(native._KERNELS) == 2 * len(native._SIGNATURES) == 24


def test_without_kernels_the_results_are_the_naive_ones_and_one_warning_says_why(absent: None) -> None:
    x, before = draw(4, 2, 9), draw(2, 9, seed=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = run(lif_scan, x, before, leak=0.9, detach_reset=False)
        traces, trace = trace_scan(x, before, 0.9)
        total = accumulate(x, before, 0.9)
        run(lif_scan, x)
    assert [str(w.message) for w in said] == [native.NOTICE.format(reason="they are on holiday")]
    naive, (every, last) = run(lif_naive, x, before, leak=0.9, detach_reset=False), trace_naive(x, before, 0.9)
    pairs = [(found.spikes, naive.spikes), (found.membrane, naive.membrane), (traces, every), (trace, last)]
    for got, expected in [*pairs, (total, last), *zip(found.grads.values(), naive.grads.values())]:
        assert_identical(got, expected)


def test_whoever_asked_for_no_kernels_is_not_told(absent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEWRIGHT_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lif_scan(draw(4, 2, 9), None, **DEFAULTS)
    assert native._load() == (None, "SPIKEWRIGHT_NATIVE=0 is set")


def test_no_word_about_what_no_kernel_takes(absent: None) -> None:
    """On other devices and for integers their absence costs nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not native.available(torch.empty(2, 3, device="meta"))
        assert not native.available(torch.zeros(2, 3, dtype=torch.int64))
        assert not native.available(torch.zeros(2, 3, dtype=torch.float16))


def test_no_library(place: Path) -> None:
    kernels, reason = native._load()
    assert kernels is None and "not built" in reason


def test_a_file_that_is_no_library(place: Path) -> None:
    place.write_text("nothing to load")
    kernels, reason = native._load()
    assert kernels is None and place.name in reason


def build(place: Path, source: str) -> None:
    code = place.with_suffix(".cpp")
    code.write_text(source)
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", place, code], check=True)


@needs_compiler
@pytest.mark.parametrize("number", [native.INTERFACE - 1, native.INTERFACE + 1])
def test_a_library_with_another_interface(place: Path, number: int) -> None:
    """It has every symbol, so only the number can tell."""
    names = [f"{name}_{suffix}" for name in native._SIGNATURES for suffix in native.DTYPES.values()]
    symbols = "".join(f"void (*{name})() = 0;" for name in names)
    build(place, f'extern "C" {{ int interface = {number}; {symbols} }}')
    assert native._load() == (None, f"{place.name} was built from other sources")


@needs_compiler
@pytest.mark.parametrize("source", ["int other;", f"int interface = {native.INTERFACE};"], ids=["another", "a_part"])
def test_a_library_that_lacks_symbols(place: Path, source: str) -> None:
    build(place, f'extern "C" {{ {source} }}')
    kernels, reason = native._load()
    assert kernels is None and "symbol" in reason


def save_step(path: str) -> None:
    """Save the loss and all gradients of a small network's training step."""
    from spikewright import Network
    from tests.nets import NETS, sample

    net = Network(NETS["conv"](0))
    x = sample("conv", 0)[0]
    output, _ = net.run(x)
    loss = output.square().mean()
    loss.backward()
    torch.save([loss.detach(), *(p.grad for p in net.parameters())], path)


@needs_kernels
@pytest.mark.long
def test_a_training_step_without_kernels_has_the_same_gradients(tmp_path: Path) -> None:
    code = f"from tests.kernels.test_native import save_step; save_step({str(tmp_path / 'without')!r})"
    environment = os.environ | {"SPIKEWRIGHT_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=environment, check=True)
    save_step(str(tmp_path / "with"))
    for found, expected in zip(torch.load(tmp_path / "with"), torch.load(tmp_path / "without"), strict=True):
        assert expected.any()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
