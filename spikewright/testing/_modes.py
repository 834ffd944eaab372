"""Contracts of a neuron about its state, evaluation mode and maps."""

import torch

from spikewright._util.returned import check_scan
from spikewright.errors import ExtensionError
from spikewright.neurons import Dynamics
from spikewright.testing._cell import BATCH, SENT, STEPS, Cell, differentiated, scanned


def state(cell: Cell) -> None:
    """The state is tensors by name, batch first or without axes; also for one sample."""
    contract = cell.contract("state")
    for _, space, where in cell.places():
        for batch in (BATCH, 1):
            x, neuron = cell.currents(*space)[:, :batch], cell.neuron(training="training" in where)
            try:
                check_scan(neuron, neuron.scan(x, {}, True), x)
            except ExtensionError as error:
                contract.broken(f"{error}")


def evaluation(cell: Cell) -> None:
    """Evaluation mode, and gradients off, give the outputs of training."""
    contract = cell.contract("evaluation")
    for neuron, space, where in cell.places():
        if neuron.training:
            continue
        x = cell.currents(*space)
        expected, found = differentiated(cell.neuron(), x), differentiated(neuron, x)
        contract.agree(found, expected, 1e-12, f"what it does {where} and in training")
        with torch.no_grad():
            sent, _ = scanned(neuron, x)
        what = f"what it sends {where}, without gradients, and in training"
        contract.agree(sent, {name: expected[name] for name in sent}, 1e-12, what)


def positions(cell: Cell) -> None:
    """Every position of a map behaves as a vector of channels, apart from noise."""
    neuron, space, contract = cell.neuron(), cell.space, cell.contract("maps")
    if neuron.noise or _declares_nothing(neuron.dynamics):
        return
    x = cell.currents(*space)
    found = differentiated(neuron, x)
    rows = differentiated(neuron, x.flatten(3).transpose(2, 3).flatten(1, 2))
    shape = STEPS, BATCH, -1, cell.channels
    whole = {n: v.view(shape).transpose(2, 3).reshape(x.shape) for n, v in rows.items() if n in SENT}
    contract.agree(
        {name: found[name] for name in whole},
        whole,
        1e-12,
        f"a scan of maps {list(x.shape[1:])} ([batch, channel, height, width]) and of each position as a vector",
    )


def _declares_nothing(dynamics: Dynamics) -> bool:
    return dynamics.decay is None and dynamics.rate_map is None and not dynamics.linear
