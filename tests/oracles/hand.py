"""The three-factor formulas by explicit sums over steps, without autograd.

For a layer with error `g[t]` and input `x[k]`: `dW = sum_t sum_(k<=t) leak^(t-k) g[t] x[k]^T`, and for its bias
`db = sum_t g[t] sum_(k<=t) leak^(t-k)` (Xiao et al., 2022). Leak 0 leaves `k = t` alone (Meng et al., 2023). The loss
is the cross-entropy of every readout, averaged over the batch and over time; resets are soft.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles.machine import Params

Product = Callable[[Tensor, Tensor], Tensor]


def fire(currents: Tensor, leak: float) -> tuple[Tensor, Tensor]:
    """Spikes and surrogate slopes of one neuron layer for its `currents` `[time, batch, *feature]`."""
    rest, spikes, slopes = torch.zeros_like(currents[0]), [], []
    for current in currents:
        charged = leak * rest + current
        spikes.append((charged >= 1).to(charged.dtype))
        logistic = 1 / (1 + torch.exp(-4 * (charged - 1)))
        slopes.append(4 * logistic * (1 - logistic))
        rest = charged - spikes[-1]
    return torch.stack(spikes), torch.stack(slopes)


def output_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Slope of the loss in the readouts `[time, batch, class]`."""
    powers = torch.exp(outputs - outputs.amax(-1, keepdim=True))
    hit = torch.eye(outputs.shape[-1], dtype=outputs.dtype)[y]
    return (powers / powers.sum(-1, keepdim=True) - hit) / (outputs.shape[0] * outputs.shape[1])


def outer(g: Tensor, x: Tensor) -> Tensor:
    return g.T @ x


def weight_sum(g: Tensor, x: Tensor, leak: float, product: Product = outer) -> Tensor:
    """`sum_t sum_(k<=t) leak^(t-k) product(g[t], x[k])`."""
    terms = [leak ** (t - k) * product(g[t], x[k]) for t in range(len(g)) for k in range(t + 1)]
    return torch.stack(terms).sum(0)


def bias_sum(g: Tensor, leak: float) -> Tensor:
    """`sum_t g[t] sum_(k<=t) leak^(t-k)`, summed over all but the channels, the axis after the batch."""
    ages = torch.tensor([sum(leak ** (t - k) for k in range(t + 1)) for t in range(len(g))], dtype=g.dtype)
    return torch.einsum("tnc...,t->c", g, ages)


def chain(
    names: Sequence[str],
    params: Params,
    x: Tensor,
    y: Tensor,
    leaks: Sequence[float],
    weight_leaks: Sequence[float],
    bias_leaks: Sequence[float],
) -> Params:
    """Gradients of a chain of linear layers `names`, each but the last followed by neurons with `leaks`.

    `weight_leaks` and `bias_leaks` are those of the traces, one for each layer with the readout.
    """
    inputs, slopes = [x], []
    for name, leak in zip(names, leaks):
        spikes, slope = fire(inputs[-1] @ params[f"{name}.weight"].T + params[f"{name}.bias"], leak)
        inputs.append(spikes)
        slopes.append(slope)
    g = output_error(inputs[-1] @ params[f"{names[-1]}.weight"].T + params[f"{names[-1]}.bias"], y)
    found: Params = {}
    for layer in reversed(range(len(names))):
        weight = f"{names[layer]}.weight"
        found[weight] = weight_sum(g, inputs[layer], weight_leaks[layer])
        found[f"{names[layer]}.bias"] = bias_sum(g, bias_leaks[layer])
        g = g @ params[weight] * slopes[layer - 1] if layer else g
    return found


def convolution(params: Params, x: Tensor, y: Tensor, leak: float, trace_leak: float) -> Params:
    """Gradients of a padded convolution `0`, its neurons, and a linear readout `2` of their flattened spikes."""
    weight, readout = params["0.weight"], params["2.weight"]
    currents = torch.stack([F.conv2d(frame, weight, params["0.bias"], padding=1) for frame in x])
    spikes, slopes = fire(currents, leak)
    error = output_error(spikes.flatten(2) @ readout.T + params["2.bias"], y)
    g = (error @ readout).reshape(spikes.shape) * slopes

    def correlate(g: Tensor, x: Tensor) -> Tensor:
        return torch.nn.grad.conv2d_weight(x, list(weight.shape), g, padding=1)

    return {
        "0.weight": weight_sum(g, x, trace_leak, correlate),
        "0.bias": bias_sum(g, trace_leak),
        "2.weight": weight_sum(error, spikes.flatten(2), 0.0),
        "2.bias": bias_sum(error, 0.0),
    }
