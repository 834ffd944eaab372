"""Elastic weight consolidation: parameters that mattered for old tasks are held by springs."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.real_numbers import as_real, real_type
from spikewright._util.trial import evaluating, untouched
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.metrics.operations import Operations
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update, fresh_copy
from spikewright.rules._batch import Batch
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule, is_in


class EWC(ContinualRule):
    r"""Elastic weight consolidation, around another rule.

    With :math:`g_n` the gradient that the rule finds for sample n of a finished task i, and :math:`\theta_i` the
    parameters it left,

    .. math::
        F_i = \tfrac{1}{N} \textstyle\sum_n |g_n|^2, \qquad
        \nabla\theta \leftarrow \nabla\theta + \lambda \sum_i F_i \odot (\theta - \theta_i).

    Exact when: in the first task where the rule is; later nowhere, since the gradient has a second part.
    Cost: that of the rule; per task, one pass of the rule over each sample.
    Carried: nothing of its own.  Checkpointed: two numbers per parameter, whatever the number of tasks.

    Args:
        rule: The rule.
        strength: :math:`\lambda`.
        samples_per_class: Samples of a finished task to find F from.
        hold: See `Naive`.
        free: See `Naive`; free modules have no springs either.

    Raises:
        ConfigError: `strength` or `samples_per_class` is not positive.

    Reference:
        Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017, arXiv 1612.00796,
        equation 3, with targets of the data.
    """

    def __init__(
        self,
        rule: Rule,
        strength: float = 100.0,
        samples_per_class: int = 20,
        hold: bool = True,
        free: Collection[str] = (),
    ) -> None:
        super().__init__(rule, hold, free)
        if not strength > 0 or samples_per_class < 1:
            raise ConfigError(
                f"EWC(strength={strength}, samples_per_class={samples_per_class}): both have to be positive."
            )
        self.strength, self.samples_per_class = strength, samples_per_class
        self.stiffness, self.pull = Matrices(), Matrices()  # sums over tasks of F, and of F times what it was left at

    @property
    def samples(self) -> int:
        return self.samples_per_class

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        squares = {name: torch.zeros_like(p, dtype=real_type(p.dtype)) for name, p in self._sprung(net)}
        with untouched(net.module), evaluating(net), torch.enable_grad():
            rule = fresh_copy(self.rule, net, x[:, :1])
            for n in range(len(y)):
                net.zero_grad()
                for _ in rule.updates(net, x[:, n : n + 1], y[n : n + 1], loss):
                    pass
                for name, p in self._sprung(net):
                    squares[name] += 0 if p.grad is None else p.grad.abs().square()
        for name, p in self._sprung(net):
            found = squares[name] / len(y)
            self.stiffness[name] = found + (self.stiffness[name] if name in self.stiffness else 0)
            self.pull[name] = found * p.detach() + (self.pull[name] if name in self.pull else 0)

    def learn(self, batch: Batch) -> Iterator[Update]:
        for update in self.rule.learn(batch):
            if len(self.stiffness):
                batch.backward(self._penalty(batch.net))
            yield update

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return parameter not in self.stiffness and super().exact(parameter, wiring, steps)

    def cost(self, done: Done) -> Cost | None:
        inner = self.rule.cost(done)
        springs = 2 * sum(as_real(self.pull[name]).numel() for name in self.pull if name not in done.frozen)
        return None if inner is None else inner + Cost(Operations(0, springs), 0)

    def _penalty(self, net: Network) -> Tensor:
        """Return what has the gradient of the springs."""
        terms = [
            (p * (self.stiffness[name] * p.detach() - self.pull[name]).conj()).real.sum()
            for name, p in self._sprung(net)
            if p.requires_grad
        ]
        return self.strength * torch.stack(terms).sum()

    def _sprung(self, net: Network) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for name, p in net.module.named_parameters():
            if not is_in(name.rpartition(".")[0], self.free):
                yield name, p

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, strength={self.strength}"
