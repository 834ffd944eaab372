"""What the tests of spatial credit share: layers on paper with lessons made by hand, and nets cut at every neuron."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.rules import OnlineRule
from spikewright.spatial import Local, Spatial
from spikewright.spatial._base import ChunkSample, TargetError, TargetSpec
from spikewright.spatial.direct import Direct
from tests.nets import NETS, sample
from tests.oracles.compare import case
from tests.oracles.direct import Cut
from tests.oracles.machine import Params
from tests.oracles.ottt import Traces

Way = TypeVar("Way", bound=Spatial)
Errors = Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]
"""The errors of layers, given what each emitted in a step and the error of the output."""


def on_paper(way: Way, components: int, **neurons: int) -> Way:
    """The way, ready for layers of so many neurons, all taught by an output of so many components."""
    real = Network(NETS["mlp"](0)).wiring(sample("mlp", 0)[0])
    wiring = replace(real, shapes={site: (number,) for site, number in neurons.items()}, output=(components,))
    way.prepare(wiring, torch.empty(0), {"output": TargetSpec(components, frozenset(neurons))})
    return way


def drawn(way: Spatial, steps: int, batch: int, neurons: int, site: str = "h") -> Tensor:
    """Noise of unit size, `[time, batch, neuron]`: what the first two steps of long sequences would see."""
    noise = way.noise
    assert noise is not None
    like = torch.empty(steps // 2 * batch, neurons)
    pairs = torch.stack([noise.draw(like, site, 1, t).unflatten(0, (-1, batch)) for t in (0, 1)], 1)
    return pairs.flatten(0, 1) / noise.alpha


def chunk(way: Spatial, output: Tensor, error: Tensor, terms: Tensor | None = None, **noise: Tensor) -> ChunkSample:
    """What silent layers learn from, given noise of unit size; everything is `[time, batch, *]`."""
    size = 1.0 if way.noise is None else way.noise.alpha
    return ChunkSample(
        targets={"output": TargetError(output, error, frozenset(noise))},
        activity={site: torch.zeros_like(z) for site, z in noise.items()},
        noise={site: size * z for site, z in noise.items()},
        scale=torch.ones(()),
        terms=lambda: torch.zeros(output.shape[:2]) if terms is None else terms,
    )


def learned(way: Direct, output: Tensor, **noise: Tensor) -> dict[str, Tensor]:
    """The matrices after every step, `[time, neuron, component]`, read off the errors that unit vectors send."""
    components = output.shape[2]
    assert output.shape[1] >= components
    error = torch.zeros_like(output)
    error[:, range(components), range(components)] = 1
    found = way.signals(chunk(way, output, error, **noise))
    return {site: signal[:, :components].transpose(1, 2) for site, signal in found.items()}


def watched(way: Spatial, monkeypatch: pytest.MonkeyPatch) -> list[ChunkSample]:
    """The lessons that a way is going to be given."""
    seen, signals = [], way.signals
    monkeypatch.setattr(way, "signals", lambda chunk: (seen.append(chunk), signals(chunk))[1])
    return seen


def with_readouts(
    kind: Callable[..., OnlineRule], spatial: Spatial, module: nn.Module, x: Tensor, **options: Any
) -> tuple[OnlineRule, Local]:
    """A rule of local learning that is ready for a network."""
    local = Local(**options)
    rule = kind(spatial=spatial, local=local)
    torch.manual_seed(8)
    rule.prepare(Network(module), x)
    return rule, local


def taught(name: str, errors: Errors, traced: bool = True, whole: frozenset[str] = frozenset()) -> Params:
    """Gradient of a network of `tests/nets.py` whose layers are cut from each other, given the errors that arrive.

    Layers in `whole` are not cut from what sees them.
    """
    program, params, x, y, criterion = case(name)
    machine = Cut(params, Traces() if traced else Traces(leak=0.0), set(whole), None, 0.0, True)
    total = torch.zeros(())
    for output in machine.run(program, x):
        leaf = output.detach().requires_grad_()
        (error,) = torch.autograd.grad(criterion(leaf, y) / len(x), leaf)
        arrived = errors({site: spikes.detach() for site, spikes in machine.spikes.items()}, error)
        total = total + (output * error).sum()
        total = total + sum((machine.spikes[site] * signal).sum() for site, signal in arrived.items())
    return machine.gradients(total)
