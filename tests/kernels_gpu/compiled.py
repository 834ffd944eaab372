"""Compile the kernels for a GPU that need not be there, and print what their programs contain, as JSON.

Run as a program of its own: within the tests Triton may have been told to interpret.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from triton.backends.compiler import GPUTarget  # pyright: ignore[reportMissingImports]
from triton.compiler import ASTSource  # pyright: ignore[reportMissingImports]

from spikewright.kernels.gpu import lif, trace
from spikewright.kernels.gpu.launch import BLOCK, WARPS

NUMBERS = dict.fromkeys(("leak", "threshold", "reset_amount", "parameter", "factor", "width"), "i64") | {"steps": "i32"}
NEURON = {"SUBTRACT": True, "DETACH_RESET": False, "THROUGH_TIME": True, "SURROGATE": 1, "REPEATED": False}


def program(kernel: Any, arrays: Mapping[str, str], absent: tuple[str, ...], *, fused: bool, double: bool) -> str:
    """Return the PTX of a kernel; a width that is a multiple of 16 and aligned arrays, as in most layers."""
    constants = {k: NEURON[k] for k in NEURON if k in kernel.arg_names} | dict.fromkeys(absent)
    constants |= {"REAL": tl.float64 if double else tl.float32, "BLOCK": BLOCK}
    signature = {name: {**NUMBERS, **arrays}.get(name, "constexpr") for name in kernel.arg_names}
    whole = [kernel.arg_names.index(name) for name in (*arrays, "width")]
    source = ASTSource(kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in whole})
    options = {"num_warps": WARPS, "enable_fp_fusion": fused}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


def programs(io: str, state: str, *, fused: bool) -> dict[str, str]:
    double = state == "*fp64"
    forward = {"current": io, "spikes": io, "potential": state, "after": state}
    back = {"potential": state, "grad_spikes": io, "grad_current": io, "grad_membrane": state}
    sums = {"x": io, "traces": state, "after": state}
    given = {"fused": fused, "double": double}
    return {
        "lif": program(lif._lif, forward, ("membrane", "leaks"), **given),
        "lif_backward": program(lif._lif_backward, back, ("grad_after", "slopes", "leaks"), **given),
        "trace": program(trace._trace, sums, ("before", "leaks"), **given),
    }


def main() -> None:
    found = {}
    for io, state in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp64", "*fp64")):
        for name, ptx in programs(io, state, fused=False).items():
            found[f"{name} {io[1:]}"] = {
                "contracted": len(re.findall(r"\bfma\.", ptx)),
                "loads ahead": len(re.findall(r"\bcp\.async\.c[ag]", ptx)),
                "barriers": len(re.findall(r"\bbar\.sync", ptx)),
            }
    control = programs("*fp32", "*fp32", fused=True)["trace"]
    kernels = {"lif": lif._lif, "lif_backward": lif._lif_backward, "trace": trace._trace}
    general = {name: [p.name for p in k.params if p.do_not_specialize] for name, k in kernels.items()}
    print(json.dumps({"found": found, "control": len(re.findall(r"\bfma\.", control)), "general": general}))


if __name__ == "__main__":
    main()
