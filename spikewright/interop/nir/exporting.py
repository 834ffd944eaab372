"""Write a network to NIR, and prove what was written."""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_choice, check_instance, check_names, check_numbers
from spikewright.interop.nir.arguments import check_input, checked_target, put
from spikewright.interop.nir.folding import fold_gains, fold_norms
from spikewright.interop.nir.graph import SPIKING, Graph
from spikewright.interop.nir.importer_child import LIBRARIES
from spikewright.interop.nir.importers import compared, installed, read_by
from spikewright.interop.nir.importing import from_nir
from spikewright.interop.nir.interpreter import simulate
from spikewright.interop.nir.proof import check_neuron, check_run, recorded
from spikewright.interop.nir.reading import read_graph
from spikewright.interop.nir.report import NIRReport, NIRRow
from spikewright.interop.nir.running import traced
from spikewright.interop.nir.writing import spelled, write
from spikewright.network import Network
from spikewright.neurons import Neuron

Array = np.ndarray[Any, Any]


def to_nir(
    net: nn.Module, x: Tensor, path: str | Path, *, dt: float, readers: Collection[str] | None = None
) -> NIRReport:
    r"""Write a network as a file in the Neuromorphic Intermediate Representation (NIR), and compare its readers.

    The graph comes from the operations of the forward on `x`: layers, sums (edges that meet), products with constants
    (Scale), flattening, average pooling, batch norm in evaluation (in the weights in front, or a layer of its own),
    neurons, delays and feedback.  An operation that NIR cannot say is refused by its name; nothing is left out.  A
    neuron :math:`u = \lambda v + k I` with hard reset becomes

    .. math::
        \tau \dot v = (v_{leak} - v) + r I, \qquad
        \tau = \frac{dt}{1-\lambda}, \quad r = 1, \quad v_{leak} = v_{reset} = 0,

    with :math:`k / (1 - \lambda)` in the weights in front, or in r where something else is in front, and IF becomes
    :math:`\dot v = r I` with r = 1/dt.  CUBALIF becomes CubaLIF with :math:`w_{in} = \tau_{syn}/dt, r = \tau_{mem}/dt`
    and both gains in the weights, or in :math:`w_{in}`; an LI becomes LI, CubaLI or I in the same ways.  The threshold
    is the next number below that of a neuron that fires at it, because one of NIR fires above it; that of a strict
    neuron is its own.  NIR has no field for dt; it is in the metadata, with the time constants in
    steps.

    The file is read back and simulated by an interpreter of the equations of NIR; each spike of each neuron layer is
    compared, on `x` and on currents that show every constant.  Then `from_nir` and each installed library run it.

    The file is made in a temporary folder, and is put in its place when all of this is done.  Until then, and when
    something is refused or fails, a file that is at `path` already stays as it was.

    Args:
        net: Network or module, in evaluation mode if it has batch norm or dropout.  `spikewright.Network`, or an
            `nn.Module` that can be one.
        x: Input to trace and compare with, on which all layers should fire.  Tensor `[time, batch, *feature]` of
            float16, float32 or float64, finite, with at least one step and one sample.
        path: File to write, in a folder that is there.  A file of this name is replaced.
        dt: Duration of a step, in seconds: finite number > 0.  snnTorch reads every file with 1e-4.
        readers: Libraries to compare with, among "spikingjelly", "snntorch", "norse" and "sinabs", each run in a
            process of its own.  Default: None, those that are installed.

    Returns:
        The report: `rows`, one for each reader, `table()`, and the spikes of each layer.

    Raises:
        ImportError: The packages nir and h5py are not installed.
        NetworkError: NIR has no equal of something in the network, or the file does not compute what the network does;
            then nothing is written.
        ConfigError: `dt` is not a positive number, a reader is unknown, or no file can be written at `path`.
        ShapeError: `x` has no time or batch axis, no step or sample, or is not of real numbers.
        InputError: `x` holds a NaN or an infinity.

    >>> import torch, spikewright as sw
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), sw.LIF())
    >>> sw.interop.to_nir(net, torch.rand(4, 1, 2), "net.nir", dt=1e-4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    spikewright.errors.NetworkError: to_nir found the neuron '1' (LIF) with reset='subtract' in the forward of '1': ...
    """
    check_numbers("to_nir", "(0, inf)", dt=dt)
    check_input(x)
    named = installed() if readers is None else check_names("to_nir", "readers", readers, 'readers=("norse",)')
    for name in named:
        check_choice("to_nir", "readers", name, LIBRARIES)
    check_instance("to_nir", "net", net, nn.Module, "nn.Sequential(nn.Linear(4, 8), sw.LIF(reset='zero'))")
    target = checked_target(path)
    network = net if isinstance(net, Network) else Network(net)
    result, spikes = recorded(network, x)
    found = traced(network.sites, x[0])  # refuses other outputs than one tensor
    output = result.cpu().double().numpy()
    with TemporaryDirectory() as folder:
        file = Path(folder, "net.nir")
        graph, rounding = _written(network, found, x, file, float(dt), output, spikes)
        ends = graph.nodes[graph.into(graph.only("Output"))[0]]
        spiking = ends.kind in SPIKING and len(graph.into(graph.only("Output"))) == 1
        rows = [*_own_rows(graph, file, x, output, spiking, float(dt))]
        rows += [read_by(name, file, x, output, spiking, float(dt)) for name in named]
        put(file, target)
    firing = {node.metadata.get("site") for node in graph.nodes.values() if node.kind in SPIKING}
    counts = {site: int(np.count_nonzero(fired)) for site, fired in spikes.items() if site in firing}
    return NIRReport(str(path), float(dt), tuple(rows), counts, rounding)


def _written(
    net: Network, found: Graph, x: Tensor, path: Path, dt: float, output: Array, spikes: dict[str, Array]
) -> tuple[Graph, int]:
    """Write the file of what was traced, and compare what it says with the network."""
    fold_norms(found)
    fold_gains(found)
    graph = spelled(found, dt, torch.empty(0, dtype=x.dtype).numpy().dtype)
    write(graph, path)
    read = read_graph(path)
    rounding = check_run(read, x, dt, output, spikes)
    modules = dict(net.module.named_modules())
    for name, node in found.nodes.items():
        if node.site:
            neuron = modules[node.site.partition("#")[0]]
            assert isinstance(neuron, Neuron)
            check_neuron(neuron, node, read.nodes[name], dt)
    return read, rounding


def _own_rows(graph: Graph, path: Path, x: Tensor, output: Array, spiking: bool, dt: float) -> list[NIRRow]:
    """Return the rows of the interpreter and of `from_nir`, which run freely."""
    free = simulate(graph, x.detach().cpu().double().numpy(), dt).output
    with torch.no_grad():
        again = Network(from_nir(path, dt=dt, dtype=x.dtype)).run(x.detach().cpu())[0].double().numpy()
    results = {"interpreter": free, "spikewright": again}
    return [compared(name, result, output, spiking, x.dtype) for name, result in results.items()]
