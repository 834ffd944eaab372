"""Experience replay: samples of old tasks are learned again beside every batch of the new one."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.randomness import keyed_generator
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch, learn_together
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule
from spikewright.temporal import is_static


class Replay(ContinualRule):
    r"""Experience replay, around another rule: the gradient is that of
    :math:`w\,\ell(\text{batch}) + (1 - w)\,\ell(\text{as many old samples})`.

    Exact when: in the first task where the rule is; later nowhere, since two batches are learned.
    Cost: twice that of the rule from the second task on.
    Carried: nothing of its own.  Checkpointed: the samples it keeps, and how many draws there were.

    Args:
        rule: The rule; one that updates once per sequence.
        samples_per_class: Samples to keep of each class of each finished task.
        new_share: The weight w of the batch.
        hold: See `Naive`.
        free: See `Naive`.
        seed: Of the draws.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv 1902.10486, algorithm 1.
    """

    drawn: Tensor

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
        if samples_per_class < 1 or not 0 < new_share < 1:
            raise ConfigError(
                f"Replay(samples_per_class={samples_per_class}, new_share={new_share}): at least one sample is kept, "
                "and the share is between 0 and 1."
            )
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
            length = max(len(kept), len(once))  # a static sample stands for a sequence of any length
            kept, once = (v.expand(length, *v.shape[1:]) for v in (kept, once))
            self.memory["x"], self.memory["y"] = torch.cat([kept, once], 1), torch.cat([self.memory["y"], y])
        else:
            self.memory["x"], self.memory["y"] = once.clone(), y.clone()

    def recall(self, batch: int, steps: int) -> tuple[Tensor, Tensor]:
        """Return old samples, `[time, batch, *feature]` and `[batch]`, drawn without replacement."""
        self.drawn += 1
        x, y = self.memory["x"], self.memory["y"]
        generator = keyed_generator(self.seed, "replay", int(self.drawn))
        chosen = torch.randperm(len(y), generator=generator)[:batch].to(y.device)
        return x[:, chosen].expand(steps, *[-1] * (x.dim() - 1)), y[chosen]

    def learn(self, batch: Batch) -> Iterator[Update]:
        if "y" not in self.memory:
            return self.rule.learn(batch)
        x, y = self.recall(len(batch.y), len(batch.x))
        old = replace(batch, x=x, y=y, state=None, known=None)
        return learn_together(self.rule, [batch.weighted(self.new_share), old.weighted(1 - self.new_share)])

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return "y" not in self.memory and super().exact(parameter, wiring, steps)

    def cost(self, done: Done) -> Cost | None:
        inner = self.rule.cost(done)
        if inner is None or "y" not in self.memory:
            return inner
        return inner + inner + Cost(done.simulation, 0)  # the old samples run too

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, samples_per_class={self.samples_per_class}, new_share={self.new_share}"
