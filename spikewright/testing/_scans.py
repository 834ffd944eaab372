"""Contracts of a neuron about its scan, for any dynamics."""

import pickle
import sys
from copy import deepcopy

import torch
from torch import Tensor

from spikewright.errors import NetworkError
from spikewright.network.sites import check_forward
from spikewright.neurons import Neuron
from spikewright.testing._cell import STEPS, Cell, differentiated, run, scanned
from spikewright.testing.contracts import Table


def no_forward(cell: Cell) -> None:
    """It has no forward of its own, because a run would never call it."""
    try:
        check_forward("it", cell.neuron())
    except NetworkError as error:
        cell.contract("no forward").broken(str(error))


def shapes_and_types(cell: Cell) -> None:
    """The output has the shape, dtype and device of the current."""
    contract = cell.contract("shape and type")
    for space in ((), cell.space):
        for dtype in (torch.float64, torch.float32):
            x = cell.currents(*space).to(dtype)
            with contract.no_failure(f"with a current of {x.dtype}, {list(x.shape)},"):
                outputs, _ = scanned(cell.neuron(dtype), x)
            for what, sent in outputs.items():
                said = f"a current of {x.dtype}, {list(x.shape)} gives an {what} of {sent.dtype}, {list(sent.shape)}"
                same = (sent.shape, sent.dtype, sent.device) == (x.shape, x.dtype, x.device)
                contract.holds(same, f"{said} on {sent.device}.".replace("an potential", "a potential"))


def live(cell: Cell) -> None:
    """Currents and all trained parameters get a gradient, by the scan or by the rate map."""
    contract, neuron = cell.contract("live gradients"), cell.neuron()
    found = differentiated(neuron, cell.currents())
    grad = found["gradient of current"]
    contract.holds(grad.any() and grad.isfinite().all(), "no finite gradient arrives at currents.")
    by_rates = _by_rates(neuron, cell.currents()[0])
    for name, parameter in neuron.named_parameters():
        if parameter.requires_grad:
            value = found[f"gradient of {name}"]
            live = value.any() or by_rates.get(name, value).any()
            contract.holds(live and value.isfinite().all(), f"no finite gradient arrives at its parameter '{name}'.")


def _by_rates(neuron: Neuron, rate: Tensor) -> Table:
    """Return the gradients of parameters by the rate map."""
    rate_map = neuron.dynamics.rate_map
    sent = None if rate_map is None else rate_map(rate)
    if sent is None or not sent.requires_grad:
        return {}
    wanted = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(sent.sum(), list(wanted.values()), allow_unused=True)
    return {name: grad for name, grad in zip(wanted, grads) if grad is not None}


def chunks(cell: Cell) -> None:
    """A scan of a chunk is a scan of its steps one by one."""
    contract = cell.contract("chunks")
    for neuron, space, where in cell.places():
        x = cell.currents(*space)
        for through_time in (True, False):
            whole = differentiated(neuron, x, through_time=through_time)
            for lengths in ([1] * STEPS, [3, STEPS - 3]):
                pieces = differentiated(neuron, x, lengths, through_time)
                what = f"a scan in pieces of {lengths} steps and at once {where}, with through_time={through_time}"
                contract.agree(pieces, whole, 1e-10, what)


def state_in_place(cell: Cell) -> None:
    """Neither the state nor the current is changed."""
    contract, neuron, x = cell.contract("state not changed in place"), cell.neuron(), cell.currents()
    with torch.no_grad():
        _, state = run(neuron, x)
        kept, current = {name: value.clone() for name, value in state.items()}, x.clone()
        given = dict(state)
        neuron.scan(x, given, True)
    contract.agree(given, kept, 0, "the state after and before a scan that takes it up")
    contract.agree({"current": x}, {"current": current}, 0, "the current after and before a scan")


def cut(cell: Cell) -> None:
    """With `through_time=False` no gradient passes from one step to the next."""
    x = cell.currents().requires_grad_()
    outputs, _ = scanned(cell.neuron(), x, through_time=False)
    (grad,) = torch.autograd.grad(torch.stack([value[-1].sum() for value in outputs.values()]).sum(), x)
    crossed = float(grad[:-1].norm())
    cell.contract("credit cut").holds(
        crossed == 0,
        f"with through_time=False a gradient of size {crossed:.3g} of the last step arrives at earlier ones.",
    )


def samples(cell: Cell) -> None:
    """Samples of a batch do not depend on each other."""
    contract = cell.contract("samples apart")
    for neuron, space, where in cell.places():
        x = cell.currents(*space)
        other = x.clone()
        other[:, 0] = cell.currents(*space, seed=1)[:, 0]
        one, two = (differentiated(neuron, value) for value in (x, other))
        rows = [{n: v[:, 1:] for n, v in found.items() if v.shape == x.shape} for found in (one, two)]
        contract.agree(rows[1], rows[0], 1e-12, f"the other samples after and before a change of the first {where}")
        if neuron.noise:
            continue
        turned = {name: value.flip(1) for name, value in scanned(neuron, x.flip(1))[0].items()}
        expected = {name: one[name] for name in turned}
        contract.agree(turned, expected, 1e-12, f"samples in another order {where}")
        each = [scanned(neuron, sample)[0] for sample in x.split(1, 1)]
        alone = {name: torch.cat([found[name] for found in each], 1) for name in turned}
        contract.agree(alone, expected, 1e-12, f"samples one by one and together {where}")


def copies(cell: Cell) -> None:
    """A copy, a pickle, and a neuron with the same `state_dict` give the same outputs."""
    contract, neuron, x = cell.contract("copies"), cell.neuron(), cell.currents()
    torch.default_generator.manual_seed(9)
    other = cell.make().double()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.125)
    other.load_state_dict({name: value.clone() for name, value in neuron.state_dict().items()})
    found: dict[str, Table] = {"its state_dict": differentiated(other, x)}
    found["deepcopy"] = differentiated(deepcopy(neuron), x)
    if _importable(type(neuron)):
        found["pickle"] = differentiated(pickle.loads(pickle.dumps(neuron)), x)
    expected = differentiated(neuron, x)
    for way, table in found.items():
        contract.agree(table, expected, 0, f"one that is copied by {way} and the original")


def _importable(kind: type) -> bool:
    """Whether a class can be found by its name, as pickle has to."""
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind
