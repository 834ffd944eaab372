"""Every line of the mapping table, run beside the library where it is installed, and on stored numbers always."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.interop.copies import clone
from spikewright.interop.reading import find_neurons
from spikewright.interop.rounding import compare
from spikewright.interop.table import LINES, SURROGATES, Line
from tests.interop.theirs import VALUES, imported, our_neuron, spikes_of, their_neuron

STORED = Path(__file__).parent / "stored.json"
every_line = pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.library} {line.theirs}")
both = pytest.mark.parametrize("values", VALUES)
CONSTANTS = (
    "threshold",
    "rest",
    "gain",
    "amplitude",
    "leak",
    "input_gain",
    "current_leak",
    "current_gain",
    "lower_bound",
)
SWITCHES = ("reset", "detach_reset", "strict", "max_spikes", "moving_reset", "has_current", "potential")


def current(steps: int, width: int, scale: float = 1.0) -> Tensor:
    """Quarters between -1/2 and 2 in an order without a short period, `[steps, 1, width]`."""
    t, i = torch.meshgrid(torch.arange(steps), torch.arange(width), indexing="ij")
    return scale * ((7 * t * t + 13 * t * i + 5 * i + t // 3) % 11 - 2).unsqueeze(1) / 4


def weights(x: Tensor) -> Tensor:
    return torch.cos(torch.arange(x.numel(), dtype=torch.float64)).view(x.shape).to(x.dtype)


def run(neuron: Any, x: Tensor, ours: bool) -> tuple[Tensor, Tensor]:
    given = x.clone().requires_grad_()
    spikes = neuron.scan(given, {}, True)[0] if ours else spikes_of(neuron, given)
    (weights(x) * spikes).sum().backward()
    assert given.grad is not None
    return spikes.detach(), given.grad


def scale_of(ours: Any, values: str) -> float:
    """What reaches the threshold at once; with halves, without a remainder."""
    threshold = round(2 * ours.threshold) / 2 if values == "halves" else ours.threshold
    found = threshold / (ours.input_gain * getattr(ours, "current_gain", 1.0))
    return found.item() if isinstance(found, Tensor) else found


def number(value: Any) -> Tensor:
    return torch.tensor(torch.nan) if value is None else torch.as_tensor(value).detach().double()


def clear_of_bound(ours: Any, x: Tensor) -> Tensor:
    """Neurons whose potential never comes to its lower bound, where theirs has another slope, `[batch, *feature]`."""
    if ours.lower_bound is None:
        return torch.ones_like(x[0], dtype=torch.bool)
    ours.potential = "before reset"
    (spikes, u), _ = ours.scan(x, {}, True)
    ours.potential = None
    return ((u - ours.reset_amount * spikes - ours.lower_bound).abs() > 1e-5).all(0)


def same(ours: Any, one: Tensor, other: Tensor) -> bool:
    """Spikes are equal, potentials up to rounding."""
    return torch.equal(one, other) if ours.spiking else torch.allclose(one, other, rtol=1e-5, atol=1e-5)


@both
@every_line
def test_the_reader_finds_what_the_line_says(line: Line, values: str) -> None:
    theirs = their_neuron(line, VALUES[values])
    found = find_neurons(theirs, torch.rand(2, 2))[0].read(theirs, torch.float32).neuron
    said = our_neuron(line, VALUES[values])
    assert type(found) is type(said)
    for name in SWITCHES:
        assert getattr(found, name, None) == getattr(said, name, None), name
    for name in (*CONSTANTS, "beta", "adaptation_leak"):
        one, other = (number(getattr(each, name, None)) for each in (found, said))
        torch.testing.assert_close(one, other, rtol=3e-7, atol=1e-7, equal_nan=True)
    assert [n for n, _ in found.named_parameters()] == [n for n, _ in said.named_parameters()]


@both
@every_line
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_spikes_and_gradients_are_those_of_the_library(line: Line, values: str, dtype: torch.dtype) -> None:
    theirs = their_neuron(line, VALUES[values])
    x = current(60, 64, scale_of(our_neuron(line, VALUES[values]), values)).to(dtype)
    if dtype == torch.float64:
        theirs = clone(theirs).double()
    mapping = find_neurons(theirs, x)[0].read(theirs, dtype)
    ours = mapping.neuron
    if mapping.complete is not None:
        mapping.complete(theirs)
    one, other = run(theirs, x, ours=False), run(ours, x, ours=True)
    assert one[0].any()
    clear = clear_of_bound(ours, x)
    if "tau_adapt=q, tau_syn=n" in line.theirs:  # scaled in another order, so that float32 decides ties
        compared = compare(mapping, x, one[0], other[0])
        assert compared.fault is None
        clear &= compared.same
    else:
        assert same(ours, one[0].to(dtype), other[0]), int((one[0] != other[0]).sum())
    assert clear.any()
    torch.testing.assert_close(other[1][:, clear], one[1][:, clear], rtol=1e-4, atol=1e-5)


def as_text(spikes: Tensor) -> list[str]:
    return ["".join(str(int(s)) for s in step) for step in spikes[:, 0].tolist()]


def stored() -> dict[str, Any]:
    return json.loads(STORED.read_text())


@both
@every_line
def test_spikes_and_gradients_are_those_that_were_stored(line: Line, values: str) -> None:
    kept = stored()[f"{line.library} {line.theirs} {values}"]
    ours = our_neuron(line, VALUES[values])
    spikes, gradient = run(ours, current(16, 4, kept["scale"]), ours=True)
    if ours.spiking:
        assert as_text(spikes) == kept["spikes"] and len(set("".join(kept["spikes"]))) > 1
    else:
        torch.testing.assert_close(spikes[:, 0], torch.tensor(kept["spikes"]), rtol=1e-4, atol=2e-5)
    clear = clear_of_bound(ours, current(16, 4, kept["scale"]))[0]
    found, expected = gradient[:, 0], torch.tensor(kept["gradient"])
    assert clear.any()
    torch.testing.assert_close(found[:, clear], expected[:, clear], rtol=1e-4, atol=2e-5)


def test_every_line_is_stored_once() -> None:
    assert set(stored()) == {f"{line.library} {line.theirs} {values}" for line in LINES for values in VALUES}


@pytest.mark.parametrize("line", SURROGATES, ids=lambda line: f"{line.library} {line.theirs}")
def test_surrogates_have_the_slope_that_the_line_says(line: Line) -> None:
    import spikewright.surrogate as here

    imported(line.library)
    if line.library == "SpikingJelly":
        import spikingjelly.activation_based.surrogate as there
        from spikingjelly.activation_based.neuron import IFNode

        neuron: Any = IFNode(surrogate_function=eval(line.theirs, vars(there).copy()))
    elif line.library == "snnTorch":
        import snntorch.surrogate as there
        from snntorch import Leaky

        neuron = Leaky(0.5, spike_grad=eval(line.theirs, vars(there).copy()))
    elif line.library == "sinabs":
        import sinabs.activation as there
        from sinabs.layers import IAF

        neuron = IAF(surrogate_grad_fn=eval(line.theirs, vars(there).copy()))
    else:
        from norse.torch.functional.iaf import IAFParameters
        from norse.torch.module.iaf import IAFCell

        neuron = IAFCell(IAFParameters(**eval(f"dict({line.theirs})")))
    found = find_neurons(neuron, torch.rand(2, 2))[0].read(neuron, torch.float32)
    assert found.neuron.surrogate == eval(line.ours, vars(here).copy())


if __name__ == "__main__":  # writes what the installed libraries do
    numbers = {}
    for each in LINES:
        for name, chosen in VALUES.items():
            scale = scale_of(our_neuron(each, chosen), name)
            theirs, ours = their_neuron(each, chosen), our_neuron(each, chosen)
            complete = find_neurons(theirs, torch.rand(2, 2))[0].read(theirs, torch.float32).complete
            if complete is not None:
                complete(theirs)
            spikes, gradient = run(theirs, current(16, 4, scale), ours=False)
            sent = [[round(v, 5) for v in step] for step in spikes[:, 0].tolist()]
            numbers[f"{each.library} {each.theirs} {name}"] = {
                "scale": scale,
                "spikes": as_text(spikes) if ours.spiking else sent,
                "gradient": [[round(g, 5) for g in step] for step in gradient[:, 0].tolist()],
            }
    STORED.write_text(json.dumps(numbers, indent=None, separators=(",", ":")) + "\n")
