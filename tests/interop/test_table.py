"""Every line of the mapping table, run beside the library where it is installed, and on stored numbers always."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.interop.copies import clone
from spikewright.interop.reading import find_neurons
from spikewright.interop.table import LINES, SURROGATES, Line
from tests.interop.theirs import VALUES, imported, our_neuron, spikes_of, their_neuron

STORED = Path(__file__).parent / "stored.json"
every_line = pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.library} {line.theirs}")
both = pytest.mark.parametrize("values", VALUES)
CONSTANTS = ("threshold", "rest", "gain", "amplitude")


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
    return threshold / ours.gain


@both
@every_line
def test_the_reader_finds_what_the_line_says(line: Line, values: str) -> None:
    theirs = their_neuron(line, VALUES[values])
    found = find_neurons(theirs, torch.rand(2, 2))[0].read(theirs, torch.float32).neuron
    said = our_neuron(line, VALUES[values])
    assert type(found) is type(said)
    assert (found.reset, found.detach_reset) == (said.reset, said.detach_reset)
    for name in (*CONSTANTS, "leak"):
        one, other = (torch.as_tensor(getattr(each, name)).detach().double() for each in (found, said))
        torch.testing.assert_close(one, other, rtol=3e-7, atol=1e-7)
    assert [n for n, _ in found.named_parameters()] == [n for n, _ in said.named_parameters()]


@both
@every_line
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_spikes_and_gradients_are_those_of_the_library(line: Line, values: str, dtype: torch.dtype) -> None:
    theirs = their_neuron(line, VALUES[values])
    x = current(60, 64, scale_of(our_neuron(line, VALUES[values]), values)).to(dtype)
    if dtype == torch.float64:
        theirs = clone(theirs).double()
    ours = find_neurons(theirs, x)[0].read(theirs, dtype).neuron
    one, other = run(theirs, x, ours=False), run(ours, x, ours=True)
    assert one[0].any() and torch.equal(one[0].to(dtype), other[0]), int((one[0] != other[0]).sum())
    torch.testing.assert_close(other[1], one[1], rtol=1e-4, atol=1e-5)


def stored() -> dict[str, Any]:
    return json.loads(STORED.read_text())


@both
@every_line
def test_spikes_and_gradients_are_those_that_were_stored(line: Line, values: str) -> None:
    kept = stored()[f"{line.library} {line.theirs} {values}"]
    ours = our_neuron(line, VALUES[values])
    spikes, gradient = run(ours, current(16, 4, kept["scale"]), ours=True)
    shown = ["".join("1" if s else "0" for s in step) for step in spikes[:, 0].tolist()]
    assert shown == kept["spikes"] and set("".join(shown)) == {"0", "1"}
    torch.testing.assert_close(gradient[:, 0], torch.tensor(kept["gradient"]), rtol=1e-4, atol=2e-5)


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
            spikes, gradient = run(their_neuron(each, chosen), current(16, 4, scale), ours=False)
            numbers[f"{each.library} {each.theirs} {name}"] = {
                "scale": scale,
                "spikes": ["".join("1" if s else "0" for s in step) for step in spikes[:, 0].tolist()],
                "gradient": [[round(g, 5) for g in step] for step in gradient[:, 0].tolist()],
            }
    STORED.write_text(json.dumps(numbers, indent=None, separators=(",", ":")) + "\n")
