"""Run a NIR file in another library, in a process of its own: `python -m ... LIBRARY FILE INPUT OUTPUT DT`."""

import sys
from importlib import import_module
from typing import Any


def spikingjelly(graph: Any, x: Any, dt: float) -> list[Any]:
    """Return the output of SpikingJelly, step by step."""
    return _with_state(import_module("spikingjelly.activation_based.nir_exchange").import_from_nir(graph, dt=dt), x)


def snntorch(graph: Any, x: Any, dt: float) -> list[Any]:
    """Return the output of snnTorch, step by step; its dt is 1e-4."""
    if abs(dt - 1e-4) > 1e-10:
        raise ValueError(f"snnTorch reads every file with dt = 1e-4, and this one has dt = {dt:g}")
    return _with_state(import_module("snntorch.import_nir").import_from_nir(graph), x)


def norse(graph: Any, x: Any, dt: float) -> list[Any]:
    """Return the output of Norse, step by step."""
    return _with_state(import_module("norse.torch").from_nir(graph, dt=dt), x)


def sinabs(graph: Any, x: Any, dt: float) -> list[Any]:
    """Return the output of sinabs, which takes all steps at once, batch first."""
    steps, batch = x.shape[:2]
    module = import_module("sinabs.nir").from_nir(graph, batch_size=batch, num_timesteps=steps)
    output = module(x.transpose(0, 1).flatten(0, 1))
    output = output[0] if isinstance(output, tuple) else output
    return list(output.unflatten(0, (batch, steps)).transpose(0, 1))


LIBRARIES = {"spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse, "sinabs": sinabs}


def _with_state(module: Any, x: Any) -> list[Any]:
    outputs, state = [], None
    for step in x:
        output = module(step, state)
        output, state = output if isinstance(output, tuple) else (output, None)
        outputs.append(output)
    return outputs


def main(library: str, file: str, given: str, result: str, dt: str) -> None:
    """Read a file and an input `[time, batch, *feature]`, and write the output of a library."""
    import numpy as np
    import torch

    nir = import_module("nir")
    try:
        graph = nir.read(file)
    except ValueError as error:
        print(f"nir.read needs type_check=False: {error}")
        graph = nir.read(file, type_check=False)
    with torch.no_grad():
        outputs = LIBRARIES[library](graph, torch.from_numpy(np.load(given)), float(dt))
        np.save(result, torch.stack(outputs).cpu().numpy())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        text = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {text[:300]}")
