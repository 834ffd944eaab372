"""Which library reads the NIR files of which: spikes that differ from those of the network that was written.

    PYTHONPATH=path/to/peers python benchmarks/nir_importers.py

Every library that is installed writes five networks with hard reset (LIF with a time constant of five steps; IF; a
convolution with LIF; CubaLIF with a current of three steps; LIF and an LI as the readout), and every library reads
every file, each in a process of its own and told the dt that fits the file: 1e-4, but 1 for files of sinabs and for IF
of Norse 1.1, and 1e-8 for its other neurons, which it writes with tau * dt.  A cell has the number of outputs that
differ, spikes at all and potentials by more than rounding, or why there are none.  The table is printed in the form in
which docs/interop-nir.md holds it.

sinabs 3.1.3 asks for nir 1.0.4 at most.  In an environment of its own it reads files that are kept:

    PYTHONPATH=path/to/peers python benchmarks/nir_importers.py --files FOLDER --writer spikewright
    PYTHONPATH=path/to/sinabs python benchmarks/nir_importers.py --files FOLDER --writer spikewright --writer sinabs
"""

import argparse
import datetime
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.interop.nir import from_nir, to_nir
from spikewright.interop.nir.importers import compared, installed, read_by
from spikewright.interop.nir.report import NIRRow

DT = 1e-4
STEPS, BATCH = 40, 4
KINDS = ("lif", "if", "conv", "cuba", "li")
SCALE = {"lif": 8.0, "if": 3.0, "conv": 8.0, "cuba": 0.5, "li": 8.0}
"""Factor of the weights, with which all layers fire; smaller where the current is not divided by the time constant."""
Neuron = Callable[[tuple[int, ...]], nn.Module]


def layers(kind: str, neuron: Neuron, scale: float, readout: Neuron | None = None) -> nn.Sequential:
    """Return a network of torch with neurons of a library; `readout` makes the last ones of the kind "li"."""
    torch.manual_seed(1)
    if kind == "conv":
        weights = [nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)]
        shapes: list[tuple[int, ...]] = [(4, 6, 6), (4, 3, 3)]
    else:
        weights, shapes = [nn.Linear(8, 32), nn.Linear(32, 8)], [(32,), (8,)]
    made = [neuron, readout or neuron] if kind == "li" else [neuron, neuron]
    neurons = [make(shape) for make, shape in zip(made, shapes)]  # some draw random numbers
    net = nn.Sequential(*(layer for pair in zip(weights, neurons) for layer in pair))
    with torch.no_grad():
        for parameter in nn.ModuleList(weights).parameters():
            parameter.mul_(scale)
    return net


def drawn(kind: str) -> Tensor:
    shape = (2, 6, 6) if kind == "conv" else (8,)
    return 2 * torch.rand(STEPS, BATCH, *shape, generator=torch.Generator().manual_seed(2))


def by_step(net: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([net(step) for step in x])


def spikewright(kind: str, path: Path) -> Tensor:
    def neuron(_: tuple[int, ...]) -> nn.Module:
        if kind == "cuba":
            return sw.CUBALIF(5.0, 3.0, reset="zero")
        return sw.IF(reset="zero") if kind == "if" else sw.LIF(5.0, reset="zero", gain=0.2)

    def readout(_: tuple[int, ...]) -> nn.Module:
        return sw.LI(5.0, gain=0.2)

    net, x = sw.Network(layers(kind, neuron, SCALE[kind], readout)), drawn(kind)
    to_nir(net, x, path, dt=DT, readers=())
    with torch.no_grad():
        return net.run(x)[0]


def spikingjelly(kind: str, path: Path) -> Tensor:
    parts = import_module("spikingjelly.activation_based.neuron")
    if kind == "li":
        raise NotImplementedError("SpikingJelly has no neuron that only integrates")

    def neuron(_: tuple[int, ...]) -> nn.Module:
        if kind == "cuba":
            return parts.CUBALIFNode(c_decay=2 / 3, v_decay=0.8, v_threshold=1.0, v_reset=0.0)
        return parts.IFNode(v_reset=0.0) if kind == "if" else parts.LIFNode(tau=5.0, v_reset=0.0)

    net, x = layers(kind, neuron, SCALE[kind]), drawn(kind)
    graph = import_module("spikingjelly.activation_based.nir_exchange").export_to_nir(net, x[0], dt=DT)
    written(graph, path)
    import_module("spikingjelly.activation_based.functional").reset_net(net)
    return by_step(net, x)


def snntorch(kind: str, path: Path) -> Tensor:
    library = import_module("snntorch")
    if kind == "li":
        raise NotImplementedError("snnTorch has no neuron that only integrates: reset_mechanism='none' fires, too")

    def neuron(shape: tuple[int, ...]) -> nn.Module:
        beta = torch.full(shape, 1.0 if kind == "if" else 0.8)
        options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
        if kind == "cuba":
            return library.Synaptic(alpha=torch.full(shape, 2 / 3), beta=beta, threshold=torch.ones(shape), **options)
        return library.Leaky(beta=beta, threshold=torch.ones(shape), **options)

    net, x = layers(kind, neuron, SCALE[kind] / (1 if kind in ("if", "cuba") else 5)), drawn(kind)
    graph = import_module("snntorch.export_nir").export_to_nir(net, x[0], ignore_dims=[0])
    written(graph, path)
    import_module("snntorch.utils").reset(net)
    return by_step(net, x)


def norse(kind: str, path: Path) -> Tensor:
    library = import_module("norse.torch")

    def neuron(shape: tuple[int, ...]) -> nn.Module:
        ones = torch.ones(shape)  # a number cannot be written to a file
        if kind == "if":
            return library.IAFCell(library.IAFParameters(v_th=ones), dt=DT)
        if kind == "cuba":
            rates = {"tau_mem_inv": 0.2 / DT * ones, "tau_syn_inv": ones / (3 * DT)}
            return library.LIFCell(library.LIFParameters(v_th=ones, v_leak=0 * ones, **rates), dt=DT)
        parameters = library.LIFBoxParameters(tau_mem_inv=0.2 / DT * ones, v_th=ones, v_leak=0 * ones)
        return library.LIFBoxCell(parameters, dt=DT)

    def readout(shape: tuple[int, ...]) -> nn.Module:
        ones = torch.ones(shape)
        return library.LIBoxCell(library.LIBoxParameters(tau_mem_inv=0.2 / DT * ones, v_leak=0 * ones), dt=DT)

    scale = SCALE[kind] * (5 if kind == "cuba" else 1)
    net, x = library.SequentialState(*layers(kind, neuron, scale, readout)), drawn(kind)
    written(library.to_nir(net, x[0, 0], dt=DT), path)
    outputs, state = [], None
    with torch.no_grad():
        for step in x:
            output, state = net(step, state)
            outputs.append(output)
    return torch.stack(outputs)


def sinabs(kind: str, path: Path) -> Tensor:
    layer = import_module("sinabs.layers")
    options = {"spike_fn": import_module("sinabs.activation").SingleSpike, "reset_fn": _membrane_reset()}

    def neuron(shape: tuple[int, ...]) -> nn.Module:
        options.update(batch_size=BATCH, spike_threshold=torch.ones(shape))
        if kind == "if":
            return layer.IAFSqueeze(**options)
        currents = {"tau_syn": torch.full(shape, 3.0)} if kind == "cuba" else {}
        return layer.LIFSqueeze(tau_mem=torch.full(shape, 5.0), **currents, **options)

    def readout(shape: tuple[int, ...]) -> nn.Module:
        return layer.ExpLeakSqueeze(tau_mem=torch.full(shape, 5.0), norm_input=True, batch_size=BATCH)

    net, x = layers(kind, neuron, SCALE[kind] * (9 if kind == "cuba" else 1), readout), drawn(kind)
    folded = x.transpose(0, 1).flatten(0, 1)
    with torch.no_grad():
        output = net(folded).unflatten(0, (BATCH, STEPS)).transpose(0, 1)
    with torch.no_grad():
        written(import_module("sinabs.nir").to_nir(net, folded), path)
    return output


def _membrane_reset() -> Any:
    return import_module("sinabs.activation").MembraneReset()


WRITERS: dict[str, Callable[[str, Path], Tensor]] = {
    "spikewright": spikewright,
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
}


def written(graph: Any, path: Path) -> None:
    import_module("nir").write(path, graph)


def write(writer: str, kind: str, folder: Path) -> str:
    """Write a file and the spikes of its network in a process of its own; return why that failed."""
    command = [sys.executable, "-W", "ignore", __file__, "--write", writer, kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1]


def dt_of(writer: str, kind: str) -> float:
    """Return the dt that fits a file."""
    return {"sinabs": 1.0, "norse": 1.0 if kind == "if" else DT * DT}.get(writer, DT)


def read(reader: str, writer: str, kind: str, folder: Path) -> NIRRow:
    """Compare what a reader makes of a file with the spikes of its network."""
    path, x, expected = folder / "net.nir", drawn(kind), np.load(folder / "output.npy").astype(float)
    dt = dt_of(writer, kind)
    if reader != "spikewright":
        return read_by(reader, path, x, expected, kind != "li", dt)
    ours = {"norse": {"decay": "euler"}, "sinabs": {"decay": "exact", "comparison": ">="}}
    at = {"spikingjelly": {"comparison": ">="}, **ours}.get(writer, {})
    try:
        with torch.no_grad():
            found = sw.Network(from_nir(path, dt=dt, **at)).run(x)[0].numpy()
    except ValueError as error:
        return NIRRow(reader, refused=str(error))
    return compared(reader, found, expected, kind != "li", x.dtype)


def cell(row: NIRRow) -> str:
    if not row.refused:
        return f"{row.differing}"
    return row.refused.partition(":")[0] if row.reader != "spikewright" else "refuses"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", nargs=3, metavar=("LIBRARY", "KIND", "FOLDER"))
    parser.add_argument("--reasons", action="store_true", help="also print why a reader refuses")
    parser.add_argument("--writer", action="append", choices=list(WRITERS), help="only what these write")
    parser.add_argument("--files", type=Path, help="folder that keeps the files; one that is there is not written anew")
    chosen = parser.parse_args()
    if chosen.write:
        writer, kind, folder = chosen.write
        np.save(Path(folder, "output.npy"), WRITERS[writer](kind, Path(folder, "net.nir")).numpy())
        return
    readers = ["spikewright", *installed()]
    found = ", ".join(f"{name} {version(name)}" for name in ("nir", *readers[1:], "torch"))
    print(f"{datetime.date.today()}, {found}; outputs that differ, LIF / IF / convolution / CubaLIF / LI\n")
    print(f"| written by | spikes | {' | '.join(readers)} |\n|{'---|' * (len(readers) + 2)}")
    reasons: list[str] = []
    for writer in chosen.writer or readers:
        rows: dict[str, list[str]] = {reader: [] for reader in readers}
        fired: list[str] = []
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) if chosen.files is None else chosen.files / f"{writer}-{kind}"
                folder.mkdir(parents=True, exist_ok=True)
                why = "" if Path(folder, "output.npy").exists() else write(writer, kind, folder)
                reasons += [f"{writer} does not write {kind}: {why}"] if why else []
                fired.append("-" if why or kind == "li" else str(int(np.load(folder / "output.npy").sum())))
                for reader in readers:
                    row = None if why else read(reader, writer, kind, folder)
                    rows[reader].append("-" if row is None else cell(row))
                    if row is not None and row.refused:
                        reasons.append(f"{reader} does not read {kind} of {writer}: {row.refused}")
        print(f"| {writer} | {' / '.join(fired)} | {' | '.join(' / '.join(rows[reader]) for reader in readers)} |")
        sys.stdout.flush()
    if chosen.reasons:
        print("", *reasons, sep="\n")


if __name__ == "__main__":
    main()
