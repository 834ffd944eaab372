"""Eligibility propagation (Bellec et al., 2020): once by autograd with a rewritten path, once by per-weight recursions.

`gradients` doubles the batch. The second half sees inputs without gradient, and the potentials that go on to the next
step are those of the second half, with their graph: so a potential is a function of its own weights through all steps,
and of other layers within one step only. No eligibility is computed, unlike in `textbook`, which has one per weight.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles.machine import Criterion, Machine, Params, Spike, surrogate, weighted


class Own(Machine):
    """A machine whose neurons remember their own past with its graph."""

    def __init__(self, params: Params, feedback: dict[str, Tensor] | None = None) -> None:
        super().__init__(params, cut=True)
        self.feedback, self.batch, self.resets_otherwise = feedback, 0, False

    def run(self, program: Callable, x: Tensor) -> Iterator[Tensor]:
        self.batch = x.shape[1]
        for frame in x:
            self.before, self.now = self.now, {}
            yield program(torch.cat([frame, frame]), self)[: self.batch]

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        sent, own = x.chunk(2)
        return torch.cat([weighted(sent, weight, bias, **conv), weighted(own.detach(), weight, bias, **conv)])

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        self.resets_otherwise |= hard or attached
        before = self.membranes.get(name, torch.zeros_like(current[: self.batch]))
        charged = current + (1 - 1 / tau) * torch.cat([before, before])
        sent, own = Spike.apply(charged - 1.0).chunk(2)
        fired, u = own if attached else own.detach(), charged[self.batch :]
        self.membranes[name] = u * (1 - fired) if hard else u - fired
        self.now[name] = torch.cat([sent, sent])
        behind = sent if self.feedback is None else sent.detach()
        return torch.cat([behind, sent.detach()])


def resets_otherwise(program: Callable, params: Params, x: Tensor) -> bool:
    """Whether a reset is hard or attached, so that no trace of inputs is the derivative of the potential."""
    machine = Own(params)
    next(machine.run(program, x))
    return machine.resets_otherwise


def gradients(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    feedback: dict[str, Tensor] | None = None,
) -> Params:
    """Gradient of the mean over time of `criterion(output[t], y)`.

    `feedback` holds a matrix `[neuron, output]` for every layer, which its error comes through.
    """
    machine, total = Own(params, feedback), torch.zeros(())
    for output in machine.run(program, x):
        leaf = output.detach().requires_grad_()
        (error,) = torch.autograd.grad(criterion(leaf, y) / len(x), leaf)
        total = total + (output * error).sum()
        for name, matrix in (feedback or {}).items():
            total = total + (machine.now[name].chunk(2)[0].flatten(1) * (error @ matrix.T)).sum()
    return machine.gradients(total)


def textbook(
    params: Params,
    x: Tensor,
    y: Tensor,
    *,
    a: float = 0.0,
    b: float = 0.5,
    rho: float = 0.0,
    jump: float = 0.0,
    hard: bool = False,
    attached: bool = False,
    recurrent: bool = False,
    kappa: float = 0.0,
    feedback: Tensor | None = None,
) -> Params:
    """Gradient of one layer of neurons and a readout, cross-entropy per step, by a number per sample and weight.

    Args:
        params: `in.weight`, `in.bias`, `out.weight`, `out.bias`, and `rec.weight` without bias if `recurrent`.
        x: `[time, batch, input]`.
        y: Classes.
        a: Decay of the synaptic current.
        b: Decay of the potential.
        rho: Decay of the adaptation.
        jump: What a spike adds to it.
        hard: A spike sets the potential to 0.
        attached: Gradients pass the reset.
        recurrent: Neurons see the spikes of the last step.
        kappa: Decay of the potentials of the readout.
        feedback: Matrix `[neuron, output]`; otherwise that of the readout.
    """
    w_in, w_out = params["in.weight"], params["out.weight"]
    n, (neurons, inputs) = x.shape[1], w_in.shape
    w = torch.cat([w_in, params["in.bias"][:, None], *([params["rec.weight"]] if recurrent else [])], 1)
    state = [torch.zeros(n, neurons) for _ in range(4)]  # current, potential, adaptation, spikes
    eps = [torch.zeros(n, *w.shape) for _ in range(4)]  # those of current, potential, adaptation; filtered spikes
    output, seen, units = torch.zeros(n, len(w_out)), torch.zeros(n, neurons), torch.zeros(n, 1)
    found = {"w": torch.zeros_like(w), "out.weight": torch.zeros_like(w_out), "out.bias": torch.zeros(len(w_out))}
    for frame in x:
        before = torch.cat([frame, torch.ones(n, 1), *([state[3]] if recurrent else [])], 1)
        c = a * state[0] + before @ w.T
        u = b * state[1] + c
        distance = u - 1 - state[2]
        s, psi = (distance >= 0).to(u), surrogate(distance)[..., None]
        dc = a * eps[0] + before[:, None, :]
        du = b * eps[1] + dc
        ds = psi * (du - eps[2])
        through = ds if attached else torch.zeros_like(ds)
        dv = du * (1 - s[..., None]) - u[..., None] * through if hard else du - through
        eps = [dc, dv, rho * eps[2] + jump * ds, kappa * eps[3] + ds]
        state = [c, u * (1 - s) if hard else u - s, rho * state[2] + jump * s, s]
        seen, units = kappa * seen + s, kappa * units + 1
        output = kappa * output + s @ w_out.T + params["out.bias"]
        error = (F.softmax(output, 1) - F.one_hot(y, len(w_out))) / (n * len(x))
        signal = error @ (w_out if feedback is None else feedback.T)
        found["w"] += torch.einsum("nj,nji->ji", signal, eps[3])
        found["out.weight"] += error.T @ seen
        found["out.bias"] += (error * units).sum(0)
    whole = found.pop("w")
    found |= {"in.weight": whole[:, :inputs], "in.bias": whole[:, inputs]}
    return found | ({"rec.weight": whole[:, inputs + 1 :]} if recurrent else {})
