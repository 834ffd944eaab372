"""The second phase of the methods on rates: the gradient of one evaluation of the program at the recorded rates.

Without feedback it is plain backpropagation (DSR, arXiv 2205.00459). A feedback connection is cut where it is read; the
adjoint equation of the fixed point closes it again, here as one dense system (IDE, arXiv 2109.14247).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params
from tests.oracles.rate_machine import Cells, Layer, Mask, RateMachine


class AtRates(Machine):
    """The program once at the rates that were recorded, each with the slope of its layer.

    What a feedback connection reads is a leaf, `sent[name]`, of the value of the output rate.
    """

    def __init__(self, params: Params, layers: dict[str, Layer], mask: Mask = "input") -> None:
        super().__init__(params, cut=True)
        self.layers = layers
        self.mask: Mask = mask
        self.sent: dict[str, Tensor] = {}

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        layer = self.layers[name]
        self.now[name] = layer.output + layer.slope(self.mask) * (current - current.detach())
        return self.now[name]

    def last(self, name: str) -> Tensor:
        return self.sent.setdefault(name, self.layers[name].output.clone().requires_grad_())


def _row(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradients(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    mask: Mask = "input",
    cells: Cells | None = None,
    entry: str | None = None,
) -> Params:
    """Gradient of `criterion(output at the rates, y)`.

    With `S(z, theta)` the rates that feedback reads, and `J = dS/dz` at the recorded ones, it is
    `dL/dtheta + v^T dS/dtheta` where `(I - J)^T v = dL/dz`.
    """
    x_mean, layers = RateMachine(params, cells).simulate(program, x, entry)
    graph = AtRates(params, layers, mask)
    loss = criterion(program(x_mean, graph), y)
    if not graph.sent:
        return graph.gradients(loss)
    sent, source = list(graph.sent.values()), _row([graph.now[name] for name in graph.sent])

    def back(root: Tensor, cotangent: Tensor | None = None) -> Tensor:
        return _row(torch.autograd.grad(root, sent, cotangent, retain_graph=True, materialize_grads=True))

    unit = torch.eye(len(source), dtype=source.dtype)
    jacobian = torch.stack([back(source, row) for row in unit])
    v = torch.linalg.solve((unit - jacobian).T, back(loss))
    return graph.gradients(loss + v @ source)
