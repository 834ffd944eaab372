"""Direct feedback to every layer (DFA, Kolen-Pollack, perturbations), as an explicit program.

Every neuron layer that another sees is cut off behind: what is emitted has no gradient.  Batches are doubled, with
noise in the first half and without in the second; a synapse transmits the first half and has its weight gradient (and
its trace) taken at the second, so that what lies between may be anything linear.  The gradient is that of
`sum over t of o[t] e[t] + sum over l of s_l[t] g_l[t]`, with e and g held fixed.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params, Spike, weighted
from tests.oracles.ottt import Online, Traces

Draw = Callable[[str, int, Tensor], Tensor]
"""Noise of unit size for a layer, a step, and something of its shape."""
Signal = Callable[[str, Tensor, Tensor | None, Tensor, Tensor, Tensor], Tensor]
"""Error of a layer `[batch, neuron]`, given name, activity, noise, output, its error, and the loss of each sample."""


class Cut(Online):
    """A machine whose layers are cut from each other, and perturbed behind (`post`) or in front."""

    def __init__(self, params: Params, traces: Traces, last: set[str], draw: Draw | None, alpha: float, post: bool):
        super().__init__(params, traces)
        self.last_layers, self.draw, self.alpha, self.post = last, draw, alpha, post
        self.step = -1
        self.batch = 0
        self.spikes: dict[str, Tensor] = {}
        self.noise: dict[str, Tensor] = {}

    def run(self, program: Callable, x: Tensor) -> Iterator[Tensor]:
        self.batch = x.shape[1]
        for frame in x:
            self.before, self.now = self.now, {}
            self.step, self.spikes = self.step + 1, {}
            yield program(torch.cat([frame, frame]), self)[: self.batch]

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        noisy, clean = x.detach().chunk(2)
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        down = weighted(x.chunk(2)[0], weight.detach(), None, **conv)  # to a synapse in front, if there is one
        path = self.traced(name, clean, pre, post, **conv) + down
        current = weighted(noisy, weight, bias, **conv).detach() + (path - path.detach())
        return torch.cat([current, current])

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        arrived, zeros = current[: self.batch], torch.zeros_like(current[: self.batch])
        cut = name not in self.last_layers
        if cut and self.draw is not None:
            self.noise[name] = self.draw(name, self.step, zeros.detach())
        noise = self.alpha * self.noise[name] if cut and self.draw is not None else zeros
        self.leaks[name] = 1 - 1 / tau
        charged = arrived + self.leaks[name] * self.membranes.get(name, zeros) + (0 if self.post else noise)
        spikes = Spike.apply(charged - 1.0)
        fired = spikes if attached else spikes.detach()
        self.membranes[name] = (charged * (1 - fired) if hard else charged - fired).detach()
        self.spikes[name] = spikes
        sent = spikes.detach() if cut else spikes
        self.now[name] = torch.cat([sent, sent])
        return torch.cat([sent + (noise if self.post else 0), sent])

    def kept(self, sent: Tensor) -> Tensor:
        clean = sent.chunk(2)[1]  # noise belongs to its own step
        return torch.cat([clean, clean])


def gradients(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    signal: Signal,
    draw: Draw | None = None,
    alpha: float = 0.2,
    post: bool = True,
    traced: bool = True,
    last: frozenset[str] = frozenset(),
) -> Params:
    """Gradient of the mean over time of `criterion(output[t], y)`, as far as it gets there.

    Args:
        program: The network.
        params: Its parameters.
        x: `[time, batch, *feature]`.
        y: Classes.
        criterion: A mean over the batch.
        signal: What arrives at a layer.
        draw: Noise; `None` for none.
        alpha: Its size.
        post: It is added to what neurons emit, and not to their currents.
        traced: Synapses have traces (OTTT), or none (SLTT).
        last: Layers that nothing but the loss sees.
    """
    machine = Cut(params, Traces() if traced else Traces(leak=0.0), set(last), draw, alpha, post)
    total = torch.zeros((), dtype=x.dtype)
    for output in machine.run(program, x):
        leaf = output.detach().requires_grad_()
        (error,) = torch.autograd.grad(criterion(leaf, y) / len(x), leaf)
        each = torch.stack([criterion(leaf[i : i + 1], y[i : i + 1]) for i in range(len(y))]).detach()
        terms = each / (len(x) * len(y))
        total = total + (output * error).sum()
        for name, spikes in machine.spikes.items():
            noise = machine.noise.get(name)
            arrived = signal(
                name,
                spikes.detach().flatten(1),
                None if noise is None else noise.flatten(1),
                leaf.detach(),
                error,
                terms,
            )
            total = total + (spikes.flatten(1) * arrived).sum()
    return machine.gradients(total)


def fixed(matrices: dict[str, Tensor]) -> Signal:
    """Direct feedback alignment."""
    return lambda name, activity, noise, output, error, terms: error @ matrices[name].T


def kolen_pollack(matrices: dict[str, Tensor], lr: float, decay: float) -> Signal:
    """The same with feedback that follows the product of activity and error."""
    matrices = dict(matrices)

    def signal(name: str, activity: Tensor, noise: object, output: object, error: Tensor, terms: object) -> Tensor:
        arrived = error @ matrices[name].T
        change = sum(torch.outer(a, e) for a, e in zip(activity, error))
        matrices[name] = (1 - decay) * matrices[name] - lr * change
        return arrived

    return signal


def zeroth_order(alpha: float) -> Signal:
    """The loss of every sample times its noise."""
    return lambda name, activity, noise, output, error, terms: terms[:, None] / alpha * noise


def pseudo_zeroth_order(names: list[str], momentum: float, alpha: float, debias: bool = True) -> Signal:
    """The error through the running mean of noise times output, which starts at nothing."""
    kept: dict[str, Tensor] = {}
    count = dict.fromkeys(names, 0)

    def signal(
        name: str, activity: object, noise: Tensor | None, output: Tensor, error: Tensor, terms: object
    ) -> Tensor:
        assert noise is not None
        seen = sum(torch.outer(z, o) for z, o in zip(noise, output)) / (len(output) * alpha)
        kept[name] = momentum * kept.get(name, torch.zeros_like(seen)) + (1 - momentum) * seen
        count[name] += 1
        matrix = kept[name] / (1 - momentum ** count[name]) if debias else kept[name]
        return error @ matrix.T

    return signal


class Backwards(Online):
    """OTTT whose errors go back through other weights than the forward ones."""

    def __init__(self, params: Params, traces: Traces, back: Callable[[str, Tensor], Tensor]) -> None:
        super().__init__(params, traces)
        self.back = back

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        current = super().syn(name, x.detach(), pre, post, **conv)
        down = weighted(x, self.back(name, self.params[f"{name}.weight"].detach()), None, **conv)
        return current + (down - down.detach())


def backwards(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    back: Callable[[str, Tensor], Tensor],
) -> Params:
    """Gradient of OTTT with `back(name, weight)` in the place of the weight on the way back."""
    machine: Machine = Backwards(params, Traces(), back)
    losses = [criterion(output, y) for output in machine.run(program, x)]
    return machine.gradients(torch.stack(losses).sum() / len(x))
