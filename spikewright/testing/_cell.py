"""A neuron under test, and functions that run it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spikewright.neurons import Neuron
from spikewright.temporal import SiteState
from spikewright.testing.contracts import Contract

STEPS, BATCH = 7, 3


@dataclass(frozen=True)
class Cell:
    """A neuron under test, and currents that it fires at.

    Attributes:
        make: Builds the neuron.
        channels: Number of channels of the currents.
    """

    make: Callable[[], Neuron]
    channels: int

    def neuron(self, dtype: torch.dtype = torch.float64, training: bool = True) -> Neuron:
        """Return a neuron, the same one every time if it draws from the generator of torch."""
        torch.default_generator.manual_seed(1)
        return self.make().to(dtype).train(training)

    def contract(self, name: str) -> Contract:
        """Return a contract of the neuron."""
        return Contract(name, repr(self.make()), f"currents of {self.channels} channels")

    @property
    def space(self) -> tuple[int, int]:
        """Height and width of a map, both different from the number of channels."""
        sizes = [size for size in (2, 4, 5) if size != self.channels]
        return sizes[0], sizes[1]

    def places(self) -> Iterator[tuple[Neuron, tuple[int, ...], str]]:
        """Yield neurons for vectors and maps, in both modes, with the sizes of the map and a text."""
        for space, where in (((), "vectors"), (self.space, "maps")):
            for training, mode in ((True, "training"), (False, "evaluation")):
                yield self.neuron(training=training), space, f"on {where} in {mode}"

    def currents(self, *space: int, steps: int = STEPS, seed: int = 0) -> Tensor:
        """Return currents `[time, batch, channel, *space]`, at which some of the neurons fire."""
        source = torch.Generator().manual_seed(seed)
        shape = steps, BATCH, self.channels, *space
        return self.scale * (1.5 * torch.rand(shape, generator=source, dtype=torch.float64) - 0.25)

    @cached_property
    def scale(self) -> float:
        """The least power of two, as a size of currents, at which a fifth of the neurons fire."""
        drawn = 1.5 * torch.rand(16, 8, self.channels, generator=_generator(), dtype=torch.float64) - 0.25
        for power in range(-10, 12):
            with torch.no_grad():
                sent, _ = run(self.neuron(), 2.0**power * drawn)
            if (sent.abs() > 0.5 * sent.abs().max()).double().mean() > 0.2 and sent.any():
                return 2.0**power
        self.contract("fires").broken(f"it does not at currents of up to {2.0**11:g}.")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def run(
    neuron: Neuron, x: Tensor, lengths: Sequence[int] = (), through_time: bool = True, state: SiteState | None = None
) -> tuple[Tensor, SiteState]:
    """Scan a sequence, in pieces of given lengths, with the same random numbers every time."""
    torch.default_generator.manual_seed(2)
    state, sent = dict(state or {}), []
    for piece in x.split(list(lengths) or [len(x)]):
        output, state = neuron.scan(piece, state, through_time)
        sent.append(output)
    return torch.cat(sent), state


def differentiated(
    neuron: Neuron, x: Tensor, lengths: Sequence[int] = (), through_time: bool = True
) -> dict[str, Tensor]:
    """Return the outputs of a scan, and the gradients of a weighted sum of them."""
    x = x.clone().requires_grad_()
    sent, _ = run(neuron, x, lengths, through_time)
    weights = torch.randn(sent.shape, generator=_generator(), dtype=torch.float64).to(sent)
    wanted = {"current": x, **{name: p for name, p in neuron.named_parameters() if p.requires_grad}}
    if not sent.requires_grad:
        sent = sent + 0 * x.sum()  # so that all gradients are zero
    grads = torch.autograd.grad((weights * sent).sum(), list(wanted.values()), allow_unused=True)
    found = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(wanted.items(), grads)}
    return {"output": sent.detach()} | {f"gradient of {name}": value for name, value in found.items()}


def response(neuron: Neuron, current: Tensor) -> Tensor:
    """Return what an input is worth after every number of steps by the declared decays, relative to what it is at once.

    Args:
        neuron: The neuron.
        current: Current, `[time, batch, channel]`; the result broadcasts to it.
    """
    decays = neuron.decay_at(current), neuron.current_decay_at(current)
    kept, of_current = (
        torch.as_tensor(0.0 if decay is None else decay, dtype=torch.float64).detach() for decay in decays
    )
    worth, left = [torch.ones_like(kept * of_current)], torch.ones_like(of_current)
    for _ in range(len(current) - 1):
        left = left * of_current
        worth.append(worth[-1] * kept + left)
    return torch.stack([value.expand(current.shape[1:]) for value in worth])
