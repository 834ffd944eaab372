"""What launching promises: nothing is loaded before it is used, no contraction, one program for every T."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from spikewright.kernels.equations import CONSTANTS
from spikewright.kernels.gpu import dispatch, launch
from tests.kernels_gpu.support import draw

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> str:
    """Run a program that does not inherit what this one was told about Triton."""
    untold = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=untold, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_whoever_calls_no_kernel_does_not_import_triton() -> None:
    assert python("-c", "import sys, spikewright; print('triton' in sys.modules)").strip() == "False"


def test_the_programs_round_every_product_load_ahead_and_serve_every_number_of_steps(tmp_path: Path) -> None:
    cached = f"import os, runpy; os.environ['TRITON_CACHE_DIR'] = {str(tmp_path)!r}; "
    report = json.loads(python("-c", cached + "runpy.run_module('tests.kernels_gpu.compiled', run_name='__main__')"))
    assert report["control"] > 0
    for name, found in report["found"].items():
        # The exponential of a double, in a slope, is a library's and contracts; slopes move no spike.
        assert found["contracted"] == 0 or name == "lif_backward fp64", name
        assert found["loads ahead"] >= 4, name
        if ", counts" in name:  # how often a threshold fits decides spikes
            assert found["rounded divisions"] > 0 and found["other divisions"] == 0, name
    assert report["general"].keys() == dispatch.KERNELS.keys()
    assert all("steps" in names and "leak" in names for names in report["general"].values())
    assert all({"threshold", "reset_amount"} <= {*report["general"][name]} for name in ("lif", "lif_backward"))
    assert all({*CONSTANTS, "most"} <= {*report["general"][name]} for name in ("neuron", "neuron_backward"))


def test_every_launch_forbids_contraction_and_covers_every_neuron() -> None:
    seen: list[tuple[Any, ...]] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return lambda *arguments, **options: seen.append((grid, arguments, options))

    for width, blocks in ((1, 1), (launch.BLOCK, 1), (launch.BLOCK + 1, 2)):
        launch.start(Kernel(), draw(3, width), 5, FLAG=True)
        grid, arguments, options = seen.pop()
        assert (grid, arguments) == ((blocks,), (5, 3, width))
        assert options["enable_fp_fusion"] is False and options["FLAG"] is True


def test_numbers_arrive_to_the_last_bit() -> None:
    for number in (0.0, 0.9, -1 / 3, 1e300, 5e-324):
        assert torch.tensor(launch.bits(number), dtype=torch.int64).view(torch.float64).item() == number


def test_what_the_kernels_take() -> None:
    assert not dispatch.available(torch.empty(1, device="cpu"))
    assert not dispatch.available(torch.empty(1, device="meta"))
