"""Experience replay: stored samples of old tasks are learned beside every batch of the new one."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_count, check_seed, check_within
from spikewright._util.text import counted
from spikewright.errors import ShapeError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch, learn_together
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule, check_once
from spikewright.temporal import is_static


class Replay(ContinualRule):
    r"""Experience replay: every batch is learned together with as many stored samples of earlier tasks.

    With :math:`\ell` the loss and w the share of the new batch, the gradient is that of

    .. math::
        w\,\ell(\text{batch}) + (1 - w)\,\ell(\text{as many old samples}).

    **Exact when**: in the first task where the rule inside is; later never, since two batches are learned.

    **Cost**: that of the rule inside; from the second task on, twice that.

    **Carried / Checkpointed**: nothing beside the rule inside / the stored samples, `[time, sample, *feature]` and
    `[sample]`, the number of draws and the number of the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself and updates once per sequence.
        samples_per_class: Number of samples per class of each finished task that `next_task` is to be given, all of
            which are stored.  At least 1.  Default: 50.
        new_share: Weight w of the new batch.  In (0, 1).  Default: 0.5.
        hold: If True, batch norm and all parameters except the weights of linear and convolution layers stay constant
            from the second task on: `freeze` makes them so.  Default: False.
        free: Names of modules that are not held, such as heads that serve one task; a name includes the modules inside.
            Default: (), none.
        seed: Seed of the draws.  From 0 to 2**63 - 1.  Default: 0.

    Raises:
        ConfigError: `samples_per_class`, `new_share` or `seed` is out of range; `rule` is not a rule, or is a continual
            rule itself; `hold` is not a bool.
        IncompatibleRule: The rule inside updates several times per sequence.

    Reference:
        Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv 1902.10486, algorithm 1.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.Replay(sw.rules.BPTT())
        >>> rule.next_task(net, x, y, loss)
        >>> (update,) = rule.updates(net, torch.rand(5, 2, 4), y, loss)
        >>> [list(tensor.shape) for tensor in rule.recall(batch=2, steps=5)]
        [[5, 2, 4], [2]]
    """

    drawn: Tensor

    takes_timed = False

    def __init__(
        self,
        rule: Rule,
        samples_per_class: int = 50,
        new_share: float = 0.5,
        hold: bool = False,
        free: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(rule, hold, free)
        check_once(type(self).__name__, rule)
        check_count("Replay", "samples_per_class", samples_per_class, "at least one sample is kept")
        check_within("Replay", "new_share", new_share, "(0, 1)", "both batches have a share of the gradient")
        check_seed("Replay", seed)
        self.samples_per_class, self.new_share, self.seed = samples_per_class, new_share, seed
        self.memory = Matrices()
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    @property
    def samples(self) -> int:
        return self.samples_per_class

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        once = x[:1] if is_static(x) else x
        if "x" in self.memory:
            kept = self.memory["x"]
            if len(kept) != len(once) and 1 not in (len(kept), len(once)):
                raise _other_length(len(kept), len(once))
            length = max(len(kept), len(once))  # a static sample stands for a sequence of any length
            kept, once = (v.expand(length, *v.shape[1:]) for v in (kept, once))
            self.memory["x"], self.memory["y"] = torch.cat([kept, once], 1), torch.cat([self.memory["y"], y])
        else:
            self.memory["x"], self.memory["y"] = once.clone(), y.clone()

    def recall(self, batch: int, steps: int) -> tuple[Tensor, Tensor]:
        """Return stored samples, `[time, batch, *feature]` and `[batch]`, drawn without replacement.

        Args:
            batch: Number of samples, at most as many as are stored.  At least 1.
            steps: Number of steps that a stored static input is repeated for.  At least 1.
        """
        x, y = self.memory["x"], self.memory["y"]
        if len(x) not in (1, steps):
            raise _other_length(len(x), steps)
        self.drawn += 1
        generator = keyed_generator(self.seed, "replay", int(self.drawn))
        chosen = torch.randperm(len(y), generator=generator)[:batch].to(y.device)
        return x[:, chosen].expand(steps, *[-1] * (x.dim() - 1)), y[chosen]

    def learn(self, batch: Batch) -> Iterator[Update]:
        if "y" not in self.memory:
            return self.rule.learn(batch)
        share, weight = batch.share, 1 - self.new_share
        x, y = self.recall(len(batch.y) if share is None else share.total, len(batch.x))
        if share is not None:
            share, outer = share.of(len(y)), share
            x, y = share.own(x, 1), share.own(y)
            if outer.divided and not share.divided:  # each process learns all of the old samples
                weight /= share.world
        old = replace(batch, x=x, y=y, state=None, known=None, share=share)
        return learn_together(self.rule, [batch.weighted(self.new_share), old.weighted(weight)])

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return "y" not in self.memory and super().exact(parameter, wiring, steps)

    def random_parts(self, steps: int) -> tuple[str, ...]:
        return (*super().random_parts(steps), *(["the stored samples of Replay"] if "y" in self.memory else []))

    def cost(self, done: Done) -> Cost | None:
        inner = self.rule.cost(done)
        if inner is None or "y" not in self.memory:
            return inner
        return inner + inner + Cost(done.simulation, 0)  # the old samples run too

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, samples_per_class={self.samples_per_class}, new_share={self.new_share}"


def _other_length(kept: int, steps: int) -> ShapeError:
    return ShapeError(
        f"Replay holds sequences of {counted(kept, 'step')}, and was given some of {steps}. They are learned together, "
        "step by step. Give all tasks the same number of steps, or pad them."
    )
