"""Learning without forgetting: outputs stay close to those of the network after the last task."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright._util.matrices import Matrices
from spikewright._util.ranges import check_within
from spikewright._util.real_numbers import check_real
from spikewright._util.trial import evaluating
from spikewright.errors import IncompatibleRule
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch, learn_together
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule, check_once


class LwF(ContinualRule):
    r"""Learning without forgetting: distillation from the network that the last task left.

    With o the output, y the target, :math:`\ell` the loss and :math:`q = \mathrm{softmax}(o_{old} / \tau)` from the
    mean output of the network after the last task for the samples of the batch, the gradient is that of

    .. math::
        \ell(o, y) + \alpha \tau^2\, \mathrm{CE}(o / \tau, q),

    where the second term is averaged over time in the same way as the loss.

    **Exact when**: in the first task where the rule inside is; later never, since a second term is learned.

    **Cost**: that of the rule inside; from the second task on, twice that and one more forward pass.

    **Carried / Checkpointed**: nothing beside the rule inside / the parameters and buffers of the network at the end of
    the last task, and the number of the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself and updates once per sequence.
        strength: Factor :math:`\alpha` of the distillation.  > 0.  Default: 1.0.
        temperature: Temperature :math:`\tau` of the softmax.  > 0.  Default: 2.0.
        hold: If True, batch norm and all parameters except the weights of linear and convolution layers stay constant
            from the second task on: `freeze` makes them so.  Default: True.
        free: Names of modules that are not held, such as heads that serve one task; a name includes the modules inside.
            Default: (), none.

    Raises:
        ConfigError: `strength` or `temperature` is not positive; `rule` is not a rule, or is a continual rule itself;
            `hold` is not a bool.
        IncompatibleRule: The rule inside updates several times per sequence, or the output is complex or
            several tensors.

    Reference:
        Li and Hoiem, Learning without Forgetting, TPAMI 2017, arXiv 1606.09282, equation 3.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.LwF(sw.rules.BPTT(), hold=False)
        >>> (first,) = rule.updates(net, x, y, loss)
        >>> rule.next_task(net, x, y, loss)
        >>> (second,) = rule.updates(net, x, y, loss)
        >>> bool(second.loss == first.loss)  # the loss of the task alone
        True
    """

    takes_timed = False

    def __init__(
        self,
        rule: Rule,
        strength: float = 1.0,
        temperature: float = 2.0,
        hold: bool = True,
        free: Collection[str] = (),
    ) -> None:
        super().__init__(rule, hold, free)
        check_once(type(self).__name__, rule)
        check_within("LwF", "strength", strength, "(0, inf)", "the distillation is weighted by it")
        check_within("LwF", "temperature", temperature, "(0, inf)", "outputs are divided by it")
        self.strength, self.temperature = strength, temperature
        self.left = Matrices()

    def check_task(self, wiring: Wiring, sites: Sites) -> None:
        super().check_task(wiring, sites)
        if wiring.outputs is not None:
            raise IncompatibleRule(
                f"{type(self).__name__} distils the output of the network by its softmax, but the network returns "
                f"{len(wiring.outputs.shapes)} tensors, of which it does not know what they are. Return one, or use "
                "another rule (EWC, Replay)."
            )

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        for name, value in net.module.state_dict().items():
            self.left[name] = value.clone()

    def learn(self, batch: Batch) -> Iterator[Update]:
        if not len(self.left):
            return self.rule.learn(batch)
        loss = batch.loss.without_penalty()  # which counts once, with the task
        with torch.no_grad(), self._as_left(batch.net):
            outputs = loss.reduced(batch.net.run(batch.x, batch.state)[0])
        why, advice = "distils outputs by their softmax", "Have the network return real numbers, such as z.abs()."
        check_real(self, "the output of the network", outputs, why, advice)
        heads = None if loss.head is None else (int(self.task) - 1, loss.head)
        target = (_by_head(outputs, heads) / self.temperature).softmax(-1).view(len(outputs), -1)
        old = replace(batch, y=target, loss=loss.by(partial(_distill, self.temperature, heads)))
        return learn_together(self.rule, [batch, old.weighted(self.strength)])

    @contextmanager
    def _as_left(self, net: Network) -> Iterator[None]:
        """Load what the last task left into a network, in evaluation mode, for a while."""
        now = {name: value.clone() for name, value in net.module.state_dict().items()}
        try:
            net.module.load_state_dict({name: self.left[name] for name in now})
            with evaluating(net):
                yield
        finally:
            net.module.load_state_dict(now)

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return not len(self.left) and super().exact(parameter, wiring, steps)

    def cost(self, done: Done) -> Cost | None:
        inner = self.rule.cost(done)
        if inner is None or not len(self.left):
            return inner
        # The network that was left runs too, and the one that learns runs twice.
        return inner + inner + Cost(2 * done.simulation, 0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, strength={self.strength}, temperature={self.temperature}"


Heads = tuple[int, int] | None
"""How many heads there are to keep, and of how many outputs; `None` for one head of all outputs."""


def _by_head(output: Tensor, heads: Heads) -> Tensor:
    """Return outputs `[batch, class]` as `[batch * head, class]`."""
    return output if heads is None else output[:, : heads[0] * heads[1]].reshape(-1, heads[1])


def _distill(temperature: float, heads: Heads, output: Tensor, target: Tensor) -> Tensor:
    output = _by_head(output, heads)
    return temperature**2 * F.cross_entropy(output / temperature, target.view(output.shape))
